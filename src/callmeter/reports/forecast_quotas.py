"""What the forecast means for quotas: how likely each is exceeded before it resets, and when it will be used up.

The chance is that of spending more, by the reset, than is left now: the limit less what was used and what calls in
flight hold. A quota runs out on the day on which the expected running total passes what is left; `earliest` and
`latest` are the first days by which that has happened with 1 chance in 10, and with 9.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from callmeter.policy.decision import Stand
from callmeter.policy.quotas import Quota, window_of
from callmeter.reports.forecast import Horizon, factor_of
from callmeter.reports.forecast_history import History, Now, days_of, histories, together
from callmeter.reports.forecast_model import Fit, Share
from callmeter.words.subject import Subject, matches

PERIODS = ("day", "week", "month", "year", "life")
# A range that ends later than that is too wide to name a day.
_FAR = timedelta(28)
# What never resets is looked at for so long.
_AHEAD = timedelta(92)
_DAY = timedelta(1)
_EARLY, _LATE = 0.1, 0.9


@dataclass(frozen=True)
class Limit:
    """A quota's bucket and where it stands, in its unit. It resets at the beginning of the day `resets`; never, if
    that is None. `id` tells its periods apart."""

    subject: Subject
    period: str
    unit: str
    enforcement: str
    limit: int
    taken: int
    resets: date | None
    id: str
    alerts: bool = True

    @property
    def name(self) -> str:
        """`agent:code per month`."""
        return f"{self.subject} per {self.period}"

    @property
    def left(self) -> int:
        """What is left; never below 0."""
        return max(0, self.limit - self.taken)


@dataclass(frozen=True)
class Exhaustion:
    """What is to be expected of one quota. `chance` is None without a forecast and where nothing resets. Where the
    range is too wide for a day, `runs_out` and `latest` are None, and `earliest` is the day before which it is not to
    be expected; all three are None where it lasts until its reset."""

    limit: Limit
    fit: Fit | None
    expected: int | None
    chance: float | None
    runs_out: date | None = None
    earliest: date | None = None
    latest: date | None = None

    @property
    def likely(self) -> bool:
        """Whether it is more likely than not to be exceeded before its reset."""
        return self.chance is not None and self.chance > 0.5

    @property
    def used_up(self) -> bool:
        """Whether nothing is left already."""
        return self.limit.taken >= self.limit.limit


def limits_of(stands: Iterable[Stand], now: Now) -> list[Limit]:
    """The quotas as the ledger has them, for a day and longer; not `agent:*` itself, under which nobody calls."""
    return [
        Limit(
            _subject(stand.bucket.key),
            stand.quota.period,
            stand.quota.unit,
            stand.quota.enforcement,
            stand.limit(),
            stand.taken,
            _resets(stand.bucket.end, now),
            _id(stand.bucket.key, stand.quota.period, stand.quota.unit, stand.bucket.start),
            stand.quota.alerts,
        )
        for stand in stands
        if stand.quota.period in PERIODS and not (stand.quota.subject.each and stand.bucket.key.endswith(":*"))
    ]


def limits_by_log(quotas: Iterable[Quota], pasts: Pasts, top: int) -> tuple[list[Limit], int]:
    """Quotas as a log has them at another time than now: without what was held and approved then. Of those that are for
    each of several, the `top` values that have taken most; and how many were left out."""
    now = pasts.now
    found: list[Limit] = []
    hidden = 0
    for quota in quotas:
        if quota.period not in PERIODS or quota.subject.kind == "pool":
            continue
        start, end = window_of(quota.period, now.now, now.usage.zone)
        since = datetime.fromtimestamp(start, UTC).astimezone(now.usage.zone).date() if start else date.min
        subjects = [quota.subject]
        if quota.subject.each:
            values = sorted(name for (name,) in pasts.of(quota.subject.kind) if name not in quota.excluded)
            subjects = [Subject(quota.subject.kind, value) for value in values if not value.startswith("(")]
        limits = []
        for subject in subjects:
            taken = pasts.history(subject).sum(since, now.today, quota.unit)
            key = _id(str(subject), quota.period, quota.unit, start)
            if taken or not quota.subject.each:
                limit = Limit(
                    subject,
                    quota.period,
                    quota.unit,
                    quota.enforcement,
                    quota.limit,
                    taken,
                    _resets(end, now),
                    key,
                    quota.alerts,
                )
                limits.append(limit)
        limits.sort(key=lambda limit: (-limit.taken, str(limit.subject)))
        found += limits[:top]
        hidden += len(limits[top:])
    return found, hidden


class Pasts:
    """The histories of whatever quotas are about, each read once."""

    def __init__(self, now: Now) -> None:
        self.now = now
        self._found: dict[str, Mapping[tuple[str, ...], History]] = {}
        self._factors: dict[tuple[str, date], float] = {}

    def of(self, kind: str) -> Mapping[tuple[str, ...], History]:
        """By the values of a tag, a field or, for `total`, of nothing."""
        if kind not in self._found:
            self._found[kind] = histories(self.now.usage, [] if kind == "total" else [kind], self.now)
        return self._found[kind]

    def history(self, subject: Subject) -> History:
        """That of one subject, which may be a pattern."""
        if subject.kind == "pool":
            return History()
        if _single(subject):
            return self.of(subject.kind).get((subject.value,), History())
        meant = _meaning(subject)
        return together(history for names, history in self.of(subject.kind).items() if meant("".join(names)))

    def rest(self, subject: Subject) -> float:
        """How much of a usual day of it is still to come."""
        if _single(subject):
            return self.now.rest_of(subject.kind, subject.value)
        return self.now.rest("" if subject.kind == "total" else subject.kind, _meaning(subject))

    def factor(self, subject: Subject, last: date) -> float:
        """What scales the money of one subject, up to a day, to the total, as in any breakdown; 1 for those that are
        no part of one."""
        if subject.kind in ("total", "pool") or "*" in subject.value:
            return 1.0
        place = subject.kind, last
        if place not in self._factors:
            today = self.now.today
            rest = Horizon("", "", today + _DAY, last, begun=today)
            self._factors[place] = factor_of(rest, self.of(subject.kind), self.now, subject.kind)
        return self._factors[place]


def hidden_note(hidden: int, top: int) -> str:
    """What is said of the quotas that were left out; "" when none was."""
    return f"Of quotas for each of several, the {top} fullest: {hidden:,} more are not shown." if hidden else ""


def exhaustions(limits: Sequence[Limit], pasts: Pasts) -> list[Exhaustion]:
    """What is to be expected of each quota, the likeliest to be exceeded first."""
    found = [_exhaustion(limit, pasts) for limit in limits]
    return sorted(found, key=lambda each: (-(each.chance or 0.0), each.runs_out or date.max, each.limit.name))


def _exhaustion(limit: Limit, pasts: Pasts) -> Exhaustion:
    today = pasts.now.today
    fit = pasts.history(limit.subject).fit(pasts.now.until, limit.unit)
    if fit is None:
        over = 1.0 if limit.taken > limit.limit else None
        return Exhaustion(limit, None, None, over, *([today] * 3 if limit.taken >= limit.limit else []))
    last = (limit.resets or today + _AHEAD) - _DAY
    shares = [(today, pasts.rest(limit.subject)), *days_of(today + _DAY, last)]
    if limit.unit == "usd":
        fit = fit.scaled(pasts.factor(limit.subject, last))
    coming = fit.sum(shares)
    expected = None if limit.resets is None else limit.taken + coming.expected
    chance = None if limit.resets is None else coming.over(limit.limit - limit.taken)
    if limit.taken >= limit.limit:
        return Exhaustion(limit, fit, expected, chance, today, today, today)
    early, middle, late = _days(fit, shares, limit.left)
    if middle is not None and (late is None or late - today <= _FAR or last - today <= _FAR):
        return Exhaustion(limit, fit, expected, chance, middle, early, late)
    if early is None:
        return Exhaustion(limit, fit, expected, chance)
    return Exhaustion(limit, fit, expected, chance, None, min(early, today + _FAR), None)


def _days(fit: Fit, shares: Sequence[Share], left: int) -> tuple[date | None, date | None, date | None]:
    """The first days by which it has run out with 1 chance in 10, as expected, and with 9 chances in 10."""

    def first(passed: Callable[[int], bool]) -> date | None:
        place = bisect_left(range(len(shares)), True, key=lambda index: passed(index + 1))
        return shares[place][0] if place < len(shares) else None

    def by_chance(chance: float) -> date | None:
        return first(lambda count: fit.sum(shares[:count]).over(left) >= chance)

    return by_chance(_EARLY), first(lambda count: fit.sum(shares[:count]).mean > left), by_chance(_LATE)


def _single(subject: Subject) -> bool:
    """Whether it is one value, found without looking at thousands of others."""
    return subject.kind != "total" and "*" not in subject.value and not subject.value.startswith("(none")


def _meaning(subject: Subject) -> Callable[[str], bool]:
    if subject.kind == "total":
        return lambda value: True
    return lambda value: not value.startswith("(none") and matches(subject.value, value)


def _subject(key: str) -> Subject:
    kind, _, value = key.removeprefix("own/").partition(":")
    return Subject(kind, value)


def _resets(end: int, now: Now) -> date | None:
    return datetime.fromtimestamp(end, UTC).astimezone(now.usage.zone).date() if end else None


def _id(key: str, period: str, unit: str, start: int) -> str:
    return f"{key}/{period}/{unit}/{start}"
