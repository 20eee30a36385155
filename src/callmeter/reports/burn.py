"""How fast quotas go: a straight line from the last seven days.

What a day took: of what began within those days, counted since then, and never from less than a whole day.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal

from callmeter.policy.decision import Stand
from callmeter.policy.quotas import Quota
from callmeter.reports.grouping import NONE
from callmeter.reports.quota_choice import passes
from callmeter.reports.usage import Figures, Usage
from callmeter.words.instant import parse_instant
from callmeter.words.period import Period

# Days: those that a pace is taken from, and how far it is drawn out for what never resets. A week says nothing about
# times beyond a year.
RECENT, FARTHEST = 7, 366
_DAY = 86_400
_TICK = timedelta(microseconds=1)


class Burn:
    """What quotas' buckets took in the last seven days."""

    def __init__(self, quotas: Iterable[Quota], usage: Usage, now: datetime) -> None:
        self._now = now
        self._quotas = list(dict.fromkeys(quotas))
        self._taken: dict[str, Figures] = {}
        self._older: set[str] = set()
        if self._quotas:
            since = now - timedelta(days=RECENT)
            for bucket, figures in self._buckets(usage, Period(since, now + _TICK, "")):
                self._taken.setdefault(bucket, Figures()).merge(figures)
            self._older.update(bucket for bucket, _ in self._buckets(usage, Period(None, since, "")))

    def a_day(self, bucket: str, unit: str) -> Decimal:
        """What a bucket takes in a day, in the unit (money in nano-dollars); 0 when it took nothing lately."""
        figures = self._taken.get(bucket)
        taken = 0 if figures is None else figures.amount(unit)
        if figures is None or taken <= 0:
            return Decimal(0)
        if bucket in self._older or figures.first is None:
            return Decimal(taken) / RECENT
        age = Decimal((self._now - parse_instant(figures.first)) // timedelta(seconds=1)) / _DAY
        return taken / min(max(age, Decimal(1)), Decimal(RECENT))

    def over(self, stand: Stand) -> bool:
        """Whether it is about a session, or the like, that made no call in those days and makes none now."""
        return passes(stand.quota) and not stand.held and stand.bucket.key not in self._taken

    def _buckets(self, usage: Usage, period: Period) -> Iterator[tuple[str, Figures]]:
        """What each bucket took in a period, one query for all quotas about the same kind of thing: all kinds together
        would be every agent times every session."""
        pools = {"pool"} if any(quota.pools for quota in self._quotas) else set()
        for kind in dict.fromkeys(quota.subject.kind for quota in self._quotas):
            quotas = [quota for quota in self._quotas if quota.subject.kind == kind]
            by = sorted({kind, *pools} - {"total"})
            for values, figures in usage.groups(by, period=period):
                facts = {name: value for name, value in zip(by, values, strict=True) if value != NONE}
                for bucket in {quota.bucket(facts) for quota in quotas}:
                    if bucket is not None:
                        yield bucket, figures
