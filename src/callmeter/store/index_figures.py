"""What groups of usage lines add up to, and their percentiles, from the relations of the usage index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from callmeter.reports.grouping import NONE
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
    WHOLE_COST,
)
from callmeter.store.index_ranks import MANY_GROUPS, add_ranks
from callmeter.store.index_relation import Asked, Relation
from callmeter.words.instant import text_of

Path = tuple[str, ...]
_FIGURES = ", ".join(FIGURES.values())


class Summing:
    """Adds up the lines of a relation."""

    def __init__(self, relation: Relation) -> None:
        self._relation = relation

    def sums(self, names: Sequence[str], asked: Asked, *, times: bool = True) -> dict[Path, Figures]:
        """The innermost groups."""
        found = self._sums_of_days(names, asked, times=times) if self._relation.is_over_days(names, asked) else None
        if found is None:
            found = self._sums_of(names, asked, times=times)
        if found and self._relation.has_corrections():
            query = self._relation.query(asked)
            columns = self._relation.columns(query, names, asked)
            sql = f"SELECT {columns} {SETTLED} {self._relation.source(query, 'corrected')} {grouped(names)}"
            for row in self._relation.all(sql, query.given):
                path = named(row[: len(names)])
                if path in found:
                    settle(found[path], row)
        return found

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

    def _sums_of_days(self, names: Sequence[str], asked: Asked, *, times: bool) -> dict[Path, Figures] | None:
        """The groups, from sums of days; None if they cannot tell.

        Where the cost of a corrected call comes from is not in them: those calls, of which there are few, are taken
        away from where they stand and put where they belong.
        """
        found = self._sums_of(names, asked, times=times, over_days=True)
        if not self._relation.is_about_origin(names, asked):
            return found
        for path, figures in self._sums_of(names, asked, "corrected", times=times, own=True).items():
            moved, left = {figures.first, figures.last}, {found[path].first, found[path].last}
            if times and figures.first is not None and moved & left:
                return None  # nobody knows which call is the first or the last then
            _take_away(found[path], figures)
            if not found[path].lines:
                del found[path]
        for path, figures in self._sums_of(names, asked, "corrected", times=times).items():
            found.setdefault(path, Figures()).merge(figures)
        return found

    def _sums_of(
        self,
        names: Sequence[str],
        asked: Asked,
        rows: str = "rows",
        *,
        times: bool,
        over_days: bool = False,
        own: bool = False,
    ) -> dict[Path, Figures]:
        query = self._relation.query(asked, over_days=over_days, own=own or over_days)
        columns = self._relation.columns(query, names, asked)
        sums = SUMS_OF_SUMS if over_days else SUMS
        sql = f"SELECT {columns} {sums} {self._relation.source(query, rows)} {grouped(names, 'kind')}"
        found = self._relation.all(figures_of(sql, len(names)), query.given)
        return {row[: len(names)]: figures(row[len(names) :], times=times) for row in found}


def grouped(names: Sequence[str], *more: str) -> str:
    """GROUP BY these names' columns, and more."""
    keys = [*(f"name{place}" for place in range(len(names))), *more]
    return "GROUP BY " + ", ".join(keys) if keys else ""


def named(values: Sequence[str | None]) -> Path:
    """The names of groups as they are printed."""
    return tuple([value or NONE for value in values])


def settle(figures: Figures, row: Sequence[Any]) -> None:
    """What corrections make known, in the last columns of a row."""
    unknown, tokens, change, retried, sized, priced = (value or 0 for value in row[-6:])
    figures.unknown -= unknown
    figures.priced_tokens += tokens
    figures.retried_nano += change
    figures.retried_unknown -= retried
    figures.without_tokens -= sized
    figures.priced_nano += priced


def figures_of(sums: str, depth: int) -> str:
    """The SQL of `Figures` from that of `SUMS` behind `depth` names, by the names as they are printed."""
    return f"SELECT {printed(depth)} {_FIGURES} FROM ({sums}) AS sums GROUP BY ALL HAVING count(*) > 0"


def printed(depth: int) -> str:
    """Columns for so many names, as they are printed, with a comma behind each: missing and empty ones are one group.
    To make them of groups is much cheaper than to make them of all rows."""
    names = [f"name{place}" for place in range(depth)]
    return "".join(f"coalesce(nullif({name}, ''), '{NONE}') AS {name}, " for name in names)


def figures(row: Sequence[Any], *, times: bool = True) -> Figures:
    """The figures in the columns of `FIGURES`."""
    found = Figures(*row[:-2])
    if times and row[-1] is not None:
        found.first, found.last = (text_of(instant_at(ms)) for ms in row[-2:])
    return found


def _take_away(figures: Figures, part: Figures) -> None:
    """Take sums away again; `first` and `last` stay as they are."""
    for field in fields(Figures):
        if isinstance(value := getattr(part, field.name), int):
            setattr(figures, field.name, getattr(figures, field.name) - value)
