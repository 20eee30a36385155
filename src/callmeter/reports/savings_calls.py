"""Each call under its largest saving: what a cheaper model, a cache, a ceiling, or not making it would have saved."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from callmeter.reports.grouping import NONE
from callmeter.reports.savings_evidence import Evidence
from callmeter.reports.savings_models import Cheaper
from callmeter.reports.savings_pricing import Tariffs
from callmeter.words.record import UsageRecord


class Saving(enum.StrEnum):
    """The kinds of savings, in people's words."""

    MODEL = "cheaper model"
    CACHE = "prompt cache"
    FAILED = "failed calls"
    RETRIES = "retries"
    ANSWERS = "long answers"
    ZOMBIE = "zombie session"


# A session that is never silent is given three days before its cost counts as wasted.
ZOMBIE_AFTER = timedelta(hours=72)
_FAILED = ("error", "timeout", "truncated", "unknown")

# By agent and session: when a zombie was first and last awake.
Zombies = Mapping[tuple[str, str], tuple[datetime, datetime]]


class Place(NamedTuple):
    """What a row is about: the kind of saving; whose calls, a purpose or, of a zombie, an agent; the model or session
    that they had; the model to change to; and how a prompt repeats, or what speaks for the other model."""

    kind: Saving
    where: str
    what: str = ""
    to: str = ""
    why: str = ""


@dataclass
class Found:
    """What a row adds up to, in nano-dollars; `tokens` that a cache would have had; calls by how they `ended`."""

    calls: int = 0
    cost: int = 0
    saved: int = 0
    tokens: int = 0
    ended: Counter[str] = field(default_factory=Counter)


@dataclass
class Calls:
    """The calls of a period, each under its largest saving; `alone` is what each kind would save without the others."""

    cheaper: Cheaper
    tariffs: Tariffs
    seen: Evidence
    zombies: Zombies
    rows: dict[Place, Found] = field(default_factory=dict)
    alone: dict[Saving, int] = field(default_factory=dict)

    def add(self, record: UsageRecord) -> None:
        """Count one call."""
        cost = (record.cost_nano or 0) + self.seen.corrections.get(record.id, 0)
        if record.status in ("refused", "cancelled") or cost <= 0:
            return
        largest, best, tokens = 0, None, 0
        for saving, place, read in self._savings(record, cost):
            saved = min(saving, cost)
            if saved > 0:
                self.alone[place.kind] = self.alone.get(place.kind, 0) + saved
                if saved > largest:
                    largest, best, tokens = saved, place, read
        if best is None:
            return
        found = self.rows.get(best)
        if found is None:
            found = self.rows[best] = Found()
        found.calls += 1
        found.cost += cost
        found.saved += largest
        found.tokens += tokens
        found.ended[record.status] += 1

    def _savings(self, record: UsageRecord, cost: int) -> Iterator[tuple[int, Place, int]]:
        """Nano-dollars, where they belong, and the tokens that a cache would have had."""
        at, tags = record.instant, record.tags
        purpose = tags.get("purpose") or NONE
        if self.zombies:
            agent, session = tags.get("agent") or NONE, tags.get("session") or NONE
            awake = self.zombies.get((agent, session))
            if awake is not None and awake[0] + ZOMBIE_AFTER <= at <= awake[1]:
                yield cost, Place(Saving.ZOMBIE, agent, session), 0
        if record.status in _FAILED:
            yield cost, Place(Saving.FAILED, purpose), 0
        tokens, provider, model = record.tokens, record.provider, record.model
        if record.status != "ok" or tokens is None:
            return
        rates = self.tariffs.rates(provider, model, at, tokens.in_)
        own = None if rates is None else rates.cost(tokens)
        if record.attempts > 1 and own is not None:
            yield cost - own, Place(Saving.RETRIES, purpose, model), 0
            cost = min(cost, own)
        target = self.cheaper.target(_names(record, self.cheaper.keys))
        if target is not None:
            offer = self.tariffs.offer(provider, target.model, at)
            other = self.tariffs.rates(provider, target.model, at, tokens.in_)
            price = None if other is None or offer is None or not offer.takes(tokens) else other.cost(tokens)
            if price is not None and (own is None or price < own):
                yield cost - price, Place(Saving.MODEL, purpose, model, target.model, target.evidence), 0
        if rates is None:
            return
        ceiling = self.seen.ceilings.get(purpose)
        if ceiling is not None and tokens.out > ceiling and rates.out is not None:
            yield (tokens.out - ceiling) * rates.out // rates.unit, Place(Saving.ANSWERS, purpose), 0
        repeat = self.seen.repeats.get(record.id)
        if repeat is not None and None not in (rates.in_, rates.cached, rates.write):
            assert rates.in_ is not None and rates.cached is not None and rates.write is not None
            dearer = max(rates.write - rates.in_, 0)
            saved = (repeat.read * (rates.in_ - rates.cached) - repeat.written * dearer) // rates.unit
            yield saved, Place(Saving.CACHE, purpose, model, why="grown" if repeat.grown else "same"), repeat.read


def _names(record: UsageRecord, keys: tuple[str, ...]) -> tuple[str, ...]:
    """A call's values of what targets go by."""
    tags = record.tags
    found = [tags.get("purpose") or NONE, record.provider or NONE, record.model or NONE]
    for name in keys[3:]:
        found.append((record.key if name == "key" else tags.get(name)) or NONE)
    return tuple(found)
