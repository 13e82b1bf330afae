"""Identifiers that sort by time: UUID version 7 (RFC 9562), as 32 hexadecimal digits."""

import os
import time


def new_id() -> str:
    """A new identifier; its first 12 digits are the time in milliseconds since 1970."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    version_and_high = 0x7000 | random >> 68
    variant_and_low = 0x8000_0000_0000_0000 | random & 0x3FFF_FFFF_FFFF_FFFF
    return f"{milliseconds:012x}{version_and_high:04x}{variant_and_low:016x}"
