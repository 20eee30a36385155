"""Days that a log has lost: nobody knows what they cost, so they are not zero.

A day without calls is a quiet one unless something tells that there were some: a closed segment that the audit log
knows and that is gone or damaged, or lines that are no records any more, between the calls around them. Where nothing
tells, it is zero. A day of which some calls are known is missing only when more was lost of it than is left.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import takewhile
from typing import NamedTuple

from callmeter.reports.usage import Usage
from callmeter.words.money import shown
from callmeter.words.period import Period, bucket, local_time
from callmeter.words.wording import counted

# Older forecasts are not kept, and older days weigh nothing.
_OLDEST = timedelta(days=400)
_DAY = timedelta(days=1)
_TICK = timedelta(milliseconds=1)
# A day that was lost had at least this part of a usual day's lines: a quarter, as a Sunday may have.
_PART = 4


@dataclass(frozen=True)
class Lost:
    """So many lines of a file (0: nobody knows), of calls that began between two instants, both included, and that
    cannot be read any more. `cost` is what they came to, in nano-dollars, if anybody knows; `gone` is whether the whole
    file is."""

    file: str
    first: datetime
    last: datetime
    lines: int
    cost: int | None = None
    gone: bool = False


@dataclass(frozen=True)
class Gap:
    """Lines of a file that cannot be read, somewhere between the calls that began at `after` and `before`; without
    one, as far as no call is known at all. `lines` of them there are, with room for `room` calls; None if nobody
    knows."""

    file: str
    after: datetime | None
    before: datetime | None
    lines: int | None
    room: int | None


@dataclass(frozen=True)
class Missing:
    """The days that are missing, and the losses that they are missing for."""

    days: frozenset[date] = field(default_factory=frozenset)
    losses: Sequence[Lost] = ()

    def within(self, first: date, until: date) -> list[date]:
        """Those from one day up to, not including, another, in order."""
        return sorted(day for day in self.days if first <= day < until)


def missing_days(usage: Usage, losses: Sequence[Lost | Gap], now: datetime) -> Missing:
    """The days that losses leave unknown, as `usage` has them."""
    begun = usage.reading.first
    if begun is None or begun > now:
        return Missing()
    days: set[date] = set()
    felt = []
    usual = 0
    oldest = begun if now - begun < _OLDEST else now - _OLDEST
    for each in losses:
        if isinstance(each, Gap):
            usual = usual or _usual(_days(usage, oldest, now))
            found, lost = _days_between(usage, each, oldest, now, usual)
        else:
            # A line can say that it is of the year 9999.
            lost = replace(each, first=max(each.first, oldest), last=min(each.last, now))
            found = _days_of(usage, lost) if lost.first <= lost.last else set()
        if found:
            days |= found
            felt.append(lost)
    return Missing(frozenset(days), felt)


def has_quiet_days(usage: Usage, now: datetime) -> bool:
    """Whether a day since the log's beginning, before the one of `now`, has no call: only such a day can be missing
    for a few lines."""
    begun = usage.reading.first
    if begun is None or begun > now:
        return False
    return any(not day.lines for day in _days(usage, max(begun, now - _OLDEST), now) if day.end <= now)


def lost_sentence(missing: Missing, first: date, until: date) -> str:
    """`Missing, not zero: 31 days, 2026-10-01 to 2026-10-31: usage-2026-10.jsonl.zst is gone (93 lines, $92.60).`; ""
    when no day of that time is missing."""
    days = missing.within(first, until)
    if not days:
        return ""
    said = days[0].isoformat()
    if len(days) > 1:
        joint = (days[-1] - days[0]).days == len(days) - 1
        said = f"{said} to {days[-1].isoformat()}" if joint else f"between {said} and {days[-1].isoformat()}"
    felt = [
        lost for lost in missing.losses if lost.last.date() + _DAY >= days[0] and lost.first.date() - _DAY <= days[-1]
    ]
    names = list(dict.fromkeys(os.path.basename(lost.file) for lost in felt))
    are = "is" if len(names) == 1 else f"and {len(names) - 1} more are"
    what = "gone" if all(lost.gone for lost in felt) else "damaged" if not any(lost.gone for lost in felt) else "lost"
    lines = sum(lost.lines for lost in felt)
    costs = [lost.cost for lost in felt if lost.cost is not None]
    cost = f", {shown(sum(costs))}" if costs and len(costs) == len(felt) else ""
    size = f" ({counted(lines, 'line')}{cost})" if all(lost.lines for lost in felt) else ""
    return f"Missing, not zero: {counted(len(days), 'day')}, {said}: {names[0]} {are} {what}{size}."


def _days_of(usage: Usage, lost: Lost) -> set[date]:
    kept = usage.groups((), period=Period(lost.first, lost.last + _TICK, ""))
    if sum(figures.lines for _, figures in kept) >= lost.lines:
        # They can be read after all, under another name; or they were a few late ones, and the others are there.
        return set()
    every = _days(usage, lost.first, lost.last)
    days = {day.date for day in every if not day.lines or day.is_half_within(lost.first, lost.last)}
    return days or ({day.date for day in every} if lost.lines > sum(day.lines for day in every) else set())


def _days_between(usage: Usage, gap: Gap, oldest: datetime, now: datetime, usual: int) -> tuple[set[date], Lost]:
    """The days that a gap leaves unknown, and the loss that it is then; `usual` is how many lines a day has."""
    first = oldest if gap.after is None else max(gap.after + _TICK, oldest)
    last = now if gap.before is None else min(gap.before - _TICK, now)
    every = _days(usage, first, last) if first <= last else []
    if gap.after is None:
        every = _quiet(reversed(every[:-1]))
    elif gap.before is None:
        every = _quiet(every[1:])
    days = {
        day.date
        for day in every
        if not day.lines or (gap.room is not None and day.lines < gap.room and day.is_half_within(first, last))
    }
    # A few bad lines explain neither many days without calls, nor a quiet one in a log of thousands a day.
    explained = gap.room is None or gap.room >= max(1, usual / _PART) * len(days)
    return days if explained else set(), Lost(gap.file, first, last, gap.lines or 0)


class _Day(NamedTuple):
    """A day from `start` to `end`, and how many lines it has."""

    date: date
    start: datetime
    end: datetime
    lines: int

    def is_half_within(self, first: datetime, last: datetime) -> bool:
        """Whether half of it and more lies between two instants."""
        return (min(last, self.end) - max(first, self.start)) * 2 >= self.end - self.start


def _usual(days: Iterable[_Day]) -> int:
    """The median of the days with calls."""
    counts = sorted(day.lines for day in days if day.lines)
    return counts[len(counts) // 2] if counts else 0


def _quiet(days: Iterable[_Day]) -> list[_Day]:
    """Those up to the first with a call."""
    return list(takewhile(lambda day: not day.lines, days))


def _days(usage: Usage, first: datetime, last: datetime) -> list[_Day]:
    """Those that two instants lie in, and all between them."""
    at = bucket(first, "day", usage.zone)[0]
    whole = Period(at, bucket(last, "day", usage.zone)[1], "")
    lines = {label: figures.lines for (label,), figures in usage.groups(("day",), period=whole)}
    found = []
    while at <= last:
        start, at = bucket(at, "day", usage.zone)
        day = local_time(start, usage.zone).date()
        found.append(_Day(day, start, at, lines.get(day.isoformat(), 0)))
    return found
