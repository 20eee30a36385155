"""SQL over the rows of the usage index: names of groups, conditions, sums. Whatever a user wrote is a parameter."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from callmeter.reports.grouping import FIELDS, NONE
from callmeter.store.index_columns import (
    ANSWER,
    CORRECTION,
    ERROR,
    PRICED,
    REFUSED,
    RETRIED,
    SENT,
    SIZED,
    instant_at,
    microseconds,
    milliseconds,
)
from callmeter.words.period import EVER, UNITS, Period, bucket, bucket_label
from callmeter.words.tags import BUILT_IN

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_HOUR = 3_600_000
# Added to milliseconds before they are divided: the year 1 is then hour 0, and division never meets a sign.
_YEAR_1 = 62_135_596_800_000
SLOT = f"((ms + {_YEAR_1}) // {_HOUR})"
_CALL = f"(kind & {CORRECTION | REFUSED}) = 0"
# Nothing else has a pace.
ANSWERED = "pace IS NOT NULL"
_SIZE = "tokens_in + tokens_out"
SUMMED = (
    "cost",
    "estimate",
    "tokens_in",
    "tokens_out",
    "tokens_cached",
    "tokens_cache_write",
    "tokens_reasoning",
    "duration_ms",
)
# Lines of one kind need no further conditions: to add them up first is several times as fast as a condition for each
# sum. Over rows, and over a relation of such sums.
_TOTALS = ", ".join(f"sum({name}) AS {name}" for name in SUMMED)
SUMS = f"kind, count(*) AS lines, {_TOTALS}, min(ms) AS first, max(ms) AS last"
SUMS_OF_SUMS = f"kind, sum(lines) AS lines, {_TOTALS}, min(first) AS first, max(last) AS last"


def _sum(name: str, *conditions: str) -> str:
    return f"coalesce(sum({name}) FILTER ({' AND '.join(conditions)}), 0)"


def _lines(*conditions: str) -> str:
    # Python takes a sixth of the time for a number of 64 bits that it takes for one of 128.
    return f"{_sum('lines', *conditions)}::BIGINT"


_NO_CORRECTION, _IS_REFUSED, _IS_PRICED = f"kind & {CORRECTION} = 0", f"kind & {REFUSED} > 0", f"kind & {PRICED} > 0"
_IS_RETRIED = f"kind & {RETRIED} > 0"
# The sums in `Figures`, over a relation of `SUMS`, in their order; a time is NULL without calls.
FIGURES = {
    "calls": _lines(_CALL),
    "refused": _lines(_NO_CORRECTION, _IS_REFUSED),
    "errors": _lines(_CALL, f"kind & {ERROR} > 0"),
    "retried": _lines(_CALL, _IS_RETRIED),
    "retried_nano": _sum("cost", _CALL, _IS_RETRIED),
    "retried_unknown": _lines(_CALL, _IS_RETRIED, f"NOT {_IS_PRICED}"),
    "sent": _lines(_NO_CORRECTION, f"kind & {SENT} > 0"),
    "corrections": _lines(f"NOT {_NO_CORRECTION}"),
    "unknown": _lines(_CALL, f"NOT {_IS_PRICED}"),
    "without_tokens": _lines(_CALL, f"kind & {SIZED} = 0"),
    "nano": "coalesce(sum(cost), 0)",
    "calls_nano": _sum("cost", _CALL),
    "priced": _lines(_IS_PRICED, f"NOT {_IS_REFUSED}"),
    "priced_nano": _sum("cost", _IS_PRICED, f"kind & {SIZED} > 0"),
    "priced_tokens": _sum("tokens_in + tokens_out", _IS_PRICED),
    "estimate_nano": _sum("estimate", _CALL),
    "tokens_in": "coalesce(sum(tokens_in), 0)",
    "tokens_out": "coalesce(sum(tokens_out), 0)",
    "tokens_cached": "coalesce(sum(tokens_cached), 0)",
    "tokens_cache_write": "coalesce(sum(tokens_cache_write), 0)",
    "tokens_reasoning": "coalesce(sum(tokens_reasoning), 0)",
    "answers": _lines(_CALL, f"kind & {ANSWER} > 0"),
    "answers_ms": _sum("duration_ms", _CALL, f"kind & {ANSWER} > 0"),
    "first": f"min(first) FILTER ({_CALL})",
    "last": f"max(last) FILTER ({_CALL})",
}
CALLS, CALLS_OF_SUMS = f"count(*) FILTER ({_CALL})", _lines(_CALL)
_IS_ERROR = f"{_CALL} AND kind & {ERROR} > 0"
ERRORS, ERRORS_OF_SUMS = f"count(*) FILTER ({_IS_ERROR})", _lines(_IS_ERROR)
TIMES = f"min(ms) FILTER ({_CALL}) AS first, max(ms) FILTER ({_CALL}) AS last"
# What `Usage.spent` tells of a group, and that of groups which are one as they are printed.
SPENT = f"""
    sum(cost) AS nano, {CALLS} AS calls, count(*) FILTER ({_CALL} AND cost IS NULL) AS unknown, {TIMES}
