"""What a check of the usage log found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from callmeter.reports.report import Column, Kind, Report, Row
from callmeter.words.wording import counted


@dataclass(frozen=True)
class Fault:
    """Something wrong in a log; `line` is None for what concerns no single line."""

    kind: str
    file: str
    line: int | None
    reason: str


@dataclass(frozen=True)
class Checked:
    """What a log holds. `faults` lists at most a thousand of each kind; `counts` are exact, by kind. `first` and `last`
    are the earliest and latest timestamps as they stand in it."""

    files: Sequence[str]
    lines: int
    size: int
    records: int
    corrections: int
    first: str
    last: str
    counts: dict[str, int]
    faults: Sequence[Fault]


def log_faults(checked: Checked) -> Report:
    """A row for each fault, in the order of kinds and lines; what was read stands below."""
    columns = [
        Column("place", "place", Kind.TEXT),
        Column("fault", "fault", Kind.TEXT),
        Column("reason", "reason", Kind.TEXT),
    ]
    rows = [Row({"place": _place(fault), "fault": fault.kind, "reason": fault.reason}) for fault in checked.faults]
    files = counted(len(checked.files), "file")
    notes = [f"Read {checked.lines:,} lines in {files}, {checked.size:,} bytes: {checked.records:,} calls."]
    if checked.corrections:
        notes.append(f"{checked.corrections:,} of them are corrections.")
    if checked.first:
        notes.append(f"The earliest began at {checked.first}, the latest at {checked.last}.")
    found = sum(checked.counts.values())
    if found > len(rows):
        notes.append(f"{found:,} faults in all; a thousand of each kind are listed.")
    facts = {
        "files": list(checked.files),
        "lines": checked.lines,
        "bytes": checked.size,
        "calls": checked.records,
        "corrections": checked.corrections,
        "first": checked.first or None,
        "last": checked.last or None,
        **checked.counts,
    }
    return Report("Faults in the usage log", columns, rows, notes=notes, facts=facts)


def _place(fault: Fault) -> str:
    return fault.file if fault.line is None else f"{fault.file}:{fault.line}"
