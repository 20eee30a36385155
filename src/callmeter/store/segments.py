"""Closing the usage log into compressed segments by month, and deleting those that are old enough.

Closing, with calls going on all the while:

1. What lies in the log now is copied, without any lock, into one new segment for each month and a new live file with
   what stays. All are synced, under names that nobody reads.
2. A journal names the segments; then they get their names. From here on their lines are there twice, and readers
   drop one of the two.
3. Under the append lock, what was appended since goes behind the new live file, which then takes the old one's
   place. The lock is held for as long as that takes to reach the disk.
4. The closing is audited, and the journal removed.

A closing that was killed is taken back by the next one if the new live file did not get its place (then the old one
still has every line), and finished otherwise. Nothing is ever written into a file that a reader may have open.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

from callmeter.store.audit import Audit
from callmeter.store.files import (
    FileProblem,
    Lock,
    open_to_read,
    read_file,
    remove_file,
    replace_file,
    sync_directory,
)
from callmeter.store.new_file import NewFile, rename_file
from callmeter.store.usage_append import lock_of
from callmeter.store.usage_log import (
    Damaged,
    end_of_lines,
    is_segment,
    month_name,
    month_of,
    segments_of,
    split_lines,
    unpacked,
)
from callmeter.words.errors import Malformed
from callmeter.words.instant import text_of
from callmeter.words.jsontext import dumps, loads
from callmeter.words.money import usd
from callmeter.words.record import UsageRecord, parse_record
from callmeter.words.usage import MAX_LINE

_CHUNK = 1 << 20
_STAYS = ""
_HIDDEN = ".closing"


@dataclass(frozen=True)
class Segment:
    """A closed segment. `first` and `last` are its earliest and latest timestamps; `cost` is the sum of what is known
    of its costs, in nano-dollars; `sha256` is of the file."""

    name: str
    lines: int
    size: int
    first: str
    last: str
    sha256: str
    cost: int

    def as_json(self) -> dict[str, object]:
        """For the audit log: the cost in USD."""
        return {**self.__dict__, "cost": usd(self.cost)}


def close_log(log_path: str, before: datetime | None, now: datetime, audit: Audit) -> list[Segment]:
    """Move the calls that began before an instant (None: all) into new segments beside the log; gives those.

    A line that is no record goes where the one before it goes. Raises FileProblem or Busy; then the log is as it was,
    or the next closing finishes this one.
    """
    with Lock(_closing_lock(log_path)):
        _settle(log_path, audit)
        descriptor = open_to_read(log_path)
        if descriptor is None:
            return []
        with os.fdopen(descriptor, "rb", buffering=_CHUNK) as live:
            sorting = _Sorting(live, end_of_lines(live), before, now)
            if not sorting.months:
                return []
            try:
                return _switch(log_path, live, sorting)
            except OSError as error:
                raise FileProblem(f"cannot close {log_path}: {(error.strerror or str(error)).lower()}") from None
            finally:
                _settle(log_path, audit)


def prunable(log_path: str, cutoff: datetime) -> tuple[list[Segment], list[str]]:
    """The closed segments all of whose calls began before an instant, oldest first, and why others of that age are
    not among them. Raises FileProblem."""
    found: list[Segment] = []
    reasons: list[str] = []
    for path in segments_of(log_path):
        month = month_of(path)
        if month is not None and month > month_name(cutoff):
            continue
        try:
            segment, latest = _examined(path)
        except Damaged as error:
            reasons.append(f"{path} is damaged, so nobody knows how old its calls are: {error}")
            continue
        if latest is None:
            reasons.append(f"{path} has no usage line")
        elif latest < cutoff:
            found.append(segment)
    return found, reasons


def prune_log(log_path: str, cutoff: datetime, audit: Audit) -> tuple[list[Segment], list[str]]:
    """Delete what `prunable` gives, each after it was audited. Raises FileProblem or Busy."""
    directory = os.path.dirname(log_path) or "."
    with Lock(_closing_lock(log_path)):
        _settle(log_path, audit)
        segments, reasons = prunable(log_path, cutoff)
        for segment in segments:
            path = os.path.join(directory, segment.name)
            audit("log.prune", {"log": log_path, "segment": segment.as_json()})
            if not remove_file(path):
                raise FileProblem(f"cannot remove {path}", "look at its permissions and those of its directory")
        if segments:
            sync_directory(directory)
    return segments, reasons


class _Sorting:
    """Where each of a log's bytes belongs: runs of lines, each for a month or to stay."""

    def __init__(self, live: BinaryIO, size: int, before: datetime | None, now: datetime) -> None:
        self.size = size
        self.months: dict[str, _Month] = {}
        self._names = [_STAYS]
        self._kinds = array("H")
        self._ends = array("Q")
        # A line that is no record goes with the one before; at the very beginning it stays, unless everything goes.
        where = _STAYS if before else month_name(now)
        position, whole = 0, True
        live.seek(0)
        while position < size:
            line = live.readline(MAX_LINE + 1)
            if whole:  # not the rest of a line that is too long for us
                record = _record(line)
                if record is not None:
                    instant = record.instant
                    where = month_name(instant) if before is None or instant < before else _STAYS
                if where:
                    self._month(where).add(record)
            whole = line.endswith(b"\n")
            position += len(line)
            self._belongs(where, position)

    def ranges(self, where: str) -> list[tuple[int, int]]:
        """The parts of the log that belong somewhere, as half-open ranges of bytes."""
        kind = self._names.index(where) if where in self._names else -1
        starts = [0, *self._ends[:-1]]
        return [(starts[n], self._ends[n]) for n in range(len(self._ends)) if self._kinds[n] == kind]

    def _month(self, name: str) -> _Month:
        if name not in self.months:
            self.months[name] = _Month()
            self._names.append(name)
        return self.months[name]

    def _belongs(self, where: str, end: int) -> None:
        kind = self._names.index(where)
        if self._kinds and self._kinds[-1] == kind:
            self._ends[-1] = end
        else:
            self._kinds.append(kind)
            self._ends.append(end)


