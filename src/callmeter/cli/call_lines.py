"""A call on one line for people, as wide as the terminal: lines can come one by one, so the columns stand fast."""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo

from callmeter.cli.look import Look, cells_of, cut, escaped
from callmeter.words.money import shown
from callmeter.words.period import local_time
from callmeter.words.record import UsageRecord

_GUTTER = "  "
# (name, width, to the right, from this width of the terminal on); a width of 0 shares what is left.
_COLUMNS = (
    ("time", 0, False, 30),
    ("status", 9, False, 42),
    ("agent", 0, False, 20),
    ("purpose", 0, False, 80),
    ("model", 0, False, 50),
    ("tokens", 13, True, 100),
    ("cost", 12, True, 0),  # the least there is: $0.000000001; money is never cut
    ("took", 7, True, 70),
)
# From these widths on the time has its day and its seconds. Below, calls of the last hours need no day; others need it
# more than seconds, and more than hours where there is next to no room.
_WHOLE, _WHOLE_LATELY, _MINUTES = 60, 90, 34
_TIME, _MINUTE, _DAY, _SECOND = "%m-%d %H:%M:%S", "%m-%d %H:%M", "%m-%d", "%H:%M:%S"
_WIDTHS = {_TIME: 14, _MINUTE: 11, _DAY: 5, _SECOND: 8}


def call_line(record: UsageRecord, zone: tzinfo, look: Look, *, lately: bool = False) -> str:
    """`11-21 09:30:01  ok  code  triage  some-model  1,200>400  $0.0096  2.3 s`; the error's code for tokens. Calls of
    the last hours (`lately`) need no day, where names have little room."""
    time = _time(look, lately)
    line = _aligned(lambda name: _text(name, record, zone, look, time), look, time)
    return line if record.status == "ok" else look.bold(line)


def call_heading(look: Look, *, lately: bool = False) -> str:
    """What stands over such lines."""
    return look.dim(_aligned(lambda name: name, look, _time(look, lately)))


def _time(look: Look, lately: bool) -> str:
    if look.width >= (_WHOLE_LATELY if lately else _WHOLE):
        return _TIME
    if lately:
        return _SECOND
    return _MINUTE if look.width >= _MINUTES else _DAY


def _aligned(text_of: Callable[[str], str], look: Look, time: str) -> str:
    columns = [
        (name, _WIDTHS[time] if name == "time" else width, right)
        for name, width, right, least in _COLUMNS
        if look.width >= least
    ]
    left = look.width - sum(width for _, width, _ in columns) - len(_GUTTER) * (len(columns) - 1)
    sharing = sum(not width for _, width, _ in columns)
    parts = []
    for name, width, right in columns:
        if not width:
            width = max(left // sharing, 6)
            left, sharing = left - width, sharing - 1
        text = cut(escaped(text_of(name)), width, look)
        padding = " " * (width - cells_of(text))
        parts.append(padding + text if right else text + padding)
    return _GUTTER.join(parts).rstrip()


def _text(name: str, record: UsageRecord, zone: tzinfo, look: Look, time: str) -> str:
    match name:
        case "time":
            return local_time(record.instant, zone).strftime(time)
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
