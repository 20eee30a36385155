"""Reading the usage log: the live file and its closed segments as one, in any order of time, each call once.

Whatever stands in a log, it is read to its end in constant memory: what is not a usage line is counted, and named
by file and line number. Lines are bytes up to a newline; nothing else separates them.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

from callmeter.store.files import file_problem, open_to_read
from callmeter.store.seen_ids import SeenIds
from callmeter.words.period import EVER, Period
from callmeter.words.record import UsageRecord, parse_record
from callmeter.words.usage import MAX_LINE

_CHUNK = 1 << 20
_PACKED = 1 << 14
_REPEATED = 1  # a block of one byte, many times
_CUT_OFF = "compressed file ended before the end-of-stream marker was reached"
_MAX_LISTED = 1000
_BOM = b"\xef\xbb\xbf"
# usage-2026-10.jsonl.zst and usage-2026-10.2.jsonl.zst are ours; usage.jsonl.1.gz is logrotate's way.
_SEGMENT = re.compile(r"(?P<log>.+)-(?P<month>\d{4}-\d{2})(\.\d+)?\.jsonl(\.zst|\.gz)?")
_ROTATED = re.compile(r"(?P<log>.+)\.jsonl[.-]\d+(\.zst|\.gz)?")
_ANY = re.compile(r".+\.jsonl([.-]\d+)?(\.zst|\.gz)?")


@dataclass(frozen=True)
class BadLine:
    """Something in a log that is not a usage line. `line` counts from 1, in the decompressed text."""

    file: str
    line: int
    reason: str


class LogReader:
    """The records of one or more logs. Iterating reads the files anew; the counts are those of the last reading.

    `lines` and `bytes` are what was read; `bad` lists the first thousand of `bad_count` lines, and always where a file
    is damaged; `duplicates` counts lines whose id was seen before and which were left out, `repeats` lists the first
    thousand; `torn` names files that end in half a line.
    """

    def __init__(self, paths: Sequence[str], period: Period = EVER) -> None:
        self.paths = paths
        self.period = period
        self._reset()

    def _reset(self) -> None:
        self.lines = 0
        self.bytes = 0
        self.records = 0
        self.duplicates = 0
        self.bad_count = 0
        self.bad: list[BadLine] = []
        self.repeats: list[BadLine] = []
        self.torn: list[str] = []
        self.files: list[str] = []
        self.seen = SeenIds()

    def __iter__(self) -> Iterator[UsageRecord]:
        for record, _ in self.entries():
            yield record

    def entries(self) -> Iterator[tuple[UsageRecord, bytes]]:
        """Each record with the line it was read from. Raises FileProblem for a file that cannot be opened."""
        self._reset()
        period = None if self.period.start is None and self.period.end is None else self.period
        for path, file in self._files():
            self.files.append(path)
            for line in self._lines(path, file):
                record = self._parsed(path, line)
                if record is None or (period is not None and record.instant not in period):
                    continue
                if not self.seen.add(record.id):
                    self.duplicates += 1
                    if len(self.repeats) < _MAX_LISTED:
                        self.repeats.append(BadLine(path, self._line, f"the call {record.id} was read before"))
                    continue
                self.records += 1
                yield record, line

    def _files(self) -> Iterator[tuple[str, BinaryIO]]:
        """The files that can hold records of the period, each once: two patterns or two names may give the same."""
        done: set[tuple[int, int]] = set()
        for log in open_logs(self.paths):
            try:
                for path in [*log.segments, log.path]:
                    if not may_hold(path, self.period):
                        continue
                    file = log.live if path == log.path else opened(path)
                    if file is not None:
                        with file:
                            found = os.fstat(file.fileno())
                            if (found.st_dev, found.st_ino) not in done:
                                done.add((found.st_dev, found.st_ino))
                                yield path, file
            finally:
                if log.live is not None:
                    log.live.close()

    def _parsed(self, path: str, line: bytes) -> UsageRecord | None:
        try:
            return parse_record(line)
        except ValueError as error:
            self._fault(path, str(error))
            return None

    def _lines(self, path: str, file: BinaryIO) -> Iterator[bytes]:
        """The lines that may be records; `_line` is the number of the one given out last."""
        self._line = 0
        for line, complete in split_lines(self._chunks(path, file)):
            self._line += 1
            if line is None:
                self._fault(path, f"longer than {MAX_LINE} bytes")
                continue
            if self._line == 1:
                line = line.removeprefix(_BOM)
            if b"\0" in line:
                # A power failure can leave a block of NULs where a line should be, or in front of a good one.
                self._fault(path, "NUL bytes, as a power failure leaves them")
                line = line.strip(b"\0")
            line = line.removesuffix(b"\r")
            if not line.strip():
                continue
            if not complete and not _is_record(line):
                self.torn.append(path)
                continue
            yield line
        self.lines += self._line

    def _chunks(self, path: str, file: BinaryIO) -> Iterator[bytes]:
        try:
            for chunk in unpacked(path, file):
                self.bytes += len(chunk)
                yield chunk
        except Damaged as error:
            # The lines before this were read; whoever asks is told that there were more, however many of them are bad:
            # what was unpacked just before is often garbage.
            self._line += 1
            self._fault(path, f"damaged from here on: {error}", most=sys.maxsize)

    def _fault(self, path: str, reason: str, most: int = _MAX_LISTED) -> None:
        self.bad_count += 1
        if len(self.bad) < most:
            self.bad.append(BadLine(path, self._line, reason))


def read_records(paths: str | Sequence[str], period: Period = EVER) -> LogReader:
    """The records of the logs at `paths`, each the path of a log (with its closed segments) or a glob of files.

    Only those within `period`; segments of other months are not opened. A log that does not exist is empty.
    """
    return LogReader([paths] if isinstance(paths, str) else list(paths), period)


@dataclass(frozen=True)
class OpenLog:
    """A log whose live file is open (None: there is none) and, listed after that, its closed segments, oldest first.

    In this order nothing is missed: a live file that is closed into a segment in between is read twice, and one of
    the two dropped. A segment that a glob names without its log is a log of its own.
    """

    path: str
    live: BinaryIO | None
    segments: Sequence[str]


def open_logs(paths: Iterable[str]) -> Iterator[OpenLog]:
    """The logs, one after the other; whoever takes one closes its file. Raises FileProblem."""
    for pattern in paths:
        literal = os.path.exists(pattern) or not glob.has_magic(pattern)
        names = [pattern] if literal else [name for name in files_of(pattern) if _ANY.fullmatch(name)]
        taken: set[str] = set()
        for name in sorted(names, key=lambda name: (not is_live(name), name)):
            if name in taken:
                continue
            live = opened(name)
            segments = [each for each in segments_of(name) if literal or fnmatch.fnmatchcase(each, pattern)]
            taken.update(segments)
            yield OpenLog(name, live, segments)


def files_of(pattern: str) -> list[str]:
    """What a glob's pattern names, as a shell sees it. Raises FileProblem for a directory that cannot be listed: to
    pass over it, as `glob.glob` does, would make a report of some of the logs."""
    directory, name = os.path.split(pattern)
    found: list[str] = []
    for parent in files_of(directory) if glob.has_magic(directory) else [directory]:
        if not glob.has_magic(name):
            found += [path for path in [os.path.join(parent, name)] if os.path.lexists(path)]
            continue
        names = fnmatch.filter(_names_in(parent), name)
        found += [os.path.join(parent, each) for each in names if name[0] == "." or each[0] != "."]
    return found


def may_hold(path: str, period: Period) -> bool:
    """Whether a file can hold records of a period, as far as its name tells."""
    month = month_of(path)
    if month is None:
        return True
    # Periods are compared as months: text of one shape sorts by time.
    first = "" if period.start is None else month_name(period.start)
    last = "9999-12" if period.end is None else month_name(period.end)
    return first <= month <= last


def is_live(path: str) -> bool:
    """Whether a path is that of a log that is being written, as far as its name tells."""
    return path.endswith(".jsonl") and not _SEGMENT.fullmatch(os.path.basename(path))


def opened(path: str) -> BinaryIO | None:
    """A log's file for reading; None when there is none. Raises FileProblem."""
    descriptor = open_to_read(path)
    return None if descriptor is None else os.fdopen(descriptor, "rb", buffering=0)


