"""Requirements files with hashes, read as pip reads them."""

import re
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

DEPLOY = Path(__file__).parents[2] / "deploy"
_CONTINUED = re.compile(r"\s*\\\n\s*")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})\b")


@dataclass(frozen=True)
class Locked:
    requirement: Requirement
    version: str
    hashes: list[str]
    line: str


def read_lock(path: Path) -> dict[str, Locked]:
    """The packages of a lock by canonical name; fails where a line pins no version."""
    packages = {}
    for line in _CONTINUED.sub(" ", path.read_text()).splitlines():
        if line.strip() and not line.strip().startswith("#"):
            requirement = Requirement(line.partition(" --hash")[0].strip())
            (pin,) = requirement.specifier
            assert pin.operator == "==", line
            packages[canonicalize_name(requirement.name)] = Locked(requirement, pin.version, _HASH.findall(line), line)
    return packages


def command_of(path: Path) -> str:
    """The command that made a lock, which uv writes into its second line."""
    return path.read_text().splitlines()[1].removeprefix("#").strip()
