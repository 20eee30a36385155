"""What reports ask of the usage index, answered from its rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any

from callmeter.reports.grouping import NONE, key_name, patterns_of
from callmeter.reports.usage import Figures, Group, Reading, Spent
from callmeter.store.index_build import LogFile
from callmeter.store.index_columns import COLUMNS, instant_at
from callmeter.store.index_lines import LineReader
from callmeter.store.index_paces import Paces
from callmeter.store.index_query import (
    ANSWERED,
    COST,
    LATENCY,
    SETTLED,
    SPENT,
    SUMS,
    SUMS_OF_SUMS,
    WHOLE_COST,
    Query,
    add_sums,
    make_buckets,
    quantiles,
    take_away,
)
from callmeter.store.index_savings import Savings
from callmeter.words.period import EVER, Period
from callmeter.words.record import UsageRecord
from callmeter.words.tags import BUILT_IN

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Place = tuple[int, int, int, int]  # source, line, start, size
_AT_ONCE = 10_000
# So many groups are too many for a table of paces in each.
_MANY_GROUPS = 2_000
_ORIGIN, _OWN_ORIGIN = "origin", "cost_source"
# Names that have few values: their sums by all of them together are few, too.
_FEW = frozenset((
    "agent", "purpose", "priority", "environment", "cost_center", "workflow", "model", "served_model", "provider",
    "status", "key", "host", "finish_reason", "error", "pool", "day", "week", "month", _ORIGIN, _OWN_ORIGIN,
))  # fmt: skip


class Answers:
    """`paths` are the files of rows, of twins, corrections and corrected rows; `files` are the log's, by the number of
    their source, in the order in which it is read. Methods raise UsageError, and duckdb.Error if a file is damaged."""

    def __init__(
        self,
        connection: DuckDBPyConnection,
        paths: Sequence[Sequence[str]],
        files: Mapping[int, LogFile],
        reading: Reading,
        zone: tzinfo,
        as_of: datetime | None,
        aliases: Mapping[str, str],
    ) -> None:
        self._connection = connection
        self._zone = zone
        self._as_of = as_of
        self._aliases = aliases
        self._lines = LineReader(files)
        self._units: set[str] = set()
        self._corrections: bool | None = None
        # What was asked -> the table of its sums, and the names that it has.
        self._cubes: dict[object, tuple[str, frozenset[str]]] = {}
        self._sources = list(files)
        self._paths, twins, self._correcting, self._corrected = (list(each) for each in paths)
        self._dropped = self._find_dropped(twins)
        self._view("rows", self._paths)
        query = self._query(EVER, ())
        (first,) = self._one(f"SELECT min(ms) {self._source(query)}", query.given)
        self.reading = replace(reading, duplicates=self._dropped, first=None if first is None else instant_at(first))

    def groups(
        self, by: Sequence[str], period: Period, where: Sequence[str], latency: Sequence[int], costs: Sequence[int]
    ) -> list[Group]:
        """See `Usage.groups`."""
        names = [key_name(name, self._aliases) for name in by]

        def query() -> Query:
            return self._query(period, where)

        found = self._sums(names, query, _key(period, where))
        self._add_latencies(found, names, [len(names)], latency, query)
        self._add_costs(found, names, costs, query)
        return sorted(found.items())

    def levels(
        self, by: Sequence[str], period: Period, where: Sequence[str], latency: Sequence[int], costs: Sequence[int]
    ) -> dict[tuple[str, ...], Figures]:
        """See `Usage.levels`."""
        names = [key_name(name, self._aliases) for name in by]

        def query() -> Query:
            return self._query(period, where)

        inner = self._sums(names, query, _key(period, where))
        found: dict[tuple[str, ...], Figures] = {(): Figures()}
        for path, figures in inner.items():
            for depth in range(len(path) + 1):
                found.setdefault(path[:depth], Figures()).merge(figures)
        depths = range(len(names) + 1)
        self._add_latencies(found, names, depths, latency, query)
        for depth in depths:
            self._add_costs(found, names[:depth], costs, query)
        return found

    def rest(
        self,
        by: Sequence[str],
        outer: tuple[str, ...],
        kept: Sequence[str],
        period: Period,
        where: Sequence[str],
        latency: Sequence[int],
        costs: Sequence[int],
    ) -> Figures:
        """See `Usage.rest`."""
        names = [key_name(name, self._aliases) for name in by[: len(outer) + 1]]

        def query() -> Query:
            query = self._query(period, where)
            query.only(names, outer, kept)
            return query

        found = self._sums((), query)
        self._add_latencies(found, (), [0], latency, query)
        self._add_costs(found, (), costs, query)
        return found.get((), Figures())

    def taggings(
        self, compared: Collection[str], period: Period, where: Sequence[str]
    ) -> list[tuple[tuple[tuple[str, str], ...], Figures]]:
        """See `Usage.taggings`."""
        query = self._query(period, where)
        query.conditions.append("rows.status <> 'refused'")
        columns = query.tags(compared)
        names = [f"name{place}" for place in range(len(columns))]
        listed = ", ".join(f"{column} AS {name}" for column, name in zip(columns, names, strict=True))
        found: dict[tuple[tuple[str, str], ...], Figures] = {}
        sql = f"SELECT {listed}, {SUMS} {self._source(query)} GROUP BY {', '.join(names)}, kind"
        for row in self._all(sql, query.given):
            add_sums(found.setdefault(_tags(row), Figures()), row[len(names) :])
        if found and self._has_corrections():
            sql = f"SELECT {listed}, {SETTLED} {self._source(query, 'corrected')} GROUP BY {', '.join(names)}"
            for row in self._all(sql, query.given):
                _settle(found[_tags(row)], row)
        return sorted(found.items())

    def spent(self, by: Sequence[str], period: Period, where: Sequence[str], least: int | None) -> list[Spent]:
        """See `Usage.spent`."""
        names = [key_name(name, self._aliases) for name in by]
        query = self._query(period, where)
        columns = "".join(f"{query.name(name)} AS name{place}, " for place, name in enumerate(names))
        having = "" if least is None else f"HAVING coalesce(sum(cost), 0) >= {int(least)}"
        rows = self._all(f"SELECT {columns} {SPENT} {self._source(query)} {_grouped(names)} {having}", query.given)
        depth = len(names)
        settled: dict[tuple[str, ...], int] = {}
        if rows and self._has_corrections():
            sql = f"SELECT {columns} {SETTLED} {self._source(query, 'corrected')} {_grouped(names)}"
            settled = {row[:depth]: row[depth] for row in self._all(sql, query.given) if row[depth]}
        return [
            Spent(row[:depth], row[depth], row[depth + 1], row[depth + 2] - settled.get(row[:depth], 0), *row[-2:])
            for row in rows
        ]

    def savings(self, period: Period) -> Savings:
        """See `Usage.savings` and `Usage.answer_sizes`."""

        def query() -> Query:
            return self._query(period, ())

        def key(name: str) -> str:
            return key_name(name, self._aliases)

        return Savings(self._all, query, self._source, key, self._has_corrections)

    def _places(self, query: Query, last: int) -> Iterator[Place]:
        """Where the lines stand, in order of time; the last so many, or all."""
        if last:
            order = "rows.ms DESC, coalesce(rows.id, rows.ident::VARCHAR) DESC"
            sql = f"SELECT rows.source, rows.line, rows.start, rows.size {self._source(query)} ORDER BY {order}"
            yield from reversed(self._all(f"{sql} LIMIT {int(last)}", query.given))
            return
        found = self._run(
            f"""SELECT rows.source, rows.line, rows.start, rows.size {self._source(query)}
                ORDER BY rows.ms, coalesce(rows.id, rows.ident::VARCHAR)""",
            query.given,
            self._prepared(self._connection.cursor()),  # other questions may be asked before it is read to its end
        )
        while batch := found.fetchmany(_AT_ONCE):
            yield from batch

    def calls(self, period: Period, where: Sequence[str], last: int) -> Iterator[UsageRecord]:
        """See `Usage.calls`."""
        return (self._lines.record(*place) for place in self._places(self._query(period, where), last))

    def _sums(
        self, names: Sequence[str], ask: Callable[[], Query], key: object = None
    ) -> dict[tuple[str, ...], Figures]:
        """The innermost groups. With a `key` that stands for what `ask` asks, sums are kept for later questions."""
        found = None
        if key is not None and _FEW.issuperset(names):
            found = self._summed(names, ask, key)
        if found is None:
            query = ask()
            columns = self._columns(query, names)
            sql = f"SELECT {columns} {SUMS} {self._source(query)} {_grouped(names, 'kind')}"
            found = self._figures(sql, query.given, len(names))
        if found and self._has_corrections():
            query = ask()
            columns = self._columns(query, names)
            sql = f"SELECT {columns} {SETTLED} {self._source(query, 'corrected')} {_grouped(names)}"
            for row in self._all(sql, query.given):
                path = _named(row[: len(names)])
                if path in found:
                    _settle(found[path], row)
        return found

    def _figures(self, sql: str, given: Mapping[str, object], depth: int) -> dict[tuple[str, ...], Figures]:
        """The figures of groups, from rows of their names and `SUMS`."""
        found: dict[tuple[str, ...], Figures] = {}
        for row in self._all(sql, given):
            if row[depth] is not None:
                add_sums(found.setdefault(_named(row[:depth]), Figures()), row[depth:])
        return found

    def _summed(
        self, names: Sequence[str], ask: Callable[[], Query], key: object
    ) -> dict[tuple[str, ...], Figures] | None:
        """The groups, from a table of sums that serves other questions of the same lines too; None if it cannot tell.

        Where the cost of a corrected call comes from is not in the table: those calls, of which there are few, are
        taken away from where they stand and put where they belong.
        """
        own = [_OWN_ORIGIN if name == _ORIGIN else name for name in names]
        table, known = self._cubes.get(key, ("", frozenset()))
        if not table or not known.issuperset(own):
            known = frozenset((*own, _OWN_ORIGIN, "status"))
            table = table or f"cube_{len(self._cubes)}"  # one for each key
            query = ask()
            listed = ", ".join(f"{query.raw(name)} AS by_{name}" for name in sorted(known))
            by = ", ".join(f"by_{name}" for name in sorted(known))
            sql = f"SELECT {listed}, {SUMS} {self._source(query)} GROUP BY {by}, kind"
            self._run(f"CREATE OR REPLACE TABLE {table} AS {sql}", query.given)
            self._cubes[key] = (table, known)
        columns = "".join(f"by_{name} AS name{place}, " for place, name in enumerate(own))
        found = self._figures(f"SELECT {columns} {SUMS_OF_SUMS} FROM {table} {_grouped(names, 'kind')}", {}, len(names))
        if found and _ORIGIN in names and self._has_corrections():
            moved = []
            for each in (own, names):
                query = ask()
                columns = self._columns(query, each)
                sql = f"SELECT {columns} {SUMS} {self._source(query, 'corrected')} {_grouped(each, 'kind')}"
                moved.append(self._figures(sql, query.given, len(each)))
            for path, figures in moved[0].items():
                if figures.first is not None and {figures.first, figures.last} & {found[path].first, found[path].last}:
                    return None  # nobody knows which call is the first or the last then
                take_away(found[path], figures)
                if not found[path].lines:
                    del found[path]
            for path, figures in moved[1].items():
                found.setdefault(path, Figures()).merge(figures)
        return found

    def _add_latencies(
        self,
        found: Mapping[tuple[str, ...], Figures],
        names: Sequence[str],
        depths: Sequence[int],
        percentiles: Sequence[int],
        ask: Callable[[], Query],
    ) -> None:
        if not percentiles:
            return
        if len(found) > _MANY_GROUPS:
            for depth in depths:
                self._add_ranks(found, names[:depth], percentiles, ask, LATENCY, "latency")
            return
        # First how many answers have which pace, then the durations of those paces in which a percentile lies: both
        # are small, and add up to every level, which takes a third of the time of sorting.
        wanted = Paces(percentiles, depths)
        query = ask()
        columns = self._columns(query, names)
        query.conditions.append(ANSWERED)
        sql = f"SELECT {columns} pace, count(*) {self._source(query)} {_grouped(names, 'pace')}"
        for *path, pace, count in self._all(sql, query.given):
            wanted.count(_named(path), pace, count)
        query.conditions.append(f"list_contains({query.bind(wanted.paces())}::SMALLINT[], pace)")
        sql = (
            f"SELECT {columns} pace, duration_ms, count(*) {self._source(query)} {_grouped(names, 'pace, duration_ms')}"
        )
        for *path, pace, duration, count in self._all(sql, query.given):
            wanted.add(_named(path), pace, duration, count)
        for group, ranks in wanted.ranks():
            found[group].latency = ranks

    def _add_costs(
        self,
        found: Mapping[tuple[str, ...], Figures],
        names: Sequence[str],
        percentiles: Sequence[int],
        ask: Callable[[], Query],
    ) -> None:
        if percentiles:
            values = WHOLE_COST if self._has_corrections() else COST
            self._add_ranks(found, names, percentiles, ask, values, "costs")

    def _add_ranks(
        self,
        found: Mapping[tuple[str, ...], Figures],
        names: Sequence[str],
        percentiles: Sequence[int],
        ask: Callable[[], Query],
        values: tuple[str, str],
        place: str,
    ) -> None:
        query = ask()
        query.needs_fixed = query.needs_fixed or values is WHOLE_COST
        columns = self._columns(query, names)
        sql = f"SELECT {columns} {quantiles(*values, percentiles)} {self._source(query)} {_grouped(names)}"
        for *path, ranks in self._all(sql, query.given):
            if ranks:
                setattr(found[_named(path)], place, dict(zip(percentiles, ranks, strict=True)))

    def _query(self, period: Period, where: Sequence[str]) -> Query:
        query = Query(self._has_corrections)
        query.within(period, self._as_of)
        query.having(patterns_of(where, self._aliases))
        return query

    def _columns(self, query: Query, names: Sequence[str]) -> str:
        return "".join(f"{query.raw(name)} AS name{place}, " for place, name in enumerate(names))

    def _source(self, query: Query, rows: str = "rows") -> str:
        """FROM and WHERE, once all names are known."""
        for unit in query.units:
            if unit not in self._units:
                make_buckets(self._connection, unit, self._zone)
                self._units.add(unit)
        return query.source(rows)

    def _has_corrections(self) -> bool:
        """Whether there are calls with corrections; they are in the table `corrected`, and short in `fixed`."""
        if self._corrections is None:
            self._view("correcting", self._correcting)
            self._view("targets", self._corrected)
            known = self._query(EVER, ())
            self._run(
                f"""CREATE OR REPLACE TABLE fixes AS SELECT target, corrects, sum(cost) AS change,
                    arg_max(cost_source, (ms, coalesce(id, ident::VARCHAR))) AS origin
                    {self._source(known, "correcting")} GROUP BY target, corrects""",
                known.given,
            )
            self._run(
                """CREATE OR REPLACE TABLE corrected AS
                    SELECT DISTINCT ON (rows.source, rows.line) rows.*, fixes.change, fixes.origin
                    FROM targets AS rows JOIN fixes ON rows.ident = fixes.target
                    AND rows.id IS NOT DISTINCT FROM fixes.corrects""",
                {},
            )
            self._run("CREATE OR REPLACE TABLE fixed AS SELECT source, line, change, origin FROM corrected", {})
            self._corrections = bool(self._one("SELECT count(*) FROM fixed", {})[0])
        return self._corrections

    def _find_dropped(self, twins: Sequence[str]) -> int:
        """Drop all but the first line of each id."""
        if not twins:
            return 0
        self._run(
            """CREATE OR REPLACE TABLE dropped AS SELECT source, line FROM (
                    SELECT DISTINCT ident, source, line, list_position($order::INTEGER[], source) AS place
                    FROM read_parquet($twins, hive_partitioning = false)
                ) WHERE place IS NOT NULL QUALIFY row_number() OVER (PARTITION BY ident ORDER BY place, line) > 1""",
            {"order": self._sources, "twins": list(twins)},
        )
        return int(self._one("SELECT count(*) FROM dropped", {})[0])

    def _all(self, sql: str, given: Mapping[str, object]) -> list[tuple[Any, ...]]:
        return self._run(sql, given).fetchall()

    def _one(self, sql: str, given: Mapping[str, object]) -> tuple[Any, ...]:
        return self._all(sql, given)[0]

    def _run(
        self, sql: str, given: Mapping[str, object], connection: DuckDBPyConnection | None = None
    ) -> DuckDBPyConnection:
        return (connection or self._connection).execute(sql, dict(given))

    def _prepared(self, connection: DuckDBPyConnection) -> DuckDBPyConnection:
        """With the variables that views speak of."""
        given = {"rows": self._paths, "correcting": self._correcting, "targets": self._corrected}
        for name, paths in given.items():
            connection.execute(f"SET VARIABLE {name} = $paths::VARCHAR[]", {"paths": paths})
        connection.execute("SET VARIABLE sources = $sources::INTEGER[]", {"sources": self._sources})
        return connection

    def _view(self, name: str, paths: Sequence[str]) -> None:
        """A relation of the lines in some files that count."""
        self._prepared(self._connection)
        columns = ", ".join(f"NULL::{kind} AS {column}" for column, kind in COLUMNS.items())
        sql = f"SELECT {columns} WHERE false"
        if paths:
            sql = f"SELECT * FROM read_parquet(getvariable('{name}'), hive_partitioning = false) AS every"
            if self._dropped:
                sql += " ANTI JOIN dropped ON every.source = dropped.source AND every.line = dropped.line"
            if name != "rows":
                sql += " WHERE list_contains(getvariable('sources'), every.source)"
        self._run(f"CREATE OR REPLACE VIEW {name} AS {sql}", {})


def _grouped(names: Sequence[str], *more: str) -> str:
    keys = [*(f"name{place}" for place in range(len(names))), *more]
    return "GROUP BY " + ", ".join(keys) if keys else ""


def _named(values: Sequence[str | None]) -> tuple[str, ...]:
    """The names of groups as they are printed."""
    return tuple([value or NONE for value in values])


def _settle(figures: Figures, row: Sequence[Any]) -> None:
    """What corrections make known, in the last columns of a row."""
    unknown, tokens, change, retried = (value or 0 for value in row[-4:])
    figures.unknown -= unknown
    figures.priced_tokens += tokens
    figures.retried_nano += change
    figures.retried_unknown -= retried


def _tags(row: Sequence[Any]) -> tuple[tuple[str, str], ...]:
    """All tags, from the columns of the built-in ones and the map of the others."""
    tags = {name: value for name, value in zip(BUILT_IN, row, strict=False) if value is not None}
    return tuple(sorted({**tags, **(row[len(BUILT_IN)] or {})}.items()))


def _key(period: Period, where: Sequence[str]) -> object:
    return period.start, period.end, tuple(where)
