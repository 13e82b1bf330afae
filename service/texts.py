"""Texts of clients, as they may be stored and shown."""

from typing import Annotated

from pydantic import AfterValidator


def _check_printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it has characters that cannot be printed")
    return text


def _check_prose(text: str) -> str:
    _check_printable(text.replace("\n", "").replace("\t", ""))
    return text


Printable = Annotated[str, AfterValidator(_check_printable)]
# With line breaks and tabs.
Prose = Annotated[str, AfterValidator(_check_prose)]
