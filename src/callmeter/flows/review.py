"""What a review is made of besides the usage log: prices, the policy's quotas, approvals, the audit log, the keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from callmeter.policy.document import Policy
from callmeter.providers.presets import find_provider
from callmeter.reports.change import Rates
from callmeter.reports.review import Sources
from callmeter.reports.review_events import KeyAge
from callmeter.reports.review_span import Span
from callmeter.reports.usage import Usage
from callmeter.secrets.registry import read_registry
from callmeter.store.approvals import read_everything
from callmeter.store.audit import read_events
from callmeter.store.places import Places
from callmeter.store.price_table import find_price
from callmeter.store.settings import Settings
from callmeter.store.toml import read_toml
from callmeter.words.errors import CallmeterError, UsageError
from callmeter.words.instant import parse_instant


def sources(usage: Usage, span: Span, policy: Policy, places: Places, settings: Settings, now: datetime) -> Sources:
    """The sources of a review that is made at `now`. A part that cannot be read is left out, and its note says so: a
    review that failed because of one part would hide the others."""
    notes: list[str] = []
    allowances = None
    try:
        allowances = read_everything(places, now)
    except CallmeterError as problem:
        notes.append(f"Approvals and freezes are left out: {problem.message}.")
    events: list[Mapping[str, object]] = []
    try:
        events = list(_until(places.audit, now))
    except CallmeterError as problem:
        notes.append(f"Decisions are left out: {problem.message}.")
    keys: Sequence[KeyAge] = []
    try:
        used = {names[0] for names, figures in usage.groups(("key",), period=span.period) if figures.calls}
        entries = read_registry(read_toml(places.keys, places.cache), places.keys)
        keys = [
            KeyAge(entry.label, entry.agent, entry.created, entry.expires, entry.label in used)
            for entry in entries.values()
        ]
    except CallmeterError as problem:
        notes.append(f"Keys are left out: {problem.message}.")
    return Sources(
        now=now,
        rates=list_prices(places, settings, span.end),
        quotas=policy.quotas,
        allowances=allowances,
        events=events,
        keys=keys,
        notes=notes,
    )


def list_prices(places: Places, settings: Settings, at: datetime) -> Rates:
    """What models cost at an instant, by provider and model, in USD per token; None is unknown."""

    def rates(provider: str, model: str) -> Mapping[str, Decimal] | None:
        price_as, free = None, False
        try:
            found = find_provider(provider, settings.providers, None)
            price_as, free = found.price_as, found.free
        except UsageError:
            pass  # it has left the settings since; the shipped table may know it
        price = find_price(
            provider, model, at, overrides=places.prices, cache_dir=places.cache, price_as=price_as, free=free
        )
        return None if price is None else price.price.amounts(at)

    return rates


def _until(path: str, now: datetime) -> Iterator[Mapping[str, object]]:
    for event in read_events(path):
        try:
            if parse_instant(str(event.fields.get("at", ""))) <= now:
                yield event.fields
        except ValueError:
            continue
