"""Where a call's buckets stand, and the arithmetic of a refusal, in words. Few calls need any."""

from __future__ import annotations

from callmeter.words.money import amount_text
from callmeter.words.wording import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from decimal import Decimal

    from callmeter.policy.decision import Decision, Stand
    from callmeter.policy.quotas import Bucket


def quota_text(bucket: Bucket) -> str:
    """`the quota on agent:code per month`."""
    return f"the quota on {bucket.key.removeprefix('own/')} per {bucket.quota.period}"


def share_text(share: Decimal) -> str:
    """`90%`, `0.5%`."""
    return f"{(share * 100).normalize():f}%"


def standing_text(stand: Stand) -> str:
    """`$4.10 of $5.00`."""
    unit = stand.quota.unit
    return f"{amount_text(stand.taken, unit)} of {amount_text(stand.limit(), unit)}"


def arithmetic(decision: Decision, holders: int) -> str:
    """Why a call does not fit: limit, spent, held, the call's need, what is missing, when it resets."""
    stand = decision.stand
    assert stand is not None
    unit = stand.quota.unit
    held = ""
    if stand.held:
        held = f", {amount_text(stand.held, unit)} held by {counted(holders, 'call')} in flight"
    parts = f"limit {amount_text(decision.limit, unit)}, {amount_text(stand.settled, unit)} spent{held}"
    parts += f"; this call may take {amount_text(decision.need, unit)}"
    if decision.missing > 0:
        parts += f", {amount_text(decision.missing, unit)} too much"
    if decision.why == "reserved":
        parts += "; what is left is for calls of high priority"
    if decision.why == "too_large":
        parts += "; it would not fit into an unused quota either"
    return parts + (f"; it resets at {instant_text(decision.resets_at)}" if decision.resets_at else "")


def instant_text(seconds: int) -> str | None:
    """Seconds since 1970 for people and JSON; None for 0, which is never."""
    if not seconds:
        return None
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
