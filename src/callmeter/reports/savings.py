"""What could have been saved: cheaper models, caches, failed calls that were paid for, long answers, zombie sessions.

Each call counts under its largest saving only, so the rows add up to what could be saved, and never to more than was
spent. A month is a twelfth of a year; the period's figure is stretched to it.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from callmeter.policy.document import Policy
from callmeter.reports.anomaly_finding import freeze
from callmeter.reports.grouping import NONE
from callmeter.reports.report import Column, Kind, Report, Row
from callmeter.reports.savings_evidence import Evidence, evidence
from callmeter.reports.savings_models import Cheaper
from callmeter.reports.savings_pricing import Offers, Tariffs, counts
from callmeter.reports.sums import apportion
from callmeter.reports.usage import Figures, Usage
from callmeter.words.money import shown, usd
from callmeter.words.period import Period
from callmeter.words.record import UsageRecord

TOP = 10
MODEL, CACHE, FAILED, RETRIES, ANSWERS, ZOMBIE = (
    "cheaper model",
    "prompt cache",
    "failed calls",
    "retries",
    "long answers",
    "zombie session",
)
KINDS = (MODEL, CACHE, FAILED, RETRIES, ANSWERS, ZOMBIE)
# A session that is never silent is given three days before its cost counts as wasted.
ZOMBIE_AFTER = timedelta(hours=72)
_FAILED = ("error", "timeout", "truncated", "unknown")
_MONTH = timedelta(days=365) / 12
_DAY = timedelta(days=1)
_TICK = timedelta(microseconds=1)
_SHORT = 7

# By agent and session: when a zombie was first and last awake.
Zombies = Mapping[tuple[str, str], tuple[datetime, datetime]]


@dataclass(frozen=True)
class _Place:
    """What a row is about: the kind of saving, whose calls, and what about them."""

    kind: str
    where: str
    what: str
    evidence: str = ""
    act: str = ""


@dataclass
class _Found:
    """What a row adds up to, in nano-dollars; `tokens` that a cache would have had; calls by how they `ended`."""

    calls: int = 0
    cost: int = 0
    saved: int = 0
    tokens: int = 0
    ended: Counter[str] = field(default_factory=Counter)


@dataclass
class _Calls:
    """The calls of a period, each under its largest saving; `alone` is what each kind would save without the others."""

    cheaper: Cheaper
    tariffs: Tariffs
    seen: Evidence
    zombies: Zombies
    rows: dict[_Place, _Found] = field(default_factory=dict)
    alone: dict[str, int] = field(default_factory=dict)

    def add(self, record: UsageRecord) -> None:
        """Count one call."""
        cost = (record.cost_nano or 0) + self.seen.corrections.get(record.id, 0)
        if record.status in ("refused", "cancelled") or cost <= 0:
            return
        ways = [(min(saved, cost), place, tokens) for saved, place, tokens in self._savings(record, cost) if saved > 0]
        if not ways:
            return
        for saved, place, _ in ways:
            self.alone[place.kind] = self.alone.get(place.kind, 0) + saved
        saved, place, tokens = max(ways, key=lambda way: way[0])
        found = self.rows.get(place)
        if found is None:
            found = self.rows[place] = _Found()
        found.calls += 1
        found.cost += cost
        found.saved += saved
        found.tokens += tokens
        found.ended[record.status] += 1

    def _savings(self, record: UsageRecord, cost: int) -> Iterator[tuple[int, _Place, int]]:
        at, tags = record.instant, record.tags
        purpose, agent, session = (tags.get(name) or NONE for name in ("purpose", "agent", "session"))
        awake = self.zombies.get((agent, session))
        if awake is not None and awake[0] + ZOMBIE_AFTER <= at <= awake[1]:
            days = f"{(awake[1] - awake[0]) / _DAY:.1f}"
            why = f"open for {days} days and never silent for long; all after its third day"
            stop = freeze("session", session, f"open for {days} days")
            yield cost, _Place(ZOMBIE, agent, session, why, stop), 0
        if record.status in _FAILED:
            look = _command("callmeter budget breakdown --by status --by error", *_where("purpose", purpose))
            yield cost, _Place(FAILED, purpose, "no whole answer", "", look), 0
        if record.status != "ok" or record.tokens is None:
            return
        tokens = counts(record.tokens)
        amounts = self.tariffs.amounts(record.provider, record.model, at, tokens["in"])
        own = self.tariffs.cost(record.provider, record.model, at, tokens)
        if record.attempts > 1 and own is not None:
            look = _command("callmeter budget breakdown --by-model --by status", *_where("purpose", purpose))
            why = "attempts before the one that answered, at the price of its tokens"
            yield cost - own, _Place(RETRIES, purpose, record.model, why, look), 0
            cost = min(cost, own)
        target = self.cheaper.target(_names(record, self.cheaper.keys))
        if target is not None:
            offer = self.tariffs.offer(record.provider, target.model, at)
            other = self.tariffs.cost(record.provider, target.model, at, tokens)
            if offer is not None and offer.takes(tokens) and other is not None and (own is None or other < own):
                call = _command("llm-call --model", target.model, *_option("--purpose", purpose))
                change = f"{record.model} to {target.model}"
                yield cost - other, _Place(MODEL, purpose, change, target.evidence, call), 0
        ceiling = self.seen.ceilings.get(purpose)
        if ceiling is not None and tokens["out"] > ceiling and "out" in amounts:
            saved = int(((tokens["out"] - ceiling) * amounts["out"]).scaleb(9))
            usual = f"half of its answers have at most {self.seen.usual[purpose]:,} tokens"
            call = _command(f"llm-call --max-tokens {ceiling}", *_option("--purpose", purpose))
            yield saved, _Place(ANSWERS, purpose, f"above {ceiling:,} tokens", usual, call), 0
        repeat = self.seen.repeats.get(record.id)
        if repeat is not None and "cached" in amounts and "in" in amounts:
            plain = amounts["in"]
            dearer = max(amounts.get("cache_write", plain) - plain, Decimal(0))
            saved = int((repeat.read * (plain - amounts["cached"]) - repeat.written * dearer).scaleb(9))
            why = "conversations that send all of it again" if repeat.grown else "the same prompt again, by its sketch"
            act = "put first what stays the same, and have the provider cache it"
            yield saved, _Place(CACHE, purpose, record.model, why, act), repeat.read


def savings(
    usage: Usage,
    policy: Policy,
    offers: Offers,
    period: Period,
    now: datetime,
    *,
    zombies: Zombies | None = None,
    only: Sequence[str] = (),
    top: int = TOP,
) -> Report:
    """A row for each kind of saving, place and change, the largest first; the `top` of them, the rest as one row.
    `only` are the models to price the calls at instead of those that the policy lists or the team uses."""
    end = now if period.end is None else min(period.end, now)
    tariffs = Tariffs(offers)
    cheaper = Cheaper(usage, policy, tariffs, period, min(end, now), only)
    calls = _Calls(cheaper, tariffs, evidence(usage.calls(period=period)), zombies or {})
    for record in usage.calls(period=period):
        if record.corrects is None:
            calls.add(record)
    days = _days(usage, period, end)
    total = Figures()
    for _, figures in usage.groups(period=period):
        total.merge(figures)
    notes = _notes(cheaper, calls.rows, days, only)
    return _report(calls, total, days, period, str(usage.zone), notes, top)


def _report(
    calls: _Calls, spent: Figures, days: Decimal, period: Period, zone: str, notes: list[str], top: int
) -> Report:
    alone = calls.alone
    ranked = sorted(calls.rows.items(), key=lambda each: (-each[1].saved, each[0].kind, each[0].where, each[0].what))
    whole = _sum([found for _, found in ranked])
    month = _a_month(whole.saved, days)
    parts = apportion([found.saved for _, found in ranked], whole.saved, month) if whole.saved else []
    listed = [
        Row(
            {**_cells(found, part), "saving": place.kind, "where": place.where, "what": place.what}
            | {"evidence": _evidence(place, found), "act": place.act}
        )
        for (place, found), part in list(zip(ranked, parts, strict=True))[:top]
    ]
    if len(ranked) > top:
        rest = _cells(_sum([found for _, found in ranked[top:]]), sum(parts[top:]))
        listed.append(Row({**rest, "saving": f"other ({len(ranked) - top})"}, rest=True))
    columns = [
        Column("saving", "saving", Kind.TEXT),
        Column("where", "of", Kind.TEXT),
        Column("what", "what", Kind.TEXT),
        Column("calls", "calls", Kind.COUNT, optional=3),
        Column("cost", "cost", Kind.MONEY, optional=4),
        Column("saved", "saves", Kind.MONEY, optional=2),
        Column("month", "a month", Kind.MONEY),
        Column("evidence", "evidence", Kind.TEXT, optional=1),
        Column("act", "to do", Kind.TEXT),
    ]
    spent_month = _a_month(spent.nano, days)
    if whole.saved and spent_month:
        share = Decimal(month) / spent_month
        notes.insert(
            0, f"{shown(month)} of {shown(spent_month)} a month ({share:.0%}); each call is under its largest saving."
        )
        if len(alone) > 1:
            each = ", ".join(f"{kind} {shown(_a_month(alone[kind], days))}" for kind in KINDS if kind in alone)
            notes.insert(1, f"Each by itself, which overlap: {each}.")
    elif not spent.calls:
        notes = ["No calls in this period."]
    else:
        notes = ["Nothing to be saved was found.", *notes]
    facts = {
        "days": days,
        "spent": usd(spent.nano),
        "spent_month": usd(spent_month),
        "kinds": {kind: usd(sum(found.saved for place, found in ranked if place.kind == kind)) for kind in KINDS},
        "alone": {kind: usd(alone.get(kind, 0)) for kind in KINDS},
    }
    total = _cells(whole, month) if listed else None
    return Report("Savings", columns, listed, total, notes, facts, period=period, zone=zone)


def _cells(found: _Found, month: int) -> dict[str, int | str | Decimal | None]:
    return {"calls": found.calls, "cost": found.cost, "saved": found.saved, "month": month}


def _evidence(place: _Place, found: _Found) -> str:
    if place.kind == FAILED:
        return "paid for: " + ", ".join(f"{count:,} {status}" for status, count in sorted(found.ended.items()))
    return f"{place.evidence}: {found.tokens:,} tokens" if found.tokens else place.evidence


def _sum(parts: Sequence[_Found]) -> _Found:
    return _Found(
        sum(part.calls for part in parts), sum(part.cost for part in parts), sum(part.saved for part in parts)
    )


def _days(usage: Usage, period: Period, end: datetime) -> Decimal:
    """How long the part of the period is that the log covers, at least a day: an hour is no basis for a month."""
    first = usage.reading.first
    start = max(filter(None, (first, period.start)), default=end)
    return (Decimal(max(end - start, _DAY) // _TICK) / (_DAY // _TICK)).quantize(Decimal("0.01"))


def _a_month(nano: int, days: Decimal) -> int:
    month = Decimal(_MONTH // _TICK) / (_DAY // _TICK)
    return int((nano * month / days).to_integral_value())


def _notes(cheaper: Cheaper, rows: Mapping[_Place, _Found], days: Decimal, only: Sequence[str]) -> list[str]:
    kinds = {place.kind for place in rows}
    notes = []
    if MODEL in kinds or cheaper.listed or only:
        basis = (
            f"models asked about: {', '.join(only)}"
            if only
            else "models that the policy's lists name or permit among those in use"
            if cheaper.listed
            else "models that the team uses already, since the policy has no list of models"
        )
        notes.append(
            f"Cheaper models: {basis}; the same tokens at the other price. Another model may need more tokens or give "
            "worse answers: try it on some calls first."
        )
    if ANSWERS in kinds:
        notes.append("Long answers: what is above four times the usual; a ceiling cuts such an answer off.")
    if CACHE in kinds:
        notes.append("Prompt cache: where the log shows that prompts repeat within five minutes; writes are paid for.")
    if days < _SHORT:
        notes.append(f"A month is guessed from {days} days.")
    return notes


def _names(record: UsageRecord, keys: Sequence[str]) -> tuple[str, ...]:
    fields = {"provider": record.provider, "model": record.model, "key": record.key}
    return tuple((fields[name] if name in fields else record.tags.get(name)) or NONE for name in keys)


def _command(start: str, *words: str) -> str:
    """A command line that can be copied; none with a name that cannot be printed."""
    if not all(word.isprintable() for word in words):
        return ""
    return " ".join([start, *map(shlex.quote, words)])


def _option(option: str, value: str) -> tuple[str, ...]:
    return () if value == NONE else (option, value)


def _where(name: str, value: str) -> tuple[str, ...]:
    return () if "*" in value else ("--where", f"{name}={value}")
