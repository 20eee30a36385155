"""What groups of usage lines add up to, and their percentiles, from the relations of the usage index."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from callmeter.reports.grouping import NONE
from callmeter.reports.usage import SUMS as ALL_SUMS
from callmeter.reports.usage import Figures
from callmeter.store.index_columns import instant_at
from callmeter.store.index_paces import Paces
from callmeter.store.index_query import (
    ANSWERED,
    COST,
    FIGURES,
    LATENCY,
    SETTLED,
    SUMS,
    SUMS_OF_SUMS,
    TIMES,
    WHOLE_COST,
)
from callmeter.store.index_ranks import MANY_GROUPS, add_ranks
from callmeter.store.index_relation import Asked, Relation
from callmeter.words.instant import text_of

Path = tuple[str, ...]


class Summing:
    """Adds up the lines of a relation."""

    def __init__(self, relation: Relation) -> None:
        self._relation = relation

    def sums(self, names: Sequence[str], asked: Asked, only: Collection[str] = ALL_SUMS) -> dict[Path, Figures]:
        """The innermost groups, with `only` these figures."""
        return self.several([names], asked, only)[0]

    def several(
        self, groupings: Sequence[Sequence[str]], asked: Asked, only: Collection[str]
    ) -> list[dict[Path, Figures]]:
        """The innermost groups of each grouping. Those of which sums of days can tell are added up together: to plan
        the SQL and to read the sums takes most of the time of one."""
        of_days = [names for names in groupings if self._relation.is_over_days(names, asked)]
        # One relation has a corrected call either where it says itself that its cost comes from, or where that is.
        together = self._relation.is_over_days([*chain.from_iterable(of_days)], asked)
        asks = [of_days] if together else [[names] for names in of_days]
        sums = chain.from_iterable(self._sums_of_days(each, asked, only) for each in asks if each)
        every = [next(sums) if names in of_days else self._sums_of([names], asked, only)[0] for names in groupings]
        settled = [name for name in SETTLED if name in only]
        if any(every) and settled and self._relation.has_corrections():
            query = self._relation.query(asked)
            sets = Sets(groupings)
            columns = self._relation.columns(query, sets.names, asked)
            sql = f"SELECT {sets.which}, {columns} {', '.join(SETTLED[name] for name in settled)}"
            sql += f" {self._relation.source(query, 'corrected')} {sets.grouped()}"
            for row in self._relation.all(sql, query.given):
                for place, path in sets.paths(row):
                    if found := every[place].get(named(path)):
                        settle(found, settled, row[-len(settled) :])
        return every

    def add_latencies(
        self,
        found: Mapping[Path, Figures],
        names: Sequence[str],
        depths: Sequence[int],
        percentiles: Sequence[int],
        asked: Asked,
    ) -> None:
        """Give the groups of these depths, and those alone, their percentiles of latency."""
        if not percentiles:
            return
        if len(found) > MANY_GROUPS:
            for depth in depths:
                add_ranks(self._relation, found, names[:depth], percentiles, asked, LATENCY, "latency")
            return
        # First how many answers have which pace, then the durations of those paces in which a percentile lies: both
        # are small, and add up to every level, which takes a third of the time of sorting.
        wanted = Paces(percentiles, depths)
        query = self._relation.query(asked)
        columns = self._relation.columns(query, names, asked)
        query.conditions.append(ANSWERED)
        sql = f"SELECT {columns} pace, count(*) {self._relation.source(query)} {grouped(names, 'pace')}"
        for *path, pace, count in self._relation.all(sql, query.given):
            wanted.count(named(path), pace, count)
        query.conditions.append(f"list_contains({query.bind(wanted.paces())}::SMALLINT[], pace)")
        groups = grouped(names, "pace", "duration_ms")
        sql = f"SELECT {columns} pace, duration_ms, count(*) {self._relation.source(query)} {groups}"
        for *path, pace, duration, count in self._relation.all(sql, query.given):
            wanted.add(named(path), pace, duration, count)
        for group, ranks in wanted.ranks():
            found[group].latency = ranks

    def add_costs(
        self,
        found: Mapping[Path, Figures],
        names: Sequence[str],
        percentiles: Sequence[int],
        asked: Asked,
    ) -> None:
        """Give the groups by these names their percentiles of costs."""
        if percentiles:
            values = WHOLE_COST if self._relation.has_corrections() else COST
            add_ranks(self._relation, found, names, percentiles, asked, values, "costs")

    def _sums_of_days(
        self, groupings: Sequence[Sequence[str]], asked: Asked, only: Collection[str]
    ) -> list[dict[Path, Figures]]:
        """The groups of which sums of days can tell, but for the times of those by the origin of costs: which of their
        calls are corrected, and are of another group then, only rows can tell."""
        of_origin = [self._relation.is_about_origin(names, asked) for names in groupings]
        every = self._sums_of(groupings, asked, only, over_days=True, moved=any(of_origin))
        for names, found, needs_times in zip(groupings, every, of_origin, strict=True):
            if needs_times and "first" in only:
                query = self._relation.query(asked)
                columns = self._relation.columns(query, names, asked)
                sql = f"SELECT {columns} {TIMES} {self._relation.source(query)} {grouped(names)}"
                sql = f"SELECT {printed(len(names))} min(first), max(last) FROM ({sql}) GROUP BY ALL"
                for *path, first, last in self._relation.all(sql, query.given):
                    if group := found.get(tuple(path)):  # of no lines at all SQL makes one group, too
                        _set_times(group, first, last)
        return every

    def _sums_of(
        self,
        groupings: Sequence[Sequence[str]],
        asked: Asked,
        only: Collection[str],
        *,
        over_days: bool = False,
        moved: bool = False,
    ) -> list[dict[Path, Figures]]:
        sets = Sets(groupings)
        query = self._relation.query(asked, over_days=over_days)
        query.moved = moved
        columns = self._relation.columns(query, sets.names, asked)
        sums = SUMS_OF_SUMS if over_days else SUMS
        sql = f"SELECT {sets.which} AS which, {columns} {sums} {self._relation.source(query)} {sets.grouped('kind')}"
        chosen = [name for name in FIGURES if name in only]
        listed = ", ".join(FIGURES[name] for name in chosen)
        # Groups whose calls are all of others have no lines.
        sql = f"""SELECT which, {printed(len(sets.names))} {listed} FROM ({sql}) AS sums
            GROUP BY ALL HAVING sum(lines) > 0"""
        found: list[dict[Path, Figures]] = [{} for _ in groupings]
        for row in self._relation.all(sql, query.given):
            for place, path in sets.paths(row):
                found[place][path] = figures(row[1 + len(sets.names) :], chosen)
        return found


class Sets:
    """Several groupings in one question: a row is `which` of them, and has the `names` of all, of which only its own
    mean something."""

    def __init__(self, groupings: Sequence[Sequence[str]]) -> None:
        self.names = list(dict.fromkeys(chain.from_iterable(groupings)))
        self._columns = [f"name{place}" for place in range(len(self.names))]
        self._groupings = [[self.names.index(name) for name in names] for names in groupings]
        several = len(groupings) > 1 and self.names
        self.which = f"GROUPING({', '.join(self._columns)})" if several else "0"
        self._places: dict[int, list[int]] = {}
        for place, columns in enumerate(self._groupings):
            # SQL's way to say it: a bit for each name that is not of the grouping, the first name's is the highest.
            missing = set(range(len(self.names))).difference(columns)
            bits = sum(1 << (len(self.names) - 1 - column) for column in missing) if several else 0
            self._places.setdefault(bits, []).append(place)

    def grouped(self, *more: str) -> str:
        """GROUP BY each of the groupings, and more."""
        sets = {tuple(sorted(columns)) for columns in self._groupings}
        keys = (", ".join([*(self._columns[column] for column in columns), *more]) for columns in sorted(sets))
        return f"GROUP BY GROUPING SETS ({', '.join(f'({each})' for each in keys)})"

    def paths(self, row: Sequence[Any]) -> Iterator[tuple[int, Path]]:
        """Which groupings the row is of, and the names of its group in the order of each."""
        for place in self._places[row[0]]:
            yield place, tuple([row[1 + column] for column in self._groupings[place]])


def grouped(names: Sequence[str], *more: str) -> str:
    """GROUP BY these names' columns, and more."""
    keys = [*(f"name{place}" for place in range(len(names))), *more]
    return "GROUP BY " + ", ".join(keys) if keys else ""


