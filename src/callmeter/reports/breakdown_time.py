"""A breakdown over time: the units of a period without calls, running totals, each group's course as a chart, and which
unit of another period stands in the same place."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal

from callmeter.policy.quotas import Quota
from callmeter.reports.grouping import NONE, key_name, patterns_of
from callmeter.reports.usage import Figures, Usage
from callmeter.words.errors import UsageError
from callmeter.words.instant import parse_instant
from callmeter.words.money import shown
from callmeter.words.period import Period, bucket, bucket_label, local_time

_TICK = timedelta(microseconds=1)
_MOST = 10_000
# A chart has so many marks at most.
_MARKS = 31
_CHARTED = (("hour", 1), ("day", 24), ("week", 7 * 24))
LEVELS = 8
Path = tuple[str, ...]


@dataclass(frozen=True)
class Course:
    """The units of time that a chart shows, and for each group what it spent in them, in nano-dollars."""

    unit: str
    labels: Sequence[str]
    spent: Mapping[Path, Mapping[str, int]]

    def marks(self, path: Path, without: Iterable[Path] = ()) -> str:
        """A digit for each unit, from 0 for nothing to 8 for the largest of them, of a group without some of its own
        groups."""
        sums = dict.fromkeys(self.labels, 0)
        for each, sign in ((path, 1), *((inner, -1) for inner in without)):
            for label, nano in self.spent.get(each, {}).items():
                if label in sums:
                    sums[label] += sign * nano
        most = max(sums.values(), default=0)
        return "".join(
            str(min(-(-LEVELS * nano // most), LEVELS)) if most > 0 and nano > 0 else "0" for nano in sums.values()
        )


@dataclass(frozen=True)
class Alignment:
    """Two periods, unit by unit from their beginnings: the first day against the first, the second against the second.
    Hours stand in the same place if they are the same of the day. `here` are the places of the other period's units in
    this one, `there` those of this one's in the other one; `depth` is that of the unit in a tree of groupings."""

    depth: int
    here: Mapping[str, str]
    there: Mapping[str, str]

    def path(self, path: Path) -> Path:
        """A group of the other period by its place in this one; `(none)` for units that have none."""
        if len(path) <= self.depth:
            return path
        label = self.here.get(path[self.depth], NONE)
        return (*path[: self.depth], label, *path[self.depth + 1 :])

    def is_known(self, path: Path, begun: str) -> bool:
        """Whether the unit of the other period in the place of a group's is not before that in which the log began."""
        other = self.there.get(path[self.depth]) if len(path) > self.depth else None
        # Without the offset of an hour that comes twice.
        return other is None or other[:16] >= begun[:16]

    def against(self, label: str) -> str | None:
        """The unit of the other period that stands in the place of one of this; for `(none)`, those without a place."""
        if label != NONE:
            return self.there.get(label)
        rest = [other for other, place in self.here.items() if place == NONE]
        return f"{rest[0]} to {rest[-1]}" if len(rest) > 1 else "".join(rest) or None


def alignment(usage: Usage, unit: str, depth: int, period: Period, other: Period, now: datetime) -> Alignment:
    """How the units of two periods, both with a beginning, stand against each other. Raises UsageError when there are
    too many."""
    places, others = (_places(usage, unit, each, now) for each in (period, other))
    here = {label: places.get(place, NONE) for place, label in others.items()}
    return Alignment(depth, here, {label: others[place] for place, label in places.items() if place in others})


def _places(usage: Usage, unit: str, period: Period, now: datetime) -> dict[tuple[int, str], str]:
    """The units of a period by their places in it."""
    assert period.start is not None
    labels = labels_of((period.start, max(period.end or now + _TICK, period.start + _TICK)), unit, usage)
    if labels is None:
        raise UsageError(
            f"two periods of more than {_MOST:,} {unit}s cannot be compared {unit} by {unit}",
            "group by a longer unit, or name a shorter period",
        )
    if unit != "hour":
        return {(place, ""): label for place, label in enumerate(labels)}
    days = {day: place for place, day in enumerate(dict.fromkeys(label[:10] for label in labels))}
    found: dict[tuple[int, str], str] = {}
    for label in labels:
        place = days[label[:10]], label[10:16]
        # Of an hour that the clock shows twice, the first stands against that of any day.
        found[place if place not in found else (place[0], label[10:])] = label
    return found


