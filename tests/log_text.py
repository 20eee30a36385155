"""Usage lines as a test writes them, one a line, so that a test's docstring can be its log.

    2026-11-20T09:30Z agent=code purpose=triage cost=0.0096 in=1200 out=400 ms=2310

Words that are fields of the usage line are fields, all others are tags. Without `cost`, it is unknown.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from callmeter.words.instant import parse_instant, text_of
from callmeter.words.record import UsageRecord, parse_record
from callmeter.words.usage import usage_line

_TEXT = ("id", "provider", "model", "cost_source", "status", "error", "key", "host", "corrects", "recorded_at")
_COUNTS = ("in", "out", "cached")


def log_lines(text: str | None) -> bytes:
    """The log that a text describes, as its file's bytes. Lines that do not begin with a year are prose."""
    lines = [line.split() for line in (text or "").splitlines() if line.strip()[:2] == "20"]
    return b"".join(usage_line(_fields(number, *words)) for number, words in enumerate(lines))


def log_records(text: str | None) -> list[UsageRecord]:
    """The records of such a log."""
    return [parse_record(line) for line in log_lines(text).splitlines()]


def at(text: str) -> datetime:
    """An instant: `2026-11-21T15:04Z`."""
    return parse_instant(text)


def _fields(number: int, time: str, *words: str) -> dict[str, object]:
    found = dict(word.split("=", 1) for word in words)
    fields: dict[str, object] = {
        "v": 1,
        "id": found.pop("id", f"call-{number}"),
        "timestamp": text_of(parse_instant(time)),
        "model": "m",
        "status": "ok",
    }
    cost = found.pop("cost", None)
    fields["cost"] = None if cost is None else Decimal(cost)
    fields["cost_source"] = found.pop("cost_source", "unknown" if cost is None else "provider")
    if any(name in found for name in _COUNTS):
        fields["tokens"] = {name: int(found.pop(name, "0")) for name in _COUNTS}
    if "ms" in found:
        fields["duration_ms"] = int(found.pop("ms"))
    fields |= {name: found.pop(name) for name in _TEXT if name in found}
    return fields | {"tags": found}
