"""What will probably be spent in the coming days: in all, by day, and by agent or any other grouping.

The total is forecast by itself and is the same figure whatever it is broken into. What the parts differ from it is
borne by each in proportion to its variance, so that what is expected adds up exactly, and a subject that nobody knows
yet does not change one that has been steady for months (variance scaling: Hyndman, Lee & Wang 2016). Ranges do not add
up: not all subjects have a bad week at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import exp

from callmeter.reports.forecast_history import History, Present, days_of, together
from callmeter.reports.forecast_model import NOTHING, Fit, Range, Share, Uncertain
from callmeter.reports.sums import apportion
from callmeter.words.errors import UsageError

MOST_DAYS = 366
_DAY = timedelta(1)
# Near enough to a sum that is made exact afterwards.
_CLOSE, _MOST_STEPS = 1e-9, 200
# Parts of a nano-dollar, so that parts which round to nothing still share a sum.
_FINE = 1_000_000
Names = tuple[str, ...]


@dataclass(frozen=True)
class Horizon:
    """Whole days from `first` to `last`. With `begun`, a period that has begun on that day: what it has taken already
    and the rest of today are in the sum."""

    name: str
    title: str
    first: date
    last: date
    begun: date | None = None


@dataclass(frozen=True)
class Sum(Uncertain):
    """What a horizon comes to for one subject: `spent` already, and `coming`. Nano-dollars."""

    spent: int
    coming: Range
    expected: int

    def quantile(self, probability: float) -> int:
        """What is not exceeded with this probability."""
        return self.spent + self.coming.quantile(probability)

    def over(self, amount: int) -> float:
        """The probability of more than `amount`."""
        return self.coming.over(amount - self.spent)


@dataclass(frozen=True)
class Part:
    """One subject's share of a forecast; without a fit, `sum` is 0."""

    names: Names
    sum: Sum
    fit: Fit | None
    history: History

    @property
    def unknown(self) -> bool:
        """Whether nothing is known of what is to come, because nobody knows what the calls cost."""
        return self.fit is not None and not self.sum.coming.mean and self.history.unpriced.total() > 0


@dataclass(frozen=True)
class Day:
    """One day of a horizon; `expected` adds up to that of the horizon, less what is spent."""

    day: date
    expected: int
    range: Range


@dataclass(frozen=True)
class Forecast:
    """A horizon's forecast; None instead of one where there is no complete day to learn from."""

    horizon: Horizon
    total: Part
    days: Sequence[Day]
    parts: Sequence[Part]


def next_week(today: date) -> Horizon:
    """The calendar week after this one."""
    monday = today + (7 - today.weekday()) * _DAY
    return Horizon("next_week", "next week", monday, monday + 6 * _DAY)


def next_month(today: date) -> Horizon:
    """The calendar month after this one."""
    first = _first_of_next(today)
    return Horizon("next_month", "next month", first, _first_of_next(first) - _DAY)


def next_days(today: date, count: int) -> Horizon:
    """So many days from tomorrow on."""
    title = f"next {count} days" if count > 1 else "tomorrow"
    return Horizon(f"next_{count}_days", title, today + _DAY, today + count * _DAY)


def to_end(today: date, period: str) -> Horizon:
    """The rest of this day, week, month or year, on top of what it has taken so far. Raises UsageError for periods
    that have no end, or are over before there is anything to say."""
    match period:
        case "day":
            first, after = today, today + _DAY
        case "week":
            first = today - today.weekday() * _DAY
            after = first + 7 * _DAY
        case "month":
            first, after = today.replace(day=1), _first_of_next(today)
        case "year":
            first, after = date(today.year, 1, 1), date(today.year + 1, 1, 1)
        case _:
            raise UsageError(
                f"the policy's period is {period!r}, and there is no forecast to its end",
                "write `--next-week`, `--next-month` or `--days 7`",
                code="bad_time",
            )
    title = "today" if period == "day" else f"this {period}"
    return Horizon("to_period_end", title, today + _DAY, after - _DAY, first)


