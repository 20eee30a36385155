"""The groups of a breakdown as a tree, and how they become rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

from callmeter.reports.breakdown_columns import FIGURES, columns, compared, empty, figures_of, ranks
from callmeter.reports.breakdown_time import (
    Alignment,
    Course,
    Path,
    alignment,
    course_of,
    covered,
    cut_units,
    labels_of,
)
from callmeter.reports.grouping import FIELDS, NONE, column_names, is_time, title_of
from callmeter.reports.report import Cell, Column, Kind, Row
from callmeter.reports.sums import apportion
from callmeter.reports.usage import Figures, Usage, Walk, summed
from callmeter.words.period import bucket, bucket_label

if TYPE_CHECKING:
    from callmeter.reports.breakdown import Question

_NOTHING = Figures()
# Names that have few values in any log.
_FEW = {"agent", "purpose", "priority", "environment", "cost_center", "workflow", "origin", *FIELDS} - {"generation_id"}
# In these orders the usage log can choose the groups to show.
_CHOSEN = ("", "cost", "calls", "tokens", "name", "errors", "latency")


@dataclass(frozen=True)
class _Named:
    """A group of one level: its figures, and those of the period that it is compared with."""

    name: str
    now: Figures
    before: Figures


class Tree:
    """How the figures of groups, by their paths, become rows."""

    def __init__(self, usage: Usage, question: Question, keys: Sequence[str], names: Sequence[str]) -> None:
        self._usage = usage
        self._question = question
        self._keys = keys
        self._names = names
        self._latency, self._costs = ranks(percentiles=question.percentiles)
        self._others: Mapping[Path, tuple[int, Figures]] = {}
        self._top = question.top or (question.most if _may_be_many(keys) else 0)
        self.is_cut = False  # whether there were more than `most`
        self._walk: Walk | None = None
        can_choose = _can_choose(question, keys)
        if not self._top and not question.chart and _may_be_many(keys) and can_choose:
            self._walk = usage.walk(
                names,
                question.sort or "cost",
                period=question.period,
                where=question.where,
                latency=self._latency,
                costs=self._costs,
                only=FIGURES,
            )
            self.levels: Mapping[Path, Figures] = {(): self._walk.total}
        elif self._top and can_choose:
            self.levels, self._others = usage.top(
                names,
                self._top,
                question.sort or "cost",
                period=question.period,
                where=question.where,
                latency=self._latency,
                costs=self._costs,
            )
        else:
            self.levels = usage.levels(
                names, period=question.period, where=question.where, latency=self._latency, costs=self._costs
            )
        total = self.levels[()]
        now = question.now or usage.as_of
        self.unit = next(filter(is_time, keys), "")
        # Where the unit begins in which the log does.
        first = usage.reading.first
        self.begun = None if first is None else bucket(first, self.unit or "day", usage.zone)[0]
        self.aligned: Alignment | None = None
        self.before: dict[Path, Figures] = {}
        if question.compare is not None:
            self.before = usage.levels(names, period=question.compare, where=question.where)
            if self.unit and now is not None:
                depth = keys.index(self.unit)
                self.aligned = alignment(usage, self.unit, depth, question.period, question.compare, now)
                self.before = _moved(self.before, self.aligned)
        span = None if now is None else covered(usage, question.period, now, total)
        if span is not None and is_time(keys[0]) and not question.top:
            self.levels = {**empty((label,) for label in labels_of(span, keys[0], usage) or ()), **self.levels}
        self.course: Course | None = None
        if question.chart and span is not None:
            kept = self.levels if self._top and can_choose else ()
            self.course = course_of(usage, names, span, question.period, question.where, kept)
        self.columns = columns(
            compared=question.compare is not None,
            percentiles=question.percentiles,
            cumulative=question.cumulative,
            chart=self.course.unit if self.course is not None else "",
            unit=self.unit if self.aligned is not None else "",
            sort=question.sort,
        )
        self._cells = column_names(keys, [column.name for column in self.columns])
        self.groupings = [Column(cell, title_of(cell), Kind.TEXT) for cell in self._cells]
        self._below: dict[Path, list[_Named]] = {}
        for path in dict.fromkeys((*self.levels, *self.before)):
            if path:
                group = _Named(path[-1], self.levels.get(path, _NOTHING), self.before.get(path, _NOTHING))
                self._below.setdefault(path[:-1], []).append(group)

    @property
    def count(self) -> int:
        """How many groups there are."""
        return len(self.levels) if self._walk is None else self._walk.count

    def rows(self, units: int | None) -> Iterator[Row]:
        """All rows. Those of the first level share `units` tenths of a per cent; None when there is no cost."""
        if self._walk is None:
            return self._rows(units, ())
        depths = range(len(self._keys))
        costs, groups = [*map(self._walk.costs, depths)], [*map(self._walk.groups, depths)]
        return self._walked(costs, groups, units, (), None)

    def _walked(
        self,
        costs: Sequence[Iterator[int]],
        groups: Sequence[Iterator[tuple[str, Figures, int]]],
        units: int | None,
        outer: Path,
        count: int | None,
    ) -> Iterator[Row]:
        """The next `count` groups of a level, or all, with all below them, read off the levels side by side."""
        depth = len(outer)
        is_inner = depth + 1 < len(self._keys)
        shares = _shares(list(islice(costs[depth], count)), units)
        for (name, figures, below), share in zip(islice(groups[depth], count), shares, strict=True):
            path = (*outer, name)
            yield Row(self.cells(path, figures, None, share), depth, subtotal=is_inner)
            if is_inner:
                yield from self._walked(costs, groups, share, path, below)

    def _rows(self, units: int | None, outer: Path) -> Iterator[Row]:
        """One level and all below it. Its rows share `units` tenths of a per cent; None when there is no cost."""
        depth = len(outer)
        level = self._below.get(outer, [])
        if not level:
            return
        kept, rest = self._cut(level, self._keys[depth])
        parts = [group.now for group in kept]
        count, others = self._others.get(outer, (len(rest), _NOTHING))
        if rest:
            others = self._rest(outer, kept)
        if count:
            parts.append(others)
        shares = _shares([part.nano for part in parts], units)
        is_inner = depth + 1 < len(self._keys)
        for group, share in zip(kept, shares, strict=False):
            path = (*outer, group.name)
            before = group.before if self._is_known(path) else None
            yield Row(self.cells(path, group.now, before, share, path), depth, subtotal=is_inner)
            if is_inner:
                yield from self._rows(share, path)
        if count:
            self.is_cut = not self._question.top
            before = summed(group.before for group in rest) if self._is_known(outer) else None
            path = (*outer, f"other ({count})")
            shown = [(*outer, group.name) for group in kept]
            yield Row(self.cells(path, parts[-1], before, shares[-1], outer, shown), depth, rest=True)

    def total(self, units: int | None) -> dict[str, Cell]:
        """The cells of the last row."""
        before = self.before.get((), _NOTHING) if self._is_known(()) else None
        return self.cells((), self.levels[()], before, units)

    def cells(
        self,
        path: Path,
        now: Figures,
        before: Figures | None,
        share: int | None,
        charted: Path = (),
        without: Iterable[Path] = (),
    ) -> dict[str, Cell]:
        """The cells of a row, `before` None where the log does not reach; its chart is that of the group `charted`
        `without` some of its own groups."""
        cells: dict[str, Cell] = dict.fromkeys(self._cells)
        cells.update(zip(self._cells, path, strict=False))
        cells |= figures_of(now, share)
        if self._question.compare is not None:
            cells |= compared(now, before)
        if self.aligned is not None and len(path) > self.aligned.depth:
            # A day that stands against another one is neither new nor gone.
            cells |= {f"{self.unit}_before": self.aligned.against(path[self.aligned.depth]), "news": None}
        if self.course is not None:
            cells["chart"] = self.course.marks(charted, without)
        return cells

    def missing_tags(self) -> list[str]:
        """What is said of groupings by tags that no call has: a name may be misspelt."""
        if not self.levels[()].calls:
            return []
        said = []
        for depth, name in enumerate(self._keys):
            if is_time(name) or name in FIELDS:
                continue
            if self._walk is not None:
                named = self._walk.named(depth)
            else:
                named = any(path[depth] != NONE for path in self.levels if len(path) > depth)
            hidden = any(count for path, (count, _) in self._others.items() if len(path) <= depth)
            if not named and not hidden:
                said.append(f"None of these calls has the tag {name}.")
        return said

    def cut_units(self) -> list[str]:
        """Which units of time are not whole, because the period begins or ends within them."""
        period, zone = self._question.period, self._usage.zone
        if not self.unit:
            return []
        depth = self._keys.index(self.unit)
        shown = {path[depth] for path in self.levels if len(path) > depth}
        return cut_units(period, self.unit, zone, shown, self._question.now or self._usage.as_of)

    def _is_known(self, path: Path) -> bool:
        """Whether the log covers any of the time that a group is compared with."""
        if self.begun is None or self._question.compare is None:
            return True
        end = self._question.compare.end
        if end is not None and end <= self.begun:
            return False
        begun = bucket_label(self.begun, self.unit, self._usage.zone) if self.unit else ""
        return self.aligned is None or self.aligned.is_known(path, begun)

    def _rest(self, outer: Path, kept: Sequence[_Named]) -> Figures:
        return self._usage.rest(
            self._names,
            outer,
            [group.name for group in kept],
            period=self._question.period,
            where=self._question.where,
            latency=self._latency,
            costs=self._costs,
        )

    def _cut(self, level: list[_Named], key: str) -> tuple[list[_Named], list[_Named]]:
        """The rows to show, in their order, and those that become one."""
        top, sort = self._top, self._question.sort
        rest: list[_Named] = []
        if 0 < top < len(level):
            ranked = sorted(level, key=_ORDERS[sort or "cost"])
            level, rest = ranked[:top], ranked[top:]
        return sorted(level, key=_ORDERS[sort or ("time" if is_time(key) else "cost")]), rest


def _may_be_many(keys: Sequence[str]) -> bool:
    """Whether there may be thousands of groups. Units of time are told in full."""
    return not any(map(is_time, keys)) and not _FEW.issuperset(keys)


def _can_choose(question: Question, keys: Sequence[str]) -> bool:
    """Whether the usage log chooses the groups to show, or their order; changes want to know all of them, and the units
    of time of charts stand beside groups by other names only."""
    is_charted_by_time = question.chart and any(map(is_time, keys))
    return question.compare is None and not is_charted_by_time and question.sort in _CHOSEN


def _by_time(label: str) -> tuple[bool, str, float]:
    """Sorts units of time: by name, but of an hour that comes twice, that of summer time is the first; what has no
    unit comes last."""
    offset = datetime.fromisoformat(label).utcoffset() if len(label) > len("2026-11-21 09:00") else None
    return label == NONE, label[:16], 0.0 if offset is None else -offset.total_seconds()


def _moved(groups: Mapping[Path, Figures], aligned: Alignment) -> dict[Path, Figures]:
    """The groups of the other period by their places in this one."""
    found: dict[Path, Figures] = {}
    for path, figures in groups.items():
        found.setdefault(aligned.path(path), Figures()).merge(figures)
    return found


_ORDERS: dict[str, Callable[[_Named], tuple[object, ...]]] = {
    "cost": lambda group: (-group.now.nano, -group.now.calls, -group.before.nano, group.name),
    "calls": lambda group: (-group.now.calls, -group.now.nano, group.name),
    "tokens": lambda group: (-group.now.tokens_in - group.now.tokens_out, group.name),
    "name": lambda group: (group.name,),
    "time": lambda group: _by_time(group.name),
    "latency": lambda group: (-(group.now.latency.get(95, 0)), group.name),
    "errors": lambda group: (-group.now.errors, -group.now.calls, group.name),
    "change": lambda group: (-abs(group.now.nano - group.before.nano), group.name),
}


def _shares(costs: Sequence[int], units: int | None) -> Sequence[int | None]:
    if units is None:
        return [None] * len(costs)
    total = sum(costs)
    return apportion(costs, total, units) if total else [0] * len(costs)
