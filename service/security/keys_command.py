"""`inspection-service keys`: make, list and revoke API keys, also while the service runs."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from engines.errors import UnispectError
from service.security.keys import KeyFile
from service.security.roles import Role
from service.settings import PROGRAM, Settings

_HELP = {
    Role.INSPECT: "posts images and reads figures",
    Role.REVIEW: "also reads the history with its pictures, and reviews",
    Role.ADMIN: "also changes engines and statistics",
}


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments after `keys` say. Returns the exit code: 0, or 2 with one sentence on standard error."""
    options = _parser().parse_args(arguments)
    keys = KeyFile(options.data_dir.expanduser())
    try:
        match options.act:
            case "create":
                print(keys.create(options.name, Role(options.role)))
                print(f"Key {options.name} {_HELP[Role(options.role)]}. It is shown only now.", file=sys.stderr)
            case "revoke":
                keys.revoke(options.name)
                print(f"Key {options.name} opens nothing any more.", file=sys.stderr)
            case _:
                for key in keys.read():
                    state = f"revoked {key.revoked:%Y-%m-%d %H:%M}" if key.revoked else "in use"
                    print(f"{key.name}\t{key.role}\t{key.id}\tmade {key.created:%Y-%m-%d %H:%M}\t{state}")
    except UnispectError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} keys", description=__doc__)
    shared = argparse.ArgumentParser(add_help=False)
    folder = os.environ.get("UNISPECT_DATA_DIR", Settings.model_fields["data_dir"].default)
    shared.add_argument("--data-dir", type=Path, default=Path(folder), help="the service's data folder: %(default)s")
    acts = parser.add_subparsers(dest="act", required=True, metavar="create|list|revoke")
    create = acts.add_parser("create", parents=[shared], help="make a key and print it, once")
    roles = "; ".join(f"{role}: {text}" for role, text in _HELP.items())
    create.add_argument("name", help="who uses it; it names the client in log, ledger and quota")
    create.add_argument("--role", choices=[str(role) for role in Role], required=True, help=roles)
    acts.add_parser("list", parents=[shared], help="show all keys ever made, without their secrets")
    revoke = acts.add_parser("revoke", parents=[shared], help="let a key open nothing, within a second")
    revoke.add_argument("name")
    return parser
