"""A log's lines since an instant, added up from its usage index; and those lines that the index has not read yet.

The same lines count as for `LogReader`: of two with one id the first that is in the period, in its order of files.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from callmeter.store.index_build import LogFile
from callmeter.store.index_columns import CORRECTION, SENT, instant_at
from callmeter.store.index_manifest import Manifest, Part
from callmeter.store.index_query import first_ms, pointer
from callmeter.store.index_rows import meanings
from callmeter.store.index_steps import Indexed, brought_up, connected
from callmeter.store.memory import require_address_space
from callmeter.store.scratch import Scratch
from callmeter.store.seen_ids import SeenIds, key_of
from callmeter.store.usage_log import end_of_lines, may_hold, opened, split_lines
from callmeter.words.errors import CallmeterError
from callmeter.words.period import Period
from callmeter.words.record import UsageRecord
from callmeter.words.subject import FACTS
from callmeter.words.tags import BUILT_IN

if TYPE_CHECKING:
    from datetime import datetime

    from duckdb import DuckDBPyConnection

_CHUNK = 1 << 20
_AT_ONCE = 10_000
_HOUR = 3_600_000
# So many bytes are read line by line in the time in which the index is brought up to date.
_LITTLE = 2 << 20
_READ = "read_parquet({}, hive_partitioning = false)"


class IndexTrouble(Exception):
    """The index cannot tell."""


class IndexDamaged(IndexTrouble):
    """A file of the index cannot be read: it is to be made anew."""


class LogMoved(IndexTrouble):
    """The live file was closed into a segment, or replaced, while its lines were added up."""


class Sum(NamedTuple):
    """What lines come to that have one `value` in a window, whose `start` is in seconds: nano-dollars, tokens in and
    out, calls. `paid` tells of those that a pool paid, if they are told apart."""

    value: str
    paid: bool
    start: int
    usd: int
    tokens: int
    calls: int


class IndexedLog:
    """The log at `path` with its index in `directory`, made anew with `fresh`; in a `with` block. Of a line's cost,
    `most` nano-dollars count. `tell` hears what takes its time. Everything raises IndexTrouble."""

    def __init__(
        self, path: str, directory: str, period: Period, most: int, *, fresh: bool, tell: Callable[[str], None]
    ) -> None:
        self._path = path
        self._directory = directory
        self._period = period
        self._most = most
        self._fresh = fresh
        self._tell = tell
        self._seen = SeenIds()  # of lines that the index has not
        self._position = 0  # where those of the live file begin

    def __enter__(self) -> IndexedLog:
        try:
            require_address_space()
            import duckdb
        except (CallmeterError, ImportError) as error:
            raise IndexTrouble(str(error)) from None
        self._errors = duckdb.Error
        try:
            self._scratch = Scratch(self._directory)
            manifest, files = brought_up(
                self._path,
                self._directory,
                self._scratch.path,
                little=_LITTLE,
                fresh=self._fresh,
                tell=self._tell,
            )
            self._connection: DuckDBPyConnection = connected(self._scratch.path)
        except (CallmeterError, OSError, EOFError, duckdb.Error) as error:
            raise IndexTrouble(str(error)) from None
        try:
            self._open(manifest, files)
        except BaseException:
            self._connection.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def sums(self, kind: str, start: int, end: int, *, pools: bool) -> Iterator[Sum]:
        """By value of a subject's kind (`total`, a fact, a tag), the lines from `start` to before `end`, in seconds; 0
        is no bound. `pools`: those that a pool paid apart."""
        bounds = {name: bound * 1000 for name, bound in (("start", start), ("end", end)) if bound}
        conditions = [condition for name, condition in _BOUNDS.items() if name in bounds]
        yield from self._sums(kind, str(start), "", conditions, bounds, pools=pools)

    def later(
        self, kind: str, end: int, window: Callable[[datetime], tuple[int, int]], size: int, *, pools: bool
    ) -> Iterator[tuple[Sum, int]]:
        """The same for lines from `end` on, a clock's that was ahead, by the `window` that they are in (start and
        end); each with the end of its window. Windows of `size` seconds are not asked for, unless that is 0."""
        if self._latest < end * 1000:
            return
        given: dict[str, object] = {"start": end * 1000}
        conditions = [_BOUNDS["start"]]
        if size:
            for each in self._sums(kind, f"ms // {size * 1000} * {size}", "", conditions, given, pools=pools):
                yield each, each.start + size
            return
        ends = self._make_windows(end, window)
        join = f"JOIN windows ON windows.slot = ms // {_HOUR} AND ms >= windows.begins AND ms < windows.ends"
        for each in self._sums(kind, "windows.start", join, conditions, given, pools=pools):
            yield each, ends[each.start]

    def has(self, ids: Collection[str]) -> set[str]:
        """Which of these ids are those of lines that count."""
        if not ids:
            return set()
        keys = {id: key_of(id) for id in ids}
        ranks = sorted({key >> 80 << 16 | key & 0xFFFF for key in keys.values()})
        paths = [self._name(part) for part in self._parts if _reaches(part, ranks)]
        found: set[int] = set()
        if paths:
            conditions = ["rank IN (SELECT unnest($ranks::UBIGINT[]))", "ident IN (SELECT unnest($idents::UUID[]))"]
            given: dict[str, object] = {
                "paths": paths,
                "ranks": ranks,
                "idents": [f"{key:032x}" for key in keys.values()],
                **self._since,
            }
            sql = f"SELECT DISTINCT ident FROM {_READ.format('$paths')} AS rows WHERE {' AND '.join(conditions)}"
            found = {row[0].int for row in self._rows(sql + "".join(f" AND {each}" for each in self._known), given)}
        return {id for id, key in keys.items() if key in found or id in self._seen}

    def has_appended(self, id: str) -> bool:
        """Whether an id is that of a line that `appended` or `unfinished` gave."""
        return id in self._seen

    def appended(self) -> Iterator[UsageRecord]:
        """The records in lines of the live file that the index has not, each once, also when this is called again."""
        live = self._found_live()
        if live is None:
            return
        end = end_of_lines(live.file)
        found = []
        for record in self._records(_read(live, self._position), whole=self._position > 0):
            found.append(record)
            if len(found) == _AT_ONCE:
                yield from self._new(found)
                found = []
        yield from self._new(found)
        self._position = end

    def unfinished(self) -> Iterator[UsageRecord]:
        """The records in last lines without newlines of files that are written no more."""
        found = [
            record
            for source, file in self._closed
            for record in self._records(file.text(source.read), whole=source.read > 0)
        ]
        if self.has([record.id for record in found]):
            raise IndexTrouble("which of two lines is the first is not in the index")
        yield from self._new(found)

    def _open(self, manifest: Manifest, files: Sequence[Indexed]) -> None:
        self._live = next((file for _, file in files if file.path == self._path), None)
        self._position = next((source.read for source, file in files if file is self._live), 0)
        self._found_live()
        held = [(source, file) for source, file in files if may_hold(file.path, self._period)]
        self._closed = [
            (source, file)
            for source, file in held
            if file is not self._live and not file.packed and file.size > source.read
        ]
        self._parts = [part for source, _ in held for part in source.parts]
        start = self._period.start
        self._since: dict[str, Any] = {} if start is None else {"since": first_ms(start)}
        self._known = [] if start is None else ["ms >= $since"]
        self._dropped = self._drop(manifest, [source.number for source, _ in held])
        latest = None
        if self._parts:
            ((latest,),) = self._rows(f"SELECT max(ms) FROM {_READ.format('$paths')}", {"paths": self._paths()})
        self._latest: int = 0 if latest is None else latest

    def _drop(self, manifest: Manifest, order: Sequence[int]) -> bool:
        """Make the table of lines whose id was there before; whether there are any."""
        if not manifest.twins or not self._parts:
            return False
        sql = f"""
            CREATE TABLE dropped AS SELECT source, line FROM (
                SELECT twins.*, list_position($order::INTEGER[], twins.source) AS place
                FROM (SELECT DISTINCT ident, source, line FROM {_READ.format("$twins")}) AS twins
                JOIN (SELECT source, line, ms FROM {_READ.format("$paths")}) AS rows
                    ON rows.source = twins.source AND rows.line = twins.line
                WHERE {" AND ".join(self._known) or "true"}
            ) QUALIFY row_number() OVER (PARTITION BY ident ORDER BY place, line) > 1
        """
        twins = [self._name(part) for part in manifest.twins]
        self._rows(sql, {"order": order, "twins": twins, "paths": self._paths(), **self._since})
        ((count,),) = self._rows("SELECT count(*) FROM dropped", {})
        return bool(count)

    def _sums(
        self, kind: str, start: str, join: str, conditions: Sequence[str], given: dict[str, Any], *, pools: bool
    ) -> Iterator[Sum]:
        if not self._parts:
            return
        given = {**given, "paths": self._paths(), "most": self._most}
        if kind == "total":
            value = "''"
        elif kind in FACTS:
            value = f'''nullif(rows."{kind}", '')'''
        elif kind in BUILT_IN:
            value = f"rows.tag_{kind}"
        else:
            given["kind"] = pointer(kind)
            value = "json_extract_string(rows.more, $kind)"
        paid = "coalesce(rows.pool, '') <> ''" if pools else "false"
        cost = "if(cost > $most, $most, if(cost < -$most, -$most, cost))"
        dropped = "ANTI JOIN dropped ON rows.source = dropped.source AND rows.line = dropped.line"
        some = f"(cost <> 0 OR tokens_in + tokens_out <> 0 OR {_TRIED})"
        sql = f"""
            SELECT {value} AS value, {paid} AS paid, {start} AS begin_at,
                sum({cost}), sum(tokens_in + tokens_out), count(*) FILTER ({_TRIED})
            FROM {_READ.format("$paths")} AS rows {join} {dropped if self._dropped else ""}
            WHERE {" AND ".join([*conditions, some])}
            GROUP BY ALL HAVING value IS NOT NULL AND count(*) > 0
        """
        for value, paid, begin, usd, tokens, calls in self._rows(sql, given):
            yield Sum(value, paid, int(begin), int(usd or 0), int(tokens or 0), int(calls))

    def _make_windows(self, end: int, window: Callable[[datetime], tuple[int, int]]) -> dict[int, int]:
        """Make the table that says in which window the milliseconds of each hour lie in which there are later lines;
        the windows' ends by their starts."""
        sql = f"SELECT DISTINCT ms // {_HOUR} FROM {_READ.format('$paths')} WHERE ms >= $start ORDER BY 1"
        slots: list[int] = []
        begins: list[int] = []
        stops: list[int] = []
        starts: list[int] = []
        ends: dict[int, int] = {}
        for (slot,) in self._rows(sql, {"paths": self._paths(), "start": end * 1000}):
            at, stop = slot * _HOUR, (slot + 1) * _HOUR
            while at < stop:
                start, until = window(instant_at(at))
                ends[start] = until
                slots.append(slot)
                begins.append(at)
                # The calendar's last window ends before its last instant.
                at = min(stop, until * 1000) if until * 1000 > at else stop
                stops.append(at)
                starts.append(start)
        self._rows(
            "CREATE OR REPLACE TABLE windows AS SELECT unnest($slots::BIGINT[]) AS slot,"
            " unnest($begins::BIGINT[]) AS begins, unnest($ends::BIGINT[]) AS ends, unnest($starts::BIGINT[]) AS start",
            {"slots": slots, "begins": begins, "ends": stops, "starts": starts},
        )
        return ends

    def _found_live(self) -> LogFile | None:
        """The live file, if it is the one whose lines were added up. Raises LogMoved if it is another one."""
        file = opened(self._path)
        if file is None:
            return None
        with file:
            found = os.fstat(file.fileno())
        if self._live is None or not os.path.samestat(found, self._live.found) or found.st_size < self._position:
            raise LogMoved(self._path)
        return self._live

    def _records(self, text: Iterable[bytes], *, whole: bool) -> Iterator[UsageRecord]:
        """The records in lines; `whole` if these do not begin the file."""
        for number, (line, complete) in enumerate(split_lines(text), 1 + whole):
            if line is not None:
                for each in meanings(line, number, complete):
                    if isinstance(each, UsageRecord) and each.instant in self._period:
                        yield each

    def _new(self, records: Iterable[UsageRecord]) -> Iterator[UsageRecord]:
        """Those whose id neither the index has nor was among them before."""
        known = self.has([record.id for record in records])
        for record in records:
            if record.id not in known and self._seen.add(record.id):
                yield record

    def _paths(self) -> list[str]:
        return [self._name(part) for part in self._parts]

    def _name(self, part: Part) -> str:
        return os.path.join(self._directory, part.file)

    def _rows(self, sql: str, given: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
        with self._damage():
            found = self._connection.execute(sql, given)
        return self._fetched(found)

    def _fetched(self, found: DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
        while True:
            with self._damage():
                rows = found.fetchmany(_AT_ONCE)
            if not rows:
                return
            yield from rows

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise IndexDamaged(str(error)) from None


_TRIED = f"(kind & {SENT | CORRECTION}) = {SENT}"
_BOUNDS = {"start": "ms >= $start", "end": "ms < $end"}


def _reaches(part: Part, ranks: Sequence[int]) -> bool:
    place = bisect_left(ranks, part.low)
    return place < len(ranks) and ranks[place] <= part.high


def _read(file: LogFile, start: int) -> Iterator[bytes]:
    while chunk := os.pread(file.file.fileno(), _CHUNK, start):
        start += len(chunk)
        yield chunk
