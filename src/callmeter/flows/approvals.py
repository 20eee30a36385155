"""Asking, approving, denying, freezing and thawing: what is checked, audited and written, in which order.

What gives something (an approval, a thaw) is audited first, so that no change goes without its record. What stops
something (a freeze, a denial) is written first: it must not wait for an audit log on a full disk.
"""

from __future__ import annotations

import os

from callmeter.flows.standing import instant_text as moment_text
from callmeter.ledger.protocol import Window
from callmeter.policy.coverage import buckets_of, one_bucket, quotas_on
from callmeter.policy.grant_lines import (
    denial_fields,
    freeze_fields,
    grant_fields,
    instant_text,
    request_fields,
    request_id,
    thaw_fields,
)
from callmeter.policy.grants import Denial, Freeze, Grant, Request
from callmeter.policy.quotas import SHORT_PERIODS, window_of
from callmeter.store.approvals import ApprovalsFile, append_freeze, file_request, read_allowances
from callmeter.words.errors import Refused, UsageError
from callmeter.words.period import zone_named
from callmeter.words.subject import Subject, parse_subject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime, tzinfo

    from callmeter.ledger.protocol import Standing
    from callmeter.policy.document import Policy
    from callmeter.policy.quotas import Quota
    from callmeter.store.places import Places

    Audit = Callable[[str, Mapping[str, object]], None]

_CLOSED = {"replaced": "was replaced by a later one"}
# A request about something that never resets is forgotten after this many seconds.
_PATIENCE = 30 * 86_400


def ask(
    places: Places,
    now: datetime,
    bucket: str,
    *,
    unit: str,
    amount: int,
    period: str,
    until: int,
    by: str,
    agent: str,
    reason: str,
    audit: Audit,
) -> Request:
    """The open request for this bucket and agent, or a new one. `until` 0 means that its period never ends."""
    at = int(now.timestamp())
    until = until or at + _PATIENCE
    wanted = Request(
        bucket, unit=unit, amount=amount, period=period, until=until, at=at, by=by, agent=agent, reason=reason
    )
    wanted.id = request_id(wanted)
    request = file_request(places, now, wanted)
    if request is wanted:
        audit("approval.request", _facts(request_fields(request)))
    return request


def ask_for_more(
    places: Places,
    policy: Policy,
    now: datetime,
    subject: str,
    *,
    unit: str,
    amount: int,
    period: str,
    by: str,
    reason: str,
    audit: Audit,
) -> Request:
    """A person's request for headroom. Raises UsageError when no quota is on that subject, unit and period."""
    bucket = one_bucket(subject, policy)
    zone = zone_named(policy.time_zone)
    ends = [window_of(quota.period, now, zone)[1] for quota in quotas_on(policy, bucket, unit, period)]
    agent = bucket.value if bucket.kind == "agent" else ""
    return ask(
        places,
        now,
        str(bucket),
        unit=unit,
        amount=amount,
        period=period,
        until=0 if 0 in ends else max(ends),
        by=by,
        agent=agent,
        reason=reason,
        audit=audit,
    )


def approve(
    places: Places,
    policy: Policy,
    now: datetime,
    id: str,
    *,
    amount: int | None,
    unit: str | None,
    until: datetime | None,
    calls: int | None,
    standings: Callable[[list[Window]], Mapping[Window, Standing]],
    by: str,
    reason: str,
    audit: Audit,
) -> Grant:
    """Grant a request, or other than what it asks for: `amount` in `unit`, `until` a time, for so many `calls` from
    now on, which takes `standings` (those of the ledger). It ends with the quota's period in any case.

    Raises UsageError for an unknown or settled request, Refused when this person may not approve it.
    """
    with ApprovalsFile(places, now) as file:
        request = file.allowances.requests.get(id)
        state = file.allowances.state(request) if request else ""
        if request is None:
            raise unknown_request(id)
        if state not in ("open", "denied") or now.timestamp() >= request.until:
            grant = file.allowances.grants.get(id)
            told = f"was approved by {grant.by}" if grant and state == "approved" else _CLOSED.get(state, "has expired")
            raise UsageError(
                f"the request {id} {told}",
                f"ask anew: `callmeter budget request {request.bucket} AMOUNT --reason …`",
                code="request_closed",
            )
        _require_approver(policy, by, request)
        if unit is not None and unit != request.unit:
            raise UsageError(f"the request {id} is about {request.unit}, not {unit}", "give `--amount` in that unit")
        bucket, zone = parse_subject(request.bucket), zone_named(policy.time_zone)
        quotas = quotas_on(policy, bucket, request.unit, request.period)
        grant = Grant(
            id,
            request.bucket,
            unit=request.unit,
            amount=request.amount if amount is None else amount,
            ends={quota.period: _end(quota, now, until, zone) for quota in quotas},
            calls={} if calls is None else _last_calls(quotas, bucket, calls, standings, now, policy),
            at=int(now.timestamp()),
            by=by,
            reason=reason,
        )
        fields = grant_fields(grant, request)
        audit("approval.approve", _facts(fields))
        file.append(fields)
    return grant


def deny(places: Places, now: datetime, id: str, *, by: str, reason: str, audit: Audit) -> Denial:
    """Refuse a request, or take its approval back. Raises UsageError for an unknown or expired one."""
    with ApprovalsFile(places, now) as file:
        request = file.allowances.requests.get(id)
        grant = file.allowances.grants.get(id)
        if request is None:
            raise unknown_request(id)
        if file.allowances.state(request) == "expired":
            raise UsageError(f"the request {id} has expired", code="request_closed")
        denial = Denial(
            id,
            request.bucket,
            unit=request.unit,
            period=request.period,
            until=request.until,
            at=int(now.timestamp()),
            by=by,
            reason=reason,
        )
        fields = denial_fields(denial, grant)
        file.append(fields)
        audit("approval.deny", _facts(fields))
    return denial