def covered(usage: Usage, period: Period, now: datetime, total: Figures) -> tuple[datetime, datetime] | None:
    """The part of a period that the log covers and that is not in the future; for all time, from the first call that
    counts to the last. None without calls. A call from the future, which a wrong clock makes, stretches nothing."""
    if total.first is None or total.last is None:
        return None
    first = parse_instant(total.first)
    last = parse_instant(total.last) + _TICK
    start = end = None
    if period.start is not None:
        begun = usage.reading.first
        start = period.start if begun is None else max(period.start, begun)
        start = min(start, first)
    if period.end is not None or period.start is not None:
        end = now + _TICK if period.end is None else min(period.end, now + _TICK)
        end = max(end, last)
    start = start or first
    return start, max(min(end or last, now + _TICK), start + _TICK)


def labels_of(span: tuple[datetime, datetime], unit: str, usage: Usage) -> list[str] | None:
    """The names of the units of a span, in order; None when there are too many to be read."""
    labels: dict[str, None] = {}
    at = span[0]
    while at < span[1]:
        start, at = bucket(at, unit, usage.zone)
        labels[bucket_label(start, unit, usage.zone)] = None
        if len(labels) > _MOST or at.year >= 9999:
            return None
    return list(labels)


def cut_units(period: Period, unit: str, zone: tzinfo, shown: Collection[str], now: datetime | None) -> list[str]:
    """Sentences on the units, among those shown, that are not whole: `2026-11-14 counts from 19:26 on.` That the unit
    which still runs is not over needs none."""
    edges = [] if period.start is None else [(period.start, period.start, "from {} on")]
    if period.end is not None and (now is None or period.end < now):
        edges.append((period.end, period.end - _TICK, "up to {}"))
    said = []
    for edge, inside, words in edges:
        start, end = bucket(inside, unit, zone)
        label = bucket_label(start, unit, zone)
        if edge not in (start, end) and label in shown:
            local = local_time(edge, zone)
            time = f"{local:%H:%M}" if unit in ("hour", "day") else f"{local:%Y-%m-%d %H:%M}".removesuffix(" 00:00")
            said.append(f"{'The week from ' if unit == 'week' else ''}{label} counts {words.format(time)}.")
    return said


def course_of(
    usage: Usage,
    names: Sequence[str],
    span: tuple[datetime, datetime],
    period: Period,
    where: Sequence[str],
    kept: Collection[Path],
) -> Course:
    """What the groups that are `kept`, or if none are, all of them, spent by the shortest unit that gives no more marks
    than there may be: hour, day, week or month."""
    hours = (span[1] - span[0]) / timedelta(hours=1)
    unit = next((unit for unit, most in _CHARTED if hours <= most * _MARKS), "month")
    spent: dict[Path, dict[str, int]] = {}
    if kept:
        spent = usage.courses(names, kept, unit, period=period, where=where)
    else:
        for (*path, label), figures in usage.groups([*names, unit], period=period, where=where):
            for depth in range(len(path) + 1):
                group = spent.setdefault(tuple(path[:depth]), {})
                group[label] = group.get(label, 0) + figures.nano
    labels = labels_of(span, unit, usage) or sorted(spent.get((), {}))
    return Course(unit, labels[-_MARKS:], spent)


def month_quota(
    quotas: Sequence[Quota], where: Sequence[str], aliases: Mapping[str, str], period: Period, usage: Usage
) -> Quota | None:
    """The tightest quota of money for a month on just these calls, if the period is one month, or its beginning: on the
    total, or on the one value that `where` names."""
    start = period.start
    if start is None:
        return None
    month = bucket(start, "month", usage.zone)
    if start != month[0] or (period.end is not None and period.end > month[1]):
        return None
    patterns = patterns_of(where, aliases)
    values = [(key_name(name, aliases), each) for name, found in patterns.items() for each in found]
    if len(values) > 1:
        return None
    subject, facts = "total", dict(values)
    for name, value in values:
        subject = f"{name}:{value}"
    monthly = (quota for quota in quotas if quota.unit == "usd" and quota.period == "month" and quota.limit > 0)
    own = bool(facts) and "*" not in subject
    applying = [each for each in monthly if str(each.subject) == subject or (own and each.bucket(facts) == subject)]
    return min(applying, key=lambda quota: quota.limit, default=None)


def share_of_quota(nano: int, quota: Quota) -> Decimal:
    """What part of a quota an amount is."""
    return (Decimal(nano) / quota.limit).quantize(Decimal("0.001"))


def quota_words(quota: Quota) -> str:
    """`the quota on total per month, $500.00`."""
    return f"the quota on {quota.subject} per {quota.period}, {shown(quota.limit)}"
