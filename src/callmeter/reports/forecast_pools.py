"""What shared pools will have to pay: of each agent whose allocation has a pool behind it, what it will probably spend
beyond what is left of that; and of a pool that has another one behind it, what comes beyond what is left in it.

A pool's own past says little: it pays nothing until allocations are used up, and then all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from callmeter.policy.quotas import Quota
from callmeter.reports.forecast_model import NOTHING, Fit, Range, Share


@dataclass(frozen=True)
class Payer:
    """Whoever has an allocation: what it will probably spend on each day, of today what is still to come, and what is
    `left` of the allocation."""

    fit: Fit
    days: Sequence[Share]
    left: int


@dataclass(frozen=True)
class Pool:
    """A shared pool: who comes to it first when an allocation is used up, and the pools that come to it when nothing is
    left of them but so much."""

    payers: Sequence[Payer]
    before: Sequence[tuple[Pool, int]] = ()

    @property
    def days(self) -> Sequence[Share]:
        """The days of its payers; none without any."""
        if self.payers:
            return self.payers[0].days
        return next((pool.days for pool, _ in self.before if pool.days), ())

    def coming(self, count: int) -> Range:
        """What it will have to pay in so many days. Its payers do not have their dear days together."""
        parts = [payer.fit.sum(payer.days[:count]).beyond(payer.left) for payer in self.payers]
        parts += [pool.coming(count).beyond(left) for pool, left in self.before]
        mean = sum(part.mean for part in parts)
        if mean <= 0:
            return NOTHING
        nothing = prod(1.0 if part.mean <= 0 else part.nothing for part in parts)
        return Range(mean, sum(part.variance for part in parts), nothing)


def payers_of(pool: str, quotas: Sequence[Quota], unit: str) -> list[Quota]:
    """The quotas that a pool is the first to stand behind."""
    return [quota for quota in quotas if quota.unit == unit and quota.pools[:1] == (pool,)]


def pools_before(pool: str, quotas: Sequence[Quota], unit: str) -> list[str]:
    """The pools that it stands behind itself."""
    pairs = [pair for quota in quotas if quota.unit == unit for pair in zip(quota.pools, quota.pools[1:], strict=False)]
    return list(dict.fromkeys(before for before, after in pairs if after == pool != before))
