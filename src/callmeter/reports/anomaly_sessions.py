"""Sessions out of control: runaways, by their prompts or by their cost, and zombies, open and spending for days."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from statistics import median

from callmeter.policy.loop_rule import LEAST_SESSIONS
from callmeter.reports.anomaly_finding import (
    RUNAWAY,
    ZOMBIE,
    Finding,
    Scope,
    breakdown,
    freeze,
    many,
    times,
)
from callmeter.reports.anomaly_loops import Loop, find_loops
from callmeter.reports.grouping import NONE
from callmeter.reports.session_days import Name, Part, Session, only, read_sessions
from callmeter.reports.usage import Usage
from callmeter.words.instant import parse_instant
from callmeter.words.money import shown

# What is usual is what was in 28 days; what runs away may have begun before the period.
_USUAL, _BEGAN = timedelta(28), 14
# A zombie is open for so long, is never silent for longer than that, and outlives other sessions of its agent so far.
_ZOMBIE_OPEN, _ZOMBIE_SILENT, _ZOMBIE_TIMES = timedelta(hours=48), timedelta(hours=6), 3
_HOUR, _DAY = timedelta(hours=1), timedelta(1)


@dataclass
class Dear:
    """Adjacent days on which a session cost far more than the `largest` of its agent in a day."""

    part: Part
    largest: int
    days: list[date]


def session_findings(usage: Usage, scope: Scope) -> tuple[list[Finding], int]:
    """Runaway loops and zombies; and how many calls were too many to be compared."""
    sessions = read_sessions(usage, scope, _USUAL.days + _BEGAN)
    named = {name: each for name, each in sessions.items() if each.name != NONE}
    zombies = _zombies(usage, scope, named)
    found = [_zombie(scope, named, name, part) for name, part in zombies.items()]
    dear = {name: parts for name, parts in _too_dear(scope, named).items() if name not in zombies}
    loops, unread = find_loops(usage, scope, sessions)
    for name, runs in loops.items():
        for loop in runs:
            # The loop is why its session is dear.
            same = [
                each for each in dear.get(name, ()) if each.part.first <= loop.last and loop.first <= each.part.last
            ]
            dear[name] = [each for each in dear.get(name, ()) if each not in same]
            found.append(_runaway(scope, sessions[name], loop, same[0] if same else None))
    for name, parts in dear.items():
        found += [_runaway(scope, sessions[name], None, each) for each in parts]
    return found, unread


def zombie_sessions(usage: Usage, scope: Scope) -> dict[Name, Part]:
    """The zombies alone, each with its calls while it was never silent for long."""
    named = {
        name: each for name, each in read_sessions(usage, scope, _USUAL.days + _BEGAN).items() if each.name != NONE
    }
    return _zombies(usage, scope, named)


def _zombies(usage: Usage, scope: Scope, sessions: Mapping[Name, Session]) -> dict[Name, Part]:
    """Sessions that were open for days and never silent for long; not where long sessions are the agent's habit."""
    suspects = {
        name: each
        for name, each in sessions.items()
        if each.whole.open >= _ZOMBIE_OPEN
        and len(each.days) >= _ZOMBIE_OPEN // _DAY
        and each.whole.nano > scope.floors.of("agent", each.agent)
        and scope.touches(scope.minute(each.whole.first), scope.minute(each.whole.last))
    }
    if not suspects:
        return {}
    hours: dict[Name, list[Part]] = {}
    # From the beginning of the log: a zombie may have been open for long.
    for (agent, session, _), figures in usage.groups(
        ("agent", "session", "hour"), period=scope.history, where=only(scope, suspects)
    ):
        if (agent, session) in suspects and figures.first and figures.last:
            part = Part(parse_instant(figures.first), parse_instant(figures.last), figures.nano, figures.calls)
            hours.setdefault((agent, session), []).append(part)
    found: dict[Name, Part] = {}
    for name in suspects:
        awake = _longest_awake(hours.get(name, []))
        usual = max(
            (other.whole.open for key, other in sessions.items() if key[0] == name[0] and key not in suspects),
            default=timedelta(0),
        )
        if awake is None or awake.open < max(_ZOMBIE_OPEN, _ZOMBIE_TIMES * usual):
            continue
        dear = awake.nano > scope.floors.of("agent", name[0])
        if dear and scope.touches(scope.minute(awake.first), scope.minute(awake.last)):
            found[name] = awake
    return found


def _longest_awake(hours: list[Part]) -> Part | None:
    """The longest stretch without a long silence."""
    stretches: list[Part] = []
    for hour in sorted(hours, key=lambda each: each.first):
        if stretches and hour.first - stretches[-1].last <= _ZOMBIE_SILENT:
            stretches[-1].add(hour)
        else:
            stretches.append(replace(hour))
    return max(stretches, key=lambda each: each.open, default=None)