"""
SPENT_OF_SUMS = f"""
    sum(cost) AS nano, {CALLS_OF_SUMS} AS calls, {FIGURES["unknown"]} AS unknown,
    min(first) FILTER ({_CALL}) AS first, max(last) FILTER ({_CALL}) AS last
"""
SPENT_IN_ALL = "coalesce(sum(nano), 0), sum(calls)::BIGINT, sum(unknown)::BIGINT"
TIMES_IN_ALL, NO_TIMES = "min(first), max(last)", "NULL, NULL"
# What is added to figures since corrections settle it: costs that were unknown; tokens to set a cost against, or that
# there are none.
_RETRIED_CALL = f"{_CALL} AND kind & {RETRIED} > 0"
SETTLED = {
    "retried_nano": f"sum(rows.change) FILTER ({_RETRIED_CALL})",
    "retried_unknown": f"-count(*) FILTER ({_RETRIED_CALL} AND cost IS NULL)",
    "unknown": f"-count(*) FILTER ({_CALL} AND cost IS NULL)",
    "calls_nano": f"sum(rows.change) FILTER ({_CALL})",
    "without_tokens": f"-count(*) FILTER ({_CALL} AND NOT sized AND sizes)",
    "priced_nano": f"""sum(coalesce(rows.bare, 0) + if(sized, 0, coalesce(cost, 0)))
        FILTER ((sized OR sizes) AND kind & {CORRECTION} = 0)""",
    "priced_tokens": f"sum({_SIZE}) FILTER (sized AND cost IS NULL)",
}


class Query:
    """The parts of a query over `rows`, the relation of all lines that count, and the parameters they need.

    `over_days` is for a relation of sums (`index_days`) in its place; it is to have corrected calls `moved` where the
    `origin` of costs matters.
    """

    def __init__(self, has_corrections: Callable[[], bool], *, over_days: bool = False) -> None:
        self._has_corrections = has_corrections
        self.over_days = over_days
        self.period = EVER  # of a relation of sums, which is cut to it before it is asked
        self.moved = False
        self.conditions: list[str] = []
        self.joins: list[str] = []
        self.last_joins: list[str] = []  # those that may speak of the origin of costs
        self.given: dict[str, object] = {}
        self.units: list[str] = []
        self.needs_fixed = False

    def bind(self, value: object) -> str:
        """A parameter with a value."""
        name = f"p{len(self.given)}"
        self.given[name] = value
        return f"${name}"

    def name(self, name: str) -> str:
        """What a group is called by a grouping in its one form."""
        if name in UNITS:
            table = f"label_{name}" if self.over_days else f"time_{name}"
            if name not in self.units:
                self.units.append(name)
                self.joins.append(
                    f"JOIN {table} ON {table}.day = rows.day"
                    if self.over_days
                    else f"JOIN {table} ON {table}.slot = {SLOT}"
                )
            return f"{table}.label"
        if name == "origin":
            self.needs_fixed = not self.over_days and self._has_corrections()
            value = "coalesce(fixed.origin, cost_source)" if self.needs_fixed else "cost_source"
        elif name in FIELDS:
            value = f'rows."{name}"'
        elif name in BUILT_IN:
            value = f"tag_{name}"
        else:
            value = f"json_extract_string(more, {self.bind(pointer(name))})"
        return f"coalesce(nullif({value}, ''), '{NONE}')"

    def raw(self, name: str) -> str:
        """The same for most names, except that a missing value is NULL or empty; groups much faster."""
        if name in FIELDS:
            return f'rows."{name}"'
        if name == "origin" and (self.over_days or not self._has_corrections()):
            return "rows.cost_source"
        return f"tag_{name}" if name in BUILT_IN else self.name(name)

    def within(self, period: Period, as_of: datetime | None) -> None:
        """Only lines of the period that were known."""
        if as_of is not None:
            self.conditions.append(f"(recorded IS NULL OR recorded <= {self.bind(microseconds(as_of))})")
            self.conditions.append(f"ms <= {self.bind(milliseconds(as_of))}")
        if period.start is not None:
            self.conditions.append(f"ms >= {self.bind(first_ms(period.start))}")
        if period.end is not None:
            self.conditions.append(f"ms < {self.bind(first_ms(period.end))}")

    def having(self, patterns: dict[str, list[str]]) -> None:
        """Only lines whose values match; of several values for one name, one has to."""
        for name, values in patterns.items():
            value = self.name(name)
            tests = [f"list_contains({self.bind([each for each in values if '*' not in each])}::VARCHAR[], {value})"]
            tests += [f"{value} LIKE {self.bind(_like(each))} ESCAPE '\\'" for each in values if "*" in each]
            self.conditions.append(f"({' OR '.join(tests)})")

    def only(self, names: Sequence[str], outer: Sequence[str], kept: Sequence[str]) -> None:
        """Only the group `outer`, without those of its groups that are `kept`."""
        for name, value in zip(names, outer, strict=False):
            self.conditions.append(f"{self.name(name)} = {self.bind(value)}")
        name = self.name(names[len(outer)])
        self.conditions.append(f"NOT list_contains({self.bind(list(kept))}::VARCHAR[], {name})")

    def tags(self, compared: Collection[str]) -> list[str]:
        """Columns for the built-in tags and a map of the others: values of those that are compared, else ''."""
        columns = [f"tag_{name}" if name in compared else f"if(tag_{name} IS NULL, NULL, '')" for name in BUILT_IN]
        others = self.bind([name for name in compared if name not in BUILT_IN])
        value = f"if(list_contains({others}::VARCHAR[], each.key), each.value, '')"
        entries = "map_entries(more::JSON::MAP(VARCHAR, VARCHAR))"
        more = f"map_from_entries(list_transform({entries}, lambda each: {{'k': each.key, 'v': {value}}}))"
        return [*columns, f"if(more IS NULL, NULL, {more})"]

    def source(self, rows: str = "rows") -> str:
        """FROM and WHERE."""
        fixed = ["LEFT JOIN fixed ON fixed.source = rows.source AND fixed.line = rows.line"] * self.needs_fixed
        joins = [*self.joins, *fixed, *self.last_joins]
        where = f"WHERE {' AND '.join(self.conditions)}" if self.conditions else ""
        return f"FROM {rows} AS rows {' '.join(joins)} {where}"


def pointer(name: str) -> str:
    """A member of a JSON object: https://www.rfc-editor.org/rfc/rfc6901."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def slots_of(connection: DuckDBPyConnection, rows: str, given: Mapping[str, object]) -> list[int]:
    """The hours in which there are rows."""
    found = connection.execute(f"SELECT DISTINCT {SLOT} FROM {rows}", dict(given)).fetchall()
    return [slot for (slot,) in found]


