"""The audit log as reports: its events, and what a check of its chain found."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase

from callmeter.reports.report import Column, Kind, Report, Row
from callmeter.words.instant import parse_instant
from callmeter.words.jsontext import dumps
from callmeter.words.period import Period
from callmeter.words.wording import counted

_OWN = ("at", "by", "event")


def audit_list(
    events: Iterable[Mapping[str, object]],
    period: Period,
    as_of: datetime | None,
    names: Sequence[str],
    count: int | None,
) -> Report:
    """A row for each event, in the order of the log; the last `count` if that is given."""
    columns = [
        Column("at", "time", Kind.INSTANT),
        Column("by", "by", Kind.TEXT, optional=1),
        Column("event", "event", Kind.TEXT),
        Column("details", "details", Kind.TEXT),
    ]
    rows: deque[Row] = deque(maxlen=count)
    for event in events:
        at = str(event.get("at", ""))
        try:
            instant = parse_instant(at)
        except ValueError:
            continue
        if instant not in period or (as_of is not None and instant > as_of):
            continue
        if names and not any(fnmatchcase(str(event.get("event")), name) for name in names):
            continue
        details = " ".join(f"{name}={_text(value)}" for name, value in event.items() if name not in _OWN)
        rows.append(Row({**{name: str(event.get(name, "")) for name in _OWN}, "details": details}))
    return Report("Audit log", columns, list(rows), period=period)


def chain_report(
    findings: Iterable[tuple[str, int, str, str]], events: int, held: int, given: int, head: str | None
) -> Report:
    """A row for each finding (verdict, line, meaning, detail); `head`, the last line's anchor, is the last note."""
    columns = [
        Column("verdict", "verdict", Kind.TEXT),
        Column("line", "line", Kind.COUNT),
        Column("meaning", "meaning", Kind.TEXT),
        Column("detail", "detail", Kind.TEXT, optional=1),
    ]
    rows = [
        Row({"verdict": verdict, "line": line or None, "meaning": meaning, "detail": detail})
        for verdict, line, meaning, detail in findings
    ]
    notes = [f"{counted(events, 'event')}; {counted(held, 'anchor')} held, {given} of them given."]
    if not given:
        notes.append("No anchor was kept elsewhere, so whoever can write the log could have written all of it anew.")
    if head is not None:
        notes.append(f"head {head}")
    return Report(
        "Audit log's chain", columns, rows, notes=notes, facts={"events": events, "anchors": held, "head": head}
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else dumps(value)
