"""How fast quotas go: a straight line from the last seven days.

What a day took: of what began within those days, counted since then, and never from less than a whole day.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from callmeter.policy.decision import Stand
from callmeter.policy.quotas import Quota
from callmeter.reports.grouping import NONE, condition_on
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
    """What quotas' buckets took in the last seven days. Of sessions and the like there may be hundreds of thousands: of
    those it is only known which made a call, and what those took that are asked about (`learn`)."""

    def __init__(self, quotas: Iterable[Quota], usage: Usage, now: datetime) -> None:
        self._now = now
        self._usage = usage
        self._quotas = list(dict.fromkeys(quotas))
        self._lately: set[str] | None = None
        self._known: set[str] = set()
        self._taken: dict[str, Figures] = {}
        self._older: set[str] = set()
        since = now - timedelta(days=RECENT)
        self._recent, self._before = Period(since, now + _TICK, ""), Period(None, since, "")

    def learn(self, stands: Iterable[Stand]) -> None:
        """Find out how fast these go, all at once."""
        new = [stand for stand in stands if stand.bucket.key not in self._known]
        self._known.update(stand.bucket.key for stand in new)
        for kind in dict.fromkeys(stand.quota.subject.kind for stand in new):
            found = [stand for stand in new if stand.quota.subject.kind == kind]
            wanted = {stand.bucket.key for stand in found}
            where = () if kind == "total" else [condition_on(kind, _value(stand)) for stand in found]
            quotas = [quota for quota in self._quotas if quota.subject.kind == kind]
            for values, figures in self._usage.groups(self._by(kind), period=self._recent, where=where):
                for bucket in wanted & self._buckets(quotas, values):
                    self._taken.setdefault(bucket, Figures()).merge(figures)
            for values, _ in self._usage.groups(self._by(kind), period=self._before, where=where):
                self._older |= wanted & self._buckets(quotas, values)

    def a_day(self, stand: Stand) -> Decimal:
        """What it takes in a day, in its quota's unit (money in nano-dollars); 0 when it took nothing lately."""
        self.learn([stand])
        bucket = stand.bucket.key
        figures = self._taken.get(bucket)
        taken = 0 if figures is None else figures.amount(stand.quota.unit)
        if figures is None or taken <= 0:
            return Decimal(0)
        if bucket in self._older or figures.first is None:
            return Decimal(taken) / RECENT
        age = Decimal((self._now - parse_instant(figures.first)) // timedelta(seconds=1)) / _DAY
        return taken / min(max(age, Decimal(1)), Decimal(RECENT))

    def over(self, stand: Stand) -> bool:
        """Whether it is about a session, or the like, that made no call in those days and makes none now."""
        return self.is_over(stand.quota, stand.bucket.key, stand.held)

    def is_over(self, quota: Quota, bucket: str, held: int) -> bool:
        """The same of a quota's bucket, by its name and what is held of it."""
        return passes(quota) and not held and bucket not in self._lately_used()

    def _lately_used(self) -> set[str]:
        """The buckets of quotas about what passes that were used."""
        if self._lately is None:
            self._lately = set()
            passing = [quota for quota in self._quotas if passes(quota)]
            for kind in dict.fromkeys(quota.subject.kind for quota in passing):
                quotas = [quota for quota in passing if quota.subject.kind == kind]
                for spent in self._usage.spent(self._by(kind), period=self._recent):
                    self._lately |= self._buckets(quotas, spent.names)
        return self._lately

    def _by(self, kind: str) -> list[str]:
        """Groups for one kind of thing: all kinds together would be every agent times every session."""
        pools = {"pool"} if any(quota.pools for quota in self._quotas) else set()
        return sorted({kind, *pools} - {"total"})

    def _buckets(self, quotas: Iterable[Quota], values: Sequence[str]) -> set[str]:
        """The buckets that a group of lines falls under, by the values of `_by`."""
        quotas = list(quotas)
        by = self._by(quotas[0].subject.kind) if quotas else []
        facts = {name: value for name, value in zip(by, values, strict=False) if value != NONE}
        return {bucket for quota in quotas if (bucket := quota.bucket(facts)) is not None}


def _value(stand: Stand) -> str:
    """The values that it is about, as a condition names them."""
    subject = stand.quota.subject
    return stand.bucket.key.removeprefix("own/").removeprefix(f"{subject.kind}:") if subject.each else subject.value
