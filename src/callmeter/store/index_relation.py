"""The lines of the usage index that count, as relations for SQL: all rows, the corrected calls, sums of days."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any, NamedTuple

from callmeter.reports.grouping import key_name, patterns_of
from callmeter.store.index_columns import COLUMNS
from callmeter.store.index_days import UNITS, Days
from callmeter.store.index_query import Query, make_buckets, slots_of
from callmeter.store.index_sums import FEW, Summed
from callmeter.words.period import EVER, Period

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# What no question about corrected calls speaks of, and much of their size.
_OF_A_LINE = "start, size, ident, rank, id, target, corrects, pace, sketch, prompt_sketch"
# Names of which sums of days can tell.
_SUMMED = FEW | UNITS | {"origin"}


class Rest(NamedTuple):
    """The group `outer` without those of its groups that are `kept`."""

    names: Sequence[str]
    outer: Sequence[str]
    kept: Sequence[str]


class Asked(NamedTuple):
    """Which lines a question is about. Groups by the names that are `kept` are called by the codes that the tables
    `kept0`, `kept1` and so on have for them, one for each level; those without a code are one group."""

    period: Period
    where: Sequence[str]
    rest: Rest | None = None
    kept: Sequence[str] = ()


class Relation:
    """`paths` are the files of rows, of twins, corrections and corrected rows; `sources` are the log's files by number,
    in the order in which it is read; `summed` gives the sums by day. `dropped` lines repeat an id, `first` is when the
    first line is from, in milliseconds since 1970. Methods raise UsageError, and duckdb.Error if a file is damaged."""

    def __init__(
        self,
        connection: DuckDBPyConnection,
        paths: Sequence[Sequence[str]],
        sources: Sequence[int],
        zone: tzinfo,
        as_of: datetime | None,
        aliases: Mapping[str, str],
        summed: Callable[[DuckDBPyConnection], Summed],
    ) -> None:
        self._connection = connection
        self._zone = zone
        self._as_of = as_of
        self._aliases = aliases
        # Tables of units of time, and whether an hour can lie in several of a unit.
        self._units: dict[str, bool] = {}
        self._corrections: bool | None = None
        self._sources = list(sources)
        self._paths, twins, self._correcting, self._corrected = (list(each) for each in paths)
        self.dropped = self._find_dropped(twins)
        self._view("rows", self._paths)
        # Sums of days cannot tell what was known at a time.
        self._days = Days(connection, summed(connection), zone) if self._paths and as_of is None else None
        self.first: int | None
        if self._days is not None:
            self.first = self._days.first
        else:
            query = self.query(Asked(EVER, ()))
            (self.first,) = self.all(f"SELECT min(ms) {self.source(query)}", query.given)[0]

    def query(self, asked: Asked, *, over_days: bool = False) -> Query:
        """A query about these lines, over rows or over sums of days (see `Query`)."""
        query = Query(self.has_corrections, over_days=over_days)
        if over_days:
            query.period = asked.period
        else:
            query.within(asked.period, self._as_of)
        query.having(patterns_of(asked.where, self._aliases))
        if asked.rest is not None:
            query.only(*asked.rest)
        values = [f"coalesce({query.raw(name)}, '')" for name in asked.kept]
        for depth in range(len(values)):
            same = (f"kept{depth}.value{place} = {value}" for place, value in enumerate(values[: depth + 1]))
            query.last_joins.append(f"LEFT JOIN kept{depth} ON {' AND '.join(same)}")
        return query

    def source(self, query: Query, rows: str = "rows") -> str:
        """FROM and WHERE, once all names are known."""
        if query.over_days and self._days is not None:
            return query.source(self._days.source(query.period, query.units, query.given, moved=query.moved))
        for unit in query.units:
            table = f"time_{unit}"
            if unit not in self._units:
                hours = self._days.hours() if self._days else slots_of(self._connection, "rows", {})
                self._units[unit] = make_buckets(self._connection, table, unit, self._zone, hours)
            if self._units[unit]:
                query.conditions.append(f"ms >= {table}.begins AND ms < {table}.ends")
        return query.source(rows)

    def names(self, by: Sequence[str]) -> list[str]:
        """The names of groupings in their one form."""
        return [key_name(name, self._aliases) for name in by]

    def columns(self, query: Query, names: Sequence[str], asked: Asked) -> str:
        """Columns `name0` and so on, with a comma behind each; missing values may be NULL or empty. The first ones are
        those that are kept, if any are."""
        columns = [
            f"kept{place}.code" if place < len(asked.kept) else query.raw(name) for place, name in enumerate(names)
        ]
        return "".join(f"{column} AS name{place}, " for place, column in enumerate(columns))

    def is_over_days(self, names: Sequence[str], asked: Asked) -> bool:
        """Whether sums of days can tell. Of a corrected call they have one source of costs, before or after that."""
        every = self._all_names(names, asked)
        is_of_both = "cost_source" in every and self.is_about_origin(names, asked)
        return self._days is not None and _SUMMED.issuperset(every) and not is_of_both

    def is_about_origin(self, names: Sequence[str], asked: Asked) -> bool:
        """Whether the origin of costs matters, and corrections change it."""
        return "origin" in self._all_names(names, asked) and self.has_corrections()

    def has_corrections(self) -> bool:
        """Whether there are calls with corrections; they are in `corrected`, and short in the table `fixed`."""
        if self._corrections is None:
            self._view("correcting", self._correcting)
            self._view("targets", self._corrected)
            known = self.query(Asked(EVER, ()))
            self.run(
                f"""CREATE OR REPLACE TABLE fixes AS SELECT target, corrects, sum(cost) AS change,
                    sum(cost) FILTER (NOT sized) AS bare, bool_or(sized) AS sizes,
                    arg_max(cost_source, (ms, coalesce(id, ident::VARCHAR))) AS origin
                    {self.source(known, "correcting")} GROUP BY target, corrects""",
                known.given,
            )
            # A row is there twice if its corrections came one by one; of wide rows, to look first is much cheaper.
            # Without such rows no copy is made at all: a question reads a few columns of them.
            twice = self.all("SELECT 1 FROM targets GROUP BY source, line HAVING count(*) > 1 LIMIT 1", {})
            self.run(
                f"""CREATE OR REPLACE {"TABLE" if twice else "VIEW"} corrected AS
                    SELECT {"DISTINCT ON (rows.source, rows.line)" if twice else ""}
                        rows.* EXCLUDE ({_OF_A_LINE}), fixes.change, fixes.bare, fixes.origin, fixes.sizes
                    FROM targets AS rows JOIN fixes ON rows.ident = fixes.target
                    AND rows.id IS NOT DISTINCT FROM fixes.corrects""",
                {},
            )
            self.run("CREATE OR REPLACE TABLE fixed AS SELECT source, line, change, origin FROM corrected", {})
            self._corrections = bool(self.all("SELECT count(*) FROM fixed", {})[0][0])
        return self._corrections

    def all(self, sql: str, given: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """The rows of an answer."""
        return self.run(sql, given).fetchall()

    def run(
        self, sql: str, given: Mapping[str, object], connection: DuckDBPyConnection | None = None
    ) -> DuckDBPyConnection:
        """Run SQL with its parameters."""
        return (connection or self._connection).execute(sql, dict(given))

    def cursor(self) -> DuckDBPyConnection:
        """A connection for an answer that is read while other questions are asked."""
        return self._prepared(self._connection.cursor())

    def _all_names(self, names: Sequence[str], asked: Asked) -> list[str]:
        rest = asked.rest.names if asked.rest else ()
        return [*names, *asked.kept, *patterns_of(asked.where, self._aliases), *rest]

    def _find_dropped(self, twins: Sequence[str]) -> int:
        """Drop all but the first line of each id."""
        if not twins:
            self.run("CREATE OR REPLACE TABLE dropped (source INTEGER, line BIGINT)", {})
            return 0
        self.run(
            """CREATE OR REPLACE TABLE dropped AS SELECT source, line FROM (
                    SELECT DISTINCT ident, source, line, list_position($order::INTEGER[], source) AS place
                    FROM read_parquet($twins, hive_partitioning = false)
                ) WHERE place IS NOT NULL QUALIFY row_number() OVER (PARTITION BY ident ORDER BY place, line) > 1""",
            {"order": self._sources, "twins": list(twins)},
        )
        return int(self.all("SELECT count(*) FROM dropped", {})[0][0])

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
            if self.dropped:
                sql += " ANTI JOIN dropped ON every.source = dropped.source AND every.line = dropped.line"
            if name != "rows":
                sql += " WHERE list_contains(getvariable('sources'), every.source)"
        self.run(f"CREATE OR REPLACE VIEW {name} AS {sql}", {})
