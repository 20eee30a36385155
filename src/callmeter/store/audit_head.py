"""The audit log's newest anchor, as each usage line carries it: copies that travel wherever the usage log goes."""

from __future__ import annotations

import os

_DIGITS = 16


def newest_anchor(audit_path: str) -> str | None:
    """`NUMBER:HASH` of the last audited event, the hash cut to 16 digits; None when nothing was audited yet or the
    side-car cannot be read: a call does not fail for it."""
    try:
        descriptor = os.open(head_of(audit_path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        number, _, digits = os.read(descriptor, 200).decode("ascii", "replace").strip().partition(" ")
    except OSError:
        return None
    finally:
        os.close(descriptor)
    if not (number.isdigit() and len(number) < 19 and len(digits) == 64 and digits.isalnum()):
        return None
    return f"{number}:{digits[:_DIGITS]}"


def head_of(audit_path: str) -> str:
    """`audit.HEAD` beside `audit.jsonl`."""
    return audit_path.removesuffix(".jsonl") + ".HEAD"
