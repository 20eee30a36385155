"""What was spent, by whom and for what: usage lines summed in groups, several groupings as a tree.

Sums are exact: the parts add up to their subtotal, the subtotals to the total, the total to the lines. Rows come by
cost, the dearest first; units of time by time. Names break ties, so that the same log gives the same report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from callmeter.reports.grouping import is_time, key_name, title_of
from callmeter.reports.origins import Origins
from callmeter.reports.report import Cell, Column, Kind, Report, Row
from callmeter.reports.sums import apportion, share_of
from callmeter.reports.usage import Figures, Usage
from callmeter.words.instant import text_of
from callmeter.words.period import EVER, Period

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
_P95 = (95,)
_Path = tuple[str, ...]
_Named = tuple[str, Figures]


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
    aliases: Mapping[str, str] = field(default_factory=dict)


def breakdown(usage: Usage, question: Question) -> Report:
    """The lines of the period that satisfy the conditions, in groups."""
    by = {key_name(name, question.aliases): name for name in reversed(question.by)}
    keys = list(dict.fromkeys(key_name(name, question.aliases) for name in question.by))
    names = [by[key] for key in keys]
    levels = usage.levels(names, period=question.period, where=question.where, latency=_P95)
    origins = Origins(usage, question.period, question.where)
    total = levels[()]
    units = 1000 if total.nano else None
    columns = [*(Column(name, title_of(name), Kind.TEXT) for name in keys), *_FIGURES]
    facts = origins.facts()
    if question.where:
        facts["where"] = list(question.where)
    if usage.as_of is not None:
        facts["as_of"] = text_of(usage.as_of)

    def rest(outer: _Path, kept: Sequence[str]) -> Figures:
        return usage.rest(names, outer, kept, period=question.period, where=question.where, latency=_P95)

    return Report(
        title="Cost by " + ", ".join(title_of(name).removesuffix(" from") for name in keys),
        columns=columns,
        rows=list(_Tree(keys, question.top, question.sort, levels, rest).rows(units)),
        total=_figures(total, units),
        notes=origins.notes(total),
        facts=facts,
        tree=len(keys),
        period=question.period,
        zone=str(usage.zone),
    )


class _Tree:
    """How the figures of groups, by their paths, become rows."""

    def __init__(
        self,
        keys: Sequence[str],
        top: int,
        sort: str,
        levels: Mapping[_Path, Figures],
        rest: Callable[[_Path, Sequence[str]], Figures],
    ) -> None:
        self.keys = keys
        self.top = top
        self.sort = sort
        self._rest = rest
        self._below: dict[_Path, list[_Named]] = {}
        for path, figures in levels.items():
            if path:
                self._below.setdefault(path[:-1], []).append((path[-1], figures))

    def rows(self, units: int | None, outer: _Path = ()) -> Iterator[Row]:
        """One level and all below it. Its rows share `units` tenths of a per cent; None when there is no cost."""
        depth = len(outer)
        level = self._below.get(outer, [])
        if not level:
            return
        kept, rest = self._cut(level, self.keys[depth])
        parts = [figures for _, figures in kept]
        if rest:
            parts.append(self._rest(outer, [name for name, _ in kept]))
        shares = _shares(parts, units)
        is_inner = depth + 1 < len(self.keys)
        for (name, figures), share in zip(kept, shares, strict=False):
            path = (*outer, name)
            yield Row(self._names(path) | _figures(figures, share), depth, subtotal=is_inner)
            if is_inner:
                yield from self.rows(share, path)
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
    "latency": lambda group: (-(group[1].latency.get(95, 0)), group[0]),
    "errors": lambda group: (-group[1].errors, -group[1].calls, group[0]),
}


def _shares(parts: Sequence[Figures], units: int | None) -> Sequence[int | None]:
    total = sum(part.nano for part in parts)
    if units is None or total == 0:
        return [units and 0 for _ in parts]
    return apportion([part.nano for part in parts], total, units)


def _figures(figures: Figures, units: int | None) -> dict[str, Cell]:
    return {
        "cost": figures.cost,
        "unknown": figures.unknown,
        "share": None if units is None or figures.cost is None else share_of(units),
        "calls": figures.calls,
        "errors": figures.errors,
        "refused": figures.refused,
        "tokens_in": figures.tokens_in,
        "tokens_out": figures.tokens_out,
        "tokens_cached": figures.tokens_cached,
        "cost_per_1k_tokens": figures.per_1k,
        "latency_mean_ms": figures.mean_ms,
        "latency_p95_ms": figures.latency.get(95),
    }
