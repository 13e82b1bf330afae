"""Identifiers that sort by time: UUID version 7 (RFC 9562), as 32 hexadecimal digits."""

import os
import time


def new_id(nanoseconds: int | None = None) -> str:
    """A new identifier; its first 12 digits are the time in milliseconds since 1970.

    Args:
        nanoseconds: that time, since 1970; now when None.
    """
    milliseconds = (time.time_ns() if nanoseconds is None else nanoseconds) // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    version_and_high = 0x7000 | random >> 68
    variant_and_low = 0x8000_0000_0000_0000 | random & 0x3FFF_FFFF_FFFF_FFFF
    return f"{milliseconds:012x}{version_and_high:04x}{variant_and_low:016x}"


def first_id_at(microseconds: int) -> str:
    """What every id of the millisecond of a time (microseconds since 1970) and later is greater than."""
    return f"{max(0, microseconds) // 1000:012x}"
