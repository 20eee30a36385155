"""What a usage line counts for in the ledger, and in which windows: the same for a call that is settled now and for
a log that is counted from its beginning. And where those windows stand."""

from __future__ import annotations

from decimal import Decimal

from callmeter.ledger.protocol import MOST, Amount, Basis, Window
from callmeter.policy.decision import Stand
from callmeter.policy.quotas import buckets_for
from callmeter.store.log_identity import log_identity
from callmeter.words.digest import hex_digest
from callmeter.words.instant import parse_instant, text_of
from callmeter.words.money import nano, usd
from callmeter.words.period import zone_named
from callmeter.words.subject import facts_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from callmeter.ledger.protocol import Standing
    from callmeter.policy.document import Policy
    from callmeter.policy.grants import Allowances
    from callmeter.policy.quotas import Bucket

# Changes when a line counts for something else than before: then every log is counted anew.
_RULES = "1"
_TAKEN_OVER = "another host had taken the call over"
_OF_THE_CALL = [
    "v",
    "timestamp",
    "tags",
    "provider",
    "model",
    "served_model",
    "status",
    "key",
    "key_fingerprint",
    "generation_id",
    "host",
    "pool",
]


def booked(cost: Decimal | None, tokens: Mapping[str, int] | None, attempts: int) -> Amount:
    """What a usage line counts for in the ledger: its cost (an unknown one nothing), its tokens, and one call if
    anything was tried. Corrections have no attempts: they count their difference only."""
    used = 0 if tokens is None else tokens["in"] + tokens["out"]
    spent = 0 if cost is None else max(-MOST, min(MOST, nano(cost)))
    return Amount(spent, used, 1 if attempts > 0 else 0)


def booked_line(record: Mapping[str, object]) -> Amount:
    """The same for the fields of a line."""
    cost, tokens, attempts = record.get("cost"), record.get("tokens"), record.get("attempts")
    if isinstance(cost, int):
        cost = Decimal(cost)
    return booked(
        cost if isinstance(cost, Decimal) else None,
        tokens if isinstance(tokens, dict) else None,
        attempts if isinstance(attempts, int) and "corrects" not in record else 0,
    )


def basis_of(policy: Policy, log_path: str) -> Basis:
    """What totals must stand on for this policy and this log. Raises FileProblem or Busy."""
    return Basis(log_identity(log_path), mark_of(policy))


def mark_of(policy: Policy) -> str:
    """Text that differs for policies which put some line into different windows."""
    parts = {
        f"{quota.subject}\n{quota.period}\n{bool(quota.pools)}\n" + "\n".join(sorted(quota.excluded))
        for quota in policy.quotas
    }
    text = "\0".join([policy.time_zone, *sorted(parts)])
    return f"{_RULES}-{hex_digest(text.encode('utf-8', 'surrogatepass'))[:32]}"


def windows_of(policy: Policy, record: Mapping[str, object]) -> list[Window]:
    """The windows that the call of a line (or of a breadcrumb's or reservation's record) is booked in."""
    tags = record.get("tags")
    facts = facts_of(
        tags if isinstance(tags, dict) else {},
        key=str(record.get("key") or ""),
        model=str(record.get("model") or ""),
        provider=str(record.get("provider") or ""),
        pool=str(record.get("pool") or ""),
    )
    at = parse_instant(str(record["timestamp"]))
    return [window_of_bucket(bucket) for bucket in buckets_for(policy.quotas, facts, at, zone_named(policy.time_zone))]


def window_of_bucket(bucket: Bucket) -> Window:
    """The window of the ledger in which a bucket's period is booked."""
    return Window(bucket.key, bucket.quota.period, bucket.start, bucket.end)


def stand_of(bucket: Bucket, standing: Standing, allowances: Allowances) -> Stand:
    """A bucket's standing in its quota's unit, with what was approved on top."""
    quota, calls = bucket.quota, standing.taken("calls")
    return Stand(
        bucket,
        standing.settled.of(quota.unit),
        standing.held.of(quota.unit),
        allowances.granted(bucket.key, quota.period, quota.unit, calls),
        allowances.approved(bucket.key, quota.period, quota.unit, calls),
    )


def write_line(log_path: str, record: dict[str, object], assumed: Amount, now: datetime) -> Amount:
    """Append a call's line and give what it counts for. When another host has taken the call over and `assumed`
    something in its own log, the line is a correction of that. Raises FileProblem or Busy."""
    return write_owed(log_path, [], record, assumed, now)


def write_owed(
    log_path: str, lines: Sequence[Mapping[str, object]], record: dict[str, object], assumed: Amount, now: datetime
) -> Amount:
    """The same for a log that may have `lines` of the call already (see `is_of`), which count too."""
    from callmeter.store.usage_append import append_usage
    from callmeter.words.usage import usage_line

    amount = sum((booked_line(line) for line in lines), Amount())
    if lines and (not assumed or any(line.get("note") == _TAKEN_OVER for line in lines)):
        return amount
    if assumed:
        cost = record.get("cost")
        known = nano(cost) if isinstance(cost, Decimal) else assumed.usd
        line = correction(record, usd((0 if lines else known) - assumed.usd), now)
        line["note"] = _TAKEN_OVER
        if record.get("tokens") is not None and not assumed.tokens and not lines:
            line["tokens"] = record["tokens"]
        record = line
    append_usage(log_path, usage_line(record))
    return amount + booked_line(record)


def is_of(line: Mapping[str, object], call_id: str) -> bool:
    """Whether a line is a call's own, or the correction that stands for it after another host took the call over.
    Corrections by the provider's record are booked apart."""
    return line.get("id") == call_id or (line.get("corrects") == call_id and line.get("note") == _TAKEN_OVER)


def correction(record: Mapping[str, object], difference: Decimal, now: datetime) -> dict[str, object]:
    """The line that corrects another one: the signed difference, at the time and under the tags of that call."""
    from callmeter.words.ids import uuid7

    line = {name: record[name] for name in _OF_THE_CALL if record.get(name) is not None}
    line.update(
        id=uuid7(int(now.timestamp() * 1000)),
        cost=difference,
        cost_source="reconciled",
        attempts=0,
        corrects=record["id"],
        recorded_at=text_of(now),
    )
    return line
