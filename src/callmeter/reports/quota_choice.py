"""Which quotas a short list has room for, one for each session must not hide all the others; and in which section."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import NamedTuple, TypeVar

from callmeter.policy.quotas import Quota

_OF_EACH = 5
NO_QUOTA = "There is no quota: `callmeter budget quota set agent:NAME 50 --hard` sets one."
# By unit, the name and the title of the section that its quotas stand in.
SECTIONS = {
    "usd": ("quotas", "Quotas"),
    "tokens": ("quotas_tokens", "Quotas, in tokens"),
    "calls": ("quotas_calls", "Quotas, in calls"),
}

_Ranked = TypeVar("_Ranked")


class LeftOut(NamedTuple):
    """How many of a quota's buckets a list of the fullest leaves out, of those in use and of those that are over
    (`Burn.over`)."""

    more: int
    over: int


def chosen(
    ranked: Sequence[_Ranked], most: int, quota_of: Callable[[_Ranked], Quota]
) -> tuple[list[_Ranked], list[_Ranked]]:
    """The first `most`, and the rest, both in order; but of one `session:*` more than five only where there is room."""
    counts: dict[Quota, int] = {}
    places: tuple[list[int], list[int]] = [], []
    for place, each in enumerate(ranked):
        quota = quota_of(each)
        counts[quota] = counts.get(quota, 0) + 1
        places[quota.subject.each and counts[quota] > _OF_EACH].append(place)
    kept = set([*places[0], *places[1]][:most])
    return (
        [each for place, each in enumerate(ranked) if place in kept],
        [each for place, each in enumerate(ranked) if place not in kept],
    )


def share_of(taken: int, limit: int) -> Decimal:
    """How full a quota is, in thousandths; 1 of a limit of nothing."""
    return Decimal(1) if limit <= 0 else (Decimal(taken) / limit).quantize(Decimal("0.001"))


def passes(quota: Quota) -> bool:
    """Whether its buckets are about things that are over some day and never reset, as sessions are."""
    return quota.subject.each and quota.period == "life"
