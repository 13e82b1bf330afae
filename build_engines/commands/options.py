"""Checks of option values."""

from collections.abc import Iterable
from pathlib import Path

from engines.bundle import MANIFEST, is_name
from engines.errors import UnispectError


class ArgumentError(UnispectError):
    """An option has a value that is not allowed."""


def choose(option: str, value: str, allowed: Iterable[str]) -> None:
    """Raises ArgumentError where the value of an option is not one of those allowed."""
    names = list(allowed)
    if value not in names:
        raise ArgumentError(f"--{option} {value!r} is not one of {', '.join(names)}.")


def check_name(option: str, value: str) -> None:
    """Raises ArgumentError where the value of an option cannot name an engine or a version."""
    if not is_name(value):
        raise ArgumentError(f"--{option} {value!r} may hold letters, digits, '.', '_' and '-' alone.")


def check_bundle_folder(out: Path) -> None:
    """Raises ArgumentError where --out is neither new nor a bundle, which may be replaced."""
    if out.exists() and not (out / MANIFEST).is_file() and any(out.iterdir()):
        raise ArgumentError(f"{out} exists and is no bundle; give a new folder as --out.")