def forecast(horizon: Horizon, found: Mapping[Names, History], present: Present, by: Sequence[str] = ()) -> Forecast:
    """The forecast for one horizon, from the histories of its parts, which are grouped `by` so many tags."""
    whole = together(found.values())
    total = _part((), whole, horizon, present)
    shares = _shares(horizon, present.rest)
    amounts = [total.fit.sum([share]) for share in shares] if total.fit else []
    expected = _scaled([each.mean for each in amounts], total.sum.expected - total.sum.spent)
    days = [Day(day, amount, each) for (day, _), amount, each in zip(shares, expected, amounts, strict=False)]
    return Forecast(horizon, total, days, _parts(total, found, horizon, present, by) if by else [])


def factors_of(horizon: Horizon, found: Mapping[Names, History], present: Present, tag: str) -> dict[Names, float]:
    """What scales each part by one tag, so that together they come to the total of a horizon."""
    total = _part((), together(found.values()), horizon, present)
    alone = [_part(names, history, horizon, present, tag) for names, history in found.items()]
    return dict(zip(found, _factors(total, alone), strict=True))


def _parts(
    total: Part, found: Mapping[Names, History], horizon: Horizon, present: Present, by: Sequence[str]
) -> list[Part]:
    """The parts, fitted to the total, the dearest first."""
    tag = by[0] if len(by) == 1 else ""
    alone = [_part(names, history, horizon, present, tag) for names, history in found.items()]
    fitting = [part.sum.coming.scaled(factor) for part, factor in zip(alone, _factors(total, alone), strict=True)]
    coming = _scaled([each.mean for each in fitting], total.sum.expected - total.sum.spent)
    parts = [
        Part(part.names, Sum(part.sum.spent, fitted, part.sum.spent + amount), part.fit, part.history)
        for part, fitted, amount in zip(alone, fitting, coming, strict=True)
    ]
    return sorted(parts, key=lambda part: (-part.sum.expected, part.names))


def _factors(total: Part, alone: Sequence[Part]) -> list[float]:
    """What makes the parts' means add up to the total's: each bears of the difference in proportion to its variance,
    and none falls to nothing."""
    coming = [part.sum.coming for part in alone]
    known = [each for each in coming if each.mean > 0]
    off = total.sum.coming.mean - sum(each.mean for each in known)
    if off >= 0:
        whole = sum(each.variance for each in known)
        return [1 + off * each.variance / whole / each.mean if each.mean > 0 else 1.0 for each in coming]
    tilt = _tilt(known, total.sum.coming.mean)
    return [_tilted(each, tilt) if each.mean > 0 else 1.0 for each in coming]


def _tilted(each: Range, tilt: float) -> float:
    """How many times as often amounts of one size come, with this mean and variance of their sum, when a sum counts
    `exp(-tilt * sum)` times as much."""
    return exp(-tilt * each.variance / each.mean)


def _tilt(known: Sequence[Range], whole: float) -> float:
    """What parts have to be tilted by, so that their means add up to `whole`, which is less than they do now: of all
    changes the one that adds least to what is known (exponential tilting: Csiszár 1975). Newton's method, from below.
    """
    tilt = 0.0
    for _ in range(_MOST_STEPS):
        factors = [_tilted(each, tilt) for each in known]
        above = sum(each.mean * factor for each, factor in zip(known, factors, strict=True)) - whole
        if above <= _CLOSE * whole:
            break
        tilt += above / sum(each.variance * factor for each, factor in zip(known, factors, strict=True))
    return tilt


def _part(names: Names, history: History, horizon: Horizon, present: Present, tag: str = "") -> Part:
    """The forecast of one subject by itself; `tag` is what its one name is a value of."""
    fit = history.fit(present.until)
    spent = 0 if horizon.begun is None else history.sum(horizon.begun, present.today)
    shares = _shares(horizon, lambda: present.rest_of(tag, names[0]) if tag else present.rest())
    coming = fit.sum(shares) if fit else NOTHING
    return Part(names, Sum(spent, coming, spent + coming.expected), fit, history)


def _shares(horizon: Horizon, rest: Callable[[], float]) -> list[Share]:
    shares = days_of(horizon.first, horizon.last)
    # What of today is still to come: its first day, if the horizon has begun.
    return shares if horizon.begun is None else [(horizon.first - _DAY, rest()), *shares]


def _scaled(amounts: Sequence[float], whole: int) -> list[int]:
    """Whole nano-dollars in the proportions of `amounts` that add up to `whole` exactly."""
    fine = [round(amount * _FINE) for amount in amounts]
    return apportion(fine, sum(fine), whole) if sum(fine) else [0] * len(fine)


def _first_of_next(day: date) -> date:
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)
