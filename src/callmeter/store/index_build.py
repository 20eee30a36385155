"""Bringing the usage index up to date: only bytes that were not read before, from every file of the log.

Whoever builds holds the index's own lock, never the log's. Rows get files of new names; the manifest, replaced at the
end, is what makes them part of the index. So a build that was killed has changed nothing, and readers of the manifest
before keep their files.
"""

from __future__ import annotations

import os
import resource
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO

from callmeter.store.index_corrections import find_corrections
from callmeter.store.index_manifest import BLOCK, LISTED, Manifest, Part, Source, block_digest, part_of
from callmeter.store.index_rows import FORMAT, Rows, write_rows
from callmeter.store.index_text import CHUNK, Fill, Piece, given, pieces, release
from callmeter.store.index_twins import find_twins
from callmeter.store.index_usual import Habits
from callmeter.store.memory import is_scarce
from callmeter.store.usage_log import Damaged, open_logs, opened, unpacked

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_PACKED = (".zst", ".gz")
# Each needs some 120 MB of what the connection may take.
_WORKERS = 3
# So many small files of a source become one: reports after every few calls must not leave thousands.
_SMALL = 1 << 15
_MANY = 8


class LogFile:
    """A file of the log, open, as it was when it was opened: `size` bytes, of which `whole` are whole lines."""

    def __init__(self, path: str, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self.packed = path.endswith(_PACKED)
        self.found = os.fstat(file.fileno())
        self.size = self.found.st_size

    def __del__(self) -> None:
        # Lines may be read from it for as long as anybody has it.
        self.file.close()

    def fill(self, start: int) -> Fill:
        """What reads the text from a place on, as `text` does."""
        if self.packed:
            return given(self.text(start))

        def fill(room: memoryview) -> int:
            nonlocal start
            size = os.preadv(self.file.fileno(), [room[: max(0, self.size - start)]], start)
            start += size
            return size

        return fill

    def text(self, start: int = 0) -> Iterator[bytes]:
        """The text from a place on, up to `size`. Raises Damaged for what cannot be unpacked."""
        if self.packed:
            assert start == 0
            yield from unpacked(self.path, self.file)
            return
        while start < self.size:
            chunk = os.pread(self.file.fileno(), min(CHUNK, self.size - start), start)
            if not chunk:
                return
            start += len(chunk)
            yield chunk


def log_files(paths: Sequence[str]) -> list[LogFile]:
    """The files of the logs, each once, in the order in which a log is read: of two equal ids the first one counts.

    Raises FileProblem.
    """
    _allow_many_files()
    files: list[LogFile] = []
    done: set[tuple[int, int]] = set()
    for log in open_logs(paths):
        for path in [*log.segments, log.path]:
            file = log.live if path == log.path else opened(path)
            if file is None:
                continue
            each = LogFile(path, file)
            if (each.found.st_dev, each.found.st_ino) in done:
                file.close()
                continue
            done.add((each.found.st_dev, each.found.st_ino))
            files.append(each)
    return files


def _allow_many_files() -> None:
    """As many open files as this process may have: months of many hosts are more than the 1,024 that shells give."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def matched(manifest: Manifest, files: Sequence[LogFile]) -> list[Source | None]:
    """The source that each file is, as far as it was read; None for one that was not, or that is not what was read."""
    left = {source.number: source for source in manifest.sources}
    # Nearly every file is found by its inode at once; there may be thousands.
    by_inode: defaultdict[tuple[int, int], list[Source]] = defaultdict(list)
    for source in manifest.sources:
        by_inode[source.device, source.inode].append(source)
    found: list[Source | None] = []
    for file in files:
        same = (source for source in by_inode[file.found.st_dev, file.found.st_ino] if source.number in left)
        match = next((source for source in chain(same, left.values()) if _is_same(source, file)), None)
        if match is not None:
            del left[match.number]
        found.append(match)
    return found


def is_current(manifest: Manifest, files: Sequence[LogFile]) -> bool:
    """Whether the index holds these files, all that is in them, and nothing else."""
    sources = matched(manifest, files)
    return len(manifest.sources) == len(files) and all(
        source is not None and source.path == file.path and (file.packed or not _appended(source, file))
        for source, file in zip(sources, files, strict=True)
    )


class Builder:
    """Builds in `directory`; `connect` gives a DuckDB connection, whose cursors are the workers'. `tell` hears how
    far it is."""

    def __init__(
        self, directory: str, connect: Callable[[], DuckDBPyConnection], tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self._directory = directory
        self._connect = connect
        self._tell = tell
        self._size = self._unread = 0  # bytes: all that `update` has to read, and what it will read in later files
        self._opened: DuckDBPyConnection | None = None
        self._habits: defaultdict[int, Habits] = defaultdict(Habits)

    def update(self, manifest: Manifest, files: Sequence[LogFile], now: int) -> Manifest:
        """The manifest of these files, their new rows written. Raises FileProblem, duckdb.Error."""
        sources: list[Source] = []
        added: list[Part] = []
        kept = matched(manifest, files)
        gone = {part.file for part in manifest.files()}
        number = manifest.next
        for file, source in zip(files, kept, strict=True):
            if source is None:
                source, number = _new_source(number, file), number + 1
            source.path, source.ctime = file.path, file.found.st_ctime_ns
            sources.append(source)
        self._size = self._unread = sum(map(_unread, sources, files))
        with ThreadPoolExecutor(_workers()) as workers:
            for file, source in zip(files, sources, strict=True):
                self._unread -= _unread(source, file)
                added += self._read(source, file, workers)
        release()
        result = Manifest(
            manifest.version,
            sources,
            list(manifest.twins),
            list(manifest.corrections),
            list(manifest.corrected),
            number,
            dict(manifest.retired),
        )
        connection = self._connection()
        try:
            connection.execute(f"SET threads = {_workers()}")  # which nobody else needs any more
            if added:
                every = result.parts()
                paths = {part.file: os.path.join(self._directory, part.file) for part in result.files()}
                result.twins += find_twins(connection, paths, added, every, self._name)
                corrections, corrected = find_corrections(
                    connection, paths, added, every, result.corrections, self._name
                )
                result.corrections += corrections
                result.corrected += corrected
            for source in sources:
                source.parts = self._merged(connection, source.parts, "ORDER BY line")
            result.twins = self._merged(connection, result.twins)
            result.corrections = self._merged(connection, result.corrections)
            result.corrected = self._merged(connection, result.corrected)
        finally:
            self.close()
        gone -= {part.file for part in result.files()}
        result.retired.update(dict.fromkeys(gone, now))
        return result

    def tail(self, source: Source, file: LogFile) -> tuple[int, list[tuple[str, int, str]], list[Part]]:
        """What stands after the last newline of a live file: lines (one or none), faults, parts."""
        lines, faults, parts = 0, [], []
        for piece in pieces(file.fill(source.read), source.read, source.lines):
            if piece.unfinished:
                rows = self._write(self._connection().cursor(), piece, source.number)
                lines += piece.lines
                faults += [(file.path, line, reason) for line, reason in rows.faults]
                parts += rows.parts
            piece.close()
        self.close()
        return lines, faults, parts

    def close(self) -> None:
        """Let go of the connection."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _connection(self) -> DuckDBPyConnection:
        if self._opened is None:
            self._opened = self._connect()
            self._opened.execute("SET enable_external_file_cache = false")  # each piece is read once
        return self._opened

    def _name(self) -> str:
        return os.path.join(self._directory, os.urandom(8).hex())

    def _read(self, source: Source, file: LogFile, workers: ThreadPoolExecutor) -> list[Part]:
        """Read what was appended to a source; its new parts."""
        if not (file.packed or _appended(source, file)) or (file.packed and source.lines):
            return []
        found: list[tuple[Piece, Future[Rows]]] = []
        added: list[Part] = []
        damage: list[str] = []
        for piece in pieces(_undamaged(file.fill(source.read), damage), source.read, source.lines):
            if (piece.unfinished and not file.packed) or not piece.lines:
                piece.close()
                continue
            if piece.unfinished and damage:
                piece.line += 1  # the damage stands where a line would be, before what could still be read of one
            found.append((piece, workers.submit(self._write, self._connection().cursor(), piece, source.number)))
            if len(found) > _workers():
                added += self._take(source, *found.pop(0))
                self._tell_of(source, file)
        for each in found:
            added += self._take(source, *each)
        for reason in damage:
            source.lines += 1
            torn = bool(found) and found[-1][0].unfinished
            _blame(source, source.lines - torn, f"damaged from here on: {reason}", most=sys.maxsize)
            source.faults.sort(key=lambda fault: fault[0])
        _remember(source, file)
        source.parts += added
        return added

    def _tell_of(self, source: Source, file: LogFile) -> None:
        here = file.size - (os.lseek(file.file.fileno(), 0, os.SEEK_CUR) if file.packed else source.read)
        read = self._size - self._unread - here
        self._tell(f"reading the usage log: {100 * read // self._size}% of {self._size / 1e6:,.0f} MB")

    def _write(self, cursor: DuckDBPyConnection, piece: Piece, source: int) -> Rows:
        with cursor:
            return write_rows(cursor, piece, source, self._name(), self._habits[source])

    def _take(self, source: Source, piece: Piece, future: Future[Rows]) -> list[Part]:
        rows = future.result()
        source.read = piece.stop
        source.lines += piece.lines
        for line, reason in rows.faults:
            _blame(source, line, reason)
        piece.close()
        return rows.parts

    def _merged(self, connection: DuckDBPyConnection, parts: list[Part], order: str = "") -> list[Part]:
        """The parts, many small ones as one."""
        small = [part for part in parts if part.rows < _SMALL]
        if len(small) < _MANY:
            return parts
        path = f"{self._name()}.parquet"
        given = {"paths": [os.path.join(self._directory, part.file) for part in small], "file": path}
        query = f"SELECT * FROM read_parquet($paths, hive_partitioning = false) {order}"
        connection.execute(f"COPY ({query}) TO $file {FORMAT}", given)
        merged = part_of(connection, path, sum(part.rows for part in small))
        return [*(part for part in parts if part.rows >= _SMALL), merged]


def _workers() -> int:
    return 1 if is_scarce() else min(_WORKERS, os.cpu_count() or 1)


def _appended(source: Source, file: LogFile) -> bool:
    """Whether a file holds whole lines that were not read."""
    start = source.read
    while start < file.size:
        chunk = os.pread(file.file.fileno(), min(CHUNK, file.size - start), start)
        if b"\n" in chunk or not chunk:
            return bool(chunk)
        start += len(chunk)
    return False


def _unread(source: Source, file: LogFile) -> int:
    """How many bytes of a file are still to be read, packed as they are."""
    if file.packed:
        return 0 if source.lines else file.size
    return file.size - source.read


def _undamaged(fill: Fill, damage: list[str]) -> Fill:
    """The text as far as it can be unpacked; why not further is added to `damage`."""

    def filled(room: memoryview) -> int:
        try:
            return fill(room)
        except Damaged as error:
            damage.append(str(error))
            return 0

    return filled


def _new_source(number: int, file: LogFile) -> Source:
    return Source(number, file.path, file.packed, file.found.st_dev, file.found.st_ino, 0, 0, "", "")


def _remember(source: Source, file: LogFile) -> None:
    """What the source is known by from now on."""
    end = file.size if file.packed else source.read
    source.device, source.inode = file.found.st_dev, file.found.st_ino
    source.mtime, source.ctime, source.size = file.found.st_mtime_ns, file.found.st_ctime_ns, file.size
    source.head = block_digest(file.file, 0, min(BLOCK, end))
    source.tail = block_digest(file.file, max(0, end - BLOCK), end)


def _is_same(source: Source, file: LogFile) -> bool:
    if source.packed != file.packed:
        return False
    end = source.size if source.packed else source.read
    if file.size < end or (file.size == source.size and _was_written(source, file)):
        return False
    if source.packed and file.size != source.size:
        return False
    return (
        block_digest(file.file, 0, min(BLOCK, end)) == source.head
        and block_digest(file.file, max(0, end - BLOCK), end) == source.tail
    )


def _was_written(source: Source, file: LogFile) -> bool:
    """Whether something was written into a file that has the size it had."""
    if file.found.st_mtime_ns != source.mtime:
        return True
    # Whoever edits a file may put that time back, but not this one. It changes with a file's name, too.
    is_there = (file.path, file.found.st_dev, file.found.st_ino) == (source.path, source.device, source.inode)
    return is_there and file.found.st_ctime_ns != source.ctime


def _blame(source: Source, line: int, reason: str, most: int = LISTED) -> None:
    source.faulty += 1
    if len(source.faults) < most:
        source.faults.append((line, reason))
