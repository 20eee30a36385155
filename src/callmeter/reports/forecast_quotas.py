"""What the forecast means for quotas: how likely each is exceeded before it resets, and when it will be used up.

The chance is that of spending more, by the reset, than is left now: the limit less what was used and what calls in
flight hold. A quota runs out on the day on which the expected running total passes what is left; `earliest` and
`latest` are the first days by which that has happened with 1 chance in 10, and with 9.

A shared pool pays what agents spend beyond their allocations, so that is what its forecast is made of.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from callmeter.policy.decision import Stand
from callmeter.policy.quotas import Quota, window_of
from callmeter.reports.forecast import Horizon, factors_of
from callmeter.reports.forecast_history import History, Present, days_of, histories, together
from callmeter.reports.forecast_model import Fit, Range, Share
from callmeter.reports.forecast_pools import Payer, Pool, payers_of, pools_before
from callmeter.reports.grouping import NONE
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
    that is None. `id` tells its periods apart. `pools` pay when it is used up."""

    subject: Subject
    period: str
    unit: str
    enforcement: str
    limit: int
    taken: int
    resets: date | None
    id: str
    alerts: bool = True
    pools: tuple[str, ...] = ()

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
    expected: int | None
    chance: float | None
    runs_out: date | None = None
    earliest: date | None = None
    latest: date | None = None

    @property
    def likely(self) -> bool:
        """Whether it is more likely than not to be exceeded before its reset, and nothing pays then."""
        return self.chance is not None and self.chance > 0.5 and not self.limit.pools

    @property
    def used_up(self) -> bool:
        """Whether nothing is left already."""
        return self.limit.taken >= self.limit.limit


def limits_of(stands: Iterable[Stand], present: Present) -> list[Limit]:
    """The quotas as the ledger has them, for a day and longer; not `agent:*` itself, under which nobody calls, and not
    those whose pools pay from the first call on."""
    return [
        Limit(
            _subject(stand.bucket.key),
            stand.quota.period,
            stand.quota.unit,
            stand.quota.enforcement,
            stand.limit(),
            stand.taken,
            _resets(stand.bucket.end, present),
            _id(stand.bucket.key, stand.quota.period, stand.quota.unit, stand.bucket.start),
            stand.quota.alerts,
            stand.quota.pools,
        )
        for stand in stands
        if stand.quota.period in PERIODS
        and not (stand.quota.subject.each and stand.bucket.key.endswith(":*"))
        and (stand.limit() or not stand.quota.pools)
    ]


def limits_by_log(quotas: Iterable[Quota], pasts: Pasts, top: int) -> tuple[list[Limit], int]:
    """Quotas as a log has them at another time than now: without what was held and approved then. Of those that are for
    each of several, the `top` values that have taken most; and how many were left out."""
    present = pasts.present
    found: list[Limit] = []
    hidden = 0
    for quota in quotas:
        if quota.period not in PERIODS or (quota.pools and not quota.limit):
            continue
        start, end = window_of(quota.period, present.now, present.usage.zone)
        limits = []
        for subject in pasts.subjects(quota):
            taken = pasts.taken(quota, subject)
            key = _id(str(subject), quota.period, quota.unit, start)
            if taken or not quota.subject.each:
                limit = Limit(
                    subject,
                    quota.period,
                    quota.unit,
                    quota.enforcement,
                    quota.limit,
                    taken,
                    _resets(end, present),
                    key,
                    quota.alerts,
                    quota.pools,
                )
                limits.append(limit)
        limits.sort(key=lambda limit: (-limit.taken, str(limit.subject)))
        found += limits[:top]
        hidden += len(limits[top:])
    return found, hidden


