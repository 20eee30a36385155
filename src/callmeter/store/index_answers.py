"""What reports ask of the usage index."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any

from callmeter.reports.usage import Figures, Group, Reading, Spent, Top, summed
from callmeter.store.index_build import LogFile
from callmeter.store.index_columns import instant_at
from callmeter.store.index_entries import places, places_of
from callmeter.store.index_estimates import unsettled
from callmeter.store.index_figures import Summing, figures, grouped, named, printed, settle
from callmeter.store.index_lines import LineReader
from callmeter.store.index_query import (
    FIGURES,
    NO_TIMES,
    SETTLED,
    SPENT,
    SPENT_IN_ALL,
    SPENT_OF_SUMS,
    SUMS,
    TIMES_IN_ALL,
    Query,
)
from callmeter.store.index_relation import Asked, Relation, Rest
from callmeter.store.index_savings import Savings
from callmeter.store.index_sums import Summed
from callmeter.store.index_top import Chosen, keep
from callmeter.store.index_walk import Walked
from callmeter.words.period import Period
from callmeter.words.record import UsageRecord
from callmeter.words.tags import BUILT_IN

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Place = tuple[int, int, int, int]  # source, line, start, size
_AT_ONCE = 10_000
# Tags of which a log has thousands of values.
_MANY_VALUES = frozenset(("session", "work_item", "customer", "user"))


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
        relation = Relation(connection, paths, list(files), zone, as_of, aliases, summed)
        self._relation = relation
        self._summing = Summing(relation)
        self._lines = LineReader(files)
        # What the table `dear` has: the values of a name, in which lines, that came to how much at least.
        self._dear: tuple[tuple[object, ...], int] | None = None
        first = None if relation.first is None else instant_at(relation.first)
        self.reading = replace(reading, duplicates=relation.dropped, first=first)

    def groups(
        self,
        by: Sequence[str],
        period: Period,
        where: Sequence[str],
        latency: Sequence[int],
        costs: Sequence[int],
        only: Collection[str],
    ) -> list[Group]:
        """See `Usage.groups`."""
        names = self._relation.names(by)
        asked = Asked(period, where)
        found = self._summing.sums(names, asked, only)
        self._summing.add_latencies(found, names, [len(names)], latency, asked)
        self._summing.add_costs(found, names, costs, asked)
        return sorted(found.items())

    def groupings(
        self, bys: Sequence[Sequence[str]], only: Collection[str], period: Period, where: Sequence[str]
    ) -> list[list[Group]]:
        """See `Usage.groupings`."""
        found = self._summing.several([self._relation.names(by) for by in bys], Asked(period, where), only)
        return [sorted(groups.items()) for groups in found]

    def levels(
        self, by: Sequence[str], period: Period, where: Sequence[str], latency: Sequence[int], costs: Sequence[int]
    ) -> dict[tuple[str, ...], Figures]:
        """See `Usage.levels`."""
        return self._levels(self._relation.names(by), Asked(period, where), latency, costs)

    def top(
        self,
        by: Sequence[str],
        most: int,
        order: str,
        period: Period,
        where: Sequence[str],
        latency: Sequence[int],
        costs: Sequence[int],
    ) -> Top:
        """See `Usage.top`."""
        names = self._relation.names(by)
        asked = Asked(period, where)
        chosen = Chosen(self._relation, names, asked, most, order)
        return chosen.top(self._levels(names, asked._replace(kept=names), latency, costs))

    def courses(
        self, by: Sequence[str], kept: Collection[tuple[str, ...]], unit: str, period: Period, where: Sequence[str]
    ) -> dict[tuple[str, ...], dict[str, int]]:
        """See `Usage.courses`."""
        names = self._relation.names(by)
        paths = {str(number): path for number, path in enumerate(kept) if path}
        for depth in range(len(names)):
            keep(self._relation, depth, {code: path for code, path in paths.items() if len(path) == depth + 1})
        found: dict[tuple[str, ...], dict[str, int]] = {}
        sums = self._summing.sums([*names, unit], Asked(period, where, kept=names), ("nano",))
        for (*codes, label), each in sums.items():
            for path in [(), *(paths[code] for code in codes if code in paths)]:
                course = found.setdefault(path, {})
                course[label] = course.get(label, 0) + each.nano
        return found

    def walk(
        self,
        by: Sequence[str],
        order: str,
        period: Period,
        where: Sequence[str],
        latency: Sequence[int],
        costs: Sequence[int],
        only: Collection[str],
    ) -> Walked:
        """See `Usage.walk`."""
        asked = Asked(period, where)
        return Walked(self._relation, self._summing, self._relation.names(by), asked, order, latency, costs, only)

    def _levels(
        self, names: Sequence[str], asked: Asked, latency: Sequence[int], costs: Sequence[int]
    ) -> dict[tuple[str, ...], Figures]:
        found = dict(self._summing.sums(names, asked))
        for depth in reversed(range(len(names))):
            below: dict[tuple[str, ...], list[Figures]] = {}
            for path, each in found.items():
                if len(path) == depth + 1:
                    below.setdefault(path[:depth], []).append(each)
            found.update((path, summed(parts)) for path, parts in below.items())
        found.setdefault((), Figures())
        depths = range(len(names) + 1)
        self._summing.add_latencies(found, names, depths, latency, asked)
        for depth in depths:
            self._summing.add_costs(found, names[:depth], costs, asked)
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
        asked = Asked(period, where, Rest(self._relation.names(by[: len(outer) + 1]), outer, kept))
        found = self._summing.sums((), asked)
        self._summing.add_latencies(found, (), [0], latency, asked)
        self._summing.add_costs(found, (), costs, asked)
        return found.get((), Figures())

    def taggings(
        self, compared: Collection[str], period: Period, where: Sequence[str]
    ) -> list[tuple[tuple[tuple[str, str], ...], Figures]]:
        """See `Usage.taggings`."""
        query = self._relation.query(Asked(period, where))
        query.conditions.append("rows.status <> 'refused'")
        columns = query.tags(compared)
        names = [f"name{place}" for place in range(len(columns))]
        listed = ", ".join(f"{column} AS {name}" for column, name in zip(columns, names, strict=True))
        sql = f"SELECT {listed}, {SUMS} {self._relation.source(query)} GROUP BY {', '.join(names)}, kind"
        sql = f"SELECT {', '.join(names)}, {', '.join(FIGURES.values())} FROM ({sql}) GROUP BY {', '.join(names)}"
        found: dict[tuple[tuple[str, str], ...], Figures] = {}
        for row in self._relation.all(sql, query.given):
            found.setdefault(_tags(row), Figures()).merge(figures(row[len(names) :]))
        if found and self._relation.has_corrections():
            settled = ", ".join(SETTLED.values())
            sql = f"SELECT {listed}, {settled} {self._relation.source(query, 'corrected')} GROUP BY {', '.join(names)}"
            for row in self._relation.all(sql, query.given):
                settle(found[_tags(row)], list(SETTLED), row[len(names) :])
        return sorted(found.items())

    def spent(
        self, by: Sequence[str], period: Period, where: Sequence[str], least: int | None, *, times: bool
    ) -> list[Spent]:
        """See `Usage.spent`."""
        names = self._relation.names(by)
        asked = Asked(period, where)
        having = "count(*) > 0" if least is None else f"coalesce(sum(nano), 0) >= {int(least)}"
        over_days = self._relation.is_over_days(names, asked) and not self._relation.is_about_origin(names, asked)
        query = self._relation.query(asked, over_days=over_days)
        if least is not None and least > 0 and not over_days:
            self._leave_out_cheap(query, names, asked, least)
        columns = self._relation.columns(query, names, asked)
        sums = SPENT_OF_SUMS if over_days else SPENT
        depth = len(names)
        sql = f"SELECT {columns} {sums} {self._relation.source(query)} {grouped(names)}"
        in_all = f"{SPENT_IN_ALL}, {TIMES_IN_ALL if times else NO_TIMES}"
        sql = f"SELECT {printed(depth)} {in_all} FROM ({sql}) GROUP BY ALL HAVING {having}"
        rows = self._relation.all(sql, query.given)
        settled: dict[tuple[str, ...], int] = {}
        if rows and self._relation.has_corrections():
            query = self._relation.query(asked)
            columns = self._relation.columns(query, names, asked)
            sql = f"SELECT {columns} {SETTLED['unknown']} {self._relation.source(query, 'corrected')} {grouped(names)}"
            for *values, unknown in self._relation.all(sql, query.given):
                if unknown:
                    path = named(values)
                    settled[path] = settled.get(path, 0) + unknown
        if not settled:
            return [Spent(row[:depth], *row[depth:]) for row in rows]
        return [
            Spent(row[:depth], row[depth], row[depth + 1], row[depth + 2] + settled.get(row[:depth], 0), *row[-2:])
            for row in rows
        ]

    def _leave_out_cheap(self, query: Query, names: Sequence[str], asked: Asked, least: int) -> None:
        """Leave out the values of a name, if there is one that has many, of which no group can come to `least`: adding
        up costs by one name takes a fifth of the time of adding up everything by all of them."""
        name = next((name for name in names if name in _MANY_VALUES), None)
        if name is None:
            return
        column = f"rows.tag_{name}"
        place = name, asked.period.start, asked.period.end, tuple(asked.where)
        if self._dear is None or self._dear[0] != place or least < self._dear[1]:
            # Whoever asks for dear sessions goes on to ask for days of half as much.
            self._dear = place, least // 2
            sql = f"SELECT {column} AS name, sum(greatest(cost, 0)) AS most {self._relation.source(query)}"
            # A credit must not hide what another day came to; and missing and empty values are one group.
            sql += f" GROUP BY {column} HAVING most >= {int(least // 2)} OR coalesce({column}, '') = ''"
            self._relation.run(f"CREATE OR REPLACE TABLE dear AS {sql}", query.given)
        query.joins.append(
            f"""JOIN dear ON dear.name IS NOT DISTINCT FROM {column}
                AND (dear.most >= {int(least)} OR coalesce(dear.name, '') = '')"""
        )

    def calls(self, period: Period, where: Sequence[str], last: int) -> Iterator[UsageRecord]:
        """See `Usage.calls`."""
        return (self._lines.record(*place) for place in self._places(self._relation.query(Asked(period, where)), last))

    def unsettled(self, provider: str, prefix: str, most: int, period: Period) -> list[UsageRecord]:
        """See `UsageIndex.unsettled`."""
        return [self._lines.record(*place) for place in unsettled(self._relation, period, provider, prefix, most)]

    def entries(self, period: Period, where: Sequence[str]) -> Iterator[tuple[UsageRecord, bytes]]:
        """See `UsageIndex.entries`."""
        return (self._lines.entry(*place) for place in places(self._relation, period, where))

    def entries_of(self, ids: Collection[str], period: Period) -> Iterator[tuple[UsageRecord, bytes]]:
        """See `UsageIndex.entries_of`."""
        return (self._lines.entry(*place) for place in places_of(self._relation, period, ids))

    def savings(self, period: Period) -> Savings:
        """See `Usage.savings` and `Usage.answer_sizes`."""
        return Savings(self._relation, Asked(period, ()))

    def _places(self, query: Query, last: int) -> Iterator[Place]:
        """Where the lines stand, in order of time; the last so many, or all."""
        if last:
            order = "rows.ms DESC, coalesce(rows.id, rows.ident::VARCHAR) DESC"
            sql = (
                f"SELECT rows.source, rows.line, rows.start, rows.size {self._relation.source(query)} ORDER BY {order}"
            )
            yield from reversed(self._relation.all(f"{sql} LIMIT {int(last)}", query.given))
            return
        found = self._relation.run(
            f"""SELECT rows.source, rows.line, rows.start, rows.size {self._relation.source(query)}
                ORDER BY rows.ms, coalesce(rows.id, rows.ident::VARCHAR)""",
            query.given,
            self._relation.cursor(),  # other questions may be asked before it is read to its end
        )
        while batch := found.fetchmany(_AT_ONCE):
            yield from batch


def _tags(row: Sequence[Any]) -> tuple[tuple[str, str], ...]:
    """All tags, from the columns of the built-in ones and the map of the others."""
    tags = {name: value for name, value in zip(BUILT_IN, row, strict=False) if value is not None}
    return tuple(sorted({**tags, **(row[len(BUILT_IN)] or {})}.items()))
