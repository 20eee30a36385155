"""Prices of models for reports that ask what calls would have cost otherwise."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from callmeter.providers.presets import find_provider
from callmeter.reports.anomaly_finding import Rates
from callmeter.reports.savings_pricing import Offer, Offers
from callmeter.store.places import Places
from callmeter.store.price_table import PriceFound, find_price, source_changes
from callmeter.words.errors import UsageError


def rates_of(places: Places, tables: Mapping[str, Mapping[str, object]]) -> Rates:
    """What a provider's model cost at an instant, as `offers_of` has it, in USD per token."""
    offers = offers_of(places, tables)

    def rates(provider: str, model: str, at: datetime) -> Mapping[str, Decimal] | None:
        offer = offers(provider, model, at)
        return None if offer is None else offer.price.amounts(at)

    return rates


def offers_of(places: Places, tables: Mapping[str, Mapping[str, object]]) -> Offers:
    """What a provider's model cost at an instant: a person's own price, else the provider's listing, else the shipped
    table; None when nobody knows. `tables` are the settings of providers. Raises Malformed for prices.toml."""
    changes: dict[str, list[datetime]] = {}
    known: dict[tuple[str, str, int], Offer | None] = {}

    def offer(provider: str, model: str, at: datetime) -> Offer | None:
        if provider not in changes:
            changes[provider] = source_changes(provider, overrides=places.prices, cache_dir=places.cache)
        key = provider, model, bisect_right(changes[provider], at)
        if key not in known:
            found = _find(provider, model, at)
            known[key] = None if found is None else Offer(found.price, found.context, found.max_output)
        return known[key]

    def _find(provider: str, model: str, at: datetime) -> PriceFound | None:
        try:
            whose = find_provider(provider, tables, None)
            price_as, free = whose.price_as, whose.free
        except UsageError:  # a log can come from elsewhere
            price_as, free = provider, False
        return find_price(
            provider, model, at, overrides=places.prices, cache_dir=places.cache, price_as=price_as, free=free
        )

    return offer
