"""Which quotas count what is booked under a subject."""

from __future__ import annotations

from callmeter.policy.quotas import SHORT_PERIODS, Bucket, window_of
from callmeter.words.errors import UsageError
from callmeter.words.period import zone_named
from callmeter.words.subject import Subject, parse_subject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from callmeter.policy.document import Policy
    from callmeter.policy.quotas import Quota


def one_bucket(text: str, policy: Policy) -> Subject:
    """A subject that is one bucket: not each of several. Raises UsageError."""
    subject = parse_subject(text, policy.aliases)
    if subject.each:
        raise UsageError(f"{text} is many", f"name one of them, such as `{subject.kind}:…`")
    return subject


def quotas_on(policy: Policy, bucket: Subject, unit: str = "", period: str = "") -> list[Quota]:
    """The quotas that count what is booked in a bucket. Without a `period`, those per minute or second are left out:
    they reset by themselves. Raises UsageError when there is none."""
    on_it = all_on(policy, bucket)
    found = [quota for quota in on_it if unit in ("", quota.unit) and period in ("", quota.period)]
    lasting = [quota for quota in found if period or quota.period not in SHORT_PERIODS]
    if lasting:
        return lasting
    kind = " ".join(word for word in (f"in {unit}" if unit else "", f"per {period}" if period else "") if word)
    there = "; ".join(f"{quota.period} in {quota.unit}" for quota in on_it)
    raise UsageError(
        f"there is no quota on {bucket}{' ' if kind else ''}{kind}",
        f"its quotas are: {there}" if there else "see `callmeter budget quota show`",
        code="no_quota",
    )


def all_on(policy: Policy, bucket: Subject) -> list[Quota]:
    """All quotas that count what is booked in a bucket."""
    return [quota for quota in policy.quotas if covers(quota, bucket)]


def covers(quota: Quota, bucket: Subject) -> bool:
    """Whether a bucket is one of a quota's."""
    if quota.subject == bucket:
        return True
    return quota.subject.each and quota.subject.kind == bucket.kind and bucket.value not in quota.excluded


def bucket_key(quota: Quota, bucket: Subject) -> str:
    """Under which name the ledger books what falls into a quota's bucket."""
    return f"own/{bucket}" if quota.pools else str(bucket)


def buckets_of(quotas: Iterable[Quota], bucket: Subject, policy: Policy, now: datetime) -> list[Bucket]:
    """A subject's bucket in the current period of each quota."""
    zone = zone_named(policy.time_zone)
    return [Bucket(quota, bucket_key(quota, bucket), *window_of(quota.period, now, zone)) for quota in quotas]