def _too_dear(scope: Scope, sessions: Mapping[Name, Session]) -> dict[Name, list[Dear]]:
    """Sessions that in a day cost far more than the agent's largest in any of the 28 days before. One that was found
    does not raise the bar for later ones."""
    rules = scope.rules
    every = sorted(
        ((part.first, name, day) for name, session in sessions.items() for day, part in session.days.items())
    )
    found: dict[Name, list[Dear]] = {}
    usual: dict[str, _Usual] = {}
    for first, name, day in every:
        part = sessions[name].days[day]
        others = usual.setdefault(name[0], _Usual())
        others.forget(first)
        floor = max(scope.floors.of("agent", name[0]), rules.session_floor)
        if part.nano > floor and others.count >= LEAST_SESSIONS:
            largest = others.largest
            if part.nano > int(largest * rules.times_largest_session):
                before = found.setdefault(name, [])
                if before and before[-1].days[-1] == day - _DAY:
                    before[-1].part.add(part)
                    before[-1].days.append(day)
                else:
                    before.append(Dear(replace(part), largest, [day]))
                continue
        others.add(first, part.nano)
    return {
        name: kept
        for name, parts in found.items()
        if (kept := [each for each in parts if scope.touches(str(each.days[0]), str(each.days[-1]))])
    }


class _Usual:
    """How many sessions an agent had in the last 28 days, and what the dearest of them cost."""

    def __init__(self) -> None:
        self._began: deque[datetime] = deque()
        # Only those that no later one exceeds, the dearest first.
        self._dearest: deque[tuple[datetime, int]] = deque()

    @property
    def count(self) -> int:
        return len(self._began)

    @property
    def largest(self) -> int:
        return self._dearest[0][1] if self._dearest else 0

    def add(self, first: datetime, nano: int) -> None:
        """One more, later than those before."""
        self._began.append(first)
        while self._dearest and self._dearest[-1][1] <= nano:
            self._dearest.pop()
        self._dearest.append((first, nano))

    def forget(self, now: datetime) -> None:
        """Leave out what is too long ago."""
        while self._began and now - self._began[0] > _USUAL:
            self._began.popleft()
        while self._dearest and now - self._dearest[0][0] > _USUAL:
            self._dearest.popleft()


def _zombie(scope: Scope, sessions: Mapping[Name, Session], name: Name, part: Part) -> Finding:
    others = [each for key, each in sessions.items() if key[0] == name[0] and key != name]
    usual = round(median(each.whole.nano for each in others)) if others else 0
    days = part.open / _DAY
    evidence = [
        f"open for {days:.1f} days and never silent for more than 6 hours",
        f"{shown(round(part.nano / days))} a day in {many(part.calls, 'call')}",
    ]
    if others:
        longest = max(each.whole.open for each in others)
        evidence.append(f"{many(len(others), 'other session')} of its agent lasted {_long(longest)} at most")
    return _about(scope, ZOMBIE, sessions[name], part, usual, evidence, f"open for {days:.0f} days")


def _runaway(scope: Scope, session: Session, loop: Loop | None, dear: Dear | None) -> Finding:
    evidence = []
    if loop is not None:
        took = _long(loop.last - loop.first)
        evidence.append(f"{loop.calls:,} near-identical prompts within {took} for {shown(loop.nano)}")
        small, large = loop.sizes
        if small and large * 10 > small * 12:
            evidence.append(f"they grew from {small:,} to {large:,} tokens")
    if dear is None:
        assert loop is not None
        part = Part(loop.first, loop.last, loop.nano, loop.calls)
        return _about(scope, RUNAWAY, session, part, 0, evidence, "runaway loop")
    part = dear.part
    ratio = f", {times(part.nano, dear.largest)} times the largest" if dear.largest else ", more than any"
    evidence.append(
        f"the session cost {shown(part.nano)} in {many(part.calls, 'call')}{ratio} of its agent in a day of the 28 "
        f"days before{f', {shown(dear.largest)}' if dear.largest else ''}"
    )
    return _about(scope, RUNAWAY, session, part, dear.largest, evidence, "runaway loop")


def _about(
    scope: Scope, kind: str, session: Session, part: Part, usual: int, evidence: Sequence[str], reason: str
) -> Finding:
    """`usual` is what a session of this agent may cost."""
    first, last = scope.minute(part.first), scope.minute(part.last)
    named = session.name != NONE
    whose = [f"agent {session.agent}"] if named and session.agent != NONE else []
    command = ""
    if scope.lasts(last):
        subject = ("session", session.name) if named else ("agent", session.agent)
        command = freeze(*subject, reason)
    where = [f"agent={session.agent}", f"session={session.name}"]
    return Finding(
        scope.id(kind, session.agent, session.name, first[:10]),
        kind,
        f"session:{session.name}" if named else f"agent:{session.agent}",
        first,
        last,
        0,
        usual,
        part.nano,
        part.nano - usual,
        "; ".join([*whose, *evidence]),
        command or breakdown(scope, ["hour", "purpose", "model"], where, first, last),
    )


def _long(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    if seconds >= 172_800:
        return f"{span / _DAY:.1f} days"
    if seconds >= 7200:
        return f"{span / _HOUR:.1f} h"
    return f"{seconds // 60} min" if seconds >= 120 else f"{seconds} s"
