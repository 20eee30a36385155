"""All quotas where they stand, and who holds what of them: what people look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from heapq import nsmallest

from callmeter.flows.booking import window_of_bucket
from callmeter.flows.remaining import Teller
from callmeter.ledger.protocol import Reservation
from callmeter.policy.coverage import bucket_key
from callmeter.policy.decision import Stand
from callmeter.policy.grants import Allowances, Grant
from callmeter.policy.quotas import SHORT_PERIODS, UNITS, Bucket, Quota, window_of
from callmeter.reports.quota_choice import LeftOut, share_of
from callmeter.reports.quota_standings import Holder
from callmeter.words.jsontext import loads
from callmeter.words.period import zone_named

_Row = tuple[str, int, int, int]  # see `Ledger.amounts`
_TAGS = ("agent", "session", "purpose")


def every_stand(teller: Teller, allowances: Allowances, top: int) -> tuple[list[Stand], int]:
    """Where all quotas stand; of those that are for each of several, the `top` values that have taken most, and how
    many were left out. Raises LedgerProblem."""
    found: list[Stand] = []
    hidden = 0
    for quota, every in _listed(teller):
        if every is None:
            found += teller.stands_in([_itself(quota, teller)], allowances)
            continue
        each = nsmallest(top, every, key=lambda row: (-row[1] - row[2], row[0]))
        found += _stands(quota, each, teller, allowances)
        hidden += len(every) - len(each)
    return found, hidden


def fullest_stands(
    teller: Teller, allowances: Allowances, most: int, over: Callable[[Quota, str, int], bool]
) -> tuple[list[Stand], dict[Quota, LeftOut]]:
    """Where quotas stand that do not reset before they are read; of those that are for each of several, the `most`
    fullest values, and the `most` fullest that are `over` (by quota, a bucket's name and what is held); and how many
    were left out. Raises LedgerProblem."""
    found: list[Stand] = []
    left_out: dict[Quota, LeftOut] = {}
    for quota, every in _listed(teller):
        if quota.period in SHORT_PERIODS:
            continue
        if every is None:
            found += teller.stands_in([_itself(quota, teller)], allowances)
            continue
        kinds: tuple[list[_Row], list[_Row]] = [], []
        for row in every:
            kinds[over(quota, row[0], row[2])].append(row)
        for rows in kinds:
            kept = nsmallest(most, rows, key=_fullest(quota, allowances))
            found += _stands(quota, kept, teller, allowances)
        if max(map(len, kinds)) > most:
            left_out[quota] = LeftOut(*(max(len(rows) - most, 0) for rows in kinds))
    return found, left_out


def _listed(teller: Teller) -> Iterator[tuple[Quota, list[_Row] | None]]:
    """All quotas, those that are for each of several with the buckets that were ever used, or None for none yet."""
    teller.count()
    patterns = {str(quota.subject) for quota in teller.policy.quotas if "*" in quota.subject.value}
    for quota in teller.policy.quotas:
        if not quota.subject.each:
            yield quota, None
            continue
        itself = _itself(quota, teller)
        first = itself.key.removesuffix("*")
        every = [
            row
            for row in teller.ledger().amounts(quota.period, itself.start, first, quota.unit)
            if row[0][len(first) :] not in quota.excluded and row[0] not in patterns
        ]
        # The rule itself, as long as nobody has used it.
        yield quota, every or None


def _itself(quota: Quota, teller: Teller) -> Bucket:
    zone = zone_named(teller.policy.time_zone)
    return Bucket(quota, bucket_key(quota, quota.subject), *window_of(quota.period, teller.now, zone))


def _fullest(quota: Quota, allowances: Allowances) -> Callable[[_Row], tuple[Decimal, str]]:
    """The order of `Stand.share`, the fullest first; ties by name."""
    limit = quota.limit_for("critical")

    def key(row: _Row) -> tuple[Decimal, str]:
        bucket, settled, held, calls = row
        granted = allowances.granted(bucket, quota.period, quota.unit, calls) if allowances.grants else 0
        return -share_of(settled + held, limit + granted), bucket

    return key


def _stands(quota: Quota, rows: Sequence[_Row], teller: Teller, allowances: Allowances) -> list[Stand]:
    itself = _itself(quota, teller)
    return [
        Stand(
            Bucket(quota, bucket, itself.start, itself.end),
            settled,
            held,
            allowances.granted(bucket, quota.period, quota.unit, calls),
            allowances.approved(bucket, quota.period, quota.unit, calls),
        )
        for bucket, settled, held, calls in rows
    ]


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
