"""What a subject will probably spend: its last weeks, the newest counting most, laid over its usual weekdays; the range
is what the ups and downs of its own days add up to.

Plain arithmetic, measured on real series (`docs/forecast.md`, `benchmarks/forecast.py`). Exponential weights, factors
for weekdays: Hyndman & Athanasopoulos, *Forecasting: Principles and Practice*, 3rd edition 2021, chapters 3 and 8. The
gamma distribution is what sums of a few irregular amounts look like.

Floats within, whole nano-dollars in and out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cached_property
from math import sqrt

from callmeter.reports.gamma import quantile, upper_tail

# Half-lives in days.
_OF_LEVEL = 7
_OF_WEEKDAYS = 42
_OF_SPREAD = 28
# How many days the usual mean counts for, where something is spent on every second day.
_LENT = 2
# A level moves by so much in a week, whatever the past looked like, and by this part of what its days vary, if that is
# no more than so many times the level.
_DRIFT, _DRIFT_OF_NOISE, _NOISIEST = 0.08, 0.04, 2.0
# What the cap cut off comes back as an everyday share, up to so much.
_MOST_BACK = 1.15
_ENOUGH_DAYS = 14
_ENOUGH_WITH_SPEND = 8
_QUIETEST = 0.3
# What is less likely is left out: behind that, rounding says more than the figures.
_NEVER = 1e-9
# A quantile below this share of the mean is nothing.
_NOTHING = 0.05
Share = tuple[date, float]


class Uncertain(ABC):
    """An amount of which quantiles are known."""

    @abstractmethod
    def quantile(self, probability: float) -> int:
        """The amount that is not exceeded with this probability, between 0 and 1."""

    @property
    def median(self) -> int:
        """What is as likely exceeded as not: below the mean where spend comes in bursts."""
        return self.quantile(0.5)

    @property
    def likely(self) -> tuple[int, int]:
        """The amounts between which it lies with 8 chances in 10."""
        return self.quantile(0.1), self.quantile(0.9)

    @property
    def nearly_sure(self) -> tuple[int, int]:
        """The amounts between which it lies with 95 chances in 100."""
        return self.quantile(0.025), self.quantile(0.975)


@dataclass(frozen=True)
class Range(Uncertain):
    """What a sum of days may come to: with this mean and variance, nothing at all with the probability `nothing`, and
    else by a gamma distribution. Amounts are nano-dollars."""

    mean: float
    variance: float
    nothing: float = 0.0

    @property
    def expected(self) -> int:
        """The mean. Means add up; nothing else here does."""
        return round(self.mean)

    def quantile(self, probability: float) -> int:
        """The amount that is not exceeded with this probability, between 0 and 1; 0 when it is next to nothing."""
        if self.mean <= 0 or probability <= self.nothing:
            return 0
        sure = (probability - self.nothing) / (1 - self.nothing)
        amount = quantile(self._shape, sure) * self._scale
        return 0 if amount < _NOTHING * self.mean else round(amount)

    def over(self, amount: int) -> float:
        """The probability of more than `amount`; 1 for a negative one, which is exceeded already."""
        if amount < 0:
            return 1.0
        if self.mean <= 0:
            return 0.0
        return (1 - self.nothing) * upper_tail(self._shape, amount / self._scale)

    def scaled(self, factor: float) -> Range:
        """The range with all its amounts multiplied."""
        return Range(self.mean * factor, self.variance * factor * factor, self.nothing)

    def beyond(self, amount: int) -> Range:
        """What of it lies above an amount, from the moments of a gamma distribution that is cut off there."""
        if amount <= 0 or self.mean <= 0:
            return self
        start, shape = amount / self._scale, self._shape
        chance, first, second = (upper_tail(shape + more, start) for more in range(3))
        if chance < _NEVER:
            return NOTHING
        mean = (shape * first - start * chance) / chance
        square = (shape * ((shape + 1) * second - 2 * start * first) + start * start * chance) / chance
        # Where tails are tiny, rounding can leave no variance.
        square = max(square, mean * mean * (1 + _NEVER))
        some = (1 - self.nothing) * chance
        whole = some * mean * self._scale
        return Range(whole, some * square * self._scale * self._scale - whole * whole, 1 - some)

    @cached_property
    def _shape(self) -> float:
        return self._some / self._scale

    @cached_property
    def _scale(self) -> float:
        """Variance divided by mean, of what is more than nothing."""
        return (self.variance + self.mean * self.mean) / self.mean - self._some

    @cached_property
    def _some(self) -> float:
        """The mean of what is more than nothing."""
        return self.mean / (1 - self.nothing)


NOTHING = Range(0.0, 0.0)


@dataclass(frozen=True)
class Fit:
    """What the past of one subject says: an ordinary day (`level`, nano-dollars), what each weekday is of it
    (`weekdays`, Monday first, 1 on average), the variance of a day, and how many days the level rests on. `days` of
    history were known, on `days_with_spend` of them something was spent."""

    level: float
    weekdays: tuple[float, ...]
    variance: float
    effective_days: float
    days: int
    days_with_spend: int

    def day(self, day: date) -> Range:
        """The range of one whole day."""
        return self.sum([(day, 1.0)])

    def scaled(self, factor: float) -> Fit:
        """The fit with all its amounts multiplied."""
        return replace(self, level=self.level * factor, variance=self.variance * factor * factor)

    def sum(self, shares: Iterable[Share]) -> Range:
        """The range of a sum of days, each with the share of it that counts (1.0 for a whole day)."""
        mean = ordinary = busy = 0.0
        for day, share in shares:
            usual = self.weekdays[day.weekday()]
            mean += share * usual * self.level
            ordinary += share
            busy += share * max(usual, _QUIETEST)
        if mean <= 0:
            return NOTHING
        drift = _DRIFT + _DRIFT_OF_NOISE * min(_NOISIEST, sqrt(self.variance) / self.level)
        moved = drift * drift * ordinary / 7 * mean * mean
        return Range(mean, self.variance * busy * (1 + busy / self.effective_days) + moved)


def fit(days: Sequence[int | None], newest: date, *, guarded: bool = False) -> Fit | None:
    """The fit to what complete days cost, oldest first and without gaps; the last of them is `newest`. None for days
    of which nothing is known, which is not the same as 0. None when no day is known.

    `guarded` is for finding what is unusual: what the cap cut off stays out of level and spread, so that a spike of the
    past does not hide the next one.
    """
    known = [
        (age, (newest - timedelta(age)).weekday(), float(max(amount, 0)))
        for age, amount in enumerate(reversed(days))
        if amount is not None
    ]
    if not known:
        return None
    spent = sorted(amount for _, _, amount in known if amount > 0)
    cap = _cap(spent, len(known))
    capped = [min(amount, cap) for _, _, amount in known]
    weekdays = _weekdays(known, capped)
    busy = _busy(known)
    recent = _recent(known, busy)
    usual = [weekdays[weekday] for _, weekday, _ in known]
    level = _dot(recent, capped) / _dot(recent, usual)
    wide = capped if guarded else [min(amount, 3 * cap) for _, _, amount in known]
    variance = _variance(known, wide, [level * each for each in usual], recent, level * level / busy)
    if not guarded:
        slow = [_weight(age, _OF_WEEKDAYS) for age, _, _ in known]
        kept = _dot(slow, capped)
        level *= min(_MOST_BACK, _dot(slow, [amount for _, _, amount in known]) / kept) if kept else 1
    effective = sum(recent) ** 2 / _dot(recent, recent)
    return Fit(level, weekdays, variance, effective, len(known), len(spent))


_Day = tuple[int, int, float]  # age, weekday, amount


def _weight(age: int, half_life: int) -> float:
    weight: float = 0.5 ** (age / half_life)
    return weight


def _dot(one: Iterable[float], other: Iterable[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def _recent(known: Sequence[_Day], busy: float) -> list[float]:
    """How much each day counts for the level. Where something is spent on few days, the last weeks say little: then
    the usual mean of a day counts as well, as so many days as such days vary (the squared coefficient of variation of
    whether anything is spent, as in credibility theory: Bühlmann 1967).

    Not where it seems to be over: a silence so long that less than one like it was to be expected lends less.
    """
    places = [place for place, (_, _, amount) in enumerate(known) if amount]
    if not places:
        return [_weight(age, _OF_LEVEL) for age, _, _ in known]
    rate = len(places) / (places[-1] - places[0] + 1 + _OF_WEEKDAYS)
    silences = len(places) * (1 - rate) ** places[0]
    slow = [_weight(age, _OF_WEEKDAYS) for age, _, _ in known]
    lent = _LENT * (1 / busy - 1) * min(1.0, silences) / sum(slow)
    return [_weight(age, _OF_LEVEL) + lent * weight for (age, _, _), weight in zip(known, slow, strict=True)]


def _busy(known: Sequence[_Day]) -> float:
    """The share of the days on which something is spent; 1 where nothing ever is."""
    slow = [_weight(age, _OF_WEEKDAYS) for age, _, _ in known]
    return sum(weight for weight, (_, _, amount) in zip(slow, known, strict=True) if amount) / sum(slow) or 1.0


def _cap(spent: Sequence[float], days: int) -> float:
    """The most that a day counts for: the 95 % quantile of the days with spend, rounded down to one of them so that
    the largest of a few is left out. Without enough days there is no telling what is too much."""
    if days < _ENOUGH_DAYS or len(spent) < _ENOUGH_WITH_SPEND:
        return spent[-1] if spent else 0.0
    return spent[(len(spent) - 1) * 95 // 100]


def _weekdays(known: Sequence[_Day], capped: Sequence[float]) -> tuple[float, ...]:
    """What each weekday is of an ordinary day. Each begins with one imagined ordinary day, which a few real ones do
    not outweigh. Less than a week says nothing of weekdays."""
    weights = [_weight(age, _OF_WEEKDAYS) for age, _, _ in known]
    mean = _dot(weights, capped) / sum(weights)
    if not mean or len(known) < 7:
        return (1.0,) * 7
    amounts, counts = [1.0] * 7, [1.0] * 7
    for (_, weekday, _), weight, amount in zip(known, weights, capped, strict=True):
        amounts[weekday] += weight * amount / mean
        counts[weekday] += weight
    ratios = [amount / count for amount, count in zip(amounts, counts, strict=True)]
    return tuple(7 * ratio / sum(ratios) for ratio in ratios)


def _variance(
    known: Sequence[_Day], amounts: Sequence[float], usual: Sequence[float], recent: Sequence[float], imagined: float
) -> float:
    """The variance of a day around what was usual. A day that made its own expectation is off by less than a new one
    would be, so each residual is what it would be without that day. One imagined day, by its square, keeps a few days
    from looking sure."""
    slow = [_weight(age, _OF_WEEKDAYS) for age, _, _ in known]
    of_weekday = [1.0] * 7
    for (_, weekday, _), weight in zip(known, slow, strict=True):
        of_weekday[weekday] += weight
    total, count, weights = imagined, 1.0, sum(recent)
    for (age, weekday, _), amount, expected, new, old in zip(known, amounts, usual, recent, slow, strict=True):
        own = min(0.8, new / weights + old / of_weekday[weekday])
        weight = _weight(age, _OF_SPREAD)
        total += weight * ((amount - expected) / (1 - own)) ** 2
        count += weight
    return total / count
