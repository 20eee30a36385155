"""Outcomes as they stand: corrections applied, each id once; and as a list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from callmeter.reports.report import Column, Kind, Report, Row
from callmeter.words.instant import parse_instant
from callmeter.words.money import nano
from callmeter.words.outcome import Outcome
from callmeter.words.period import EVER, Period


def standing(lines: Iterable[Outcome], *, period: Period = EVER, as_of: datetime | None = None) -> list[Outcome]:
    """The outcomes of a period in order of time, those of one instant as they were recorded; and as the lines that
    were recorded up to `as_of` leave them. A correction of a correction is one of the outcome itself; one of an outcome
    that there is not says nothing."""
    found: dict[str, Outcome] = {}
    roots: dict[str, str] = {}
    for line in lines:
        if line.id in roots or (as_of is not None and _recorded(line) > as_of):
            continue
        root = roots.get(line.corrects) if line.corrects else line.id
        if root is None:
            continue
        roots[line.id] = root
        found[root] = found[root].corrected(line) if line.corrects else line
    chosen = [outcome for outcome in found.values() if outcome.instant in period]
    return sorted(chosen, key=lambda outcome: outcome.instant)


def outcome_list(outcomes: Sequence[Outcome], period: Period, zone: str) -> Report:
    """A row for each outcome, and what they are worth together."""
    columns = [
        Column("work_item", "work item", Kind.TEXT),
        Column("at", "when", Kind.INSTANT, optional=3),
        Column("value", "value", Kind.RATE),
        Column("accepted", "accepted", Kind.TEXT),
        Column("agent", "agent", Kind.TEXT, quiet=True, optional=2),
        Column("purpose", "purpose", Kind.TEXT, quiet=True, optional=4),
        Column("customer", "customer", Kind.TEXT, quiet=True, optional=5),
        Column("note", "note", Kind.TEXT, quiet=True, optional=6),
        Column("id", "id", Kind.TEXT, optional=1),
    ]
    rows = [
        Row(
            {
                "work_item": outcome.work_item,
                "at": outcome.at,
                "value": None if outcome.value is None else nano(outcome.value),
                "accepted": {True: "yes", False: "no", None: None}[outcome.accepted],
                "agent": outcome.agent or None,
                "purpose": outcome.purpose or None,
                "customer": outcome.customer or None,
                "note": outcome.note or None,
                "id": outcome.id,
            }
        )
        for outcome in outcomes
    ]
    facts = {"outcomes": len(outcomes), "outputs": sum(outcome.valuable for outcome in outcomes)}
    total = {"value": sum(outcome.worth for outcome in outcomes)}
    rejected = any(outcome.accepted is False and outcome.value for outcome in outcomes)
    notes = ["What was rejected is worth nothing in the total."] if rejected else []
    return Report("Outcomes", columns, rows, total=total, notes=notes, facts=facts, period=period, zone=zone)


def faults_note(bad: Sequence[tuple[int, str]], count: int, path: str) -> list[str]:
    """What an outcomes file holds that is no outcome, for people."""
    if not count:
        return []
    places = ", ".join(str(number) for number, _ in bad[:5]) + (", …" if count > 5 else "")
    lines = "1 line is no outcome" if count == 1 else f"{count:,} lines are no outcomes"
    return [f"{lines} and left out: {path}, line {places}: {bad[0][1]}."]


def _recorded(line: Outcome) -> datetime:
    return parse_instant(line.recorded_at or line.at)
