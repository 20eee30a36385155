"""Error storms: hours in which far more calls failed than the days before let expect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from math import sqrt

from callmeter.reports.anomaly_days import Days, Tables
from callmeter.reports.anomaly_finding import (
    STORM,
    Finding,
    Scope,
    breakdown,
    condition,
    days_period,
    earlier,
    freeze,
    subject_of,
)
from callmeter.reports.anomaly_folding import Overlaps, Seen, folded
from callmeter.reports.grouping import NONE
from callmeter.reports.sums import FAILED
from callmeter.reports.usage import Figures, Usage
from callmeter.words.wording import counted

# A storm has so many errors, and an hour of it so many; and of the hour's calls so large a share failed.
_LEAST_ERRORS, _LEAST_OF_HOUR, _LEAST_SHARE = 20, 10, 0.1
_TIMES_USUAL, _TIMES_USUAL_DAY, _DEVIATIONS = 3, 2, 4
_BEFORE = 28
# Every subject begins with so many imagined calls, one of which failed.
_IMAGINED = 20
# Whose failure is most likely the cause, where several have the same errors.
_CAUSES = ("agent", "provider", "model", "key")
# Hours that are further apart are two storms.
_GAP = timedelta(hours=2)


@dataclass
class _Storm:
    """Hours from `first` to `last`, the calls in them, and how many of all calls usually fail."""

    hours: list[str]
    calls: int
    errors: int
    usual: float


def error_storms(usage: Usage, scope: Scope, tables: Tables) -> list[Finding]:
    """The storms in the period. `tables` are the days from 366 before it on."""
    seen: list[Seen[_Storm]] = []
    for kind, values in sorted(tables.items(), key=_rank):
        suspects = {value: found for value, days in values.items() if (found := _suspect_days(days, scope))}
        if not suspects:
            continue
        for value, hours in _hours(usage, scope, kind, suspects).items():
            for storm in _storms(hours, suspects[value]):
                if scope.touches(storm.hours[0], storm.hours[-1]):
                    span = storm.hours[0], storm.hours[-1]
                    seen.append(Seen(STORM, kind, value, *span, storm.errors, storm))
    kept = folded(seen, partial(_joint, Overlaps(usage, scope, seen, "hour")), larger=True)
    return [_finding(usage, scope, each) for each in kept]


def _rank(table: tuple[str, object]) -> int:
    """Likely causes come first, in their order."""
    kind = table[0]
    return _CAUSES.index(kind) if kind in _CAUSES else len(_CAUSES)


def _suspect_days(days: Days, scope: Scope) -> dict[str, float]:
    """Days with enough errors, and which share of the calls failed on the days before them."""
    found = {}
    for day, each in days.items():
        if each.errors < _LEAST_OF_HOUR or not scope.touches(earlier(day, 1).isoformat(), day.isoformat()):
            continue
        before = [days[past] for age in range(1, _BEFORE + 1) if (past := earlier(day, age)) in days and past < day]
        calls, errors = sum(each.calls for each in before), sum(each.errors for each in before)
        if each.errors * len(before) < _TIMES_USUAL_DAY * errors:
            continue
        found[day.isoformat()] = (errors + 1) / (calls + _IMAGINED)
    return found


def _hours(
    usage: Usage, scope: Scope, kind: str, suspects: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, Figures]]:
    """The hours of each value's suspect days."""
    every = sorted({day for days in suspects.values() for day in days})
    period = days_period(date.fromisoformat(every[0]), date.fromisoformat(every[-1]), usage.zone)
    where = scope.narrowed([f"{kind}={value}" for value in suspects])
    found: dict[str, dict[str, Figures]] = {}
    for (value, hour), figures in usage.groups((kind, "hour"), period=period, where=where):
        if hour[:10] in suspects.get(value, {}):
            found.setdefault(value, {})[hour] = figures
    return found


def _storms(hours: Mapping[str, Figures], usual: Mapping[str, float]) -> Iterable[_Storm]:
    storms: list[_Storm] = []
    for hour, figures in sorted(hours.items()):
        share = usual[hour[:10]]
        expected = figures.calls * share
        least = max(
            _LEAST_OF_HOUR,
            figures.calls * max(_LEAST_SHARE, _TIMES_USUAL * share),
            expected + _DEVIATIONS * sqrt(expected * (1 - share)),
        )
        if not figures.errors or figures.errors < min(least, figures.calls):
            continue
        if storms and _instant(hour) - _instant(storms[-1].hours[-1]) <= _GAP:
            storm = storms[-1]
            storm.hours.append(hour)
            storm.calls += figures.calls
            storm.errors += figures.errors
        elif figures.errors >= _LEAST_OF_HOUR:
            storms.append(_Storm([hour], figures.calls, figures.errors, share))
    return [storm for storm in storms if storm.errors >= _LEAST_ERRORS]


def _instant(hour: str) -> datetime:
    return datetime.fromisoformat(hour[:16])


def _joint(overlaps: Overlaps[_Storm], one: Seen[_Storm], other: Seen[_Storm]) -> int:
    """How many of the other's errors are errors of both."""
    joint = overlaps.of(one, other)
    return sum(joint[hour].errors for hour in other.what.hours if hour in joint)


def _finding(usage: Usage, scope: Scope, seen: Seen[_Storm]) -> Finding:
    storm, subject = seen.what, subject_of(seen.kind, seen.value)
    first, last = storm.hours[0], storm.hours[-1]
    share = storm.errors * 100 // storm.calls
    parts = [f"{storm.errors:,} of {counted(storm.calls, 'call')} failed, {share}%; usually {_share(storm.usual)}"]
    cost, reasons = _failures(usage, scope, seen)
    if reasons:
        parts.append(", ".join(f"{name} {count:,}" for name, count in reasons))
    if seen.also:
        parts.append(f"shows in {', '.join(seen.also)} too")
    command = ""
    if last >= scope.minute(scope.now - _GAP) and seen.kind in _CAUSES:
        command = freeze(seen.kind, seen.value, f"error storm since {first}")
    return Finding(
        scope.id(STORM, subject, first),
        STORM,
        subject,
        first,
        last,
        None,
        None,
        cost,
        cost,
        "; ".join(parts),
        command or breakdown(scope, ["hour", "status", "error"], condition(seen.kind, seen.value), first, last),
        tuple(seen.also),
    )


def _share(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "under 0.1%"


def _failures(usage: Usage, scope: Scope, seen: Seen[_Storm]) -> tuple[int, Sequence[tuple[str, int]]]:
    """What the failed calls cost, and the most frequent reasons."""
    storm = seen.what
    period = days_period(date.fromisoformat(seen.first[:10]), date.fromisoformat(seen.last[:10]), usage.zone)
    names = (seen.kind, "hour", "status", "error")
    where = scope.narrowed(condition(seen.kind, seen.value))
    cost, reasons = 0, dict[str, int]()
    for (value, hour, status, error), figures in usage.groups(names, period=period, where=where):
        if value == seen.value and hour in storm.hours and status in FAILED:
            cost += figures.nano
            reason = error if error != NONE else status
            reasons[reason] = reasons.get(reason, 0) + figures.calls
    return cost, sorted(reasons.items(), key=lambda each: (-each[1], each[0]))[:3]
