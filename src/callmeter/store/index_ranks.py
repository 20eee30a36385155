"""Percentiles of groups by nearest rank, of values that are sorted where they lie: in SQL, and never all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from callmeter.reports.grouping import NONE
from callmeter.reports.usage import Figures
from callmeter.store.index_columns import PACES
from callmeter.store.index_query import WHOLE_COST, Query, quantiles
from callmeter.store.index_relation import Asked, Relation

if TYPE_CHECKING:
    from callmeter.store.index_figures import Path

# So many groups are too many for a table of paces in each.
MANY_GROUPS = 2_000
# So many values are sorted at once, for the memory.
_AT_ONCE = 2_000_000
# Grows with a value, by one for every three per cent.
_SIZE = f"(sign(value) * trunc({PACES} * log2(abs(value)::DOUBLE + 1)))::SMALLINT"


def add_ranks(
    relation: Relation,
    found: Mapping[Path, Figures],
    names: Sequence[str],
    percentiles: Sequence[int],
    asked: Asked,
    values: tuple[str, str],
    place: str,
) -> None:
    """Give the groups by these names their percentiles of `values`, a value and the condition for lines that have one,
    as their `place` (`latency` or `costs`)."""
    at = [each.calls for path, each in found.items() if len(path) == len(names)]
    if sum(at) > _AT_ONCE and (asked.kept or len(at) <= MANY_GROUPS):
        _add_by_size(relation, found, names, percentiles, asked, values, place)
        return
    for sql, given in rank_questions(relation, sum(at), names, percentiles, asked, values):
        for *path, ranks in relation.all(sql, given):
            if ranks:
                setattr(found[tuple(path)], place, dict(zip(percentiles, ranks, strict=True)))


def rank_questions(
    relation: Relation,
    lines: int,
    names: Sequence[str],
    percentiles: Sequence[int],
    asked: Asked,
    values: tuple[str, str],
) -> Iterator[tuple[str, Mapping[str, object]]]:
    """SQL for the groups by these names, which have so many lines, with the list of their percentiles of `values`, and
    its parameters; so many questions that the values of one are not too many at once."""
    for part in in_parts(lines if names and not asked.kept else 0):
        query = relation.query(asked)
        columns = _shown(query, names, asked)
        query.needs_fixed = query.needs_fixed or values is WHOLE_COST
        if names:
            part(query, names[-1])
        by = "GROUP BY ALL" if names else ""
        yield f"SELECT {columns} {quantiles(*values, percentiles)} {relation.source(query)} {by}", query.given


def in_parts(lines: int) -> list[Callable[[Query, str], None]]:
    """The parts in which so many lines are asked for percentiles: each makes a query by a name be about some of its
    groups, which are in one part as a whole."""
    parts = max(1, -(-lines // _AT_ONCE))
    return [partial(_take_part, part, parts) for part in range(parts)]


def _take_part(part: int, parts: int, query: Query, name: str) -> None:
    if parts > 1:
        query.conditions.append(f"hash({query.name(name)}) % {parts} = {part}")


def _add_by_size(
    relation: Relation,
    found: Mapping[Path, Figures],
    names: Sequence[str],
    percentiles: Sequence[int],
    asked: Asked,
    values: tuple[str, str],
    place: str,
) -> None:
    """The same for groups of millions of values, whose sorting would not fit into memory: first how many have which
    size, then those sizes alone in which a percentile lies."""
    value, condition = values
    query = relation.query(asked)
    columns = _shown(query, names, asked)
    query.needs_fixed = query.needs_fixed or values is WHOLE_COST
    query.conditions.append(condition)
    own = "".join(f"name{number}, " for number in range(len(names)))
    of_each = f"PARTITION BY {own.rstrip(', ')}" if own else ""
    rows = f"SELECT {columns} {value} AS value, {_SIZE} AS size {relation.source(query)}"
    sql = f"""
        WITH counted AS (SELECT {own} size, count(*) AS count FROM ({rows}) GROUP BY ALL),
        summed AS (
            SELECT *, sum(count) OVER ({of_each}) AS every, sum(count) OVER ({of_each} ORDER BY size) AS upto
            FROM counted
        ),
        wanted AS (
            SELECT {own} size, rank, greatest(1, (rank * every + 99) // 100) - upto + count AS nth
            FROM summed, (SELECT unnest({list(percentiles)}) AS rank) WHERE nth BETWEEN 1 AND count
        ),
        sorted AS (
            SELECT *, row_number() OVER (PARTITION BY {own} size ORDER BY value) AS nth
            FROM ({rows}) SEMI JOIN wanted USING ({own} size)
        )
        SELECT {own} rank, value FROM sorted JOIN wanted USING ({own} size, nth)
    """
    for *path, rank, ranked in relation.all(sql, query.given):
        getattr(found[tuple(path)], place)[rank] = ranked


def _shown(query: Query, names: Sequence[str], asked: Asked) -> str:
    """Columns `name0` and so on, with a comma behind each, by which groups are one as they are printed, as those of
    missing and empty names are: their percentiles could not be put together afterwards. A group with a code is."""
    shown = [f"coalesce(kept{place}.code, '{NONE}')" for place in range(len(names))] if asked.kept else []
    return "".join(f"{name} AS name{place}, " for place, name in enumerate(shown or map(query.name, names)))
