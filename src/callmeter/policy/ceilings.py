"""The second wall: which of a policy's quotas a provider can hold for a key, as a limit in USD and its reset."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from callmeter.policy.quotas import Quota
from callmeter.words.subject import facts_of

_RESETS = {"day": "daily", "week": "weekly", "month": "monthly", "life": ""}
# How many of a period go into a month, to tell which of several limits is the tightest.
_PER_MONTH = {"day": Decimal("30.4"), "week": Decimal("4.35"), "month": Decimal(1), "life": Decimal(1)}


@dataclass(frozen=True)
class Ceiling:
    """A limit in nano-dollars, its reset (`daily`, `weekly`, `monthly`, or empty), and the quota that it comes from."""

    limit: int
    reset: str
    quota: Quota


def ceiling_of(quotas: Iterable[Quota], *, label: str, agent: str, user: str, provider: str) -> Ceiling | None:
    """The tightest quota in money on whoever uses a key that the provider can hold: per day, week or month, or for
    ever. None when there is none. Quotas on more than this key's holder cannot be held by one key."""
    facts = facts_of({"agent": agent, "user": user}, key=label, provider=provider)
    facts = {name: value for name, value in facts.items() if value}
    found = [
        quota
        for quota in quotas
        if quota.unit == "usd"
        and quota.period in _RESETS
        and quota.subject.kind in ("agent", "user", "key")
        and quota.subject.bucket(facts) == f"{quota.subject.kind}:{facts.get(quota.subject.kind)}"
        and facts.get(quota.subject.kind) not in quota.excluded
    ]
    if not found:
        return None
    tightest = min(found, key=lambda quota: (quota.limit * _PER_MONTH[quota.period], quota.period))
    return Ceiling(tightest.limit, _RESETS[tightest.period], tightest)
