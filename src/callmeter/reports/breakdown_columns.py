"""What a breakdown says of each group, and in which columns. Which ones give way first depends on what was asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from callmeter.reports.report import Cell, Column, Kind
from callmeter.reports.sums import share_of
from callmeter.reports.usage import Figures, difference, growth

P95 = (95,)
PERCENTILES = (50, 90, 95, 99)
NEW, GONE = "new", "gone"
# The sums that rows are made of.
FIGURES = (
    "calls",
    "refused",
    "errors",
    "unknown",
    "nano",
    "priced",
    "priced_nano",
    "priced_tokens",
    "tokens_in",
    "tokens_out",
    "tokens_cached",
    "answers",
    "answers_ms",
)
_COLUMNS = (
    Column("cost", "cost", Kind.MONEY),
    Column("unknown", "unknown", Kind.COUNT, optional=1, quiet=True),
    Column("share", "share", Kind.SHARE, optional=2),
    Column("calls", "calls", Kind.COUNT, optional=1),
    Column("errors", "errors", Kind.COUNT, optional=2),
    Column("refused", "refused", Kind.COUNT, optional=2, quiet=True),
    Column("tokens_in", "tokens in", Kind.COUNT, optional=4),
    Column("tokens_out", "out", Kind.COUNT, optional=4),
    Column("tokens_cached", "cached", Kind.COUNT, optional=8),
    Column("cost_per_1k_tokens", "per 1k", Kind.RATE, optional=7),
    Column("latency_mean_ms", "took", Kind.MILLISECONDS, optional=6),
    Column("latency_p95_ms", "took p95", Kind.MILLISECONDS, optional=5),
)
_COMPARED = (
    Column("cost_before", "before", Kind.RATE, optional=1),
    Column("difference", "difference", Kind.DIFFERENCE),
    Column("change", "change", Kind.CHANGE, optional=1, quiet=True),
    Column("calls_before", "calls before", Kind.COUNT, optional=4),
    Column("news", "", Kind.TEXT, optional=1, quiet=True),
)
# What may give way without a word, though it comes with what was asked for.
_BESIDES = ("calls_before", "news", "quota_share")
_COSTS = tuple(
    Column(f"cost_p{rank}", f"{'cost ' * (rank == 50)}p{rank}", Kind.RATE, optional=4 if rank in (90, 99) else 2)
    for rank in PERCENTILES
)
_LATENCIES = tuple(
    Column(
        f"latency_p{rank}_ms",
        f"{'took ' * (rank == 50)}p{rank}",
        Kind.MILLISECONDS,
        optional=5 if rank in (90, 99) else 3,
    )
    for rank in PERCENTILES
)
_SORTED = {
    "calls": ("calls",),
    "tokens": ("tokens_in", "tokens_out"),
    "latency": ("latency_p95_ms",),
    "errors": ("errors",),
}
_CUMULATIVE = (
    Column("cumulative", "so far", Kind.RATE),
    Column("quota_share", "of the quota", Kind.FILL, optional=1, quiet=True),
)


def columns(
    *, compared: bool, percentiles: bool, cumulative: bool, chart: str, unit: str = "", sort: str = ""
) -> list[Column]:
    """The columns of figures, in their order; `chart` is the unit of time that it shows, `unit` that in which periods
    are compared, or ""; what rows are sorted by stays longest on a narrow terminal."""
    own: list[Column] = [*_COMPARED] if compared else []
    own += (*_COSTS, *_LATENCIES) if percentiles else ()
    own += _CUMULATIVE if cumulative else ()
    own = [replace(column, asked=column.name not in _BESIDES) for column in own]
    own[:0] = [Column(f"{unit}_before", "against", Kind.TEXT, optional=2)] if unit else []
    drawn = (Column("chart", f"by {chart}", Kind.MARKS, optional=1, asked=True),) if chart else ()
    shown = {column.name for column in own}
    first, *others = (column for column in _COLUMNS if column.name not in shown)
    if own or drawn:
        # What was asked for stays longest on a narrow terminal.
        others = [replace(column, optional=column.optional + (10 if column.optional > 1 else 2)) for column in others]
    by = _SORTED.get(sort, ())
    return [replace(each, optional=1) if each.name in by else each for each in (first, *own, *others, *drawn)]


def figures_of(figures: Figures, units: int | None) -> dict[str, Cell]:
    """The cells of the figures that every breakdown has; `units` are tenths of a per cent of the total."""
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
        **{f"latency_p{rank}_ms": figures.latency.get(rank) for rank in (*P95, *figures.latency)},
        **{f"cost_p{rank}": nano for rank, nano in figures.costs.items()},
    }


def compared(now: Figures, before: Figures | None) -> dict[str, Cell]:
    """The cells that tell how a group has changed; None is before the log began, where nothing is known. Without a
    known cost on either side there is no difference."""
    if before is None:
        return dict.fromkeys(("cost_before", "difference", "change", "calls_before", "news"))
    return {
        "cost_before": before.cost,
        "difference": difference(now, before),
        "change": growth(now, before),
        "calls_before": before.calls,
        "news": GONE if not now.lines else None if before.lines else NEW,
    }


def ranks(*, percentiles: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The percentiles of latency and of cost that are needed."""
    return (PERCENTILES, PERCENTILES) if percentiles else (P95, ())


def empty(paths: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], Figures]:
    """Groups without lines."""
    return {path: Figures() for path in paths}
