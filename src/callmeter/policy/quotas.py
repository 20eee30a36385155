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


class Stage:
    """What happens from a share of the limit on: `share` 0.7, `action` downgrade, `model` the cheaper one."""

    __slots__ = ("action", "model", "share")

    def __init__(self, share: Decimal, action: str, model: str = "") -> None:
        self.share = share
        self.action = action
        self.model = model


class Quota:
    """A limit in `unit` (nano-dollars, tokens or calls) on a subject for a period.

    `reserve` is the last share, which only calls of high or critical priority may use. `pool` names a subject
    whose quota pays when this one is used up. `source` says where it stands in the policy.
    """

    __slots__ = ("enforcement", "limit", "period", "pool", "reserve", "source", "stages", "subject", "unit", "warn_at")

    def __init__(
        self,
        subject: Subject,
        limit: int,
        *,
        unit: str = "usd",
        period: str = "month",
        enforcement: str = "showback",
        stages: tuple[Stage, ...] = (),
        warn_at: tuple[Decimal, ...] = WARN_AT,
        reserve: Decimal = Decimal(0),
        pool: str = "",
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
        self.pool = pool
        self.source = source

    @property
    def name(self) -> str:
        """`agent:code per month`, with the unit unless it is money."""
        unit = "" if self.unit == "usd" else f" ({self.unit})"
        return f"{self.subject} per {self.period}{unit}"

    def limit_for(self, priority: str) -> int:
        """The limit for a call of this priority."""
        if not self.reserve or priority in HIGH_PRIORITIES:
            return self.limit
        return int(self.limit * (1 - self.reserve))


class Bucket:
    """A quota's bucket of money for one call: `key` (`agent:code`), and its period's `start` and `end` in seconds
    since 1970, half-open; `end` is 0 when it never resets."""

    __slots__ = ("end", "key", "quota", "start")

    def __init__(self, quota: Quota, key: str, start: int, end: int) -> None:
        self.quota = quota
        self.key = key
        self.start = start
        self.end = end


def buckets_for(quotas: Iterable[Quota], facts: Mapping[str, str], at: datetime, zone: tzinfo = UTC) -> list[Bucket]:
    """The buckets that a call falls into, by its facts (tags, and `key`, `model`, `provider`)."""
    found = []
    for quota in quotas:
        key = quota.subject.bucket(facts)
        if key is not None:
            found.append(Bucket(quota, key, *window_of(quota.period, at, zone)))
    return found


def window_of(period: str, at: datetime, zone: tzinfo = UTC) -> tuple[int, int]:
    """Start and end of the period that holds an instant, in seconds since 1970; (0, 0) for `life`."""
    if period == "life":
        return 0, 0
    if period in ("second", "minute"):
        size = 1 if period == "second" else 60
        start = int(at.timestamp()) // size * size
        return start, start + size
    if period == "year":
        local = at.astimezone(zone)
        first = datetime(local.year, 1, 1, tzinfo=zone)
        return int(first.timestamp()), int(datetime(local.year + 1, 1, 1, tzinfo=zone).timestamp())
    begin, end = calendar_bucket(at, period, zone)
    return int(begin.timestamp()), int(end.timestamp())