def freeze(
    places: Places, now: datetime, subject: Subject, *, until: datetime | None, by: str, reason: str, audit: Audit
) -> Freeze:
    """Stop every call under a subject, from the next one on."""
    frozen = _freeze(now, subject, until, by, reason)
    with ApprovalsFile(places, now) as file:
        file.append(freeze_fields(frozen))
        audit("subject.freeze", _facts(freeze_fields(frozen)))
    return frozen


def trip(
    places: Places, now: datetime, subject: Subject, *, until: datetime | None, by: str, reason: str, audit: Audit
) -> Freeze:
    """What the loop breaker does: the same from an agent's own process, which need not be able to write the approvals
    file. A subject that it has frozen already stays as it is."""
    live = read_allowances(places, now).live_freezes()
    for found in live:
        if found.automatic and found.subject == subject:
            return found
    frozen = _freeze(now, subject, until, by, reason)
    append_freeze(places, freeze_fields(frozen))
    audit("subject.freeze", {**_facts(freeze_fields(frozen)), "automatic": True})
    return frozen


def thaw(places: Places, policy: Policy, now: datetime, subject: Subject, *, by: str, reason: str, audit: Audit) -> int:
    """Lift all freezes of exactly this subject, the loop breaker's too, and say how many they were. Raises UsageError
    when there is none, Refused when this person may not."""
    with ApprovalsFile(places, now) as file:
        live = file.allowances.live_freezes()
        found = [frozen for frozen in live if frozen.subject == subject]
        if not found:
            others = ", ".join(dict.fromkeys(str(frozen.subject) for frozen in live))
            raise UsageError(
                f"{subject} is not frozen",
                f"frozen are: {others}" if others else "nothing is frozen",
                code="not_frozen",
            )
        _require_approver(policy, by)
        fields = thaw_fields(found, at=int(now.timestamp()), by=by, reason=reason)
        audit("subject.thaw", {**_facts(fields), "subject": str(subject)})
        file.append(fields)
    return len(found)


def end_text(end: int) -> str:
    """`until 2026-12-01T00:00:00.000Z`, from seconds since 1970; 0 is no end."""
    return f"until {instant_text(end)}" if end else "without an end"


def was_denied(denial: Denial) -> Refused:
    """The error for a call whose request was refused."""
    reason = f": {denial.reason}" if denial.reason else ""
    until = moment_text(denial.until)
    return Refused(
        f"{denial.bucket} needs approval, and the request {denial.id} was denied by {denial.by}{reason}",
        f"it holds until {until}",
        code="denied",
        request=denial.id,
        resets_at=until,
    )


def unknown_request(id: str) -> UsageError:
    """The error for an id that no request has."""
    return UsageError(f"there is no request {id!r}", "see `callmeter budget requests --all`", code="unknown_request")


def _freeze(now: datetime, subject: Subject, until: datetime | None, by: str, reason: str) -> Freeze:
    end = int(until.timestamp()) if until else 0
    return Freeze(f"f-{os.urandom(5).hex()}", subject, until=end, at=int(now.timestamp()), by=by, reason=reason)


def _last_calls(
    quotas: Sequence[Quota],
    bucket: Subject,
    calls: int,
    standings: Callable[[list[Window]], Mapping[Window, Standing]],
    now: datetime,
    policy: Policy,
) -> dict[str, int]:
    """The number of calls in each quota's period at which an approval for the next `calls` ends."""
    windows = {
        each.quota.period: Window(each.key, each.quota.period, each.start, each.end)
        for each in buckets_of(quotas, bucket, policy, now)
    }
    found = standings(list(windows.values()))
    return {period: found[window].taken("calls") + calls for period, window in windows.items()}


def _end(quota: Quota, now: datetime, until: datetime | None, zone: tzinfo) -> int:
    """When a grant on a quota ends: with its period, or before. Periods of seconds and minutes reset by themselves;
    a grant on them raises the rate, for a time that has to be given."""
    asked = int(until.timestamp()) if until else 0
    if quota.period in SHORT_PERIODS:
        if not asked:
            raise UsageError(f"a quota per {quota.period} resets by itself", "add `--for` or `--until`")
        return asked
    end = window_of(quota.period, now, zone)[1]
    return min(asked, end) if asked and end else asked or end


def _require_approver(policy: Policy, by: str, request: Request | None = None) -> None:
    """Names are compared without the host, which everybody can set for himself."""
    rules, name = policy.approvals, by.partition("@")[0]
    if rules.approvers and name not in rules.approvers:
        raise Refused(
            f"{name} is not among the approvers", f"ask one of {', '.join(rules.approvers)}", code="not_an_approver"
        )
    if request is not None and not rules.self_approval and request.by.partition("@")[0] == name:
        raise Refused(
            f"{name} made the request {request.id}, and the policy lets nobody approve what he requested himself",
            "ask somebody else, or change `approvals.self_approval`",
            code="self_approval",
        )


def _facts(fields: Mapping[str, object]) -> dict[str, object]:
    """A line's members for the audit log, which has its own time and name."""
    return {name: value for name, value in fields.items() if name not in ("over", "event", "at", "by") and value}