def slots_between(start: int, end: int) -> range:
    """The hours from one millisecond up to another."""
    return range((start + _YEAR_1) // _HOUR, (end - 1 + _YEAR_1) // _HOUR + 1)


def make_buckets(connection: DuckDBPyConnection, table: str, unit: str, zone: tzinfo, hours: Iterable[int]) -> bool:
    """Make a table that says in which bucket the milliseconds of each of these hours lie, when that starts, and its
    name; whether an hour can lie in several.

    DuckDB's own calendar needs an extension; and these are the same buckets as everywhere else.
    """
    slots: list[int] = []
    froms: list[int] = []
    stops: list[int] = []
    starts: list[int] = []
    labels: list[str] = []
    begins = ends = 0
    label = ""
    for slot in sorted(set(hours)):
        at = slot * _HOUR - _YEAR_1
        stop = at + _HOUR
        while at < stop:
            if not begins <= at < ends:
                start, end = bucket(instant_at(at), unit, zone)
                begins, ends, label = first_ms(start), first_ms(end), bucket_label(start, unit, zone)
                if end.year == 9999:
                    ends = max(ends, stop)
            slots.append(slot)
            froms.append(at)
            at = min(stop, ends)
            stops.append(at)
            starts.append(begins)
            labels.append(label)
    connection.execute(
        f"CREATE OR REPLACE TABLE {table} AS SELECT unnest($slots::BIGINT[]) AS slot,"
        " unnest($begins::BIGINT[]) AS begins, unnest($ends::BIGINT[]) AS ends,"
        " unnest($starts::BIGINT[]) AS start, unnest($labels::VARCHAR[]) AS label",
        {"slots": slots, "begins": froms, "ends": stops, "starts": starts, "labels": labels},
    )
    return len(slots) > len(set(slots))


def quantiles(value: str, condition: str, percentiles: Sequence[int]) -> str:
    """Percentiles by nearest rank."""
    return f"quantile_disc({value}, [{', '.join(str(each / 100) for each in percentiles)}]) FILTER ({condition})"


LATENCY = ("duration_ms", ANSWERED)
COST = ("cost", f"{_CALL} AND cost IS NOT NULL")
WHOLE_COST = (
    "coalesce(cost, 0) + coalesce(fixed.change, 0)",
    f"{_CALL} AND (cost IS NOT NULL OR fixed.change IS NOT NULL)",
)


def first_ms(bound: datetime) -> int:
    """The first millisecond that is not before an instant."""
    return (
        milliseconds(bound + timedelta(microseconds=999))
        if bound.microsecond % 1000 and bound.year < 9999
        else (milliseconds(bound))
    )


def _like(pattern: str) -> str:
    for special in ("\\", "%", "_"):
        pattern = pattern.replace(special, f"\\{special}")
    return pattern.replace("*", "%")
