"""Checks of option values."""

from collections.abc import Iterable

from engines.errors import UnispectError


class ArgumentError(UnispectError):
    """An option has a value that is not allowed."""


def choose(option: str, value: str, allowed: Iterable[str]) -> None:
    """Raises ArgumentError where the value of an option is not one of those allowed."""
    names = list(allowed)
    if value not in names:
        raise ArgumentError(f"--{option} {value!r} is not one of {', '.join(names)}.")
