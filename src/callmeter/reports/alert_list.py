"""Alerts that wait to be delivered, as a report."""

from __future__ import annotations

from collections.abc import Sequence

from callmeter.reports.report import Column, Kind, Report, Row

_COLUMNS = (
    Column("at", "time", Kind.INSTANT),
    Column("occasion", "occasion", Kind.TEXT),
    Column("text", "alert", Kind.TEXT),
    Column("tries", "tries", Kind.COUNT, quiet=True),
)


def alert_list(alerts: Sequence[tuple[str, str, str, int]], receivers: int) -> Report:
    """A row for each alert (time, occasion, text, failed flushes), in their order; `receivers` is how many the policy
    names."""
    rows = [Row({"at": at, "occasion": occasion, "text": text, "tries": tries}) for at, occasion, text, tries in alerts]
    notes = []
    if not receivers:
        notes.append("The policy names nobody to be told: see `alerts` in budget.json.")
    elif rows:
        notes.append("`callmeter budget alerts --flush` delivers them; cron should do it every few minutes.")
    return Report("Alerts that wait", _COLUMNS, rows, notes=notes, facts={"receivers": receivers})
