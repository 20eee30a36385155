"""Spikes and shifts of cost by agent, purpose, model and key, and why: one event is one finding, however many of its
tags show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from callmeter.reports.anomaly_days import (
    Day,
    Days,
    Event,
    Tables,
    all_days,
    amounts,
    shifts,
    spikes,
    told_once,
    too_short,
)
from callmeter.reports.anomaly_finding import (
    NEARLY_ALL,
    SHIFT,
    SPIKE,
    USUAL_RATES,
    Finding,
    Scope,
    breakdown,
    condition,
    days_period,
    earlier,
    freeze,
    subject_of,
    times,
)
from callmeter.reports.anomaly_folding import Overlaps, Seen, folded
from callmeter.reports.change import OTHER, Served, by_model, change
from callmeter.reports.grouping import NONE
from callmeter.reports.session_days import Name
from callmeter.reports.usage import Figures, Group, Usage
from callmeter.words.money import shown
from callmeter.words.wording import counted

# Days before an event that it is compared with.
_BEFORE = 28
# A shift goes on if so many days up to now say so.
_LATELY = 7
_DAY = timedelta(1)
# Per cent: a cause is told that made so much of the difference, and a session that took so much of the event.
_WORTH_TELLING, _OWN_SHARE = 10, 40
_CAUSES = {
    "volume": ("more calls", "fewer calls"),
    "tokens": ("larger calls", "smaller calls"),
    "mix": ("dearer models", "cheaper models"),
    "cache": ("less from the cache", "more from the cache"),
    "price": ("higher prices", "lower prices"),
    OTHER: ("charges without calls", "credits without calls"),
}


@dataclass(frozen=True)
class Judged:
    """How many subjects could be judged, and how many not, for they have too little history."""

    subjects: int
    short: int


def cost_findings(usage: Usage, scope: Scope, tables: Tables) -> tuple[list[Finding], Judged]:
    """Spikes and shifts, and how many subjects were judged. `tables` are the days from 366 before the period on."""
    seen: list[Seen[Event]] = []
    spiky: dict[tuple[str, str], list[Event]] = {}
    judged = short = 0
    every = all_days(next(iter(tables.values()), {}))
    whole = {"total": {"": every}} if every else {}
    for kind, values in {**tables, **whole}.items():
        for value, days in values.items():
            first, spent = amounts(days, scope.until)
            running = days[scope.until].nano if scope.until in days else None
            if too_short(spent):
                short += 1
                continue
            judged += 1
            floor = scope.floors.of(kind, value)
            spiked = spiky[kind, value] = spikes(first, spent, floor, running)
            spiked, shifted = told_once(spiked, shifts(first, spent, floor, spiked))
            for name, events in ((SPIKE, spiked), (SHIFT, shifted)):
                for event in events:
                    span = event.first.isoformat(), event.last.isoformat()
                    if scope.touches(*span):
                        seen.append(Seen(name, kind, value, *span, event.excess, event))
    kept = folded(seen, partial(_joint, Overlaps(usage, scope, seen, "day", _BEFORE), {**tables, **whole}))
    return [_finding(usage, scope, each, tables, spiky[each.kind, each.value]) for each in kept], Judged(judged, short)


def _joint(overlaps: Overlaps[Event], tables: Tables, one: Seen[Event], other: Seen[Event]) -> int:
    """What of the other's excess lies in the calls of both: as much of it as they have of what its days cost beyond
    what such days usually did."""
    both = _beyond(overlaps.of(one, other), other)
    days = tables[other.kind][other.value]
    alone = _beyond({day.isoformat(): each for day, each in days.items()}, other)
    return both * other.size // alone if alone > 0 else both


def _beyond(days: Mapping[str, Day], seen: Seen[Event]) -> int:
    start = earlier(seen.what.first, _BEFORE).isoformat()
    before = during = 0
    for day, each in days.items():
        if start <= day < seen.first:
            before += each.nano
        elif seen.first <= day <= seen.last:
            during += each.nano
    return during - before * seen.what.days // _BEFORE


def _finding(usage: Usage, scope: Scope, seen: Seen[Event], tables: Tables, spiked: Sequence[Event]) -> Finding:
    event = seen.what
    first, last = seen.first, seen.last
    where = condition(seen.kind, seen.value)
    subject = subject_of(seen.kind, seen.value)
    span = "day" if event.days == 1 else f"{event.days} days"
    evidence = [f"{times(event.actual, event.usual.mean)} times what was expected of the {span}"]
    if event.last == scope.until:
        evidence[0] += ", and the day is not over"
    evidence += filter(None, [_why(usage, scope, event, where, spiked)])
    goes_on = _goes_on(scope, event, _days_of(tables, seen)) if seen.name == SHIFT else ""
    evidence += filter(None, [goes_on])
    name, figures = _largest_session(usage, scope, seen)
    session = name[1]
    alone = figures if figures is not None and figures.nano * 100 >= _OWN_SHARE * event.actual else None
    if alone is not None:
        evidence.append(f"session {session} alone took {shown(alone.nano)} in {counted(alone.calls, 'call')}")
    if seen.also:
        evidence.append(f"shows in {', '.join(seen.also)} too")
    guessed = _estimated(tables, seen)
    if guessed * 100 >= event.actual:
        evidence.append(f"{guessed * 100 // event.actual}% of it is estimated")
    command = ""
    if alone is not None and scope.lasts(alone.last or ""):
        command = freeze("session", session, f"{seen.name} of {subject} on {last}")
    elif event.last == scope.until:
        command = freeze(seen.kind, seen.value, f"{seen.name} on {last}")
    by = [name for name in ("agent", "session") if name != seen.kind] if seen.name == SPIKE else ["day", "model"]
    return Finding(
        scope.id(seen.name, subject, first),
        seen.name,
        subject,
        first,
        last,
        *event.usual.nearly_sure,
        event.actual,
        event.excess,
        "; ".join(evidence),
        command or breakdown(scope, by, where, first, (scope.until - _DAY).isoformat() if goes_on else last),
        tuple(seen.also),
        name if figures is not None and figures.nano * 100 >= NEARLY_ALL * event.excess else None,
    )


def _why(usage: Usage, scope: Scope, event: Event, where: Sequence[str], spiked: Sequence[Event]) -> str:
    """What made the difference to as many of the days before, but for those that `spiked`; the largest causes first."""
    names, conditions = ("provider", "model", "status"), scope.narrowed(where)
    days = [earlier(event.first, number) for number in range(1, _BEFORE + 1)]
    usual = {day.isoformat() for day in days if not any(each.first <= day <= each.last for each in spiked)}
    if not usual:
        return ""
    groups = usage.groups((*names, "day"), period=days_period(days[-1], days[0], usage.zone), where=conditions)
    # Whole numbers: so many times the one period against so many times the other.
    before = _scaled(((path[:-1], figures) for path, figures in groups if path[-1] in usual), event.days)
    period = days_period(event.first, event.last, usage.zone)
    after = _scaled(usage.groups(names, period=period, where=conditions), len(usual))
    found = change(before, after, lambda provider, model: scope.rates(provider, model, scope.now) or USUAL_RATES)
    parts = sorted(found.parts.items(), key=lambda part: -abs(part[1]))
    told = [
        f"{shown(abs(part) // len(usual))} {'from' if part > 0 else 'less from'} {_CAUSES[cause][part < 0]}"
        for cause, part in parts
        if part and abs(part) * 100 >= _WORTH_TELLING * abs(found.total)
    ]
    return ", ".join(told)


def _scaled(groups: Iterable[Group], factor: int) -> dict[Served, Figures]:
    return {
        served: replace(
            each,
            calls=each.calls * factor,
            nano=each.nano * factor,
            tokens_in=each.tokens_in * factor,
            tokens_out=each.tokens_out * factor,
            tokens_cached=each.tokens_cached * factor,
            tokens_cache_write=each.tokens_cache_write * factor,
        )
        for served, each in by_model(groups).items()
    }


def _largest_session(usage: Usage, scope: Scope, seen: Seen[Event]) -> tuple[Name, Figures | None]:
    names = list(dict.fromkeys(name for name in (seen.kind, "agent", "session") if name != "total"))
    period = days_period(seen.what.first, seen.what.last, usage.zone)
    groups = usage.groups(names, period=period, where=scope.narrowed(condition(seen.kind, seen.value)))
    named = [
        ((labels[names.index("agent")], labels[names.index("session")]), figures)
        for labels, figures in groups
        if labels[names.index("session")] != NONE and (seen.kind == "total" or labels[0] == seen.value)
    ]
    return max(named, key=lambda each: (each[1].nano, each[0]), default=((NONE, ""), None))


def _goes_on(scope: Scope, event: Event, days: Days) -> str:
    """What came in the days since a shift was seen, if the last of them are nearer to it than to what was usual."""
    since = [(event.last + number * _DAY) for number in range(1, (scope.until - event.last).days)]
    spent = [days[day].nano if day in days else 0 for day in since]
    lately = spent[-_LATELY:]
    if not lately or 2 * sum(lately) * event.days <= (event.actual + event.usual.expected) * len(lately):
        return ""
    return f"it goes on: {shown(sum(spent))} in the {f'{len(spent)} days' if len(spent) > 1 else 'day'} since"


def _estimated(tables: Tables, seen: Seen[Event]) -> int:
    days = _days_of(tables, seen)
    return sum(each.estimated for day, each in days.items() if seen.what.first <= day <= seen.what.last)


def _days_of(tables: Tables, seen: Seen[Event]) -> Days:
    return tables[seen.kind][seen.value] if seen.kind in tables else all_days(next(iter(tables.values()), {}))