def segments_of(log_path: str) -> list[str]:
    """The closed segments of a live log, oldest first; none for a path that is not a live log's."""
    directory, name = os.path.split(log_path)
    if not is_live(name):
        return []
    return [os.path.join(directory, other) for other in sorted(_names_in(directory)) if is_segment(other, name)]


def _names_in(directory: str) -> list[str]:
    try:
        return os.listdir(directory or ".")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise file_problem("list", directory, error) from None


def is_segment(name: str, log_name: str) -> bool:
    """Whether a file's name is that of a closed segment of a log."""
    match = _SEGMENT.fullmatch(name) or _ROTATED.fullmatch(name)
    return match is not None and match["log"] + ".jsonl" == log_name


def month_of(path: str) -> str | None:
    """`2026-10` for `usage-2026-10.jsonl.zst`: all its records are of that month, UTC. None for other names."""
    match = _SEGMENT.fullmatch(os.path.basename(path))
    return match["month"] if match else None


def month_name(instant: datetime) -> str:
    """The month that a segment with lines of this instant, UTC, is named after."""
    return instant.isoformat()[:7]  # of which strftime leaves out zeros


class Damaged(Exception):
    """Compressed bytes that cannot be unpacked further."""


def unpacked(path: str, file: BinaryIO) -> Iterator[bytes]:
    """A file's text in bounded pieces. Raises Damaged, after what could be unpacked."""
    if path.endswith(".zst"):
        yield from _zstd(file)
    elif path.endswith(".gz"):
        yield from _gzip(file)
    else:
        while chunk := file.read(_CHUNK):
            yield chunk


