"""What reports ask of the usage index, answered from its rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any, NamedTuple

from callmeter.reports.grouping import NONE, key_name, patterns_of
from callmeter.reports.usage import Figures, Group, Reading, Spent
from callmeter.store.index_build import LogFile
from callmeter.store.index_columns import COLUMNS, instant_at
from callmeter.store.index_days import UNITS, Days
from callmeter.store.index_lines import LineReader
from callmeter.store.index_paces import Paces
from callmeter.store.index_query import (
    ANSWERED,
    COST,
    LATENCY,
    SETTLED,
    SPENT,
    SPENT_OF_SUMS,
    SUMS,
    SUMS_OF_SUMS,
    WHOLE_COST,
    Query,
    add_sums,
    make_buckets,
    quantiles,
    slots_of,
    take_away,
)
from callmeter.store.index_savings import Savings
from callmeter.store.index_sums import FEW, Summed
from callmeter.words.period import EVER, Period
from callmeter.words.record import UsageRecord
from callmeter.words.tags import BUILT_IN

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Place = tuple[int, int, int, int]  # source, line, start, size
_AT_ONCE = 10_000
# So many groups are too many for a table of paces in each.
_MANY_GROUPS = 2_000
# What no question about corrected calls speaks of, and much of their size.
_OF_A_LINE = "start, size, ident, rank, id, target, corrects, pace, sketch, prompt_sketch"
# Tags of which a log has thousands of values.
_MANY_VALUES = frozenset(("session", "work_item", "customer", "user"))
# Names of which sums of days can tell.
_SUMMED = FEW | UNITS | {"origin"}


class _Rest(NamedTuple):
    """The group `outer` without those of its groups that are `kept`."""

    names: Sequence[str]
    outer: Sequence[str]
    kept: Sequence[str]


class _Asked(NamedTuple):
    """Which lines a question is about."""

    period: Period
    where: Sequence[str]
    rest: _Rest | None = None


class Answers:
    """`paths` are the files of rows, of twins, corrections and corrected rows; `files` are the log's, by the number of
    their source, in the order in which it is read; `summed` gives the sums by day. Methods raise UsageError, and
    duckdb.Error if a file is damaged."""

    def __init__(
        self,
        connection: DuckDBPyConnection,
        paths: Sequence[Sequence[str]],
        files: Mapping[int, LogFile],
        reading: Reading,
        zone: tzinfo,
        as_of: datetime | None,
        aliases: Mapping[str, str],
        summed: Callable[[DuckDBPyConnection], Summed],
    ) -> None:
        self._connection = connection
        self._zone = zone
        self._as_of = as_of
        self._aliases = aliases
        self._lines = LineReader(files)
        self._units: set[str] = set()
        self._corrections: bool | None = None
        self._sources = list(files)
        self._paths, twins, self._correcting, self._corrected = (list(each) for each in paths)
        self._dropped = self._find_dropped(twins)
        self._view("rows", self._paths)
        # Sums of days cannot tell what was known at a time.
        self._days = Days(connection, summed(connection), zone) if self._paths and as_of is None else None
        if self._days is not None:
            first = self._days.first
        else:
            query = self._query(_Asked(EVER, ()))
            (first,) = self._one(f"SELECT min(ms) {self._source(query)}", query.given)
        self.reading = replace(reading, duplicates=self._dropped, first=None if first is None else instant_at(first))

    def groups(
        self,
        by: Sequence[str],
        period: Period,
        where: Sequence[str],
        latency: Sequence[int],
        costs: Sequence[int],
        *,
        times: bool,
    ) -> list[Group]:
        """See `Usage.groups`."""
        names = self._names(by)
        asked = _Asked(period, where)
        found = self._sums(names, asked, times=times)
        self._add_latencies(found, names, [len(names)], latency, asked)
        self._add_costs(found, names, costs, asked)
        return sorted(found.items())

    def levels(
        self, by: Sequence[str], period: Period, where: Sequence[str], latency: Sequence[int], costs: Sequence[int]
    ) -> dict[tuple[str, ...], Figures]:
        """See `Usage.levels`."""
        names = self._names(by)
        asked = _Asked(period, where)
        found: dict[tuple[str, ...], Figures] = {(): Figures()}
        for path, figures in self._sums(names, asked).items():
            for depth in range(len(path) + 1):
                found.setdefault(path[:depth], Figures()).merge(figures)
        depths = range(len(names) + 1)
        self._add_latencies(found, names, depths, latency, asked)
        for depth in depths:
            self._add_costs(found, names[:depth], costs, asked)
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
        asked = _Asked(period, where, _Rest(self._names(by[: len(outer) + 1]), outer, kept))
        found = self._sums((), asked)
        self._add_latencies(found, (), [0], latency, asked)
        self._add_costs(found, (), costs, asked)
        return found.get((), Figures())

    def taggings(
        self, compared: Collection[str], period: Period, where: Sequence[str]
    ) -> list[tuple[tuple[tuple[str, str], ...], Figures]]:
        """See `Usage.taggings`."""
        query = self._query(_Asked(period, where))
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
        names = self._names(by)
        asked = _Asked(period, where)
        having = "" if least is None else f"HAVING coalesce(sum(cost), 0) >= {int(least)}"
        over_days = self._is_over_days(names, asked) and not self._is_about_origin(names, asked)
        query = self._query(asked, over_days=over_days)
        if least is not None and least > 0 and not over_days:
            self._leave_out_cheap(query, names, least)
        columns = "".join(f"{query.name(name)} AS name{place}, " for place, name in enumerate(names))
        sums = SPENT_OF_SUMS if over_days else SPENT
        rows = self._all(f"SELECT {columns} {sums} {self._source(query)} {_grouped(names)} {having}", query.given)
        depth = len(names)
        settled: dict[tuple[str, ...], int] = {}
        if rows and self._has_corrections():
            query = self._query(asked)
            columns = "".join(f"{query.name(name)} AS name{place}, " for place, name in enumerate(names))
            sql = f"SELECT {columns} {SETTLED} {self._source(query, 'corrected')} {_grouped(names)}"
            settled = {row[:depth]: row[depth] for row in self._all(sql, query.given) if row[depth]}
        return [
            Spent(row[:depth], row[depth], row[depth + 1], row[depth + 2] - settled.get(row[:depth], 0), *row[-2:])
            for row in rows
        ]

    def _leave_out_cheap(self, query: Query, names: Sequence[str], least: int) -> None:
        """Leave out the values of a name, if there is one that has many, of which no group can come to `least`: adding
        up costs by one name takes a fifth of the time of adding up everything by all of them."""
        name = next((name for name in names if name in _MANY_VALUES), None)
        if name is not None:
            column = f"rows.tag_{name}"
            sql = f"SELECT {column} AS name {self._source(query)} GROUP BY {column}"
            # A credit must not hide what another day came to; and missing and empty values are one group.
            sql += f" HAVING sum(greatest(cost, 0)) >= {int(least)} OR coalesce({column}, '') = ''"
            self._run(f"CREATE OR REPLACE TABLE dear AS {sql}", query.given)
            query.joins.append(f"JOIN dear ON dear.name IS NOT DISTINCT FROM {column}")

    def calls(self, period: Period, where: Sequence[str], last: int) -> Iterator[UsageRecord]:
        """See `Usage.calls`."""
        return (self._lines.record(*place) for place in self._places(self._query(_Asked(period, where)), last))

    def savings(self, period: Period) -> Savings:
        """See `Usage.savings` and `Usage.answer_sizes`."""
        asked = _Asked(period, ())

        def key(name: str) -> str:
            return key_name(name, self._aliases)

        return Savings(self._all, lambda: self._query(asked), self._source, key, self._has_corrections)

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

    def _sums(self, names: Sequence[str], asked: _Asked, *, times: bool = True) -> dict[tuple[str, ...], Figures]:
        """The innermost groups."""
        found = self._sums_of_days(names, asked, times=times) if self._is_over_days(names, asked) else None
        if found is None:
            found = self._sums_of(names, asked)
        if found and self._has_corrections():
            query = self._query(asked)
            columns = self._columns(query, names)
            sql = f"SELECT {columns} {SETTLED} {self._source(query, 'corrected')} {_grouped(names)}"
            for row in self._all(sql, query.given):
                path = _named(row[: len(names)])
                if path in found:
                    _settle(found[path], row)
        if not times:
            for figures in found.values():
                figures.first = figures.last = None
        return found

    def _sums_of_days(
        self, names: Sequence[str], asked: _Asked, *, times: bool
    ) -> dict[tuple[str, ...], Figures] | None:
        """The groups, from sums of days; None if they cannot tell.

        Where the cost of a corrected call comes from is not in them: those calls, of which there are few, are taken
        away from where they stand and put where they belong.
        """
        found = self._sums_of(names, asked, over_days=True)
        if not self._is_about_origin(names, asked):
            return found
        for path, figures in self._sums_of(names, asked, "corrected", own=True).items():
            moved, left = {figures.first, figures.last}, {found[path].first, found[path].last}
            if times and figures.first is not None and moved & left:
                return None  # nobody knows which call is the first or the last then
            take_away(found[path], figures)
            if not found[path].lines:
                del found[path]
        for path, figures in self._sums_of(names, asked, "corrected").items():
            found.setdefault(path, Figures()).merge(figures)
        return found

    def _sums_of(
        self, names: Sequence[str], asked: _Asked, rows: str = "rows", *, over_days: bool = False, own: bool = False
    ) -> dict[tuple[str, ...], Figures]:
        query = self._query(asked, over_days=over_days, own=own or over_days)
        columns = self._columns(query, names)
        sums = SUMS_OF_SUMS if over_days else SUMS
        sql = f"SELECT {columns} {sums} {self._source(query, rows)} {_grouped(names, 'kind')}"
        found: dict[tuple[str, ...], Figures] = {}
        for row in self._all(sql, query.given):
            if row[len(names)] is not None:
                add_sums(found.setdefault(_named(row[: len(names)]), Figures()), row[len(names) :])
        return found

    def _is_over_days(self, names: Sequence[str], asked: _Asked) -> bool:
        """Whether sums of days can tell."""
        return self._days is not None and _SUMMED.issuperset(self._all_names(names, asked))

    def _is_about_origin(self, names: Sequence[str], asked: _Asked) -> bool:
        return "origin" in self._all_names(names, asked) and self._has_corrections()

    def _all_names(self, names: Sequence[str], asked: _Asked) -> list[str]:
        return [*names, *patterns_of(asked.where, self._aliases), *(asked.rest.names if asked.rest else ())]

    def _add_latencies(
        self,
        found: Mapping[tuple[str, ...], Figures],
        names: Sequence[str],
        depths: Sequence[int],
        percentiles: Sequence[int],
        asked: _Asked,
    ) -> None:
        if not percentiles:
            return
        if len(found) > _MANY_GROUPS:
            for depth in depths:
                self._add_ranks(found, names[:depth], percentiles, asked, LATENCY, "latency")
            return
        # First how many answers have which pace, then the durations of those paces in which a percentile lies: both
        # are small, and add up to every level, which takes a third of the time of sorting.
        wanted = Paces(percentiles, depths)
        query = self._query(asked)
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
        asked: _Asked,
    ) -> None:
        if percentiles:
            values = WHOLE_COST if self._has_corrections() else COST
            self._add_ranks(found, names, percentiles, asked, values, "costs")

    def _add_ranks(
        self,
        found: Mapping[tuple[str, ...], Figures],
        names: Sequence[str],
        percentiles: Sequence[int],
        asked: _Asked,
        values: tuple[str, str],
        place: str,
    ) -> None:
        query = self._query(asked)
        query.needs_fixed = query.needs_fixed or values is WHOLE_COST
        columns = self._columns(query, names)
        sql = f"SELECT {columns} {quantiles(*values, percentiles)} {self._source(query)} {_grouped(names)}"
        for *path, ranks in self._all(sql, query.given):
            if ranks:
                setattr(found[_named(path)], place, dict(zip(percentiles, ranks, strict=True)))

    def _query(self, asked: _Asked, *, over_days: bool = False, own: bool = False) -> Query:
        query = Query(self._has_corrections, over_days=over_days, own=own)
        if over_days:
            query.period = asked.period
        else:
            query.within(asked.period, self._as_of)
        query.having(patterns_of(asked.where, self._aliases))
        if asked.rest is not None:
            query.only(*asked.rest)
        return query

    def _names(self, by: Sequence[str]) -> list[str]:
        return [key_name(name, self._aliases) for name in by]

    def _columns(self, query: Query, names: Sequence[str]) -> str:
        return "".join(f"{query.raw(name)} AS name{place}, " for place, name in enumerate(names))

    def _source(self, query: Query, rows: str = "rows") -> str:
        """FROM and WHERE, once all names are known."""
        if query.over_days and self._days is not None:
            return query.source(self._days.source(query.period, query.units, query.given))
        for unit in query.units:
            if unit not in self._units:
                hours = self._days.hours() if self._days else slots_of(self._connection, "rows", {})
                make_buckets(self._connection, f"time_{unit}", unit, self._zone, hours)
                self._units.add(unit)
        return query.source(rows)

    def _has_corrections(self) -> bool:
        """Whether there are calls with corrections; they are in the table `corrected`, and short in `fixed`."""
        if self._corrections is None:
            self._view("correcting", self._correcting)
            self._view("targets", self._corrected)
            known = self._query(_Asked(EVER, ()))
            self._run(
                f"""CREATE OR REPLACE TABLE fixes AS SELECT target, corrects, sum(cost) AS change,
                    bool_or(sized) AS sizes, arg_max(cost_source, (ms, coalesce(id, ident::VARCHAR))) AS origin
                    {self._source(known, "correcting")} GROUP BY target, corrects""",
                known.given,
            )
            # A row is there twice if its corrections came one by one; of wide rows, to look first is much cheaper.
            twice = self._all("SELECT 1 FROM targets GROUP BY source, line HAVING count(*) > 1 LIMIT 1", {})
            self._run(
                f"""CREATE OR REPLACE TABLE corrected AS
                    SELECT {"DISTINCT ON (rows.source, rows.line)" if twice else ""}
                        rows.* EXCLUDE ({_OF_A_LINE}), fixes.change, fixes.origin, fixes.sizes
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
            self._run("CREATE OR REPLACE TABLE dropped (source INTEGER, line BIGINT)", {})
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
    unknown, tokens, change, retried, sized, priced = (value or 0 for value in row[-6:])
    figures.unknown -= unknown
    figures.priced_tokens += tokens
    figures.retried_nano += change
    figures.retried_unknown -= retried
    figures.without_tokens -= sized
    figures.priced_nano += priced


def _tags(row: Sequence[Any]) -> tuple[tuple[str, str], ...]:
    """All tags, from the columns of the built-in ones and the map of the others."""
    tags = {name: value for name, value in zip(BUILT_IN, row, strict=False) if value is not None}
    return tuple(sorted({**tags, **(row[len(BUILT_IN)] or {})}.items()))
