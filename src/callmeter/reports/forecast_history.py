"""What subjects took on each day of the past, as the forecast wants it: complete days, and how much of today is left.

A day without a line is 0 once the subject has made its first call; the days before that, and today, are no days. Days
that the log has lost are missing, which is not 0. A call whose cost nobody knows counts at its estimate. A correction
counts on the day of its call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import date, datetime, time, timedelta

from callmeter.policy.quotas import UNITS
from callmeter.reports.forecast_model import Fit, Share, fit
from callmeter.reports.lost_days import Gap, Lost, missing_days
from callmeter.reports.usage import Figures, Usage
from callmeter.words.period import Period, bucket

# Older days weigh next to nothing.
HISTORY = 180
RECENT = 28
# Days: fewer are a guess, say nothing of weekdays, are a short history; and fewer with spend say little.
_GUESS, _WEEK, _ENOUGH, _FEW = 3, 7, 14, 5
_TICK = timedelta(microseconds=1)
_DAY = timedelta(1)
# A host that has not called for longer is silent.
_SILENT = 2 * _DAY
# What is counted of the calls of a day.
_COUNTED = ("nano", "tokens_in", "tokens_out", "sent", "calls", "unknown", "estimate_nano")
# Calls that a limit or a freeze stopped.
_STOPPED = ("quota_exceeded", "quota_busy", "frozen", "loop", "limit_exceeded", "approval_needed")


class History:
    """What one subject took a day, in each unit (money in nano-dollars), since its first call; `guessed` is the part
    of its money that is only estimated, and `unknown` that of it which counts nowhere else: calls whose cost nobody
    knows, at their estimates; `unpriced` are how many such calls had none. `missing` are days that nobody knows."""

    def __init__(self, missing: Collection[date] = ()) -> None:
        self.first: date | None = None
        self.missing = frozenset(missing)
        self.amounts: dict[str, Counter[date]] = {unit: Counter() for unit in UNITS}
        self.guessed: Counter[date] = Counter()
        self.unknown: Counter[date] = Counter()
        self.unpriced: Counter[date] = Counter()

    def add(self, day: date, figures: Figures, origin: str) -> None:
        """Count one group of calls of one day, whose costs come from `origin`."""
        guess = figures.estimate_nano * figures.unknown // figures.calls if figures.unknown else 0
        self.amounts["usd"][day] += figures.nano + guess
        for unit in ("tokens", "calls"):
            self.amounts[unit][day] += figures.amount(unit)
        self.guessed[day] += guess + (figures.nano if origin == "estimate" else 0)
        self.unknown[day] += guess
        self.unpriced[day] += 0 if guess else figures.unknown
        if figures.calls and (self.first is None or day < self.first):
            self.first = day

    def merge(self, other: History) -> None:
        """Count another subject's calls as this one's."""
        for unit, amounts in other.amounts.items():
            self.amounts[unit].update(amounts)
        self.guessed.update(other.guessed)
        self.unknown.update(other.unknown)
        self.unpriced.update(other.unpriced)
        self.missing |= other.missing
        self.first = min(filter(None, (self.first, other.first)), default=None)

    def days(self, until: date, unit: str = "usd") -> list[int | None]:
        """What each day took, from the first call (or so many days ago as still count) up to, not including, a day;
        None for days that are missing."""
        if self.first is None:
            return []
        begin = max(self.first, until - HISTORY * _DAY)
        amounts = self.amounts[unit]
        days = [begin + n * _DAY for n in range((until - begin).days)]
        return [None if day in self.missing else amounts[day] for day in days]

    def sum(self, first: date, last: date, unit: str = "usd") -> int:
        """What it took from one day to another, both included."""
        return sum(amount for day, amount in self.amounts[unit].items() if first <= day <= last)

    def sum_unknown(self, first: date, last: date) -> int:
        """What of its money from one day to another, both included, is the estimate of calls of unknown cost."""
        return sum(amount for day, amount in self.unknown.items() if first <= day <= last)

    def fit(self, until: date, unit: str = "usd") -> Fit | None:
        """What the days before `until` say; None without a complete day."""
        return fit(self.days(until, unit), until - _DAY)


class Present:
    """Where the past ends, and what is known of it. `today` is the day of `now`; days before `until` are complete.
    `end`: what began later is in no figure. `losses` are what the log is known to have lost, and `missing` the days
    that are missing for it."""

    def __init__(self, usage: Usage, now: datetime, losses: Sequence[Lost | Gap] = ()) -> None:
        self.usage = usage
        self.missing = missing_days(usage, losses, now)
        self.now = now
        self.today = now.astimezone(usage.zone).date()
        # The last moment of a day, which `--as-of` with a date means, is the end of that day.
        after = now + _TICK
        self.end = after if after.astimezone(usage.zone).time() == time() else now
        local = self.end.astimezone(usage.zone)
        self.until = local.date()
        self._hour = local.hour
        self._gone = (local.minute * 60 + local.second) / 3600
        self._spent: dict[str, dict[str, tuple[float, float]]] = {}

    def rest(self, tag: str = "", is_meant: Callable[[str], bool] = lambda value: True) -> float:
        """How much of a usual day is still to come, from 1 at midnight to 0: for all calls, or for those with the
        values of a tag that are meant. Without spend lately, as much as there is left of the day."""
        if self.until > self.today:
            return 0.0
        return self._left(both for value, both in self._by(tag).items() if is_meant(value))

    def rest_of(self, tag: str, value: str) -> float:
        """The same for one value of a tag, of which there may be thousands."""
        if self.until > self.today:
            return 0.0
        both = self._by(tag).get(value)
        return self._left(() if both is None else [both])

    def _left(self, chosen: Iterable[tuple[float, float]]) -> float:
        chosen = list(chosen)
        before, after = sum(one for one, _ in chosen), sum(other for _, other in chosen)
        return after / (before + after) if before + after > 0 else (24 - self._hour - self._gone) / 24

    def _by(self, tag: str) -> dict[str, tuple[float, float]]:
        if tag not in self._spent:
            self._spent[tag] = self._split(tag)
        return self._spent[tag]

    def _split(self, tag: str) -> dict[str, tuple[float, float]]:
        """What the last days took before and after this time of the day, by the tag's values."""
        found: dict[str, tuple[float, float]] = {}
        # In the order of their names, in which they come: floats add up to something else in another.
        by = ["hour", *filter(None, [tag])]
        for (label, *rest), each in self.usage.groups(by, period=recent(self), only=("nano",)):
            value, hour = "".join(rest), int(label[11:13])
            later = 1.0 if hour > self._hour else 0.0 if hour < self._hour else 1 - self._gone
            before, after = found.get(value, (0.0, 0.0))
            nano = max(each.nano, 0)
            found[value] = before + (1 - later) * nano, after + later * nano
        return found


