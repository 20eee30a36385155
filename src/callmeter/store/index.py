"""The usage index: a row for every line of a log, in Parquet files that are kept up to date.

Derived: it can be deleted at any time. Where it cannot be written, it is made for one run in a directory of its own,
with the same results.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

from callmeter.reports.usage import SUMS, Figures, Group, Reading, Spent, Top, Walk
from callmeter.store.files import FileProblem, Lock, file_problem, make_directory
from callmeter.store.index_answers import Answers
from callmeter.store.index_build import Builder, LogFile, is_current, log_files
from callmeter.store.index_corrections import find_corrections
from callmeter.store.index_manifest import Manifest, read_manifest, version
from callmeter.store.index_steps import connected, updated
from callmeter.store.index_sums import RowFile, Summed, up_to_date
from callmeter.store.index_twins import find_twins
from callmeter.store.index_walk import CarefulWalk
from callmeter.store.memory import require_address_space
from callmeter.store.scratch import Scratch
from callmeter.words.errors import Busy, CallmeterError
from callmeter.words.period import EVER, Period
from callmeter.words.record import UsageRecord

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from callmeter.reports.savings_question import Answer, AnswerSizes, Question

# Whoever waits longer builds for itself: somebody else's first build of ten million lines takes a minute.
_PATIENCE = 600.0
_MOMENT = 1.0
# What no index made anew would mend; and what would be lacking in any other directory, too.
_LACKS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE)
_EVERYWHERE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_Answer = TypeVar("_Answer")


class UsageIndex:
    """Usage of the logs at `paths` (a live log with its segments, or a glob of files), indexed in `directory`, as they
    are when this is made. Lines that were recorded after `as_of` are left out. `tell` hears what takes its time.
    `unkept` is why the index could not be kept for the next report; empty if it was."""

    def __init__(
        self,
        paths: Sequence[str],
        directory: str,
        zone: tzinfo,
        as_of: datetime | None = None,
        aliases: Mapping[str, str] | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._tell = tell
        self.unkept = ""
        self.zone = zone
        self.as_of = as_of
        self._aliases = aliases or {}
        self._paths = paths
        self._directory = directory
        # Of this run alone: the index itself if its directory cannot be written, and lines that are still unfinished.
        self._private: Scratch | None = None
        self._answers: Answers | None = None
        require_address_space()
        self.reading = self._answer(lambda answers: answers.reading)

    def groups(
        self,
        by: Sequence[str] = (),
        *,
        period: Period = EVER,
        where: Sequence[str] = (),
        latency: Sequence[int] = (),
        costs: Sequence[int] = (),
        only: Collection[str] = SUMS,
    ) -> list[Group]:
        """See `Usage.groups`."""
        return self._answer(lambda answers: answers.groups(by, period, where, latency, costs, only))

    def groupings(
        self, bys: Sequence[Sequence[str]], only: Collection[str], *, period: Period = EVER, where: Sequence[str] = ()
    ) -> list[list[Group]]:
        """See `Usage.groupings`."""
        return self._answer(lambda answers: answers.groupings(bys, only, period, where))

    def levels(
        self,
        by: Sequence[str],
        *,
        period: Period = EVER,
        where: Sequence[str] = (),
        latency: Sequence[int] = (),
        costs: Sequence[int] = (),
    ) -> dict[tuple[str, ...], Figures]:
        """See `Usage.levels`."""
        return self._answer(lambda answers: answers.levels(by, period, where, latency, costs))

    def top(
        self,
        by: Sequence[str],
        most: int,
        order: str,
        *,
        period: Period = EVER,
        where: Sequence[str] = (),
        latency: Sequence[int] = (),
        costs: Sequence[int] = (),
    ) -> Top:
        """See `Usage.top`."""
        return self._answer(lambda answers: answers.top(by, most, order, period, where, latency, costs))

    def courses(
        self,
        by: Sequence[str],
        kept: Collection[tuple[str, ...]],
        unit: str,
        *,
        period: Period = EVER,
        where: Sequence[str] = (),
    ) -> dict[tuple[str, ...], dict[str, int]]:
        """See `Usage.courses`."""
        return self._answer(lambda answers: answers.courses(by, kept, unit, period, where))

    def walk(
        self,
        by: Sequence[str],
        order: str,
        *,
        period: Period = EVER,
        where: Sequence[str] = (),
        latency: Sequence[int] = (),
        costs: Sequence[int] = (),
        only: Collection[str] = SUMS,
    ) -> Walk:
        """See `Usage.walk`."""
        return CarefulWalk(
            self._answer(lambda answers: answers.walk(by, order, period, where, latency, costs, only)), self._careful
        )

    def spent(
        self,
        by: Sequence[str],
        *,
        period: Period = EVER,
        where: Sequence[str] = (),
        least: int | None = None,
        times: bool = True,
    ) -> list[Spent]:
        """See `Usage.spent`."""
        return self._answer(lambda answers: answers.spent(by, period, where, least, times=times))

    def calls(self, *, period: Period = EVER, where: Sequence[str] = (), last: int = 0) -> Iterator[UsageRecord]:
        """See `Usage.calls`."""
        return self._careful(self._answer(lambda answers: _begun(answers.calls(period, where, last))))

    def entries(self, *, period: Period = EVER, where: Sequence[str] = ()) -> Iterator[tuple[UsageRecord, bytes]]:
        """The records of a period with such values, each with its line, in the order of the log."""
        return self._careful(self._answer(lambda answers: _begun(answers.entries(period, where))))

    def entries_of(self, ids: Collection[str], *, period: Period = EVER) -> list[tuple[UsageRecord, bytes]]:
        """The records of the calls with these ids, and of what corrects them, each with its line, in the order of the
        log."""
        return self._answer(lambda answers: list(answers.entries_of(ids, period)))

    def unsettled(self, provider: str, prefix: str, most: int, *, period: Period = EVER) -> list[UsageRecord]:
        """The newest calls of a provider, at most so many, whose generation id begins so, whose cost is an estimate or
        unknown, and which no line corrects; the newest first."""
        return self._answer(lambda answers: answers.unsettled(provider, prefix, most, period))

    def rest(
        self,
        by: Sequence[str],
        outer: tuple[str, ...],
        kept: Sequence[str],
        *,
        period: Period = EVER,
        where: Sequence[str] = (),
        latency: Sequence[int] = (),
        costs: Sequence[int] = (),
    ) -> Figures:
        """See `Usage.rest`."""
        return self._answer(lambda answers: answers.rest(by, outer, kept, period, where, latency, costs))

    def taggings(
        self, compared: Collection[str], *, period: Period = EVER, where: Sequence[str] = ()
    ) -> list[tuple[tuple[tuple[str, str], ...], Figures]]:
        """See `Usage.taggings`."""
        return self._answer(lambda answers: answers.taggings(compared, period, where))

    def answer_sizes(self, *, period: Period = EVER) -> dict[str, AnswerSizes]:
        """See `Usage.answer_sizes`."""
        return self._answer(lambda answers: answers.savings(period).answer_sizes())

    def savings(self, question: Question, *, period: Period = EVER) -> Answer:
        """See `Usage.savings`."""
        return self._answer(lambda answers: answers.savings(period).answer(question))

    def _answer(self, ask: Callable[[Answers], _Answer]) -> _Answer:
        """An answer; if a file of the index turns out to be damaged, of the index made anew. Raises FileProblem."""
        import duckdb

        try:
            if self._answers is None:
                self._answers = self._opened(fresh=False)
            return ask(self._answers)
        except duckdb.Error as error:
            if _lack(error):
                raise self._problem(error) from None
        self._answers = self._opened(fresh=True)
        try:
            return ask(self._answers)
        except duckdb.Error as error:
            if _lack(error):
                raise self._problem(error) from None
            raise

    def _opened(self, *, fresh: bool) -> Answers:
        import duckdb

        directory = self._directory
        try:
            manifest, files = self._current(directory, fresh)
        except (CallmeterError, OSError, duckdb.Error) as error:
            if _lack(error) in _EVERYWHERE:
                raise self._problem(error) from None
            log_files(self._paths)  # a log that cannot be read is no fault of the index
            self.unkept = _said(error)
            directory = self._own_directory()
            try:
                manifest, files = self._built(directory, Manifest(version()))
            except (OSError, duckdb.Error) as error:
                raise self._problem(error) from None
        lines, faults, own = self._tails(directory, manifest, files)
        sources = manifest.sources
        reading = Reading(
            files=[file.path for file in files],
            lines=sum(source.lines for source in sources) + lines,
            bad_lines=sum(source.faulty for source in sources) + len(faults),
            bad=[(source.path, line, reason) for source in sources for line, reason in source.faults] + faults,
        )
        by_number = {source.number: file for source, file in zip(sources, files, strict=True)}
        paths = [
            [os.path.join(directory, part.file) for part in kept] + more
            for kept, more in zip(
                (manifest.parts(), manifest.twins, manifest.corrections, manifest.corrected), own, strict=True
            )
        ]
        rows = [
            RowFile(os.path.join(directory, part.file), source.number, part.rows)
            for source in manifest.sources
            for part in source.parts
        ]

        def summed(connection: DuckDBPyConnection) -> Summed:
            self._tell("adding up the usage log")
            found = up_to_date(connection, rows, self.zone, directory, manifest.version)
            return found._replace(fresh=[*found.fresh, *own[0]])

        return Answers(self._connect(), paths, by_number, reading, self.zone, self.as_of, self._aliases, summed)

    def _current(self, directory: str, fresh: bool) -> tuple[Manifest, list[LogFile]]:
        """The manifest, up to date, and the files that it tells of. Raises FileProblem, Busy."""
        if not fresh:
            files = log_files(self._paths)
            manifest = read_manifest(directory)
            if is_current(manifest, files):
                return manifest, files
            del files  # each of them is an open file, and they are opened again
        make_directory(directory)
        lock = os.path.join(directory, "lock")
        try:
            with Lock(lock, _MOMENT):
                return self._brought_up(directory, fresh)
        except Busy:
            self._tell("waiting for another report, which reads the usage log")
        with Lock(lock, _PATIENCE):
            return self._brought_up(directory, fresh)

    def _brought_up(self, directory: str, fresh: bool) -> tuple[Manifest, list[LogFile]]:
        import duckdb

        # Somebody else may have built it meanwhile.
        manifest = Manifest(version()) if fresh else read_manifest(directory)
        try:
            return self._built(directory, manifest)
        except duckdb.Error as error:
            if not manifest.sources or _lack(error):
                raise
        return self._built(directory, Manifest(version()))

    def _built(self, directory: str, manifest: Manifest) -> tuple[Manifest, list[LogFile]]:
        files = log_files(self._paths)
        return updated(directory, self._own_directory(), manifest, files, self._tell), files

    def _tails(
        self, directory: str, manifest: Manifest, files: Sequence[LogFile]
    ) -> tuple[int, list[tuple[str, int, str]], list[list[str]]]:
        """What stands after the last newline of live files: it counts if it is a whole record, but is not kept.

        Lines, faults, and the files of rows, twins, corrections and corrected rows.
        """
        lines, faults, parts = 0, [], []
        for source, file in zip(manifest.sources, files, strict=True):
            if not file.packed and file.size > source.read:
                more, found, new = Builder(self._own_directory(), lambda: self._connect(1)).tail(source, file)
                lines += more
                faults += found
                parts += new
        if not parts:
            return lines, faults, [[], [], [], []]
        connection = self._connect()
        own = self._own_directory()
        paths = {part.file: os.path.join(directory, part.file) for part in manifest.files()}
        paths.update((part.file, os.path.join(own, part.file)) for part in parts)
        every = [*manifest.parts(), *parts]

        def name() -> str:
            return os.path.join(own, os.urandom(8).hex())

        twins = find_twins(connection, paths, parts, every, name)
        corrections = find_corrections(connection, paths, parts, every, manifest.corrections, name)
        return lines, faults, [[os.path.join(own, part.file) for part in each] for each in (parts, twins, *corrections)]

    def _careful(self, answer: Iterable[_Answer]) -> Iterator[_Answer]:
        """What is read while other work goes on. Raises FileProblem for what the machine lacks by then."""
        import duckdb

        try:
            yield from answer
        except (OSError, duckdb.Error) as error:
            raise self._problem(error) from None

    def _problem(self, error: Exception) -> FileProblem:
        """What is in the way of every way to read the log."""
        lack = _lack(error)
        if lack in _EVERYWHERE:
            return file_problem("read", " ".join(self._paths), OSError(lack, os.strerror(lack)))
        verb, where = "index the usage log in", self._own_directory()
        if lack:
            return file_problem(verb, where, OSError(lack, os.strerror(lack)))
        return FileProblem(f"cannot {verb} {where}: {_said(error)}")

    def _own_directory(self) -> str:
        if self._private is None:
            self._private = Scratch(self._directory)
        return self._private.path

    def _connect(self, threads: int | None = None) -> DuckDBPyConnection:
        return connected(self._own_directory(), threads)


def _begun(records: Iterator[_Answer]) -> Iterator[_Answer]:
    """The same records, the first at hand: to find it, all files of the index were read, and were whole."""
    return chain([*islice(records, 1)], records)


def _said(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, CallmeterError):
        return error.message
    lack = _lack(error)
    return (os.strerror(lack) if lack else str(error).splitlines()[0]).lower()


def _lack(error: Exception) -> int:
    """The number of the system's error if the machine has too little of something; else 0."""
    import duckdb

    if isinstance(error, duckdb.OutOfMemoryException):
        return errno.ENOMEM
    said = str(error).lower()  # DuckDB says what the system said
    return next((code for code in _LACKS if os.strerror(code).lower() in said), 0)