class Pasts:
    """The histories of whatever quotas are about, each read once."""

    def __init__(self, present: Present) -> None:
        self.present = present
        self._found: dict[str, Mapping[tuple[str, ...], History]] = {}
        self._factors: dict[tuple[str, date], Mapping[tuple[str, ...], float]] = {}
        self._unpooled: dict[str, dict[str, History]] = {}

    def of(self, kind: str) -> Mapping[tuple[str, ...], History]:
        """By the values of a tag, a field or, for `total`, of nothing."""
        if kind not in self._found:
            self._found[kind] = histories(self.present.usage, [] if kind == "total" else [kind], self.present)
        return self._found[kind]

    def subjects(self, quota: Quota) -> list[Subject]:
        """What a quota is about: its subject, or each of those that it is for."""
        if not quota.subject.each:
            return [quota.subject]
        kind = quota.subject.kind
        values = sorted(name for (name,) in self.of(kind) if name not in quota.excluded)
        return [Subject(kind, value) for value in values if not value.startswith("(")]

    def taken(self, quota: Quota, subject: Subject) -> int:
        """What a quota's subject took of it in the period that runs, without what pools paid."""
        start, _ = window_of(quota.period, self.present.now, self.present.usage.zone)
        since = datetime.fromtimestamp(start, UTC).astimezone(self.present.usage.zone).date() if start else date.min
        if not quota.pools:
            return self.history(subject).sum(since, self.present.today, quota.unit)
        if subject.kind not in self._unpooled:
            every = histories(self.present.usage, [subject.kind, "pool"], self.present)
            self._unpooled[subject.kind] = {value: past for (value, pool), past in every.items() if pool == NONE}
        pasts = self._unpooled[subject.kind]
        meant = _meaning(subject)
        values = [subject.value] if _single(subject) else [value for value in pasts if meant(value)]
        own = [pasts[value] for value in values if value in pasts]
        return sum(past.sum(since, self.present.today, quota.unit) for past in own)

    def history(self, subject: Subject) -> History:
        """That of one subject, which may be a pattern."""
        if _single(subject):
            return self.of(subject.kind).get((subject.value,), History())
        meant = _meaning(subject)
        return together(history for names, history in self.of(subject.kind).items() if meant("".join(names)))

    def rest(self, subject: Subject) -> float:
        """How much of a usual day of it is still to come."""
        if _single(subject):
            return self.present.rest_of(subject.kind, subject.value)
        return self.present.rest("" if subject.kind == "total" else subject.kind, _meaning(subject))

    def factor(self, subject: Subject, last: date) -> float:
        """What scales the money of one subject, up to a day, to the total, as in any breakdown; 1 for those that are
        no part of one."""
        if subject.kind in ("total", "pool") or "*" in subject.value:
            return 1.0
        place = subject.kind, last
        if place not in self._factors:
            today = self.present.today
            rest = Horizon("", "", today + _DAY, last, begun=today)
            self._factors[place] = factors_of(rest, self.of(subject.kind), self.present, subject.kind)
        return self._factors[place].get((subject.value,), 1.0)


def hidden_note(hidden: int, top: int) -> str:
    """What is said of the quotas that were left out; "" when none was."""
    if not hidden:
        return ""
    return (
        f"Of quotas for each of several, such as `agent:*`, the {top} fullest are shown, and {hidden:,} more are not."
    )


def exhaustions(limits: Sequence[Limit], pasts: Pasts, quotas: Sequence[Quota] = ()) -> list[Exhaustion]:
    """What is to be expected of each quota, the likeliest to be exceeded first. `quotas` are all of the policy: what
    shared pools have to pay depends on them."""
    found = [_exhaustion(limit, pasts, _outlook(limit, limits, pasts, quotas)) for limit in limits]
    return sorted(found, key=lambda each: (-(each.chance or 0.0), each.runs_out or date.max, each.limit.name))


@dataclass(frozen=True)
class _Outlook:
    """The days up to a reset, and what comes in so many of them."""

    days: Sequence[Share]
    coming: Callable[[int], Range]


