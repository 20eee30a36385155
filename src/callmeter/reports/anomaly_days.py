"""Spikes and shifts in what one subject spends a day: beyond the range that the days before gave.

The range is the forecast's (`forecast_model`), fitted to the 84 days before and guarded against their own spikes. The
thresholds were measured on real and made series before this was written; `docs/anomalies.md` has the figures.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate

from callmeter.reports.forecast_model import Fit, Range, fit
from callmeter.reports.usage import Figures, Usage
from callmeter.words.period import Period

# Days before the judged ones: what the range is fitted to, and what a spike is compared with.
_FITTED, _LARGEST_OF, _MEAN_OF = 84, 42, 28
_LEAST_DAYS, _LEAST_WITH_SPEND = 14, 5
# A spike has at most this chance, comes to more than so many times the mean, and exceeds what was expected by more than
# this part of it.
_SPIKE_TAIL, _SPIKE_TIMES, _SPIKE_OF_MEAN = 0.001, 2, 0.5
# A shift has at most this chance, comes to more than so many times a usual week, and without its largest day to more
# than this part of what was expected of the whole week.
_SHIFT_TAIL, _SHIFT_TIMES, _SHIFT_WITHOUT_LARGEST = 0.005, 1.5, 0.8
# Days: of a shift, and after one, in which nothing is said.
_WEEK, _QUIET = 7, 21
# So many spikes in a row are no spike any more.
_LASTING = 3
# In one of so many months before a spike, give or take so many days, a day came to between this part of it and so many
# times it: that is a job of each month.
_MONTHS, _AROUND, _LEAST_OF_JOB, _MOST_OF_JOB = 2, 2, 2 / 3, 3
_DAY = timedelta(1)
# What a `Day` is made of.
COUNTED = ("nano", "estimate_nano", "calls", "errors")


@dataclass(slots=True)
class Day:
    """One subject's day. `nano` has unknown costs at their worst case, of which `estimated` is the part."""

    nano: int = 0
    estimated: int = 0
    calls: int = 0
    errors: int = 0

    def add(self, figures: Figures, origin: str) -> None:
        """Add a group of one `origin`."""
        guess = figures.estimate_nano if origin == "unknown" else 0
        self.nano += figures.nano + guess
        self.estimated += guess
        self.calls += figures.calls
        self.errors += figures.errors


Days = Mapping[date, Day]
# By grouping, the days of each of its values.
Tables = Mapping[str, Mapping[str, Days]]


@dataclass(frozen=True)
class Event:
    """Adjacent days, the last one included, that came to `actual` where `usual` was to be expected. Nano-dollars.
    `monthly`: as in months before."""

    first: date
    last: date
    usual: Range
    actual: int
    monthly: bool = False

    @property
    def excess(self) -> int:
        return self.actual - self.usual.expected

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1

    def overlaps(self, other: Event) -> bool:
        """Whether they share a day."""
        return self.first <= other.last and other.first <= self.last


def read_days(
    usage: Usage, names: Sequence[str], period: Period, where: Sequence[str]
) -> dict[str, dict[str, dict[date, Day]]]:
    """By grouping, the days of each of its values, on which it has lines."""
    bys = [(name, "day", "origin") for name in names]
    every = usage.groupings(bys, COUNTED, period=period, where=where)
    found: dict[str, dict[str, dict[date, Day]]] = {name: {} for name in names}
    for values, groups in zip(found.values(), every, strict=True):
        for (value, label, origin), figures in groups:
            values.setdefault(value, {}).setdefault(date.fromisoformat(label), Day()).add(figures, origin)
    return found


def all_days(values: Mapping[str, Days]) -> dict[date, Day]:
    """The days of all values together."""
    found: dict[date, Day] = {}
    for days in values.values():
        for day, each in days.items():
            total = found.setdefault(day, Day())
            total.nano += each.nano
            total.estimated += each.estimated
            total.calls += each.calls
            total.errors += each.errors
    return found


def amounts(days: Days, until: date) -> tuple[date, list[int]]:
    """What was spent on each day, from the first one with lines up to, not including, `until`; 0 on days without."""
    first = min((day for day in days if day < until), default=until)
    spent = [0] * (until - first).days
    for day, each in days.items():
        if day < until:
            spent[(day - first).days] = max(0, each.nano)
    return first, spent


def too_short(spent: Sequence[int]) -> bool:
    """Whether there is too little history to say what is usual."""
    return len(spent) < _LEAST_DAYS or sum(map(bool, spent)) < _LEAST_WITH_SPEND


def spikes(first: date, spent: Sequence[int], floor: int, running: int | None = None) -> list[Event]:
    """Days that cost much more than those before them, in order; adjacent ones are one event.

    `spent` are complete days from `first` on; `running` is what the day after them, which is not over yet, has come
    to. Days that were spikes do not raise the bar for later ones. Those of a job of each month are among them, for they
    are no shift either.
    """
    every = [*spent, running] if running is not None else list(spent)
    odd: set[int] = set()
    found: list[Event] = []
    for index, amount in enumerate(every):
        if amount <= floor or index < _LEAST_DAYS:
            continue
        month = [spent[day] for day in range(max(0, index - _MEAN_OF), index) if day not in odd]
        mean = sum(month) / len(month) if month else 0.0
        if amount <= _SPIKE_TIMES * mean:
            continue
        if amount < max((spent[day] for day in range(max(0, index - _LARGEST_OF), index) if day not in odd), default=0):
            continue
        usual = _range_before(first, spent, index, 1)
        if usual is None or amount - usual.mean <= max(floor, _SPIKE_OF_MEAN * mean):
            continue
        if usual.over(amount) >= _SPIKE_TAIL:
            continue
        odd.add(index)
        day = first + index * _DAY
        monthly = _is_monthly(first, spent, day, amount, _SPIKE_TIMES * mean)
        if found and found[-1].last == day - _DAY and found[-1].monthly == monthly:
            begun = (found[-1].first - first).days
            whole = _range_before(first, spent, begun, index - begun + 1)
            found[-1] = Event(found[-1].first, day, whole or usual, sum(every[begun : index + 1]), monthly)
        else:
            found.append(Event(day, day, usual, amount, monthly))
    return found