class _Month:
    """What is counted while a month's lines are found."""

    def __init__(self) -> None:
        self.lines = 0
        self.cost = 0
        self.first: datetime | None = None
        self.last: datetime | None = None

    def add(self, record: UsageRecord | None) -> None:
        self.lines += 1
        if record is None:
            return
        instant = record.instant
        self.cost += record.cost_nano or 0
        self.first = instant if self.first is None or instant < self.first else self.first
        self.last = instant if self.last is None or instant > self.last else self.last

    def segment(self, path: str, size: int, sha256: str) -> Segment:
        first, last = (text_of(instant) if instant else "" for instant in (self.first, self.last))
        return Segment(os.path.basename(path), self.lines, size, first, last, sha256, self.cost)


def _switch(log_path: str, live: BinaryIO, sorting: _Sorting) -> list[Segment]:
    directory = os.path.dirname(log_path) or "."
    before = os.fstat(live.fileno())
    segments = []
    hidden = []
    for month in sorted(sorting.months):
        path = _free_name(log_path, month)
        with NewFile(_hidden(path), before) as new:
            _compress(live, sorting.ranges(month), new)
        hidden.append(path)
        segments.append(sorting.months[month].segment(path, *_sum(_hidden(path))))
    with NewFile(_hidden(log_path), before) as kept:
        for start, end in sorting.ranges(_STAYS):
            _copy(live, start, end, kept)
        kept.sync()
        mark = _mark(live, sorting.size)
        journal = {"size": sorting.size, "mark": mark, "segments": [segment.as_json() for segment in segments]}
        replace_file(_journal(log_path), dumps(journal).encode("ascii"), locked=True)
        for path in hidden:
            rename_file(_hidden(path), path)
        sync_directory(directory)
        with Lock(lock_of(log_path)):
            if not os.path.samestat(before, os.lstat(log_path)):
                raise FileProblem(f"{log_path} was replaced by somebody else while it was closed", "run it again")
            _copy(live, sorting.size, os.fstat(live.fileno()).st_size, kept)
            kept.sync()
            rename_file(_hidden(log_path), log_path)
            sync_directory(directory)
    return segments


