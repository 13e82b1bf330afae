"""The API keys of a service: made, listed, revoked and kept as scrypt hashes in one file.

A key is `unispect_ID_SECRET`. The secret has 256 random bits and is shown once; the id says which hash to compare with,
so that a wrong key costs one hash at most. scrypt as in RFC 7914.
"""

import base64
import fcntl
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.bundle import is_name
from engines.files import write_atomic
from service.errors import KeyFileError
from service.security.roles import Role

FILE = "keys.json"
_LOCK = ".keys.lock"
_KEY = re.compile(r"unispect_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_OTHERS_MAY_WRITE = 0o022
# 16 MiB and some 50 ms a hash: a device has room for it beside an engine.
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**14, 8, 1
_SCRYPT_MEMORY = 2**28


class Key(BaseModel):
    """A key as it is kept: all but its secret.

    Attributes:
        n, r, p: the cost of its hash.
        revoked: since when it opens nothing; None while it does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    role: Role
    created: datetime
    revoked: datetime | None = None
    salt: str = Field(pattern=r"^[0-9a-f]{32}$")
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    n: int = Field(ge=2, le=2**17)
    r: int = Field(ge=1, le=16)
    p: int = Field(ge=1, le=4)

    def opens_with(self, secret: str) -> bool:
        """Whether that is its secret. Takes as long as scrypt does, and compares in constant time."""
        found = _scrypt(secret, bytes.fromhex(self.salt), self.n, self.r, self.p)
        return hmac.compare_digest(found, bytes.fromhex(self.hash))


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    keys: list[Key] = []


class KeyFile:
    """`keys.json` in the data folder of a service. Several processes may change it at a time.

    Args:
        folder: the data folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / FILE

    def read(self) -> list[Key]:
        """All keys ever made, the revoked ones among them; none where there is no file.

        Raises:
            KeyFileError: the file cannot be read, is not valid, or may be written by others.
        """
        try:
            if self.path.stat().st_mode & _OTHERS_MAY_WRITE:
                raise KeyFileError(f"{self.path} can be written by others; say chmod 600 {self.path}.")
            return _Content.model_validate_json(self.path.read_bytes()).keys
        except FileNotFoundError:
            return []
        except OSError as error:
            raise KeyFileError(f"{self.path} cannot be read ({error.strerror}); mend its owner or mode.") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the start"
            raise KeyFileError(
                f"{self.path} is not valid at {where}: {first['msg']}; restore it, or remove it and make keys anew."
            ) from error

    def create(self, name: str, role: Role) -> str:
        """Make a key and return it, the only time that it can be seen.

        Raises:
            KeyFileError: a name that cannot be one or that a key in use has, or the file cannot be read or written.
        """
        if not is_name(name):
            raise KeyFileError(
                f"{name[:80]!r} cannot name a key; use up to 64 letters, digits and . _ - from a letter on."
            )
        secret, salt = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode(), secrets.token_bytes(16)
        with self._locked():
            keys = self.read()
            if any(key.name == name and key.revoked is None for key in keys):
                raise KeyFileError(f"There is a key {name} already; choose another name, or revoke that one first.")
            key = Key(
                id=secrets.token_hex(6),
                name=name,
                role=role,
                created=_now(),
                salt=salt.hex(),
                hash=_scrypt(secret, salt, _SCRYPT_N, _SCRYPT_R, _SCRYPT_P).hex(),
                n=_SCRYPT_N,
                r=_SCRYPT_R,
                p=_SCRYPT_P,
            )
            self._write([*keys, key])
        return f"unispect_{key.id}_{secret}"

    def revoke(self, name: str) -> None:
        """Let a key open nothing from now on; running services learn of it within a second.

        Raises:
            KeyFileError: there is no such key in use, or the file cannot be read or written.
        """
        with self._locked():
            keys = self.read()
            if not any(key.name == name and key.revoked is None for key in keys):
                used = ", ".join(key.name for key in keys if key.revoked is None) or "none"
                raise KeyFileError(f"No key in use is named {name[:80]!r}; in use: {used}.")
            now = _now()
            self._write(
                [
                    key.model_copy(update={"revoked": now}) if key.name == name and key.revoked is None else key
                    for key in keys
                ]
            )

    def _write(self, keys: list[Key]) -> None:
        write_atomic(self.path, (_Content(keys=keys).model_dump_json(indent=1) + "\n").encode(), mode=0o600)
        self._give_to_owner(self.path)

    def _give_to_owner(self, path: Path) -> None:
        # Made with sudo, the file is of no use to the service that it is for.
        if os.geteuid() == 0:
            owner = self._folder.stat()
            os.chown(path, owner.st_uid, owner.st_gid)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                self._give_to_owner(self._folder / _LOCK)
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield
            finally:
                os.close(handle)
        except OSError as error:
            reason = f"{self._folder} cannot be written ({error.strerror})"
            raise KeyFileError(f"{reason}; give the service's data folder with --data-dir.") from error


def split(presented: str) -> tuple[str, str] | None:
    """The id and the secret of what a client presents as its key; None where it does not look like one."""
    found = _KEY.fullmatch(presented)
    return (found[1], found[2]) if found else None


def _scrypt(secret: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(secret.encode(), salt=salt, n=n, r=r, p=p, maxmem=_SCRYPT_MEMORY, dklen=32)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