def _is_monthly(first: date, spent: Sequence[int], day: date, amount: int, ordinary: float) -> bool:
    """Whether a day like this one came in one of the months before, counted from its beginning or from its end; days
    up to `ordinary` are none."""
    to_end = monthrange(day.year, day.month)[1] - day.day
    turn = (day - first).days - day.day  # the last day of the month before
    for _ in range(_MONTHS):
        if turn < 0:
            return False
        length = (first + turn * _DAY).day
        begin, end = sorted((turn - max(0, length - day.day), turn - min(length, to_end)))
        nearby = spent[max(0, begin - _AROUND) : max(0, end + _AROUND + 1)]
        least = max(_LEAST_OF_JOB * amount, ordinary)
        if any(least <= before <= _MOST_OF_JOB * amount for before in nearby):
            return True
        turn -= length
    return False


def shifts(first: date, spent: Sequence[int], floor: int, spiked: Sequence[Event] = ()) -> list[Event]:
    """Weeks that cost more than those before them, and not because of one day, in order; after each, three weeks in
    which nothing is said. `spent` are complete days; `spiked` are their spikes, of which short ones are no shift."""
    short = [(event.first - first).days + day for event in spiked if event.days < _LASTING for day in range(event.days)]
    sums = [0, *accumulate(spent)]
    found: list[Event] = []
    quiet_until = 0
    for end in range(_LEAST_DAYS + _WEEK, len(spent) + 1):
        start = end - _WEEK
        total = sums[end] - sums[start]
        if end < quiet_until or total <= floor:
            continue
        mean_week = (sums[start] - sums[max(0, start - _MEAN_OF)]) / min(start, _MEAN_OF) * _WEEK
        if total <= _SHIFT_TIMES * mean_week:
            continue
        usual = _range_before(first, spent, start, _WEEK)
        if usual is None or total - usual.mean <= floor:
            continue
        # What a short spike took is told as a spike.
        ordinary = total - sum(max(0.0, spent[day] - usual.mean / _WEEK) for day in short if start <= day < end)
        if ordinary <= _SHIFT_TIMES * mean_week or usual.over(round(ordinary)) >= _SHIFT_TAIL:
            continue
        if total - max(spent[start:end]) <= _SHIFT_WITHOUT_LARGEST * usual.mean:
            continue
        found.append(_since_it_began(first, spent, start, end, floor))
        quiet_until = end + _QUIET
    return found


def _since_it_began(first: date, spent: Sequence[int], start: int, end: int, floor: int) -> Event:
    """The days of a week's shift since it began: the week that tells begins before a change that is not large."""
    fitted = _fit_before(first, spent, start)
    assert fitted is not None
    days = [first + index * _DAY for index in range(start, end)]
    actual = spent[start:end]
    expected = [fitted.sum([(day, 1.0)]).mean for day in days]
    begun = 0
    level = 1.0
    # A day belongs to the new level if it is nearer to it than to the old one (Page's cumulative sum), which is first
    # taken to be all that lies above.
    for _ in range(2):
        above = [amount - level * usual for amount, usual in zip(actual, expected, strict=True)]
        begun = max(range(len(days)), key=lambda number: sum(above[number:]))
        level = (1 + sum(actual[begun:]) / max(1.0, sum(expected[begun:]))) / 2
    since, whole = (
        Event(days[each], days[-1], fitted.sum((day, 1.0) for day in days[each:]), sum(actual[each:]))
        for each in (begun, 0)
    )
    return since if since.excess > floor and since.usual.over(since.actual) < _SHIFT_TAIL else whole


def told_once(spiked: Sequence[Event], shifted: Sequence[Event]) -> tuple[list[Event], list[Event]]:
    """Spikes and shifts that do not tell the same twice: a job of each month was told before; spikes within a shift,
    and in the week after, are part of it. Where it began as several spikes in a row, those days are the shift."""
    spikes_left, moved = [event for event in spiked if not event.monthly], []
    for shift in shifted:
        week = Event(shift.first, shift.last + _WEEK * _DAY, shift.usual, shift.actual)
        inside = [event for event in spikes_left if event.overlaps(week)]
        spikes_left = [event for event in spikes_left if event not in inside]
        in_a_row = [event for event in inside if event.days >= _LASTING]
        moved.append(max(in_a_row, key=lambda event: event.actual, default=shift))
    return spikes_left, moved


def _range_before(first: date, spent: Sequence[int], index: int, days: int) -> Range | None:
    """The range of so many days from `index` on, from the days before them; None when those say too little."""
    fitted = _fit_before(first, spent, index)
    day = first + index * _DAY
    return None if fitted is None else fitted.sum((day + number * _DAY, 1.0) for number in range(days))


def _fit_before(first: date, spent: Sequence[int], index: int) -> Fit | None:
    past = spent[max(0, index - _FITTED) : index]
    return None if too_short(past) else fit(past, first + (index - 1) * _DAY, guarded=True)