def recent(present: Present) -> Period:
    """The last days before today."""
    midnight = bucket(present.end, "day", present.usage.zone)[0]
    if midnight.year < 2:  # `--as-of` may be the first day of the calendar
        return Period(None, midnight, "")
    return Period(bucket(midnight - RECENT * _DAY, "day", present.usage.zone)[0], midnight, "")


def stopped_days(present: Present) -> int:
    """On how many of the last days a limit or a freeze stopped calls: they say less than was wanted."""
    found = present.usage.groups(["day", "error"], period=recent(present), where=["status=refused"], only=())
    return len({day for (day, error), _ in found if error in _STOPPED})


def silent_hosts(present: Present) -> list[tuple[str, date]]:
    """Hosts that called day after day lately and then no more, while others did, and the last day of each. Nothing
    tells whether they rest, or whether their logs are not complete."""
    days: dict[str, list[date]] = {}
    for (host, label), figures in present.usage.groups(["host", "day"], period=recent(present)):
        if figures.calls:
            days.setdefault(host, []).append(date.fromisoformat(label))
    last = max((max(each) for each in days.values()), default=present.today)
    return sorted((host, max(each)) for host, each in days.items() if last - max(each) > _SILENT and _is_daily(each))


def _is_daily(days: Sequence[date]) -> bool:
    """Whether they are a week's at least, and nine of ten days from the first to the last of them."""
    return len(days) >= _WEEK and 10 * len(days) >= 9 * ((max(days) - min(days)).days + 1)


def histories(usage: Usage, by: Sequence[str], present: Present) -> dict[tuple[str, ...], History]:
    """The history of each combination of values of some groupings, up to now."""
    found: dict[tuple[str, ...], History] = {}
    groups = usage.groups(["day", "origin", *by], period=Period(None, present.end, ""), only=_COUNTED)
    for (label, origin, *names), figures in groups:
        found.setdefault(tuple(names), History(present.missing.days)).add(date.fromisoformat(label), figures, origin)
    return found


def together(several: Iterable[History]) -> History:
    """Several histories as one."""
    whole = History()
    for each in several:
        whole.merge(each)
    return whole


def quality(found: Fit | None) -> str:
    """How far a forecast can be trusted: `none`, `guess` (one or two days), `short`, `ok`."""
    if found is None:
        return "none"
    if found.days < _GUESS:
        return "guess"
    return "short" if found.days < _ENOUGH or found.days_with_spend < _FEW else "ok"


def doubt(found: Fit | None) -> str:
    """Why a forecast is worth less than it looks, in a few words; "" when it is not."""
    if found is None:
        return "no complete day yet"
    if found.days < _GUESS:
        return f"{'one day' if found.days == 1 else 'two days'} only; the range is a guess"
    if not found.days_with_spend:
        return "spends nothing"
    if found.days < _WEEK:
        return "less than a week: no weekdays known"
    if found.days_with_spend < _FEW:
        return "spends on few days"
    return "less than two weeks" if found.days < _ENOUGH else ""


def days_of(first: date, last: date) -> list[Share]:
    """Whole days from one to another, both included."""
    return [(first + n * _DAY, 1.0) for n in range((last - first).days + 1)]
