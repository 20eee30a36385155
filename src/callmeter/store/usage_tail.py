"""The end of the usage log: its last lines without reading all before them, and those that are still to come."""

from __future__ import annotations

import glob
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import BinaryIO

from callmeter.store.usage_log import Damaged, end_of_lines, is_live, may_hold, open_logs, opened, split_lines, unpacked
from callmeter.words.instant import parse_instant
from callmeter.words.period import Period
from callmeter.words.record import UsageRecord, parse_record
from callmeter.words.usage import MAX_LINE

Matches = Callable[[UsageRecord], bool]
Found = tuple[UsageRecord, bytes]

_CHUNK = 1 << 18
# So many lines are known again when a log was closed or replaced while it was followed.
_REMEMBERED = 4096


def latest(path: str, count: int, matches: Matches, period: Period) -> list[Found]:
    """The last `count` matching lines of a log, or of those that a glob names, with their records; in the order of
    the log, and of several logs in the order of time.

    A live file is read from its end, segments only if it has too few. Lines that are no records are passed over.
    Raises FileProblem.
    """
    every: list[Found] = []
    logs = 0
    for log in open_logs([path]):
        logs += 1
        found: list[Found] = []
        seen: set[str] = set()
        for each in [log.path, *reversed(log.segments)]:
            file = log.live if each == log.path else opened(each) if len(found) < count else None
            if file is None:
                continue
            with file:
                if may_hold(each, period) and len(found) < count:
                    found = [*_last(each, file, count - len(found), matches, seen), *found]
        every += found
    if logs > 1:
        every.sort(key=lambda entry: parse_instant(entry[0].timestamp))
    return every[-count:] if count else []


class Follower:
    """The lines that are appended to a log, or to those that a glob names, from its making on.

    Survives that a log is closed into segments, rotated, emptied, deleted and begun again.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._tails = {name: _Tail(name, from_end=True) for name in self._names()}

    def poll(self) -> Iterator[Found]:
        """What was appended since the last time. Raises FileProblem."""
        for name in self._names():
            if name not in self._tails:
                self._tails[name] = _Tail(name, from_end=False)
        for tail in self._tails.values():
            for line in tail.lines():
                record = _parsed(line)
                if record is not None:
                    yield record, line

    def _names(self) -> list[str]:
        if os.path.exists(self._path) or not glob.has_magic(self._path):
            return [self._path]
        return sorted(name for name in glob.glob(self._path) if is_live(name))


class _Tail:
    """One live file, wherever its name leads."""

    def __init__(self, path: str, *, from_end: bool) -> None:
        self._path = path
        self._file = opened(path)
        self._rest = b""
        self._position = 0
        self._recent: deque[int] = deque(maxlen=_REMEMBERED)
        if from_end and self._file is not None:
            for line in islice(lines_backwards(self._file), _REMEMBERED):
                if line:
                    self._recent.appendleft(hash(line))
            self._position = end_of_lines(self._file)

    def lines(self) -> Iterator[bytes]:
        """Whole lines that were not given before."""
        if self._file is None:
            self._file = opened(self._path)
        if self._file is None:
            return
        # First look, then read: what was appended before the name went elsewhere is read below.
        moved = not _leads_to(self._path, self._file)
        yield from self._appended()
        if moved:
            self._file.close()
            self._file = opened(self._path)
            self._rest = b""
            self._position = 0 if self._file is None else self._known_part(self._file)
            if self._file is not None:
                yield from self._appended()

    def _appended(self) -> Iterator[bytes]:
        assert self._file is not None
        if os.fstat(self._file.fileno()).st_size < self._position:  # emptied by `> usage.jsonl`
            self._position, self._rest = 0, b""
        while chunk := os.pread(self._file.fileno(), _CHUNK, self._position):
            self._position += len(chunk)
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            self._rest = self._rest[: MAX_LINE + 1]  # a line that long is none, however it goes on
            for line in whole:
                self._recent.append(hash(line))
                yield line

    def _known_part(self, file: BinaryIO) -> int:
        """Where the new lines begin in a file that took the name: a closing leaves some of the old ones in it."""
        recent = set(self._recent)
        position = known = 0
        with os.fdopen(os.dup(file.fileno()), "rb", _CHUNK) as buffered:
            while line := buffered.readline(MAX_LINE):
                position += len(line)
                if len(line) > 1 and line.endswith(b"\n") and hash(line[:-1]) in recent:
                    known = position
        return known


def lines_backwards(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file from its last to its first, without newlines; those too long to be records are left out.

    Half a line at the end is given as it is.
    """
    position = os.fstat(file.fileno()).st_size
    rest = b""
    while position > 0:
        start = max(0, position - _CHUNK)
        first, *others = (os.pread(file.fileno(), position - start, start) + rest).split(b"\n")
        position = start
        for line in reversed(others):
            if len(line) <= MAX_LINE:
                yield line
        rest = first[: MAX_LINE + 1]
    if len(rest) <= MAX_LINE:
        yield rest


def _last(path: str, file: BinaryIO, count: int, matches: Matches, seen: set[str]) -> list[Found]:
    """The last matching lines of one file whose ids are new, in its order."""
    if is_live(path):
        return list(islice(_matching(lines_backwards(file), matches, seen), count))[::-1]
    return list(deque(_matching(_forwards(path, file), matches, seen), maxlen=count))


def _forwards(path: str, file: BinaryIO) -> Iterator[bytes]:
    try:
        for line, _ in split_lines(unpacked(path, file)):
            if line is not None:
                yield line
    except Damaged:  # `budget log verify` says so
        return


def _matching(lines: Iterable[bytes], matches: Matches, seen: set[str]) -> Iterator[Found]:
    for line in lines:
        record = _parsed(line)
        if record is not None and matches(record) and record.id not in seen:
            seen.add(record.id)
            yield record, line.strip(b"\r\0")


def _parsed(line: bytes) -> UsageRecord | None:
    if not line:
        return None
    try:
        return parse_record(line.removeprefix(b"\xef\xbb\xbf").strip(b"\r\0"))
    except ValueError:
        return None


def _leads_to(path: str, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except OSError:
        return False
