"""Prices of models for reports that ask what calls would have cost otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from callmeter.providers.presets import find_provider
from callmeter.reports.savings_pricing import Offer
from callmeter.store.places import Places
from callmeter.store.price_table import PriceFound, find_price
from callmeter.words.errors import UsageError

# A provider's listing tells of no earlier calls; what is older has the dated prices of the table.
_RECENT = timedelta(days=8)


def offers_of(
    places: Places, tables: Mapping[str, Mapping[str, object]], now: datetime
) -> Callable[[str, str, datetime], Offer | None]:
    """What a provider's model cost at an instant; None when nobody knows. Raises Malformed for prices.toml."""
    known: dict[tuple[str, str, str], PriceFound | None] = {}

    def offer(provider: str, model: str, at: datetime) -> Offer | None:
        day = at.date().isoformat() if now - at < _RECENT else ""
        if (provider, model, day) not in known:
            known[provider, model, day] = _find(provider, model, at)
        found = known[provider, model, day]
        return None if found is None else Offer(found.price, found.context, found.max_output)

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
