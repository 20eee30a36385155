"""Sessions out of control: runaways, by their prompts or by their cost, and zombies, open and spending for days."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from statistics import median

from callmeter.policy.loop_rule import LEAST_SESSIONS
from callmeter.reports.anomaly_finding import (
    RUNAWAY,
    ZOMBIE,
    Finding,
    Scope,
    breakdown,
    freeze,
    times,
)
from callmeter.reports.anomaly_loops import Loop, find_loops
from callmeter.reports.grouping import NONE
from callmeter.reports.session_days import Name, Part, only, part_of, session_days, whole_sessions
from callmeter.reports.usage import Spent, Usage
from callmeter.words.money import shown
from callmeter.words.wording import counted, listed

# What is usual is what was in 28 days; what runs away may have begun before the period.
_USUAL_MS = 28 * 86_400_000
_READ = 28 + 14
# A zombie is open for so long, is never silent for longer than that, and outlives other sessions of its agent so far.
_ZOMBIE_OPEN, _ZOMBIE_SILENT, _ZOMBIE_TIMES = timedelta(hours=48), timedelta(hours=6), 3
_HOUR, _DAY = timedelta(hours=1), timedelta(1)
# So many sessions of one event are named; more that repeat themselves on one day are told together.
_NAMED = 3


@dataclass
class Dear:
    """Adjacent days on which a session cost far more than the `largest` of its agent in a day."""

    part: Part
    largest: int
    days: list[date]


@dataclass(frozen=True)
class _Looped:
    """A session that repeats itself, and how dear it was if that is out of the ordinary. `again`: it had another loop
    earlier that day."""

    session: Name
    loop: Loop
    dear: Dear | None
    again: bool

    @property
    def part(self) -> Part:
        if self.dear is not None:
            return self.dear.part
        return Part(self.loop.first, self.loop.last, self.loop.nano, self.loop.calls)


@dataclass(frozen=True)
class Sessions:
    """Loops and zombies; the sessions that were dear without a loop; how many calls were too many to be compared; and
    `zombie_sessions`."""

    findings: Sequence[Finding]
    dear: Sequence[tuple[Name, Dear]]
    unread: int
    zombies: Mapping[Name, Part]


def judged_sessions(usage: Usage, scope: Scope) -> Sessions:
    """Sessions out of control."""
    zombies = zombie_sessions(usage, scope)
    found = []
    if zombies:
        others = _others(usage, scope, zombies)
        found = [_zombie(scope, others, name, part) for name, part in zombies.items()]
    parts = session_days(usage, scope, scope.back(_READ), least=scope.floors.lowest("agent") // 2)
    dear = {name: each for name, each in _too_dear(usage, scope, parts).items() if name not in zombies}
    loops, unread = find_loops(usage, scope, parts)
    looped: dict[tuple[str, date], list[_Looped]] = {}
    for name, runs in loops.items():
        for loop in runs:
            # The loop is why its session is dear.
            same = [
                each for each in dear.get(name, ()) if each.part.first <= loop.last and loop.first <= each.part.last
            ]
            dear[name] = [each for each in dear.get(name, ()) if each not in same]
            day = looped.setdefault((name[0], scope.day(loop.first)), [])
            day.append(_Looped(name, loop, same[0] if same else None, any(one.session == name for one in day)))
    for each in looped.values():
        many = len({one.session for one in each}) > _NAMED
        found += [_loops(scope, each)] if many else [_loop(scope, one) for one in each]
    return Sessions(found, [(name, each) for name, days in dear.items() for each in days], unread, zombies)


def runaways(scope: Scope, dear: Sequence[tuple[Name, Dear]]) -> list[Finding]:
    """A finding for each of these; several of one agent on the same days are one event."""
    events: dict[str, list[list[tuple[Name, Dear]]]] = {}
    for each in sorted(dear, key=lambda each: (each[1].days[0], each[0])):
        of_agent = events.setdefault(each[0][0], [])
        if of_agent and each[1].days[0] <= max(other.days[-1] for _, other in of_agent[-1]):
            of_agent[-1].append(each)
        else:
            of_agent.append([each])
    return [_runaway(scope, event) for of_agent in events.values() for event in of_agent]


def so_dear(dear: Sequence[tuple[Name, Dear]]) -> str:
    """`3 sessions (s-9, s-8, s-7) cost 3.1 to 4.9 times the largest of their agent in a day of the 28 days before,
    $2.00`."""
    ranked = sorted(dear, key=lambda each: (-each[1].part.nano, each[0]))
    names = listed([name for (_, name), _ in ranked], _NAMED)
    largest = max(each.largest for _, each in dear)
    # What was the largest before may be another session for each, so these need not rank as the costs do.
    ratios = sorted((each.part.nano / each.largest for _, each in dear if each.largest), reverse=True)
    least, most = (times(ratios[-1], 1), times(ratios[0], 1)) if ratios else ("", "")
    so = f"{least} to {most}" if least != most else most
    much = f"{so} times the largest" if ratios else "more than any"
    what = f"session {names}" if len(dear) == 1 else f"{len(dear):,} sessions ({names})"
    whose = "its agent" if len(dear) == 1 else "their agent"
    ends = f", {shown(largest)}" if largest else ""
    return f"{what} cost {much} of {whose} in a day of the 28 days before{ends}"


def zombie_sessions(usage: Usage, scope: Scope) -> dict[Name, Part]:
    """Sessions that were open for days and never silent for long, each with its calls of that time; not where long
    sessions are the agent's habit."""
    sessions = whole_sessions(usage, scope, scope.back(_READ), least=scope.floors.lowest("agent"))
    suspects = {
        name
        for name, whole in sessions.items()
        if name[1] != NONE
        and whole.open >= _ZOMBIE_OPEN
        and whole.nano > scope.floors.of("agent", name[0])
        and scope.touches(scope.minute(whole.first), scope.minute(whole.last))
    }
    if not suspects:
        return {}
    hours: dict[Name, list[Part]] = {}
    # From the beginning of the log: a zombie may have been open for long.
    for each in usage.spent(("agent", "session", "hour"), period=scope.history, where=only(scope, suspects)):
        name = each.names[0], each.names[1]
        if name in suspects and each.begin is not None:
            hours.setdefault(name, []).append(part_of(each))
    usual: dict[str, timedelta] = {}
    for name, whole in _others(usage, scope, suspects).items():
        if name not in suspects:
            usual[name[0]] = max(whole.open, usual.get(name[0], timedelta(0)))
    found: dict[Name, Part] = {}
    for name in sorted(suspects):
        awake = _longest_awake(hours.get(name, []))
        longest = usual.get(name[0], timedelta(0))
        if awake is None or awake.open < max(_ZOMBIE_OPEN, _ZOMBIE_TIMES * longest):
            continue
        dear = awake.nano > scope.floors.of("agent", name[0])
        if dear and scope.touches(scope.minute(awake.first), scope.minute(awake.last)):
            found[name] = awake
    return found


