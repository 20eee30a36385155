"""What is known of lines that a log has lost: closed segments that are gone or damaged, by the audit log, which has
their times, sums and sizes; and lines that are no records, or cannot be unpacked, by the calls before and after them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import BinaryIO

from callmeter.reports.lost_days import Gap, Lost
from callmeter.reports.usage import Reading
from callmeter.store.audit import read_events
from callmeter.store.usage_log import Damaged, is_segment, month_of, opened, unpacked
from callmeter.words.instant import parse_instant
from callmeter.words.money import nano
from callmeter.words.record import parse_record
from callmeter.words.usage import MAX_LINE

# Fewer bad lines in a row can have taken no more than a day without other calls.
_STRETCH = 10
# Bytes of a usual line: a power failure leaves one line of NUL bytes in the place of many.
_USUAL = 600
_DAMAGED = "damaged from here on"


def find_losses(
    reading: Reading, audits: Mapping[str, str], has_quiet_days: Callable[[], bool] = lambda: True
) -> list[Lost | Gap]:
    """The losses of the logs that were read. `audits` are audit logs by the directory of the log that they are about;
    other logs are looked up in an `audit.jsonl` beside them. Unless there are quiet days, a few bad lines tell of no
    loss, and are not looked for in the log. Raises FileProblem."""
    read: dict[str, list[str]] = {}
    for path in reading.files:
        directory, name = os.path.split(os.path.abspath(path))
        read.setdefault(directory, []).append(name)
    broken = {os.path.abspath(path): line for path, line, reason in reading.bad if reason.startswith(_DAMAGED)}
    found: list[Lost | Gap] = []
    for directory, names in read.items():
        audit = audits.get(directory, os.path.join(directory, "audit.jsonl"))
        for log, segment in _closed(audit):
            if any(name == log or is_segment(name, log) for name in names):
                lost = _lost(directory, segment, broken)
                if lost is not None:
                    found.append(lost)
    told = {lost.file for lost in found}
    stretches = _stretches(reading) + [(path, line, None) for path, line in broken.items() if path not in told]
    if any(last is None or last - first + 1 < _STRETCH for _, first, last in stretches) and not has_quiet_days():
        stretches = [(path, first, last) for path, first, last in stretches if last and last - first + 1 >= _STRETCH]
    return found + list(_gaps(stretches))


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
        (gap,) = _gaps([(path, broken[path], None)])
        return Lost(path, gap.after or first, last, max(0, lines - broken[path] + 1))
    try:
        if os.stat(path).st_size == segment.get("size"):
            return None
    except OSError:
        pass
    cost = segment.get("cost")
    known = nano(Decimal(cost)) if isinstance(cost, int | Decimal) else None
    return Lost(path, first, last, lines, known, gone=True)


# Lines of a file, from one to another; to its end if that is None, because it cannot be unpacked further.
_Stretch = tuple[str, int, int | None]


def _stretches(reading: Reading) -> list[_Stretch]:
    """Runs of bad lines."""
    by_file: dict[str, list[int]] = {}
    for path, line, reason in reading.bad:
        if not reason.startswith(_DAMAGED):
            by_file.setdefault(path, []).append(line)
    found: list[_Stretch] = []
    for path, numbers in by_file.items():
        # What is next to each other has the same distance from its place in the list.
        for _, run in groupby(enumerate(sorted(numbers)), lambda each: each[1] - each[0]):
            lines = [number for _, number in run]
            found.append((path, lines[0], lines[-1]))
    return found


def _gaps(stretches: Sequence[_Stretch]) -> Iterator[Gap]:
    """Each stretch with the calls around it; each file is read once."""
    for path, group in groupby(sorted(stretches, key=lambda each: each[:2]), lambda each: each[0]):
        runs = list(group)
        for (_, first, last), around in zip(runs, _around(path, runs), strict=True):
            after, before = around.after, around.before
            if last is None:
                month = month_of(path)
                if after is None and month is not None:
                    after = parse_instant(f"{month}-01T00:00:00Z")
                yield Gap(path, after, None, None, None)
            elif after is None or before is None or after < before:
                lines = last - first + 1
                yield Gap(path, after, before, lines, max(lines, around.size // _USUAL))


@dataclass
class _Around:
    """When the calls of the lines before and after a run began, and how many bytes it has."""

    after: datetime | None = None
    before: datetime | None = None
    size: int = 0


def _around(path: str, runs: Sequence[_Stretch]) -> list[_Around]:
    """What is around each of a file's runs, which are in order."""
    found = [_Around() for _ in runs]
    ahead, open_runs = 0, list[int]()
    number, last = 1, b""
    file = opened(path)
    if file is None:
        return found
    with file:
        for text in _texts(path, file):
            count = text.count(b"\n") + 1
            if not open_runs and (ahead == len(runs) or runs[ahead][1] >= number + count):
                if ahead == len(runs):
                    break
                last = next(filter(_is_call, _from_the_end(text)), last)
                number += count
                continue
            for line in text.split(b"\n"):
                if ahead < len(runs) and number == runs[ahead][1]:
                    found[ahead].after = _began(last)
                    open_runs.append(ahead)
                    ahead += 1
                end = runs[open_runs[-1]][2] if open_runs else 0
                if end is None or number <= end:
                    found[open_runs[-1]].size += len(line)
                elif line:
                    began = _began(line) if open_runs and _is_call(line) else None
                    if began is not None:
                        for index in open_runs:
                            found[index].before = began
                        open_runs.clear()
                    last = line if _is_call(line) else last
                number += 1
    if ahead < len(runs):
        # Where a file cannot be unpacked further there is no line any more.
        found[ahead].after = _began(last)
    return found


def _texts(path: str, file: BinaryIO) -> Iterator[bytes]:
    """A file's text in pieces of whole lines, as far as it can be unpacked."""
    rest = b""
    try:
        for chunk in unpacked(path, file):
            whole, newline, rest = (rest + chunk).rpartition(b"\n")
            if newline:
                yield whole
            else:
                rest = rest[-MAX_LINE:]
    except Damaged:
        pass
    if rest:
        yield rest


def _from_the_end(text: bytes) -> Iterator[bytes]:
    """A text's lines, the last one first."""
    end = len(text)
    while end >= 0:
        begin = text.rfind(b"\n", 0, end) + 1
        yield text[begin:end]
        end = begin - 1


def _is_call(line: bytes) -> bool:
    """Whether a line says when it was written, as a call's does: a correction has the time of a call of days ago."""
    return bool(line) and b'"corrects":' not in line


def _began(line: bytes) -> datetime | None:
    try:
        return parse_record(line).instant
    except ValueError:
        return None
