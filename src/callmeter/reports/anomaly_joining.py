"""One event is one finding: a session out of control is its agent's spike, and the spike is the session's.

Where one session out of control took nearly all of a spike or shift, it says more: it is told, and names them. Where
several were dear on the day of their agent's spike, the spike is told and names them: on a day of ten times the usual
work each of ten sessions is dearer than any before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from callmeter.reports.anomaly_finding import NEARLY_ALL, SPIKE, Finding, Scope, subject_of
from callmeter.reports.anomaly_sessions import Dear, Sessions, runaways, so_dear
from callmeter.reports.session_days import Name


def joined(scope: Scope, costs: Sequence[Finding], sessions: Sessions) -> list[Finding]:
    """Spikes and shifts, and sessions, without those that others tell."""
    told, dear = list(sessions.findings), []
    for each in sessions.dear:
        (alone,) = runaways(scope, [each])
        if any(alone.session == cost.session and _meet(alone, cost) for cost in costs):
            told.append(alone)
        else:
            dear.append(each)
    shown: dict[str, list[str]] = {}
    kept = []
    for cost in costs:
        holder = next((each for each in told if _holds(each, cost)), None)
        if holder is not None:
            shown.setdefault(holder.id, []).append(f"shows as a {cost.kind} of {', '.join((cost.subject, *cost.also))}")
            continue
        theirs = [each for each in dear if _within(each, cost)]
        if theirs:
            dear = [each for each in dear if each not in theirs]
            cost = replace(cost, evidence=f"{cost.evidence}; {so_dear(theirs)}")
        kept.append(cost)
    kept += [replace(each, evidence="; ".join([each.evidence, *shown.get(each.id, ())])) for each in told]
    return [*kept, *runaways(scope, dear)]


def _holds(found: Finding, cost: Finding) -> bool:
    """Whether a session, or an agent's sessions, took nearly all of a spike or shift."""
    if not _meet(found, cost):
        return False
    if found.session is not None:
        return found.session == cost.session
    return found.subject in (cost.subject, *cost.also) and found.actual * 100 >= NEARLY_ALL * cost.excess


def _meet(one: Finding, other: Finding) -> bool:
    return one.first[:10] <= other.last and other.first <= one.last[:10]


def _within(dear: tuple[Name, Dear], found: Finding) -> bool:
    """Whether sessions were dear on days of their agent's spike alone."""
    (agent, _), each = dear
    if found.kind != SPIKE or subject_of("agent", agent) not in (found.subject, *found.also):
        return False
    return found.first <= each.days[0].isoformat() and each.days[-1].isoformat() <= found.last
