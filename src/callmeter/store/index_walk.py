"""All groups of a tree in the order in which it is read, of which there may be millions: DuckDB holds and sorts them,
and whoever asks gets one after the other.

For each level there are tables: `sums1` of the figures of the first one's groups, `latency1` and `costs1` of their
percentiles, `places1` of where they stand; and of all that, in that order, `level1`, which is read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from callmeter.reports.usage import Figures, Walk
from callmeter.store.index_figures import Summing, grouped, printed
from callmeter.store.index_query import COST, FIGURES, LATENCY, SETTLED, SUMS, WHOLE_COST
from callmeter.store.index_ranks import MANY_GROUPS, rank_questions
from callmeter.store.index_relation import Asked, Relation
from callmeter.store.index_top import ORDERS

if TYPE_CHECKING:
    from callmeter.store.index_figures import Path

_AT_ONCE = 5_000
_KEYS = {"tokens": "tokens_in + tokens_out"}
# By which a percentile is the slowest.
_SLOW = 95
# What orders speak of.
_DECIDING = frozenset(("nano", "calls", "tokens_in", "tokens_out", "errors"))


class Walked:
    """The groups of a tree by `names`; see `Usage.walk`."""

    def __init__(
        self,
        relation: Relation,
        summing: Summing,
        names: Sequence[str],
        asked: Asked,
        order: str,
        latency: Sequence[int],
        costs: Sequence[int],
        only: Collection[str],
    ) -> None:
        self._relation = relation
        self._summing = summing
        self._names = names
        self._asked = asked
        self._percentiles = {"latency": latency, "costs": costs}
        self._ranked = [place for place, percentiles in self._percentiles.items() if percentiles]
        chosen = _DECIDING.union(only)
        self._figures = [name for name in FIGURES if name in chosen and name not in ("first", "last")]
        self.total = self._total()
        self._add_up()
        self.count = sum(
            self._relation.all(f"SELECT count(*) FROM sums{depth}", {})[0][0] for depth in range(1, len(names) + 1)
        )
        for depth in range(1, len(names) + 1):
            for place in self._ranked:
                self._rank(depth, place, self._percentiles[place])
            self._sort(depth, ORDERS[order])

    def named(self, depth: int) -> bool:
        """See `Walk.named`."""
        sql = f"SELECT coalesce(bool_or(name{depth} <> '(none)'), false) FROM level{depth + 1}"
        return bool(self._relation.all(sql, {})[0][0])

    def costs(self, depth: int) -> Iterator[int]:
        """See `Walk.costs`."""
        return (nano for (nano,) in self._read(f"SELECT nano FROM level{depth + 1}"))

    def groups(self, depth: int) -> Iterator[tuple[str, Figures, int]]:
        """See `Walk.groups`."""
        columns = [f"name{depth}", "below", *self._figures, *self._ranked]
        end = 2 + len(self._figures)
        for row in self._read(f"SELECT {', '.join(columns)} FROM level{depth + 1}"):
            figures = Figures(**dict(zip(self._figures, row[2:end], strict=True)))
            for place, ranks in zip(self._ranked, row[end:], strict=True):
                if ranks:
                    setattr(figures, place, dict(zip(self._percentiles[place], ranks, strict=True)))
            yield row[0], figures, row[1]

    def _read(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """The rows of an answer, some at a time."""
        found = self._relation.run(sql, {}, self._relation.cursor())
        while rows := found.fetchmany(_AT_ONCE):
            yield from rows

    def _total(self) -> Figures:
        found = self._summing.sums((), self._asked)
        self._summing.add_latencies(found, (), [0], self._percentiles["latency"], self._asked)
        self._summing.add_costs(found, (), self._percentiles["costs"], self._asked)
        return found.get((), Figures())

    def _add_up(self) -> None:
        """Make the tables of figures: of the innermost groups from the rows, of those above from these."""
        depth = len(self._names)
        query = self._relation.query(self._asked)
        columns = self._relation.columns(query, self._names, self._asked)
        sums = f"SELECT {columns} {SUMS} {self._relation.source(query)} {grouped(self._names, 'kind')}"
        figures = ", ".join(f"{FIGURES[name]} AS {name}" for name in self._figures)
        # Groups whose calls are all of others have no lines.
        sql = f"""SELECT {printed(depth)} {figures}, 0 AS below FROM ({sums}) AS sums
            GROUP BY ALL HAVING sum(lines) > 0"""
        settled = [name for name in SETTLED if name in self._figures]
        if settled and self._relation.has_corrections():
            more = ", ".join(f"{SETTLED[name]} AS {name}" for name in settled)
            more = f"SELECT {columns} {more} {self._relation.source(query, 'corrected')} {grouped(self._names)}"
            more = f"SELECT {printed(depth)} {_summed(settled)} FROM ({more}) GROUP BY ALL"
            added = ", ".join(f"found.{name} + coalesce(settled.{name}, 0) AS {name}" for name in settled)
            sql = f"""SELECT found.* REPLACE ({added}) FROM ({sql}) AS found
                LEFT JOIN ({more}) AS settled USING ({_listed(depth)})"""
        self._relation.run(f"CREATE OR REPLACE TABLE sums{depth} AS {sql}", query.given)
        for above in range(depth - 1, 0, -1):
            self._relation.run(
                f"""CREATE OR REPLACE TABLE sums{above} AS SELECT {_listed(above)}, {_summed(self._figures)},
                    count(*) AS below FROM sums{above + 1} GROUP BY {_listed(above)}""",
                {},
            )

    def _rank(self, depth: int, place: str, percentiles: Sequence[int]) -> None:
        """Make the table of percentiles of a level's groups."""
        names = self._names[:depth]
        columns = ", ".join(f"name{number} VARCHAR" for number in range(depth))
        self._relation.run(f"CREATE OR REPLACE TABLE {place}{depth} ({columns}, ranks BIGINT[])", {})
        ((groups, calls),) = self._relation.all(f"SELECT count(*), coalesce(sum(calls), 0) FROM sums{depth}", {})
        if groups <= MANY_GROUPS:
            self._insert(depth, place, self._few(depth, place, percentiles))
            return
        values = LATENCY
        if place == "costs":
            values = WHOLE_COST if self._relation.has_corrections() else COST
        for sql, given in rank_questions(self._relation, int(calls), names, percentiles, self._asked, values):
            self._relation.run(f"INSERT INTO {place}{depth} {sql}", given)

    def _few(self, depth: int, place: str, percentiles: Sequence[int]) -> Mapping[Path, Figures]:
        """The groups of a level with these percentiles alone."""
        found = {
            tuple(path): Figures(calls=int(calls))
            for *path, calls in self._relation.all(f"SELECT {_listed(depth)}, calls FROM sums{depth}", {})
        }
        names = self._names[:depth]
        if place == "latency":
            self._summing.add_latencies(found, names, [depth], percentiles, self._asked)
        else:
            self._summing.add_costs(found, names, percentiles, self._asked)
        return found

    def _insert(self, depth: int, place: str, found: Mapping[Path, Figures]) -> None:
        percentiles = self._percentiles[place]
        rows = [(*path, getattr(each, place)) for path, each in found.items() if getattr(each, place)]
        given: dict[str, object] = {f"name{number}": [row[number] for row in rows] for number in range(depth)}
        # One list after the other: lists of lists are slow to hand over.
        given["ranks"] = list(chain.from_iterable([row[-1][each] for each in percentiles] for row in rows))
        width = len(percentiles)
        listed = ", ".join(f"unnest(${name}::VARCHAR[]) AS {name}" for name in given if name != "ranks")
        sql = f"SELECT {listed}, unnest(range({len(rows)})) AS number"
        ranks = f"list_slice($ranks::BIGINT[], number * {width} + 1, (number + 1) * {width})"
        self._relation.run(f"INSERT INTO {place}{depth} SELECT * EXCLUDE (number), {ranks} FROM ({sql})", given)

    def _sort(self, depth: int, order: Sequence[str]) -> None:
        """Make the table of a level in its order, in which the groups of one group stand together; what it was made of
        goes, for the memory."""
        names = _listed(depth)
        keys = ["above.place"] if depth > 1 else []
        joins = f" JOIN places{depth - 1} AS above USING ({_listed(depth - 1)})" if depth > 1 else ""
        if "latency" in order:
            slow = f"ranks[{list(self._percentiles['latency']).index(_SLOW) + 1}]"
            joins += f" LEFT JOIN latency{depth} USING ({names})"
            keys.append(f"coalesce({slow}, 0) DESC")
        else:
            keys += [f"{_KEYS.get(key, key)} DESC" for key in order]
        keys.append(f"name{depth - 1}")
        self._relation.run(
            f"""CREATE OR REPLACE TABLE places{depth} AS SELECT {names},
                row_number() OVER (ORDER BY {", ".join(keys)}) AS place FROM sums{depth}{joins}""",
            {},
        )
        columns = [
            f"name{depth - 1}",
            "below",
            *self._figures,
            *(f"{each}{depth}.ranks AS {each}" for each in self._ranked),
        ]
        joins = "".join(f" LEFT JOIN {each}{depth} USING ({names})" for each in self._ranked)
        self._relation.run(
            f"""CREATE OR REPLACE TABLE level{depth} AS SELECT {", ".join(columns)}
                FROM sums{depth} JOIN places{depth} USING ({names}){joins} ORDER BY place""",
            {},
        )
        for table in (f"sums{depth}", f"places{depth - 1}", *(f"{each}{depth}" for each in self._ranked)):
            self._relation.run(f"DROP TABLE IF EXISTS {table}", {})


class CarefulWalk:
    """A walk, each of whose answers goes through `careful` while it is read."""

    def __init__(self, walk: Walk, careful: Callable[[Iterable[Any]], Iterator[Any]]) -> None:
        self._walk = walk
        self._careful = careful
        self.total = walk.total
        self.count = walk.count

    def named(self, depth: int) -> bool:
        """See `Walk.named`."""
        return any(self._careful(self._walk.named(depth) for _ in range(1)))

    def costs(self, depth: int) -> Iterator[int]:
        """See `Walk.costs`."""
        return self._careful(self._walk.costs(depth))

    def groups(self, depth: int) -> Iterator[tuple[str, Figures, int]]:
        """See `Walk.groups`."""
        return self._careful(self._walk.groups(depth))


def _listed(depth: int) -> str:
    return ", ".join(f"name{number}" for number in range(depth))


def _summed(names: Sequence[str]) -> str:
    return ", ".join(f"sum({name}) AS {name}" for name in names)