def _outlook(limit: Limit, limits: Sequence[Limit], pasts: Pasts, quotas: Sequence[Quota]) -> _Outlook | None:
    """None without a complete day to learn from."""
    if limit.subject.kind == "pool":
        pool = _pool(limit, limits, pasts, quotas)
        if pool.days:
            return _Outlook(pool.days, pool.coming)
    found = _expected_of(limit.subject, limit, pasts)
    if found is None:
        return None
    fit, days = found
    return _Outlook(days, lambda count: fit.sum(days[:count]))


def _expected_of(subject: Subject, limit: Limit, pasts: Pasts) -> tuple[Fit, Sequence[Share]] | None:
    """What a subject will probably take in a limit's unit, and the days up to the limit's reset."""
    fit = pasts.history(subject).fit(pasts.present.until, limit.unit)
    if fit is None:
        return None
    today = pasts.present.today
    last = (limit.resets or today + _AHEAD) - _DAY
    if limit.unit == "usd":
        fit = fit.scaled(pasts.factor(subject, last))
    return fit, [(today, pasts.rest(subject)), *days_of(today + _DAY, last)]


def _pool(limit: Limit, limits: Sequence[Limit], pasts: Pasts, quotas: Sequence[Quota]) -> Pool:
    """Who comes to a pool, and when."""
    name, unit = limit.subject.value, limit.unit
    others = {(each.subject, each.period): each for each in limits if each.unit == unit}
    payers = []
    for quota in payers_of(name, quotas, unit):
        for subject in pasts.subjects(quota):
            expected = _expected_of(subject, limit, pasts)
            if expected is not None:
                own = others.get((subject, quota.period))
                left = max(0, quota.limit - pasts.taken(quota, subject)) if own is None else own.left
                payers.append(Payer(*expected, left))
    names = [Subject("pool", before) for before in pools_before(name, quotas, unit)]
    before = [others[each, limit.period] for each in names if (each, limit.period) in others]
    # A pool stands behind those only that come before it, so this ends.
    kept = [each for each in limits if each is not limit]
    return Pool(payers, [(_pool(each, kept, pasts, quotas), each.left) for each in before])


def _exhaustion(limit: Limit, pasts: Pasts, outlook: _Outlook | None) -> Exhaustion:
    today = pasts.present.today
    if outlook is None:
        over = 1.0 if limit.taken > limit.limit else None
        return Exhaustion(limit, None, over, *([today] * 3 if limit.taken >= limit.limit else []))
    whole = outlook.coming(len(outlook.days))
    expected = None if limit.resets is None else limit.taken + whole.expected
    chance = None if limit.resets is None else whole.over(limit.limit - limit.taken)
    if limit.taken >= limit.limit:
        return Exhaustion(limit, expected, chance, today, today, today)
    early, middle, late = _days(outlook, limit.left)
    last = outlook.days[-1][0]
    if middle is not None and (late is None or late - today <= _FAR or last - today <= _FAR):
        return Exhaustion(limit, expected, chance, middle, early, late)
    if early is None:
        return Exhaustion(limit, expected, chance)
    return Exhaustion(limit, expected, chance, None, min(early, today + _FAR), None)


def _days(outlook: _Outlook, left: int) -> tuple[date | None, date | None, date | None]:
    """The first days by which it has run out with 1 chance in 10, as expected, and with 9 chances in 10."""

    def first(passed: Callable[[Range], bool]) -> date | None:
        counts = range(1, len(outlook.days) + 1)
        place = bisect_left(counts, True, key=lambda count: passed(outlook.coming(count)))
        return outlook.days[place][0] if place < len(counts) else None

    def by_chance(chance: float) -> date | None:
        return first(lambda sum_of_days: sum_of_days.over(left) >= chance)

    return by_chance(_EARLY), first(lambda sum_of_days: sum_of_days.mean > left), by_chance(_LATE)


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


def _resets(end: int, present: Present) -> date | None:
    return datetime.fromtimestamp(end, UTC).astimezone(present.usage.zone).date() if end else None


def _id(key: str, period: str, unit: str, start: int) -> str:
    return f"{key}/{period}/{unit}/{start}"
