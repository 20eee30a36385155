"""What was spent, by whom and for what: usage lines summed in groups, several groupings as a tree.

Sums are exact: the parts add up to their subtotal, the subtotals to the total, the total to the lines. Rows come by
cost, the dearest first; units of time by time. Names break ties, so that the same log gives the same report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import overload

from callmeter.policy.quotas import Quota
from callmeter.reports.breakdown_time import (
    month_quota,
    quota_words,
    share_of_quota,
)
from callmeter.reports.breakdown_tree import Tree
from callmeter.reports.grouping import key_name, patterns_of, title_of
from callmeter.reports.origins import Origins
from callmeter.reports.report import Cell, Report, Row
from callmeter.reports.usage import Figures, Usage
from callmeter.words.instant import parse_instant, text_of
from callmeter.words.money import usd
from callmeter.words.period import EVER, Period, local_time

# Clocks of hosts may differ by that.
_SKEW = timedelta(hours=1)
# So many groups' rows are held in memory.
_HELD = 10_000


@dataclass(frozen=True)
class Question:
    """What to break down: groupings from the outside in, conditions, how many rows of each level, in which order.

    `sort` "" is by cost, and by time for units of time; `change` wants a period to `compare` with. A first grouping
    that is a unit of time has rows for those without calls, up to `now`; not with `top`. `cumulative` wants such a
    grouping, and compares with the month's quota among `quotas` that applies to just these calls. With a unit of time
    and a period to `compare` with, each unit stands against that in the same place of the other period. Of groups by
    names that have thousands, as sessions do, all but the first `most` of a level are one row, if nothing else is said.

    Raises UsageError when names or conditions are malformed.
    """

    by: Sequence[str] = ("agent",)
    where: Sequence[str] = ()
    top: int = 0
    most: int = 0
    sort: str = ""
    period: Period = EVER
    aliases: Mapping[str, str] = field(default_factory=dict)
    compare: Period | None = None
    percentiles: bool = False
    cumulative: bool = False
    chart: bool = False
    now: datetime | None = None
    quotas: Sequence[Quota] = ()


def breakdown(usage: Usage, question: Question) -> Report:
    """The lines of the period that satisfy the conditions, in groups."""
    by = {key_name(name, question.aliases): name for name in reversed(question.by)}
    keys = list(dict.fromkeys(key_name(name, question.aliases) for name in question.by))
    tree = Tree(usage, question, keys, [by[key] for key in keys])
    total = tree.levels[()]
    units = 1000 if total.nano else None
    origins = Origins(usage, question.period, question.where)
    facts = origins.facts()
    notes = origins.notes(total)
    if question.where:
        facts["where"] = list(question.where)
    if usage.as_of is not None:
        facts["as_of"] = text_of(usage.as_of)
        notes.append(f"As of {usage.as_of.astimezone(usage.zone):%Y-%m-%d %H:%M}: what was logged later is left out.")
    notes += [*tree.missing_tags(), *tree.cut_units(), *_still_to_come(total, question.now, usage)]
    if question.compare is not None:
        facts["compared"] = _period_facts(question.compare)
        by_unit = f", {tree.unit} by {tree.unit} from the first on" if tree.aligned is not None else ""
        notes.append(f"Compared with {question.compare.label}{by_unit}.")
        start = question.compare.start
        if tree.begun is not None and start is not None and start < tree.begun:
            day = tree.begun.astimezone(usage.zone).date().isoformat()
            notes.append(f"The log begins on {day}: what was before it is unknown, not 0.")
    rows: Sequence[Row] = _Rows(lambda: tree.rows(units))
    if tree.count <= _HELD or question.most:
        rows = list(rows)
    if question.cumulative:
        rows, quota = _running(rows, question, usage)
        if quota is not None and rows:
            facts["quota"] = {"subject": str(quota.subject), "limit": usd(quota.limit)}
            notes.append(f"The bars are shares of {quota_words(quota)}.")
    if tree.is_cut:
        notes.append(
            f"All but the first {question.most:,} groups are one row: `--top N` shows more, `--format csv` all."
        )
    if tree.course is not None:
        notes.append("Each chart has a scale of its own: its largest mark is its group's largest.")
    return Report(
        title="Cost by " + ", ".join(title_of(name).removesuffix(" from") for name in keys) + _only(question),
        columns=[*tree.groupings, *tree.columns],
        rows=rows,
        total=tree.total(units),
        notes=notes,
        facts=facts,
        tree=len(keys),
        period=question.period,
        zone=str(usage.zone),
    )


class _Rows(Sequence[Row]):
    """Rows that are made anew each time, for more than fit into memory."""

    def __init__(self, make: Callable[[], Iterator[Row]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[Row]:
        return self._make()

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Row]: ...

    def __getitem__(self, place: int | slice) -> Row | Sequence[Row]:
        return list(self)[place]


def _only(question: Question) -> str:
    """`, only agent=code or docs, model=openai/*`: which calls a breakdown is about, unless it is about all."""
    patterns = patterns_of(question.where, question.aliases)
    said = [f"{name}={' or '.join(values)}" for name, values in patterns.items()]
    return f", only {', '.join(said)}" if said else ""


def _still_to_come(total: Figures, now: datetime | None, usage: Usage) -> list[str]:
    """What is said of a log whose latest call is dated later than any clock that goes right would have it."""
    last = None if total.last is None else parse_instant(total.last)
    if now is None or last is None or last <= now + _SKEW:
        return []
    return [f"The latest call is dated {local_time(last, usage.zone):%Y-%m-%d %H:%M}, still to come: a clock is wrong."]


def _running(rows: Sequence[Row], question: Question, usage: Usage) -> tuple[list[Row], Quota | None]:
    """The rows of the first level with what had been spent when their time was over; nobody knows before the first row
    whose cost is known."""
    quota = month_quota(question.quotas, question.where, question.aliases, question.period, usage)
    found = []
    spent: int | None = None
    for row in rows:
        cells: dict[str, Cell] = {"cumulative": None, "quota_share": None}
        if row.depth == 0:
            cost = row.cells["cost"]
            if isinstance(cost, int):
                spent = (spent or 0) + cost
            cells["cumulative"] = spent
            cells["quota_share"] = None if quota is None or spent is None else share_of_quota(spent, quota)
        found.append(replace(row, cells={**row.cells, **cells}))
    return found, quota


def _period_facts(period: Period) -> dict[str, object]:
    return {
        "label": period.label,
        "start": None if period.start is None else text_of(period.start),
        "end": None if period.end is None else text_of(period.end),
    }
