"""How forecasts did: what was said before, set against what it came to.

A forecast is graded when its last day is over. It was right if the outcome lies in the range that was given 8 chances
in 10, so about 8 of 10 should be: fewer means too narrow ranges, all of them means too wide ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from callmeter.reports.forecast import Forecast
from callmeter.reports.forecast_history import History, Present, histories
from callmeter.reports.forecast_words import days_text, range_text
from callmeter.words.money import shown

# From so many grades on, a percentage says more than a count.
_ENOUGH = 8
_MOST_PARTS = 20
_DAY = timedelta(1)


@dataclass(frozen=True)
class Said:
    """What was forecast for the days `first` to `last`, both included, when it was `made_at` (RFC 3339). `by` names the
    subject by its groupings (`agent`: `code`), nothing for the total. Nano-dollars."""

    made_at: str
    horizon: str
    first: date
    last: date
    expected: int
    median: int
    likely: tuple[int, int]
    nearly_sure: tuple[int, int]
    by: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> tuple[object, ...]:
        """What a later forecast must share to stand in its place."""
        return self.first, self.last, *sorted(self.by.items())

    @property
    def subject(self) -> str:
        """`total`, `agent:code`."""
        return " ".join(f"{name}:{value}" for name, value in self.by.items()) or "total"


@dataclass(frozen=True)
class Grade:
    """A forecast and what it came to, in nano-dollars."""

    said: Said
    outcome: int

    @property
    def inside(self) -> bool:
        """Whether it came to something in the range that had 8 chances in 10."""
        return self.verdict == "inside"

    @property
    def verdict(self) -> str:
        """Where the outcome lies: `below`, `inside` or `above` that range."""
        low, high = self.said.likely
        return "below" if self.outcome < low else "above" if self.outcome > high else "inside"


def said_by(forecast: Forecast, by: Sequence[str], made_at: str) -> list[Said]:
    """What there is to remember of a forecast: its total and its largest parts. Nothing of a period that has begun:
    half of that is no forecast."""
    if forecast.horizon.begun is not None:
        return []
    return [
        Said(
            made_at,
            forecast.horizon.name,
            forecast.horizon.first,
            forecast.horizon.last,
            part.sum.expected,
            part.sum.median,
            part.sum.coming.likely,
            part.sum.coming.nearly_sure,
            dict(zip(by, part.names, strict=False)),
        )
        for part in [forecast.total, *forecast.parts[:_MOST_PARTS]]
        if part.fit is not None
    ]


def grades(said: Iterable[Said], present: Present) -> list[Grade]:
    """The grades of the forecasts whose days are over, and were covered by the log, none of them lost: the latest days
    first, the total before its parts. Of several for the same days and subject, the last one made counts."""
    kept = {
        each.place: each
        for each in said
        if each.last < present.until and not present.missing.within(each.first, each.last + _DAY)
    }
    pasts: dict[tuple[str, ...], Mapping[tuple[str, ...], History]] = {}
    found = []
    for each in kept.values():
        names = tuple(each.by)
        if names not in pasts:
            pasts[names] = histories(present.usage, names, present)
        history = pasts[names].get(tuple(each.by.values()))
        if history is not None and history.first is not None and history.first <= each.first:
            found.append(Grade(each, history.sum(each.first, each.last)))
    return sorted(found, key=lambda grade: (-grade.said.last.toordinal(), len(grade.said.by), grade.said.subject))


def grade_sentence(grade: Grade) -> str:
    """`For 2026-11-16 to 2026-11-22 we said $41.20 ($33 to $52), it came to $44.87: inside.`"""
    said = grade.said
    whose = f", {said.subject}," if said.by else ""
    return (
        f"For {days_text(said.first, said.last)}{whose} we said {shown(said.expected)} ({range_text(*said.likely)}), "
        f"it came to {shown(grade.outcome)}: {grade.verdict}."
    )


def hits_sentence(found: Sequence[Grade]) -> str:
    """`6 of 7 forecasts were inside their range.`; a percentage from 8 on; "" for none."""
    if not found:
        return ""
    many = len(found)
    return f"{hits_text(sum(grade.inside for grade in found), many)} forecasts inside their range; 8 in 10 should be."


def hits_text(hits: int, many: int) -> str:
    """`6 of 7`, `86% of 14`."""
    return f"{hits} of {many}" if many < _ENOUGH else f"{round(100 * hits / many)}% of {many}"
