"""How counts, lists and sentences are worded, for everyone who writes some."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def counted(count: int, what: str) -> str:
    """`1 call`, `2,310 calls`; `what` takes a plain plural."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def listed(names: Sequence[str], most: int) -> str:
    """`a, b, c and 4 more`: the first `most` names, and how many there are besides."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def duration(seconds: int) -> str:
    """`90 s`, `45 min`, `3 h`: whole units, the largest of which there are two."""
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def capitalised(text: str) -> str:
    """The text as the beginning of a sentence; the rest of it stays as it is."""
    return text[:1].upper() + text[1:]
