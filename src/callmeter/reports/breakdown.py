"""What was spent, by whom and for what: usage lines summed in groups, several groupings as a tree.

Sums are exact: the parts add up to their subtotal, the subtotals to the total, the total to the lines. Rows come by
cost, the dearest first; units of time by time. Names break ties, so that the same log gives the same report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo

from callmeter.reports.grouping import condition_of, is_time, key_name, reader_of, title_of, within
from callmeter.reports.report import Cell, Column, Kind, Report, Row
from callmeter.reports.sums import Sums, apportion, merged, share_of
from callmeter.reports.tally import Group, Tally
from callmeter.words.instant import text_of
from callmeter.words.period import EVER, Period
from callmeter.words.record import UsageRecord

SORTS = ("cost", "calls", "tokens", "name", "latency", "errors")
_FIGURES = (
    Column("cost", "cost", Kind.MONEY),
    Column("unknown", "unknown", Kind.COUNT, quiet=True),
    Column("share", "share", Kind.SHARE, optional=1),
    Column("calls", "calls", Kind.COUNT),
    Column("errors", "errors", Kind.COUNT, optional=2),
    Column("refused", "refused", Kind.COUNT, optional=2, quiet=True),
    Column("tokens_in", "tokens in", Kind.COUNT, optional=4),
    Column("tokens_out", "out", Kind.COUNT, optional=4),
    Column("tokens_cached", "cached", Kind.COUNT, optional=8),
    Column("cost_per_1k_tokens", "per 1k", Kind.RATE, optional=7),
    Column("latency_mean_ms", "mean", Kind.MILLISECONDS, optional=6),
    Column("latency_p95_ms", "p95", Kind.MILLISECONDS, optional=5),
)
_Named = tuple[str, Sums]


@dataclass(frozen=True)
class Question:
    """What to break down: groupings from the outside in, conditions, how many rows of each level, in which order.

    `sort` "" is by cost, and by time for units of time. Raises UsageError when names or conditions are malformed.
    """

    by: Sequence[str] = ("agent",)
    where: Sequence[str] = ()
    top: int = 0
    sort: str = ""
    period: Period = EVER
    zone: tzinfo = UTC
    as_of: datetime | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)


def breakdown(records: Iterable[UsageRecord], question: Question) -> Report:
    """The lines of the period that satisfy the conditions, in groups. Memory grows with the groups and by eight
    bytes a call, not with the lines."""
    keys = list(dict.fromkeys(key_name(name, question.aliases) for name in question.by))
    tally = Tally()
    groups = tally.count(chosen(records, question), [reader_of(name, question.zone) for name in keys])
    total = merged([sums for _, sums in groups])
    units = 1000 if total.nano else None
    columns = [*(Column(name, title_of(name), Kind.TEXT) for name in keys), *_FIGURES]
    facts = tally.facts()
    if question.where:
        facts["where"] = list(question.where)
    if question.as_of is not None:
        facts["as_of"] = text_of(question.as_of)
    return Report(
        title="Cost by " + ", ".join(title_of(name).removesuffix(" from") for name in keys),
        columns=columns,
        rows=list(_Tree(keys, question.top, question.sort).rows(groups, units)) if groups else [],
        total=_figures(total, units),
        notes=tally.notes(total),
        facts=facts,
        tree=len(keys),
        period=question.period,
        zone=str(question.zone),
    )


def chosen(records: Iterable[UsageRecord], question: Question) -> Iterator[UsageRecord]:
    """The records of the period, known at `as_of`, that satisfy the conditions. Raises UsageError."""
    inside = within(question.period, question.as_of)
    satisfies = condition_of(question.where, question.zone, question.aliases)
    if inside is not None:
        records = filter(inside, records)
    return iter(records if satisfies is None else filter(satisfies, records))


@dataclass(frozen=True)
class _Tree:
    """How groups become rows."""

    keys: Sequence[str]
    top: int
    sort: str

    def rows(self, groups: Sequence[Group], units: int | None, outer: tuple[str, ...] = ()) -> Iterator[Row]:
        """One level and all below it. Its rows share `units` tenths of a per cent; None when there is no cost."""
        depth = len(outer)
        below: dict[str, list[Group]] = {}
        for group in groups:
            below.setdefault(group[0][depth], []).append(group)
        level = [(name, merged([sums for _, sums in inner])) for name, inner in below.items()]
        kept, rest = self._cut(level, self.keys[depth])
        parts = [sums for _, sums in kept] + ([merged([sums for _, sums in rest])] if rest else [])
        shares = _shares(parts, units)
        is_inner = depth + 1 < len(self.keys)
        for (name, sums), share in zip(kept, shares, strict=False):
            path = (*outer, name)
            yield Row(self._names(path) | _figures(sums, share), depth, subtotal=is_inner)
            if is_inner:
                yield from self.rows(below[name], share, path)
        if rest:
            names = self._names((*outer, f"other ({len(rest)})"))
            yield Row(names | _figures(parts[-1], shares[-1]), depth, rest=True)

    def _cut(self, level: list[_Named], key: str) -> tuple[list[_Named], list[_Named]]:
        """The rows to show, in their order, and those that become one."""
        rest: list[_Named] = []
        if 0 < self.top < len(level):
            ranked = sorted(level, key=_ORDERS[self.sort or "cost"])
            level, rest = ranked[: self.top], ranked[self.top :]
        return sorted(level, key=_ORDERS[self.sort or ("name" if is_time(key) else "cost")]), rest

    def _names(self, path: tuple[str, ...]) -> dict[str, Cell]:
        names: dict[str, Cell] = dict.fromkeys(self.keys)
        names.update(zip(self.keys, path, strict=False))
        return names


# Units of time have names that sort by time.
_ORDERS: dict[str, Callable[[_Named], tuple[object, ...]]] = {
    "cost": lambda group: (-group[1].nano, -group[1].calls, group[0]),
    "calls": lambda group: (-group[1].calls, -group[1].nano, group[0]),
    "tokens": lambda group: (-group[1].tokens_in - group[1].tokens_out, group[0]),
    "name": lambda group: (group[0],),
    "latency": lambda group: (-(group[1].p95_ms() or 0), group[0]),
    "errors": lambda group: (-group[1].errors, -group[1].calls, group[0]),
}


def _shares(parts: Sequence[Sums], units: int | None) -> Sequence[int | None]:
    total = sum(part.nano for part in parts)
    if units is None or total == 0:
        return [units and 0 for _ in parts]
    return apportion([part.nano for part in parts], total, units)


def _figures(sums: Sums, units: int | None) -> dict[str, Cell]:
    return {
        "cost": sums.cost,
        "unknown": sums.unknown,
        "share": None if units is None or sums.cost is None else share_of(units),
        "calls": sums.calls,
        "errors": sums.errors,
        "refused": sums.refused,
        "tokens_in": sums.tokens_in,
        "tokens_out": sums.tokens_out,
        "tokens_cached": sums.tokens_cached,
        "cost_per_1k_tokens": sums.per_1k,
        "latency_mean_ms": sums.mean_ms,
        "latency_p95_ms": sums.p95_ms(),
    }
