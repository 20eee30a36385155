"""An hour that costs far more than its like: what a live view warns of before the day is over.

The same hour and its neighbours on like days (working days, or days of a weekend) of the four weeks before. Their
logarithms' median is what is usual, their median absolute deviation how far it strays. Log-scale because spend is
skewed; medians because one earlier runaway must not hide the next. Where many of those hours cost nothing, one call
more is no news, and an hour is odd when it comes close to a whole day.

Made logs of 70 days, a day's calls spread over twelve hours: no false warning in 42 days; ten times the usual hour was
found in 92 of 100 cases at 60 calls a day and agent, in 57 at 20.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import median

Hours = Mapping[tuple[date, int], int]
"""Nano-dollars by day and hour of the day; an hour without calls may be missing."""

HISTORY = 28
_FEWEST_DAYS = 4
_FAR = 4  # times the usual deviation
_TIMES = 3
_OF_A_DAY = 0.1
_OF_A_DAY_IF_IDLE = 0.75
_IDLE = 0.25  # share of hours without spend
_LEAST_STRAY = 0.1
# The median absolute deviation of a normal distribution is so much of its standard deviation.
_NORMAL = 0.6745


@dataclass(frozen=True)
class Usual:
    """What an hour usually comes to, and a whole day, in nano-dollars; from so many like days."""

    hour: int
    day: int
    days: int
    _level: float
    _stray: float
    _idle: bool

    def is_odd(self, spent: int) -> bool:
        """Whether an hour that came to so much is out of the ordinary."""
        excess = spent - self.hour
        if self._idle:
            return excess > _OF_A_DAY_IF_IDLE * self.day
        if excess <= _OF_A_DAY * self.day or spent <= _TIMES * self.hour:
            return False
        return (math.log(spent) - self._level) * _NORMAL > _FAR * max(self._stray, _LEAST_STRAY)


@dataclass(frozen=True)
class OddHour:
    """An hour of today that came to far more than usual."""

    hour: int
    spent: int
    usual: Usual


def usual_hour(hours: Hours, first: date | None, day: date, hour: int) -> Usual | None:
    """What is usual in an hour of a day, from the like days before it; None where there are too few of them. `first`
    is the first day that the log covers: hours after it that are missing cost nothing."""
    days = [day - timedelta(days=back) for back in range(1, HISTORY + 1)]
    days = [each for each in days if first is not None and first <= each and _is_weekend(each) == _is_weekend(day)]
    if len(days) < _FEWEST_DAYS:
        return None
    whole = int(median(sum(hours.get((each, number), 0) for number in range(24)) for each in days))
    spent = [hours.get((each, near), 0) for each in days for near in range(max(hour - 1, 0), min(hour + 2, 24))]
    logs = [math.log(each) for each in spent if each > 0]
    level = median(logs) if logs else 0.0
    stray = median(abs(each - level) for each in logs) if logs else 0.0
    return Usual(int(median(spent)), whole, len(days), level, stray, len(logs) < (1 - _IDLE) * len(spent))


def odd_hour(hours: Hours, day: date, until: int, usual_of: Callable[[int], Usual | None]) -> OddHour | None:
    """The hour of a day that went furthest beyond what is usual, of those that are odd; up to and including the hour
    `until`, which may still be running. So a day has one warning at most. `usual_of` tells what is usual in an hour."""
    found: list[OddHour] = []
    for hour in range(until + 1):
        spent = hours.get((day, hour), 0)
        usual = usual_of(hour) if spent > 0 else None
        if usual is not None and usual.is_odd(spent):
            found.append(OddHour(hour, spent, usual))
    return max(found, key=lambda odd: odd.spent - odd.usual.hour, default=None)


def _is_weekend(day: date) -> bool:
    return day.weekday() >= 5