def _settle(log_path: str, audit: Audit) -> None:
    """Finish the closing that the journal tells of, or take it back; clear away what a killed one left."""
    directory, name = os.path.split(log_path)
    journal = read_file(_journal(log_path))
    if journal is not None:
        size, mark, segments = _journal_entries(log_path, journal)
        if not os.path.exists(_hidden(log_path)):
            audit("log.close", {"log": log_path, "segments": segments})
        elif _is_still_there(log_path, size, mark):
            for segment in segments:
                remove_file(os.path.join(directory, segment["name"]))
        # Else somebody took the old log away meanwhile, and the segments are all that is left of it.
        sync_directory(directory or ".")
        remove_file(_journal(log_path))
    remove_file(os.path.join(directory, f".{os.path.basename(_journal(log_path))}.tmp"))
    for other in os.listdir(directory or "."):
        if other.startswith(".") and other.endswith(_HIDDEN):
            target = other.removeprefix(".").removesuffix(_HIDDEN)
            if target == name or is_segment(target, name):
                remove_file(os.path.join(directory, other))


def _journal_entries(log_path: str, journal: bytes) -> tuple[int, str, list[dict[str, str]]]:
    try:
        document = loads(journal)
        assert isinstance(document, dict)
        return document["size"], document["mark"], document["segments"]
    except (ValueError, AssertionError, KeyError):
        raise Malformed(
            f"{_journal(log_path)} is not the journal of a closing",
            "compare the newest segments with the log, then remove it",
        ) from None


def _is_still_there(log_path: str, size: int, mark: str) -> bool:
    """Whether the log is the one that was being closed: inode numbers are used again, lines are not."""
    descriptor = open_to_read(log_path)
    if descriptor is None:
        return False
    with os.fdopen(descriptor, "rb") as live:
        return os.fstat(descriptor).st_size >= size and _mark(live, size) == mark


def _mark(live: BinaryIO, size: int) -> str:
    start = max(0, size - 4096)
    return hashlib.sha256(os.pread(live.fileno(), size - start, start)).hexdigest()


def _compress(live: BinaryIO, ranges: list[tuple[int, int]], new: NewFile) -> None:
    import zstandard

    # With its size in the header, a segment that was cut off is told from one that ends.
    size = sum(end - start for start, end in ranges)
    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj(size=size)
    for start, end in ranges:
        for chunk in _pieces(live, start, end):
            new.write(compressor.compress(chunk))
    new.write(compressor.flush())
    new.sync()


def _copy(live: BinaryIO, start: int, end: int, new: NewFile) -> None:
    for chunk in _pieces(live, start, end):
        new.write(chunk)


def _pieces(live: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        chunk = os.pread(live.fileno(), min(_CHUNK, end - start), start)
        if not chunk:
            raise FileProblem("the log became shorter while it was closed")
        start += len(chunk)
        yield chunk


def _record(line: bytes) -> UsageRecord | None:
    try:
        return parse_record(line.removeprefix(b"\xef\xbb\xbf").strip(b"\0\r\n"))
    except ValueError:
        return None


def _examined(path: str) -> tuple[Segment, datetime | None]:
    """A segment as it is, and its latest instant. Raises Damaged."""
    month = _Month()
    descriptor = open_to_read(path)
    if descriptor is None:
        raise Damaged("it is gone")
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        for line, _ in split_lines(unpacked(path, file)):
            month.add(None if line is None else _record(line))
    return month.segment(path, *_sum(path)), month.last


def _sum(path: str) -> tuple[int, str]:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        return file.tell(), digest.hexdigest()


def _free_name(log_path: str, month: str) -> str:
    stem = f"{log_path.removesuffix('.jsonl')}-{month}"
    number = 1
    while True:
        name = f"{stem}.jsonl.zst" if number == 1 else f"{stem}.{number}.jsonl.zst"
        if not os.path.lexists(name):
            return name
        number += 1


def _hidden(path: str) -> str:
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}{_HIDDEN}")


def _journal(log_path: str) -> str:
    return log_path + ".closing"


def _closing_lock(log_path: str) -> str:
    return log_path + ".closing.lock"
