"""The first groups of each level of a tree, of which there may be a million: SQL chooses, and only those are added up.

Each group that is kept gets a code, in a table for its level; what has none is left of its level, as one group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING

from callmeter.reports.grouping import NONE
from callmeter.reports.usage import Figures, Top
from callmeter.store.index_query import CALLS, CALLS_OF_SUMS, ERRORS, ERRORS_OF_SUMS, LATENCY, Query, quantiles
from callmeter.store.index_ranks import in_parts
from callmeter.store.index_relation import Asked, Relation

if TYPE_CHECKING:
    from callmeter.store.index_figures import Path

# What decides about the order, from the first to the last: over rows, over sums of days, and which way.
_NANO, _TOKENS = "coalesce(sum(cost), 0)", "sum(tokens_in + tokens_out)"
_KEYS = {
    "nano": (_NANO, _NANO),
    "calls": (CALLS, CALLS_OF_SUMS),
    "tokens": (_TOKENS, _TOKENS),
    "errors": (ERRORS, ERRORS_OF_SUMS),
}
# By what groups are ordered.
ORDERS = {
    "cost": ("nano", "calls"),
    "calls": ("calls", "nano"),
    "tokens": ("tokens",),
    "errors": ("errors", "calls"),
    "latency": ("latency",),
    "name": (),
}
# By which a percentile is the slowest, among those that a breakdown always shows.
_SLOW = (95,)


class Chosen:
    """The `most` first groups of each level, in an order; see `Usage.top`."""

    def __init__(self, relation: Relation, names: Sequence[str], asked: Asked, most: int, order: str) -> None:
        self._relation = relation
        self._paths: dict[str, Path] = {}
        self._counts: dict[Path, int] = {}
        for depth in range(len(names)):
            self._keep(depth, self._rank(depth, names, asked, most, ORDERS[order]))

    def top(self, found: Mapping[Path, Figures]) -> Top:
        """From the figures by codes."""
        levels: dict[Path, Figures] = {(): found[()]}
        others: dict[Path, tuple[int, Figures]] = {}
        for codes, figures in found.items():
            *outer, last = codes or (NONE,)
            if NONE in outer or not codes:
                continue
            path = self._paths[outer[-1]] if outer else ()
            if last == NONE:
                others[path] = self._counts[path], figures
            else:
                levels[self._paths[last]] = figures
        return Top(levels, others)

    def _rank(self, depth: int, names: Sequence[str], asked: Asked, most: int, order: Sequence[str]) -> list[Path]:
        """What to keep of each group that is kept at the level above."""
        asked = asked._replace(kept=names[:depth])
        sums = self._latencies if order == ORDERS["latency"] else self._sums
        groups, given = sums(depth, names, asked, order)
        ranked = ", ".join([*(f"{key} DESC" for key in order), "name"])
        sql = f"""
            SELECT above, name, count(*) OVER (PARTITION BY above) FROM ({groups})
            QUALIFY row_number() OVER (PARTITION BY above ORDER BY {ranked}) <= {most}
        """
        found = []
        for code, name, count in self._relation.all(sql, given):
            path = self._paths[code] if depth else ()
            self._counts[path] = count - most
            found.append((*path, name))
        return found

    def _sums(
        self, depth: int, names: Sequence[str], asked: Asked, order: Sequence[str]
    ) -> tuple[str, Mapping[str, object]]:
        """SQL for the groups with what decides about their order, and its parameters."""
        over_days = self._relation.is_over_days(names[: depth + 1], asked)
        over_days = over_days and not self._relation.is_about_origin(names[: depth + 1], asked)
        query = self._relation.query(asked, over_days=over_days)
        above = _above(query, depth)
        keys = "".join(f", {_KEYS[key][over_days]} AS {key}" for key in order)
        sums = "".join(f", sum({key}) AS {key}" for key in order)
        inner = f"SELECT {above} AS above, {query.raw(names[depth])} AS name{keys} {self._relation.source(query)}"
        sql = f"""
            SELECT above, coalesce(nullif(name, ''), '{NONE}') AS name{sums} FROM ({inner} GROUP BY ALL) GROUP BY ALL
        """
        return sql, query.given

    def _latencies(
        self, depth: int, names: Sequence[str], asked: Asked, order: Sequence[str]
    ) -> tuple[str, Mapping[str, object]]:
        """The same for the order by latency: a table of all groups, made part by part."""
        self._relation.run("CREATE OR REPLACE TABLE slow (above VARCHAR, name VARCHAR, latency BIGINT)", {})
        query = self._relation.query(asked)
        ((lines,),) = self._relation.all(f"SELECT count(*) {self._relation.source(query)}", query.given)
        for part in in_parts(lines):
            query = self._relation.query(asked)
            above, name = _above(query, depth), query.name(names[depth])
            part(query, names[depth])
            self._relation.run(
                f"""INSERT INTO slow SELECT {above} AS above, {name} AS name,
                    coalesce({quantiles(*LATENCY, _SLOW)}[1], 0) {self._relation.source(query)} GROUP BY ALL""",
                query.given,
            )
        return "FROM slow", {}

    def _keep(self, depth: int, paths: Sequence[Path]) -> None:
        """Give each group of a level that is kept its code."""
        first = len(self._paths)
        codes = {str(number): path for number, path in enumerate(paths, first)}
        self._paths.update(codes)
        keep(self._relation, depth, codes)


def keep(relation: Relation, depth: int, codes: Mapping[str, Path]) -> None:
    """Make the table of the groups of a level that have codes."""
    # A name that is missing is NULL or empty in rows, which `Relation` reads as empty.
    rows = [
        (*variant, code)
        for code, path in codes.items()
        for variant in product(*((name, "") if name == NONE else (name,) for name in path))
    ]
    columns = {f"value{place}": [row[place] for row in rows] for place in range(depth + 1)}
    columns["code"] = [row[-1] for row in rows]
    listed = ", ".join(f"unnest(${name}::VARCHAR[]) AS {name}" for name in columns)
    relation.run(f"CREATE OR REPLACE TABLE kept{depth} AS SELECT {listed}", columns)


def _above(query: Query, depth: int) -> str:
    """The code of the group above, of which only those that are kept are asked."""
    above = f"kept{depth - 1}.code" if depth else "''"
    query.conditions.append(f"{above} IS NOT NULL")
    return above