def named(values: Sequence[str | None]) -> Path:
    """The names of groups as they are printed."""
    return tuple([value or NONE for value in values])


def settle(figures: Figures, names: Sequence[str], values: Sequence[int | None]) -> None:
    """Add what corrections make known of these figures."""
    for name, value in zip(names, values, strict=True):
        if value:
            setattr(figures, name, getattr(figures, name) + value)


def printed(depth: int) -> str:
    """Columns for so many names, as they are printed, with a comma behind each: missing and empty ones are one group.
    To make them of groups is much cheaper than to make them of all rows."""
    names = [f"name{place}" for place in range(depth)]
    return "".join(f"coalesce(nullif({name}, ''), '{NONE}') AS {name}, " for name in names)


def figures(values: Sequence[Any], names: Sequence[str] = tuple(FIGURES)) -> Figures:
    """The figures of these names, in the order of `FIGURES`."""
    timed = "first" in names
    sums = values[:-2] if timed else values
    # By their places takes half of the time.
    found = Figures(*sums) if len(names) == len(FIGURES) else Figures(**dict(zip(names, sums, strict=False)))
    if timed:
        _set_times(found, *values[-2:])
    return found


def _set_times(figures: Figures, first: int | None, last: int | None) -> None:
    figures.first, figures.last = (None if ms is None else text_of(instant_at(ms)) for ms in (first, last))
