"""All quotas where they stand, and who holds what of them: what people look at."""

from __future__ import annotations

from collections.abc import Sequence

from callmeter.flows.booking import stand_of, window_of_bucket
from callmeter.flows.remaining import Teller
from callmeter.ledger.protocol import Reservation, Standing, Window
from callmeter.policy.coverage import bucket_key
from callmeter.policy.decision import Stand
from callmeter.policy.grants import Allowances, Grant
from callmeter.policy.quotas import UNITS, Bucket, window_of
from callmeter.reports.quota_standings import Holder
from callmeter.words.jsontext import loads
from callmeter.words.period import zone_named

_TAGS = ("agent", "session", "purpose")


def every_stand(teller: Teller, allowances: Allowances, top: int) -> tuple[list[Stand], int]:
    """Where all quotas stand; of those that are for each of several, the `top` values that have taken most, and how
    many were left out. Raises LedgerProblem."""
    zone = zone_named(teller.policy.time_zone)
    teller.count()
    found: list[Stand] = []
    hidden = 0
    listings: dict[str, dict[Window, Standing]] = {}
    patterns = {str(quota.subject) for quota in teller.policy.quotas if "*" in quota.subject.value}
    for quota in teller.policy.quotas:
        start, end = window_of(quota.period, teller.now, zone)
        itself = Bucket(quota, bucket_key(quota, quota.subject), start, end)
        if not quota.subject.each:
            found += teller.stands_in([itself], allowances)
            continue
        if quota.period not in listings:
            listings[quota.period] = teller.ledger().windows(quota.period, start)
        first = itself.key.removesuffix("*")
        each = [
            stand_of(Bucket(quota, window.bucket, start, end), standing, allowances)
            for window, standing in listings[quota.period].items()
            if window.bucket.startswith(first)
            and window.bucket[len(first) :] not in quota.excluded
            and window.bucket not in patterns
        ]
        each.sort(key=lambda stand: (-stand.taken, stand.bucket.key))
        # The rule itself, as long as nobody has used it.
        found += each[:top] or teller.stands_in([itself], allowances)
        hidden += len(each[top:])
    return found, hidden


def holders_of(teller: Teller, stands: Sequence[Stand]) -> dict[Stand, list[Holder]]:
    """The calls in flight that hold something of each bucket, oldest first. Raises LedgerProblem."""
    if not any(stand.held for stand in stands):
        return {}
    holding: dict[Stand, list[Holder]] = {}
    for reservation in teller.ledger().open_reservations():
        windows = set(reservation.windows)
        for stand in stands:
            if window_of_bucket(stand.bucket) in windows:
                holding.setdefault(stand, []).append(_holder(reservation))
    return holding


def grants_of(allowances: Allowances, stands: Sequence[Stand]) -> dict[Stand, list[Grant]]:
    """The approvals in effect for each bucket."""
    return {
        stand: [
            grant
            for grant in allowances.grants.values()
            if grant.holds(stand.bucket.key, stand.quota.period, stand.quota.unit, 0, allowances.now)
        ]
        for stand in stands
        if stand.approved
    }


def _holder(reservation: Reservation) -> Holder:
    host, _, _, pid, _ = (reservation.owner.split(" ") + [""] * 5)[:5]
    record = loads(reservation.record)
    fields = record if isinstance(record, dict) else {}
    tags = fields.get("tags")
    named = [f"{name}={tags[name]}" for name in _TAGS if name in tags] if isinstance(tags, dict) else []
    return Holder(
        {unit: reservation.hold.of(unit) for unit in UNITS},
        reservation.created,
        f"pid {pid} on {host}" if pid else reservation.owner,
        " ".join([*named, str(fields.get("model") or "")]).strip() or reservation.call_id,
    )
