"""What people and the loop breaker decided in a span, from the audit log; and the keys that want rotation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from callmeter.policy.rotation import EXPIRING, due_at
from callmeter.reports.report import Column, Kind, Report, Row
from callmeter.reports.review_span import Span
from callmeter.words.instant import parse_instant
from callmeter.words.money import nano, shown
from callmeter.words.wording import counted

_MOST = 20
_DAY = timedelta(days=1)
_TENTH = Decimal("0.1")
_WORDS = {
    "approval.request": "asked for",
    "approval.approve": "approved",
    "approval.deny": "denied",
    "subject.freeze": "frozen",
    "subject.thaw": "thawed",
    "key.add": "key added",
    "key.replace": "key replaced",
    "key.change": "key changed",
    "key.remove": "key removed",
    "key.ceiling": "key's ceiling set",
    "key.import": "key imported",
    "key.move": "key moved",
    "key.rename": "key renamed",
    "key.retire": "key retired",
    "log.close": "log closed",
    "log.prune": "log pruned",
    "quota.set": "quota set",
    "quota.unset": "quota removed",
}
# Of a rotation's many steps, those that people want to know of.
_STEPS = {"swapped": "key rotated", "rolled_back": "rotation taken back", "conflict": "rotation found a foreign key"}
_TOLD_ELSEWHERE = ("anomaly",)
_SUBJECTS = ("subject", "key", "label", "quota", "model", "log")


def decisions(events: Iterable[Mapping[str, object]], span: Span) -> tuple[Report | None, Mapping[str, int]]:
    """A row for each event of the span, in the order of the log, the last twenty; and how many there were of each
    kind. None when there were none."""
    found: list[tuple[str, Mapping[str, object]]] = []
    counts: dict[str, int] = {}
    for event in events:
        at = str(event.get("at", ""))
        try:
            if parse_instant(at) not in span.period:
                continue
        except ValueError:
            continue
        name = str(event.get("event", ""))
        if name in _TOLD_ELSEWHERE or (name == "key.rotate" and event.get("step") not in _STEPS):
            continue
        counts[name] = counts.get(name, 0) + 1
        found.append((at, event))
    rows = [
        Row(
            {
                "at": at,
                "what": _what(event),
                "subject": next((str(event[name]) for name in _SUBJECTS if event.get(name)), None),
                "amount": _amount(event),
                "by": str(event.get("by", "")),
                "reason": str(event["reason"]) if event.get("reason") else None,
            }
        )
        for at, event in found[-_MOST:]
    ]
    columns = [
        Column("at", "time", Kind.INSTANT, optional=2),
        Column("what", "what", Kind.TEXT),
        Column("subject", "subject", Kind.TEXT),
        Column("amount", "more", Kind.TEXT, quiet=True),
        Column("by", "by", Kind.TEXT, optional=1),
        Column("reason", "reason", Kind.TEXT, quiet=True),
    ]
    more = len(found) - len(rows)
    notes = [f"{counted(more, 'earlier event')} not shown: see `callmeter budget audit show`."] if more else []
    report = Report("What was asked for, decided and changed", columns, rows, notes=notes, facts={"counts": counts})
    return (report if rows else None), counts


@dataclass(frozen=True)
class KeyAge:
    """A registered key: the instants `since` which it is in use and at which it `expires`, None where nobody said, and
    how often it is to be rotated. `used` is whether calls of the span were made with it."""

    label: str
    agent: str
    since: datetime | None
    expires: datetime | None
    every: timedelta
    used: bool


def keys_due(keys: Iterable[KeyAge], now: datetime) -> Report | None:
    """The keys that have expired, expire within a fortnight, are older than their period, or of unknown age; the most
    urgent first. None when there are none."""
    due = sorted(((*found, key.label, key) for key in keys if (found := _due(key, now))), key=lambda each: each[:3])
    rows = [
        Row(
            {
                "key": key.label,
                "agent": key.agent or None,
                "age_days": _days(now - key.since) if key.since else None,
                "expires_in_days": _days(key.expires - now) if key.expires else None,
                "used": "yes" if key.used else "no",
                "why": why,
            }
        )
        for _, why, _, key in due
    ]
    columns = [
        Column("key", "key", Kind.TEXT),
        Column("agent", "agent", Kind.TEXT, optional=2, quiet=True),
        Column("age_days", "age", Kind.DAYS, optional=1, quiet=True),
        Column("expires_in_days", "expires in", Kind.DAYS, quiet=True),
        Column("used", "used", Kind.TEXT, optional=3),
        Column("why", "why", Kind.TEXT),
    ]
    notes = ["`callmeter budget rotate-key --due` rotates them; `--status` says more."]
    return Report("Keys to rotate", columns, rows, notes=notes) if rows else None


def _due(key: KeyAge, now: datetime) -> tuple[int, str] | None:
    """How urgent it is, and why."""
    due = due_at(key.since, key.expires, key.every)
    if key.expires is not None and key.expires <= now:
        return 0, "it has expired"
    if key.expires is not None and key.expires - EXPIRING <= now:
        return 1, "it expires soon"
    if due is None:
        return 3, "nobody knows how old it is"
    return (2, f"it is older than {key.every.days} days") if due <= now else None


def _days(span: timedelta) -> Decimal:
    return (Decimal(span // timedelta(seconds=1)) / (_DAY // timedelta(seconds=1))).quantize(_TENTH)


def _what(event: Mapping[str, object]) -> str:
    name = str(event.get("event", ""))
    if name == "subject.freeze" and event.get("automatic"):
        return "stopped by the loop breaker"
    if name == "key.rotate":
        return _STEPS[str(event.get("step"))]
    return _WORDS.get(name, name.replace(".", " "))


def _amount(event: Mapping[str, object]) -> str | None:
    """What a request or an approval is about, in its unit."""
    amount, unit = event.get("amount"), str(event.get("unit", ""))
    if isinstance(amount, bool) or not isinstance(amount, int | Decimal) or not unit:
        return None
    if unit == "usd":
        try:
            return shown(nano(Decimal(amount)))
        except ValueError:
            return None
    return f"{amount:,} {unit}"
