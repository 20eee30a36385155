"""Questions about names that have few values, and about days: from sums where those are there, else from rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import tzinfo
from itertools import chain
from typing import TYPE_CHECKING

from callmeter.store.index_columns import instant_at
from callmeter.store.index_query import SUMMED, first_ms, make_buckets, slots_between, slots_of
from callmeter.store.index_sums import BY, COUNTED, Summed, days, read
from callmeter.words.period import Period, bucket, bucket_label

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

UNITS = frozenset(("day", "week", "month"))
_ORIGIN = 'rows."cost_source"'
# A row in the shape of a sum.
_ALONE = f"{BY}, kind, 1 AS lines, {', '.join(SUMMED)}, ms AS first, ms AS last"


class Days:
    """Sums and rows as one relation; `connection` has the table `dropped`. `first` is when the first line is from, in
    milliseconds since 1970; None without lines."""

    def __init__(self, connection: DuckDBPyConnection, summed: Summed, zone: tzinfo) -> None:
        self._connection = connection
        self._zone = zone
        self._sums, self._old, self._fresh = summed
        self._labelled: set[str] = set()
        self._has_moved = False
        self._first, self._last = 0, 0
        self._days: set[int] = set()
        self._hours: list[int] = []  # of the fresh rows
        found: list[int | None] = []
        if self._sums:
            sql = f"SELECT day, min(first), max(last) FROM {read('$sums')} GROUP BY day"
            days = connection.execute(sql, {"sums": self._sums}).fetchall()
            self._first = min((first for _, first, _ in days), default=0)
            self._last = max((last for _, _, last in days), default=0)
            self._days.update(day for day, _, _ in days)
            found += [first for _, first, _ in days]
        if self._fresh:
            given = {"fresh": self._fresh}
            rows = f"{read('$fresh')} AS rows {COUNTED}"
            self._hours = slots_of(connection, rows, given)
            make_buckets(connection, "time_fresh", "day", zone, self._hours)
            found += connection.execute(f"SELECT min(ms) FROM {rows}", given).fetchall()[0]
        self.first = min((each for each in found if each is not None), default=None)

    def source(self, period: Period, units: Collection[str], given: dict[str, object], *, moved: bool = False) -> str:
        """The relation, cut to a period, with its parameters added to `given`. It has the columns of sums; for each of
        `units` there is a table `label_UNIT` of its days. With `moved`, corrected calls, which have to be in
        `corrected`, are where their corrections say that their costs come from; `first` and `last` are not."""
        for unit in units:
            self._label(unit)
        start = None if period.start is None else first_ms(period.start)
        end = None if period.end is None else first_ms(period.end)
        parts = [*self._from_sums(start, end, given), *self._from_fresh(start, end, given)]
        if moved:
            parts += self._from_moved(start, end, given)
        return f"({' UNION ALL BY NAME '.join(parts)})"

    def hours(self) -> set[int]:
        """All hours in which there can be rows."""
        return {*self._hours, *chain.from_iterable(slots_between(*self._day(day)) for day in self._days)}

    def _from_sums(self, start: int | None, end: int | None, given: dict[str, object]) -> Iterator[str]:
        """Whole days from their sums, and from rows what is left of the period before and after them."""
        if not self._sums:
            return
        low = None if start is None or start <= self._first else start
        high = None if end is None or end > self._last else end
        edges: list[tuple[int, int, int]] = []  # a day, and from when to when
        if low is not None and low != (day := self._day(low))[0]:
            edges.append((day[0], low, day[1]))
            low = day[1]
        if high is not None and high != (day := self._day(high))[0]:
            edges.append((day[0], day[0], high))
            high = day[0]
        if low is not None and high is not None and low > high:  # within one day
            edges = [(high, edges[0][1], edges[1][2])]
        given["sums"] = self._sums
        conditions = []
        for name, text, bound in (("low", "day >= $low", low), ("high", "day < $high", high)):
            if bound is not None:
                given[name] = bound
                conditions.append(text)
        yield f"SELECT * FROM {read('$sums')} {_where(conditions)}"
        for place, edge in enumerate(edges):
            names = [f"{name}{place}" for name in ("day", "begin", "stop")]
            given |= {"old": self._old, **dict(zip(names, edge, strict=True))}
            within = _where([f"ms >= ${names[1]}", f"ms < ${names[2]}"])
            yield f"SELECT ${names[0]} AS day, {_ALONE} FROM {read('$old')} AS rows {COUNTED} {within}"

    def _from_fresh(self, start: int | None, end: int | None, given: dict[str, object]) -> Iterator[str]:
        if not self._fresh:
            return
        given["fresh"] = self._fresh
        rows = f"{read('$fresh')} AS rows {days('time_fresh')} {COUNTED}"
        yield f"SELECT time_fresh.start AS day, {_ALONE} FROM {rows} {_within(start, end, given)}"

    def _from_moved(self, start: int | None, end: int | None, given: dict[str, object]) -> Iterator[str]:
        """What is taken away from where calls say that their costs come from, and put where their corrections say."""
        if not self._has_moved:
            self._has_moved = True
            make_buckets(self._connection, "time_moved", "day", self._zone, slots_of(self._connection, "corrected", {}))
        rows = f"corrected AS rows {days('time_moved')} {_within(start, end, given)}"
        for sign, names in ((-1, BY), (1, BY.replace(_ORIGIN, f"coalesce(rows.origin, {_ORIGIN}) AS cost_source"))):
            sums = ", ".join(f"{sign} * {name} AS {name}" for name in SUMMED)
            yield f"""SELECT time_moved.start AS day, {names}, kind, {sign} AS lines, {sums}, NULL::BIGINT AS first,
                NULL::BIGINT AS last FROM {rows}"""

    def _day(self, ms: int) -> tuple[int, int]:
        start, end = bucket(instant_at(ms), "day", self._zone)
        # The calendar's last day has no end to lie before.
        return first_ms(start), first_ms(end) + (end.year == 9999)

    def _label(self, unit: str) -> None:
        """Make the table that says how the unit is called in which each day lies."""
        if unit in self._labelled:
            return
        self._labelled.add(unit)
        found = set(self._days)
        if self._fresh:
            found.update(day for (day,) in self._connection.execute("SELECT DISTINCT start FROM time_fresh").fetchall())
        listed = sorted(found)
        labels = [bucket_label(bucket(instant_at(day), unit, self._zone)[0], unit, self._zone) for day in listed]
        self._connection.execute(
            f"CREATE OR REPLACE TABLE label_{unit} AS"
            " SELECT unnest($days::BIGINT[]) AS day, unnest($labels::VARCHAR[]) AS label",
            {"days": listed, "labels": labels},
        )


def _within(start: int | None, end: int | None, given: dict[str, object]) -> str:
    """A condition for milliseconds of a period, with its parameters added to `given`."""
    conditions = []
    for name, text, bound in (("start", "ms >= $start", start), ("end", "ms < $end", end)):
        if bound is not None:
            given[name] = bound
            conditions.append(text)
    return _where(conditions)


def _where(conditions: Collection[str]) -> str:
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""