def split_lines(chunks: Iterable[bytes]) -> Iterator[tuple[bytes | None, bool]]:
    """Lines without their newlines, and whether they had one; None for one too long to be ours, which is never
    held in memory."""
    rest = b""
    skipping = False
    for chunk in chunks:
        first, newline, others = chunk.partition(b"\n")
        if not newline:
            if not skipping:
                rest += first
                skipping = len(rest) > MAX_LINE + len(_BOM)
            if skipping:
                rest = b""
            continue
        yield (None, True) if skipping else _bounded(rest + first, True)
        skipping = False
        *whole, rest = others.split(b"\n")
        for line in whole:
            yield _bounded(line, True)
        if len(rest) > MAX_LINE + len(_BOM):
            skipping, rest = True, b""
    if skipping:
        yield None, False
    elif rest:
        yield _bounded(rest, False)


def end_of_lines(file: BinaryIO) -> int:
    """The size of a file up to its last newline."""
    size = os.fstat(file.fileno()).st_size
    while size > 0:
        start = max(0, size - _CHUNK)
        place = os.pread(file.fileno(), size - start, start).rfind(b"\n")
        if place >= 0:
            return start + place + 1
        size = start
    return 0


def _bounded(line: bytes, complete: bool) -> tuple[bytes | None, bool]:
    return (line if len(line) <= MAX_LINE + len(_BOM) else None), complete


def _zstd(file: BinaryIO) -> Iterator[bytes]:
    import zstandard

    try:
        with zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True, closefd=False) as reader:
            while chunk := reader.read(_CHUNK):
                yield chunk
        is_whole = _ends_with_a_frame(file.fileno())
    except zstandard.ZstdError as error:
        raise Damaged(" ".join(str(error).lower().split())) from None
    if not is_whole:
        raise Damaged(_CUT_OFF)


def _ends_with_a_frame(descriptor: int) -> bool:
    """Whether nothing is missing at the end of a zstd file, for which the library takes one that was cut off. The
    format is in RFC 8878, 3.1. Raises ZstdError if less than a frame's header is there."""
    import zstandard

    place, size = 0, os.fstat(descriptor).st_size
    while place < size:
        head = os.pread(descriptor, 18, place)
        if head[1:4] == b"\x2a\x4d\x18":  # a frame to be skipped
            place += 8 + int.from_bytes(head[4:8], "little")
            continue
        place += zstandard.frame_header_size(head)
        is_last = 0
        while not is_last and place < size:
            block = int.from_bytes(os.pread(descriptor, 3, place), "little")
            is_last, kind = block & 1, block >> 1 & 3
            place += 3 + (1 if kind == _REPEATED else block >> 3)
        if not is_last:
            return False
        place += 4 * zstandard.get_frame_parameters(head).has_checksum
    return place == size


def _gzip(file: BinaryIO) -> Iterator[bytes]:
    """Not through `gzip`, which gives nothing of its last read if the file was cut off."""
    import zlib

    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    begun = False
    try:
        while packed := file.read(_PACKED):
            while packed := packed.lstrip(b"\0") if unpacker.eof else packed:  # padding, or one more member
                if unpacker.eof:
                    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
                begun = True
                yield unpacker.decompress(packed, _CHUNK)
                packed = unpacker.unconsumed_tail or unpacker.unused_data
        while rest := unpacker.decompress(b"", _CHUNK):
            yield rest
    except zlib.error as error:
        raise Damaged(str(error).lower()) from None
    if begun and not unpacker.eof:
        raise Damaged(_CUT_OFF)


def _is_record(line: bytes) -> bool:
    try:
        parse_record(line)
    except ValueError:
        return False
    return True