def _others(usage: Usage, scope: Scope, names: Collection[Name]) -> dict[Name, Part]:
    """All sessions of the agents that have one of these."""
    agents = {agent for agent, _ in names}
    found = whole_sessions(usage, scope, scope.back(_READ), agents=agents)
    return {name: whole for name, whole in found.items() if name[1] != NONE}


def _longest_awake(hours: list[Part]) -> Part | None:
    """The longest stretch without a long silence."""
    stretches: list[Part] = []
    for hour in sorted(hours, key=lambda each: each.first):
        if stretches and hour.first - stretches[-1].last <= _ZOMBIE_SILENT:
            stretches[-1].add(hour)
        else:
            stretches.append(replace(hour))
    return max(stretches, key=lambda each: each.open, default=None)


def _too_dear(usage: Usage, scope: Scope, parts: Sequence[tuple[Spent, Name, date]]) -> dict[Name, list[Dear]]:
    """Sessions that in a day cost far more than the agent's largest in any of the 28 days before. One that was found
    does not raise the bar for later ones. `parts` are those that came to half of a floor."""
    rules = scope.rules
    agents = {agent: max(scope.floors.of("agent", agent), rules.session_floor) for _, (agent, _), _ in parts}
    above = {name[0] for spent, name, _ in parts if name[1] != NONE and spent.nano > agents[name[0]]}
    if not above:
        return {}
    # What is usual has to be known of those agents alone.
    every = session_days(usage, scope, scope.back(_READ), agents=above)
    every = [each for each in every if each[1][1] != NONE]
    every.sort(key=lambda each: (each[0].begin or 0, each[1], each[2]))
    found: dict[Name, list[Dear]] = {}
    usual: dict[str, _Usual] = {}
    for spent, name, day in every:
        begin = spent.begin or 0
        others = usual.setdefault(name[0], _Usual())
        others.forget(begin)
        if spent.nano > agents[name[0]] and others.count >= LEAST_SESSIONS:
            largest = others.largest
            if spent.nano > int(largest * rules.times_largest_session):
                before = found.setdefault(name, [])
                if before and before[-1].days[-1] == day - _DAY:
                    before[-1].part.add(part_of(spent))
                    before[-1].days.append(day)
                else:
                    before.append(Dear(part_of(spent), largest, [day]))
                continue
        others.add(begin, spent.nano)
    return {
        name: kept
        for name, days in found.items()
        if (kept := [each for each in days if scope.touches(str(each.days[0]), str(each.days[-1]))])
    }


