"""Identifiers of calls: UUID version 7 (RFC 9562), made without the `uuid` module, which costs a whole start-up."""

from __future__ import annotations

import os


def uuid7(epoch_ms: int) -> str:
    """A new UUIDv7 for an instant in milliseconds since 1970. Sorts by time; 74 random bits make it unique."""
    random = int.from_bytes(os.urandom(10), "big")
    value = (epoch_ms & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | (random >> 68 & 0xFFF) << 64 | 0b10 << 62
    value |= random & 0x3FFF_FFFF_FFFF_FFFF
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
