"""Days that a log has lost: nobody knows what they cost, so they are not zero.

A day without calls is a quiet one unless something tells that there were some: a closed segment that the audit log
knows and that is gone or damaged, or a stretch of lines that are no records any more. Where nothing tells, it is zero.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

from callmeter.reports.usage import Usage
from callmeter.words.money import shown
from callmeter.words.period import Period, bucket
from callmeter.words.wording import counted

# Older forecasts are not kept, and older days weigh nothing.
_OLDEST = timedelta(days=400)
_DAY = timedelta(days=1)
_TICK = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Lost:
    """So many lines of a file, of calls that began between two instants, both included, and that cannot be read any
    more. `cost` is what they came to, in nano-dollars, if anybody knows; `gone` is whether the whole file is. What is
    not `recorded` but concluded from the lines around it lay somewhere between the two instants."""

    file: str
    first: datetime
    last: datetime
    lines: int
    cost: int | None = None
    gone: bool = False
    recorded: bool = True


@dataclass(frozen=True)
class Missing:
    """The days that are missing, and the losses that they are missing for."""

    days: frozenset[date] = field(default_factory=frozenset)
    losses: Sequence[Lost] = ()

    def within(self, first: date, until: date) -> list[date]:
        """Those from one day up to, not including, another, in order."""
        return sorted(day for day in self.days if first <= day < until)


def missing_days(usage: Usage, losses: Sequence[Lost], now: datetime) -> Missing:
    """The days that losses leave unknown, as `usage` has them."""
    begun = usage.reading.first
    if begun is None or begun > now:
        return Missing()
    days: set[date] = set()
    felt = []
    oldest = begun if now - begun < _OLDEST else now - _OLDEST
    for each in losses:
        # A line can say that it is of the year 9999.
        lost = replace(each, first=max(each.first, oldest), last=min(each.last, now))
        found = _days_of(usage, lost) if lost.first <= lost.last else None
        if found:
            days |= found
            felt.append(lost)
    return Missing(frozenset(days), felt)


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
    return (
        f"Missing, not zero: {counted(len(days), 'day')}, {said}: {names[0]} {are} {what} "
        f"({counted(lines, 'line')}{cost})."
    )


def _days_of(usage: Usage, lost: Lost) -> set[date]:
    kept = usage.groups((), period=Period(lost.first, lost.last + _TICK, ""))
    if sum(figures.lines for _, figures in kept) >= lost.lines:
        # They can be read after all, under another name; or they were a few late ones, and the others are there.
        return set()
    begin = bucket(lost.first, "day", usage.zone)[0]
    whole = Period(begin, bucket(lost.last, "day", usage.zone)[1], "")
    lines = {label: figures.lines for (label,), figures in usage.groups(("day",), period=whole)}
    left: dict[date, int] = {}
    half: set[date] = set()
    at = begin
    while at <= lost.last:
        start, at = bucket(at, "day", usage.zone)
        day = start.astimezone(usage.zone).date()
        left[day] = lines.get(day.isoformat(), 0)
        if (min(lost.last, at) - max(lost.first, start)) * 2 >= at - start:
            half.add(day)
    days = {day for day, count in left.items() if not count or day in half}
    if not lost.recorded and lost.lines < len(days):
        # In a log with few calls, a few bad lines do not explain many days without any.
        return set()
    return days or ({*left} if lost.lines > sum(left.values()) else set())