class _Usual:
    """How many sessions an agent had in the last 28 days, and what the dearest of them cost."""

    def __init__(self) -> None:
        self._began: deque[int] = deque()  # milliseconds
        # Only those that no later one exceeds, the dearest first.
        self._dearest: deque[tuple[int, int]] = deque()

    @property
    def count(self) -> int:
        return len(self._began)

    @property
    def largest(self) -> int:
        return self._dearest[0][1] if self._dearest else 0

    def add(self, first: int, nano: int) -> None:
        """One more, later than those before."""
        self._began.append(first)
        while self._dearest and self._dearest[-1][1] <= nano:
            self._dearest.pop()
        self._dearest.append((first, nano))

    def forget(self, now: int) -> None:
        """Leave out what is too long ago."""
        while self._began and now - self._began[0] > _USUAL_MS:
            self._began.popleft()
        while self._dearest and now - self._dearest[0][0] > _USUAL_MS:
            self._dearest.popleft()


def _zombie(scope: Scope, sessions: Mapping[Name, Part], name: Name, part: Part) -> Finding:
    others = [each for key, each in sessions.items() if key[0] == name[0] and key != name]
    usual = round(median(each.nano for each in others)) if others else 0
    days = part.open / _DAY
    evidence = [
        f"open for {days:.1f} days and never silent for more than {_ZOMBIE_SILENT // _HOUR} hours",
        f"{shown(round(part.nano / days))} a day in {counted(part.calls, 'call')}",
    ]
    if others:
        longest = max(each.open for each in others)
        evidence.append(f"{counted(len(others), 'other session')} of its agent lasted {_long(longest)} at most")
    return _about(scope, ZOMBIE, name, part, usual, evidence, f"open for {days:.0f} days")


