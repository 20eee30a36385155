"""What is known of lines that a log has lost: closed segments that are gone or damaged, by the audit log, which has
their times, sums and sizes; and stretches of lines that are no records, by the calls before and after them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby

from callmeter.reports.lost_days import Lost
from callmeter.reports.usage import Reading
from callmeter.store.audit import read_events
from callmeter.store.usage_log import Damaged, is_segment, opened, unpacked
from callmeter.words.instant import parse_instant
from callmeter.words.money import nano
from callmeter.words.record import parse_record
from callmeter.words.usage import MAX_LINE

# Fewer bad lines in a row are somebody's slip, or a crash in the middle of a line.
_STRETCH = 10
_DAMAGED = "damaged from here on"
_TICK = timedelta(milliseconds=1)


def find_losses(reading: Reading, audits: Mapping[str, str]) -> list[Lost]:
    """The losses of the logs that were read. `audits` are audit logs by the directory of the log that they are about;
    other logs are looked up in an `audit.jsonl` beside them. Raises FileProblem."""
    read: dict[str, list[str]] = {}
    for path in reading.files:
        directory, name = os.path.split(os.path.abspath(path))
        read.setdefault(directory, []).append(name)
    broken = {os.path.abspath(path): line for path, line, reason in reading.bad if reason.startswith(_DAMAGED)}
    found = [*_stretches(reading)]
    for directory, names in read.items():
        audit = audits.get(directory, os.path.join(directory, "audit.jsonl"))
        for log, segment in _closed(audit):
            if any(name == log or is_segment(name, log) for name in names):
                lost = _lost(directory, segment, broken)
                if lost is not None:
                    found.append(lost)
    return found


def _closed(audit: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Each segment that was closed or deleted, with the name of its log."""
    seen = set()
    for event in read_events(audit, containing=b'"log.'):
        if event.fields.get("event") not in ("log.close", "log.prune"):
            continue
        listed = event.fields.get("segments")
        for segment in listed if isinstance(listed, list) else [event.fields.get("segment")]:
            # A name can be used again when its file is gone.
            if isinstance(segment, dict) and (key := f"{segment.get('name')} {segment.get('sha256')}") not in seen:
                seen.add(key)
                yield os.path.basename(str(event.fields.get("log"))), segment


def _lost(directory: str, segment: Mapping[str, object], broken: Mapping[str, int]) -> Lost | None:
    name, lines = segment.get("name"), segment.get("lines")
    if not isinstance(name, str) or os.path.basename(name) != name or not isinstance(lines, int):
        return None
    path = os.path.join(directory, name)
    try:
        first, last = (parse_instant(str(segment.get(end))) for end in ("first", "last"))
    except ValueError:  # it held no record
        return None
    if path in broken:
        before, _ = _around(path, broken[path], broken[path])
        return Lost(path, before or first, last, max(0, lines - broken[path] + 1))
    try:
        if os.stat(path).st_size == segment.get("size"):
            return None
    except OSError:
        pass
    cost = segment.get("cost")
    known = nano(Decimal(cost)) if isinstance(cost, int | Decimal) else None
    return Lost(path, first, last, lines, known, gone=True)


def _stretches(reading: Reading) -> Iterator[Lost]:
    """Runs of bad lines, between the calls around them."""
    by_file: dict[str, list[int]] = {}
    for path, line, reason in reading.bad:
        if not reason.startswith(_DAMAGED):
            by_file.setdefault(path, []).append(line)
    for path, numbers in by_file.items():
        # What is next to each other has the same distance from its place in the list.
        for _, run in groupby(enumerate(sorted(numbers)), lambda each: each[1] - each[0]):
            lines = [number for _, number in run]
            if len(lines) >= _STRETCH:
                before, after = _around(path, lines[0], lines[-1])
                if before is not None and after is not None and before + _TICK < after:
                    yield Lost(path, before + _TICK, after - _TICK, len(lines), recorded=False)


def _around(path: str, first: int, last: int) -> tuple[datetime | None, datetime | None]:
    """When the calls of the lines before and after some lines of a file began."""
    file = opened(path)
    if file is None:
        return None, None
    number, before, rest = 1, b"", b""
    with file:
        try:
            for chunk in unpacked(path, file):
                whole, newline, rest = (rest + chunk).rpartition(b"\n")
                if not newline:
                    rest = rest[-MAX_LINE:]
                    continue
                count = whole.count(b"\n") + 1
                if number + count <= first:
                    before = whole[whole.rfind(b"\n") + 1 :]
                    number += count
                    continue
                for line in whole.split(b"\n"):
                    if number < first:
                        before = line
                    elif number > last and (after := _began(line)) is not None:
                        return _began(before), after
                    number += 1
        except Damaged:
            pass
    return _began(before), None


def _began(line: bytes) -> datetime | None:
    try:
        return parse_record(line).instant
    except ValueError:
        return None
