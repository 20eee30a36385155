"""Quotas as values: a limit on a subject for a period, and which of them a call falls under."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from callmeter.words.period import bucket as calendar_bucket
from callmeter.words.subject import Subject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import tzinfo

UNITS = ("usd", "tokens", "calls")
PERIODS = ("second", "minute", "hour", "day", "week", "month", "year", "life")
# A quota that resets this soon makes a caller wait; a longer one makes it stop.
SHORT_PERIODS = ("second", "minute")
ENFORCEMENTS = ("showback", "soft", "hard")
ACTIONS = ("warn", "downgrade", "approve", "stop")
WARN_AT = (Decimal("0.5"), Decimal("0.75"), Decimal("0.9"))
HIGH_PRIORITIES = ("high", "critical")
# Kinds of subjects that begin and end.
LIVES = ("session", "work_item")


class Stage:
    """What happens from a share of the limit on: `share` 0.7, `action` downgrade, `model` the cheaper one."""

    __slots__ = ("action", "model", "share")

    def __init__(self, share: Decimal, action: str, model: str = "") -> None:
        self.share = share
        self.action = action
        self.model = model

    def __str__(self) -> str:
        return f"{self.action}:{self.model}" if self.model else self.action


class Quota:
    """A limit in `unit` (nano-dollars, tokens or calls) on a subject for a period.

    `reserve` is the last share, which only calls of high or critical priority may use. `excluded` are values of a
    subject such as `user:*` that have a quota of their own. `source` says where it stands in the policy.

    `pools` name shared pools that pay when this quota is used up, in order; such a quota is about its own part
    only: what a pool paid does not count in it.
    """

    __slots__ = (
        "alerts",
        "enforcement",
        "excluded",
        "limit",
        "period",
        "pools",
        "reserve",
        "source",
        "stages",
        "subject",
        "unit",
        "warn_at",
    )

    def __init__(
        self,
        subject: Subject,
        limit: int,
        *,
        unit: str = "usd",
        period: str = "month",
        enforcement: str = "soft",
        stages: tuple[Stage, ...] = (),
        warn_at: tuple[Decimal, ...] = WARN_AT,
        reserve: Decimal = Decimal(0),
        pools: tuple[str, ...] = (),
        alerts: bool = True,
        source: str = "",
    ) -> None:
        self.subject = subject
        self.limit = limit
        self.unit = unit
        self.period = period
        self.enforcement = enforcement
        self.stages = tuple(sorted(stages, key=lambda stage: stage.share))
        self.warn_at = tuple(sorted(warn_at))
        self.reserve = reserve
        self.pools = pools
        self.excluded: frozenset[str] = frozenset()
        self.alerts = alerts
        self.source = source

    @property
    def name(self) -> str:
        """`agent:code per month`, with the unit unless it is money."""
        unit = "" if self.unit == "usd" else f" ({self.unit})"
        return f"{self.subject} per {self.period}{unit}"

    @property
    def place(self) -> tuple[str, str, str]:
        """What two quotas cannot share: subject, period, unit."""
        return str(self.subject), self.period, self.unit

    def limit_for(self, priority: str) -> int:
        """The limit for a call of this priority."""
        if not self.reserve or priority.lower() in HIGH_PRIORITIES:
            return self.limit
        return int(self.limit * (1 - self.reserve))

    def bucket(self, facts: Mapping[str, str]) -> str | None:
        """The bucket that a call with these facts is booked in, or None. A call that a pool paid has the fact
        `pool`."""
        key = self.subject.bucket(facts)
        if key is None or (self.excluded and facts[self.subject.kind] in self.excluded):
            return None
        if not self.pools:
            return key
        return None if facts.get("pool") else f"own/{key}"


class Bucket:
    """A quota's bucket for one call: `key` (`agent:code`), and its period's `start` and `end` in seconds since 1970,
    half-open; `end` is 0 when it never resets."""

    __slots__ = ("end", "key", "quota", "start")

    def __init__(self, quota: Quota, key: str, start: int, end: int) -> None:
        self.quota = quota
        self.key = key
        self.start = start
        self.end = end


def buckets_for(quotas: Iterable[Quota], facts: Mapping[str, str], at: datetime, zone: tzinfo = UTC) -> list[Bucket]:
    """The buckets that a call is booked in, by its facts (see `words.subject.facts_of`)."""
    windows: dict[str, tuple[int, int]] = {}
    found = []
    for quota in quotas:
        key = quota.bucket(facts)
        if key is not None:
            window = windows.get(quota.period)
            if window is None:
                window = windows[quota.period] = window_of(quota.period, at, zone)
            found.append(Bucket(quota, key, *window))
    return found


def candidate_buckets(
    quotas: Iterable[Quota], facts: Mapping[str, str], at: datetime, zone: tzinfo = UTC
) -> list[Bucket]:
    """What `decide` looks at before a call: its buckets, and those of the pools that could pay in their place."""
    found = buckets_for(quotas, facts, at, zone)
    for pool in dict.fromkeys(pool for bucket in found for pool in bucket.quota.pools):
        paid = {"pool": pool}
        found += buckets_for((quota for quota in quotas if quota.subject.kind == "pool"), paid, at, zone)
    return found


def window_of(period: str, at: datetime, zone: tzinfo = UTC) -> tuple[int, int]:
    """Start and end of the period that holds an instant, in seconds since 1970; (0, 0) for `life`."""
    if period == "life":
        return 0, 0
    if period in SHORT_PERIODS:
        size = 1 if period == "second" else 60
        start = int(at.timestamp()) // size * size
        return start, start + size
    if period == "year":
        try:
            year = at.astimezone(zone).year
            starts = [datetime(each, 1, 1, tzinfo=zone).timestamp() for each in (year, year + 1)]
            return int(starts[0]), int(starts[1])
        except (OverflowError, ValueError):
            period = "month"  # the calendar's last year does not end; a line may name it all the same
    begin, end = calendar_bucket(at, period, zone)
    return int(begin.timestamp()), int(end.timestamp())
