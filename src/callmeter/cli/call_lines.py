"""A call on one line for people, as wide as the terminal: lines can come one by one, so the columns stand fast."""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo

from callmeter.cli.tables import Look, cells_of, cut, escaped
from callmeter.words.money import shown
from callmeter.words.record import UsageRecord

_GUTTER = "  "
# (name, width, to the right, from this width of the terminal on); a width of 0 shares what is left.
_COLUMNS = (
    ("time", 14, False, 0),
    ("status", 9, False, 0),
    ("agent", 0, False, 0),
    ("purpose", 0, False, 80),
    ("model", 0, False, 0),
    ("tokens", 13, True, 100),
    ("cost", 12, True, 0),  # the least there is: $0.000000001; money is never cut
    ("took", 7, True, 70),
)


def call_line(record: UsageRecord, zone: tzinfo, look: Look) -> str:
    """`11-21 09:30:01  ok  code  triage  some-model  1,200>400  $0.0096  2.3 s`; the error's code for tokens."""
    line = _aligned(lambda name: _text(name, record, zone, look), look)
    return line if record.status == "ok" else look.bold(line)


def call_heading(look: Look) -> str:
    """What stands over such lines."""
    return look.dim(_aligned(lambda name: name, look))


def _aligned(text_of: Callable[[str], str], look: Look) -> str:
    columns = [column for column in _COLUMNS if look.width >= column[3]]
    left = look.width - sum(width for _, width, _, _ in columns) - len(_GUTTER) * (len(columns) - 1)
    sharing = sum(not width for _, width, _, _ in columns)
    parts = []
    for name, width, right, _ in columns:
        if not width:
            width = max(left // sharing, 6)
            left, sharing = left - width, sharing - 1
        text = cut(escaped(text_of(name)), width, look)
        padding = " " * (width - cells_of(text))
        parts.append(padding + text if right else text + padding)
    return _GUTTER.join(parts).rstrip()


def _text(name: str, record: UsageRecord, zone: tzinfo, look: Look) -> str:
    match name:
        case "time":
            return f"{record.instant.astimezone(zone):%m-%d %H:%M:%S}"
        case "status":
            return "corrected" if record.corrects is not None else record.status
        case "agent" | "purpose":
            return record.tags.get(name, "-")
        case "model":
            return record.model.rpartition("/")[2]
        case "tokens":
            if record.tokens is None or record.error:
                return record.error or ""
            return f"{record.tokens.in_:,}{'→' if look.blocks else '>'}{record.tokens.out:,}"
        case "cost":
            return shown(record.cost_nano)
        case _:
            return "" if record.duration_ms is None else f"{record.duration_ms / 1000:.1f} s"
