"""What is out of the ordinary in what was spent, the most expensive first.

Spikes and shifts beyond the range that the days before gave, new models, changed prices, storms of errors, runaway
loops, sessions that nobody closed. What each means, and how often it is wrong: `docs/anomalies.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from callmeter.reports.anomaly_costs import Judged, cost_findings
from callmeter.reports.anomaly_days import read_days
from callmeter.reports.anomaly_errors import error_storms
from callmeter.reports.anomaly_finding import BY, Finding, Scope
from callmeter.reports.anomaly_joining import joined
from callmeter.reports.anomaly_prices import price_findings
from callmeter.reports.anomaly_sessions import judged_sessions
from callmeter.reports.grouping import FIELDS, NONE
from callmeter.reports.report import Column, Kind, Report, Row
from callmeter.reports.session_days import Name, Part
from callmeter.reports.usage import Usage
from callmeter.words.money import shown, usd

# Days that are read before the period: what spiked there, and what was told, bears on what is told in it.
_HISTORY = 366
_COLUMNS = (
    Column("finding", "finding", Kind.TEXT),
    Column("subject", "subject", Kind.TEXT),
    Column("excess", "excess", Kind.MONEY),
    Column("first", "from", Kind.TEXT, optional=1),
    Column("last", "to", Kind.TEXT, optional=4),
    Column("low", "expected", Kind.RATE, optional=3),
    Column("high", "up to", Kind.RATE, optional=2),
    Column("actual", "came to", Kind.MONEY, optional=1),
    Column("evidence", "evidence", Kind.TEXT, below=True),
    Column("command", "command", Kind.COMMAND, below=True),
    Column("id", "id", Kind.TEXT, optional=5),
)


@dataclass(frozen=True)
class Examined:
    """The findings, the dearest first; how many subjects were judged; how many calls of sessions were too many to be
    compared; the zombie sessions among the findings; and what was asked for, tags and fields, that no call has."""

    findings: Sequence[Finding]
    judged: Judged
    unread: int
    zombies: Mapping[Name, Part]
    bare: Sequence[str] = ()


def examine(usage: Usage, scope: Scope) -> Examined:
    """Look for everything. Raises UsageError for groupings and conditions that are malformed."""
    tables = read_days(usage, scope.by, scope.back(_HISTORY), scope.where)
    costs, judged = cost_findings(usage, scope, tables)
    sessions = judged_sessions(usage, scope)
    found = joined(scope, costs, sessions)
    found += error_storms(usage, scope, tables)
    found += price_findings(usage, scope)
    found.sort(key=lambda each: (-each.excess, each.first, each.subject, each.kind))
    bare = [name for name, values in tables.items() if name not in BY and set(values) == {NONE}]
    return Examined(found, judged, sessions.unread, sessions.zombies, bare)


def anomaly_report(found: Sequence[Finding], scope: Scope, examined: Examined | None = None) -> Report:
    """A row for each finding, in the given order. `examined` adds what was judged."""
    rows = [
        Row(
            {
                "finding": each.kind,
                "subject": each.subject,
                "excess": each.excess,
                "first": each.first,
                "last": each.last,
                "low": each.low,
                "high": each.high,
                "actual": each.actual,
                "evidence": each.evidence,
                "command": each.command,
                "id": each.id,
            }
        )
        for each in found
    ]
    notes = []
    facts: dict[str, object] = {"findings": len(found)}
    if len(found) > 1:
        notes.append("One cause can have several findings, so their excesses do not add up.")
    if examined is not None:
        notes += _basis(examined, scope)
        facts |= {"judged": examined.judged.subjects, "too_short": examined.judged.short}
        facts |= {"unread_calls": examined.unread}
    if scope.floors.fixed is not None:
        facts["floor"] = usd(scope.floors.fixed)
    return Report("Anomalies", _COLUMNS, rows, notes=notes, facts=facts, period=scope.period, zone=str(scope.zone))


def _basis(examined: Examined, scope: Scope) -> list[str]:
    judged = examined.judged
    notes = [f"No call has the {'field' if name in FIELDS else 'tag'} {name}." for name in examined.bare]
    if judged.short:
        notes.append(
            f"Subjects judged by their days: {judged.subjects:,}; too young for it, without 14 days of history or 5 "
            f"with spend: {judged.short:,}."
        )
    if scope.floors.fixed is not None:
        notes.append(f"Nothing below {shown(scope.floors.fixed)} is told.")
    if examined.unread:
        notes.append(
            f"The prompts of {examined.unread:,} calls were too many to be compared; a shorter period needs fewer."
        )
    return notes
