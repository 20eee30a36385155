"""What a call is told that may not go ahead: which quota or freeze, the arithmetic, what to do. Few calls are told
any of it, so calls import this late."""

from __future__ import annotations

from callmeter.flows.booking import window_of_bucket
from callmeter.flows.standing import arithmetic, instant_text, quota_text, share_text
from callmeter.policy.quotas import SHORT_PERIODS
from callmeter.words.errors import ApprovalNeeded, Busy, CallmeterError, Refused
from callmeter.words.money import amount_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from callmeter.flows.asking import Asked
    from callmeter.flows.desk import Desk
    from callmeter.ledger.protocol import Ledger
    from callmeter.policy.decision import Decision, Frozen
    from callmeter.policy.quotas import Bucket

# A call held up by others' holds is told to come back after this; they last as long as their calls.
_RETRY_AFTER = 5


def refusal(
    asked: Asked,
    decision: Decision,
    facts: dict[str, str],
    desk: Desk,
    ledger: Ledger,
    alert: Callable[[Bucket, str, str], None],
) -> CallmeterError:
    """The error of a call that does not fit, with the figures. `alert` is told of a quota that is used up."""
    stand = decision.stand
    assert stand is not None
    quota, bucket = stand.quota, stand.bucket
    if decision.why == "price_unknown":
        return Refused(
            f"the model {facts['model']} has no price, and {quota_text(bucket)} is a hard quota",
            f"set it with `callmeter prices set {facts['model']} --provider {asked.provider} --input … --output …`",
            code="price_unknown",
        )
    window = window_of_bucket(bucket)
    holders = [held.call_id for held in ledger.open_reservations() if window in held.windows]
    sums = arithmetic(decision, len(holders))
    details: dict[str, Any] = {
        "subject": bucket.key,
        "period": quota.period,
        "unit": quota.unit,
        "limit": amount_value(decision.limit, quota.unit),
        "current_usage": amount_value(stand.settled, quota.unit),
        "held": amount_value(stand.held, quota.unit),
        "held_by": holders[:20],
        "need": amount_value(decision.need, quota.unit),
        "missing": amount_value(decision.missing, quota.unit),
        "resets_at": instant_text(decision.resets_at),
    }
    if decision.action == "busy":
        left = decision.resets_at - int(asked.at.timestamp())
        wait = max(1, left) if quota.period in SHORT_PERIODS and decision.why == "limit" else _RETRY_AFTER
        return Busy(
            f"{quota_text(bucket)} is busy: {sums}",
            f"try again in {wait} s, or add `--wait`",
            code="quota_busy",
            retry_after=wait,
            **details,
        )
    if decision.action == "approve" and decision.stage is not None:
        why = f"{quota_text(bucket)} needs approval from {share_text(decision.stage.share)} on"
        request = desk.request(bucket.key, quota.period, quota.unit, bucket.end, facts, why)
        return ApprovalNeeded(
            f"{why}: {sums}; " + (f"request {request}" if request else "nobody has asked yet"),
            f"ask for `callmeter budget approve {request}`" if request else "the call itself asks",
            request=request or None,
            **details,
        )
    if decision.resets_at:
        details["retry_after"] = max(1, decision.resets_at - int(asked.at.timestamp()))
    said = f"{quota_text(bucket)} stops this call: {sums}"
    if decision.why == "limit" and quota.period not in SHORT_PERIODS:
        alert(bucket, "stop", said)
    return Refused(said, _stop_hint(bucket), code="quota_exceeded", **details)


def frozen_refusal(frozen: Frozen) -> Refused:
    """The error of a call whose subject was stopped."""
    until = f" until {instant_text(frozen.until)}" if frozen.until else ""
    reason = f": {frozen.reason}" if frozen.reason else ""
    return Refused(
        f"{frozen.subject} is frozen{until}{reason}",
        f"`callmeter budget thaw {frozen.subject}` lifts it",
        code="frozen",
        subject=str(frozen.subject),
        resets_at=instant_text(frozen.until),
    )


def _stop_hint(bucket: Bucket) -> str:
    key = bucket.key.removeprefix("own/")
    return f"see `callmeter budget quota explain {key}`, or ask: `callmeter budget request {key} AMOUNT --reason …`"