def _loops(scope: Scope, looped: Sequence[_Looped]) -> Finding:
    """Many sessions of an agent that repeat themselves on one day are one event."""
    ranked = sorted(looped, key=lambda each: (-each.loop.nano, each.session))
    # Of a session that was dear all day, a second loop is part of that.
    whole_days = {each.session for each in looped if each.dear is not None}
    first, *others = (each.part for each in ranked if each.dear is not None or each.session not in whole_days)
    whole = replace(first)
    for part in others:
        whole.add(part)
    names = list(dict.fromkeys(each.session[1] for each in ranked))
    calls, nano = sum(each.loop.calls for each in ranked), sum(each.loop.nano for each in ranked)
    evidence = [
        f"{len(names):,} sessions ({listed(names, _NAMED)}) repeated themselves: {calls:,} near-identical prompts for "
        f"{shown(nano)}"
    ]
    dear = [(each.session, each.dear) for each in ranked if each.dear is not None]
    if dear:
        evidence.append(so_dear(dear))
    usual = sum(each.largest for _, each in dear)
    agent = ranked[0].session[0]
    return _about(scope, RUNAWAY, (agent, NONE), whole, usual, evidence, "runaway loops", several=True)


def _loop(scope: Scope, looped: _Looped) -> Finding:
    session, loop, dear = looped.session, looped.loop, looped.dear
    took = _long(loop.last - loop.first)
    evidence = [f"{loop.calls:,} near-identical prompts within {took} for {shown(loop.nano)}"]
    small, large = loop.sizes
    if small and large * 10 > small * 12:
        evidence.append(f"they grew from {small:,} to {large:,} tokens")
    if dear is not None:
        evidence.append(_too_much(dear))
    usual = dear.largest if dear is not None else 0
    return _about(scope, RUNAWAY, session, looped.part, usual, evidence, "runaway loop", again=looped.again)


def _runaway(scope: Scope, dear: Sequence[tuple[Name, Dear]]) -> Finding:
    (agent, _), first = dear[0]
    if len(dear) == 1:
        return _about(scope, RUNAWAY, dear[0][0], first.part, first.largest, [_too_much(first)], "runaway loop")
    whole = replace(first.part)
    for _, each in dear[1:]:
        whole.add(each.part)
    usual = sum(each.largest for _, each in dear)
    return _about(scope, RUNAWAY, (agent, NONE), whole, usual, [so_dear(dear)], "runaway sessions", several=True)


def _too_much(dear: Dear) -> str:
    part = dear.part
    ratio = f", {times(part.nano, dear.largest)} times the largest" if dear.largest else ", more than any"
    return (
        f"the session cost {shown(part.nano)} in {counted(part.calls, 'call')}{ratio} of its agent in a day of the 28 "
        f"days before{f', {shown(dear.largest)}' if dear.largest else ''}"
    )


def _about(
    scope: Scope,
    kind: str,
    session: Name,
    part: Part,
    usual: int,
    evidence: Sequence[str],
    reason: str,
    *,
    several: bool = False,
    again: bool = False,
) -> Finding:
    """`usual` is what a session of this agent may cost, or `several` together. What came `again` on one day is known by
    its minute, too."""
    agent, name = session
    first, last = scope.minute(part.first), scope.minute(part.last)
    named = name != NONE
    whose = [f"agent {agent}"] if named and agent != NONE else []
    command = ""
    if scope.lasts(last):
        subject = ("session", name) if named else ("agent", agent)
        command = freeze(*subject, reason)
    by, where = ["hour", "purpose", "model"], [f"agent={agent}", f"session={name}"]
    if several:
        by, where = ["session", "model"], where[:1]
    return Finding(
        scope.id(kind, agent, reason if several else name, first if again else first[:10]),
        kind,
        f"session:{name}" if named else f"agent:{agent}",
        first,
        last,
        0,
        usual,
        part.nano,
        part.nano - usual,
        "; ".join([*whose, *evidence]),
        command or breakdown(scope, by, where, first, last),
        session=session if named else None,
    )


def _long(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    if seconds >= 172_800:
        return f"{span / _DAY:.1f} days"
    if seconds >= 7200:
        return f"{span / _HOUR:.1f} h"
    return f"{seconds // 60} min" if seconds >= 120 else f"{seconds} s"
