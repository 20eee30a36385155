"""What calls would have cost otherwise: the same tokens at another model's price."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from callmeter.policy.prices import Price, cost_of
from callmeter.words.money import nano
from callmeter.words.record import Tokens


@dataclass(frozen=True)
class Offer:
    """A model's price, and how many tokens it takes in all and gives at most; None where nobody knows."""

    price: Price
    context: int | None = None
    max_output: int | None = None

    def takes(self, tokens: Mapping[str, int]) -> bool:
        """Whether a call of this size fits the model."""
        size, out = tokens["in"] + tokens["out"], tokens["out"]
        return (self.context is None or size <= self.context) and (self.max_output is None or out <= self.max_output)


# A provider's model at an instant; None when its price is unknown.
Offers = Callable[[str, str, datetime], Offer | None]


class Tariffs:
    """Offers and amounts, each looked up once for calls at about the same time."""

    def __init__(self, offers: Offers) -> None:
        self._look_up = offers
        self._days: dict[tuple[str, str, int], _Tariff] = {}

    def offer(self, provider: str, model: str, at: datetime) -> Offer | None:
        """The offer on the day of a call."""
        return self._on_day(provider, model, at).offer

    def amounts(self, provider: str, model: str, at: datetime, prompt: int) -> Mapping[str, Decimal]:
        """USD by kind of token for a call with a prompt of so many tokens; empty when nobody knows."""
        return self._on_day(provider, model, at).amounts(at, prompt)

    def cost(self, provider: str, model: str, at: datetime, tokens: Mapping[str, int]) -> int | None:
        """Nano-dollars for these tokens, rounded up; None when nobody knows."""
        found = cost_of(self.amounts(provider, model, at, tokens["in"]), tokens)
        return None if found is None else nano(found)

    def _on_day(self, provider: str, model: str, at: datetime) -> _Tariff:
        place = (provider, model, at.toordinal())
        found = self._days.get(place)
        if found is None:
            found = self._days[place] = _Tariff(self._look_up(provider, model, at))
        return found


class _Tariff:
    """An offer and what it comes to at the minutes and sizes that were asked for."""

    def __init__(self, offer: Offer | None) -> None:
        self.offer = offer
        rates = () if offer is None else offer.price.rates
        self._steps = sorted({rate.above for rate in rates if rate.above >= 0})
        # Hours of the day are given to the minute; lists of prices are dated to the hour at most.
        self._seconds = 60 if any(rate.start != rate.end for rate in rates) else 3600
        self._amounts: dict[tuple[int, int], Mapping[str, Decimal]] = {}

    def amounts(self, at: datetime, prompt: int) -> Mapping[str, Decimal]:
        if self.offer is None:
            return {}
        place = (int(at.timestamp()) // self._seconds, bisect_left(self._steps, prompt))
        found = self._amounts.get(place)
        if found is None:
            found = self._amounts[place] = self.offer.price.amounts(at, prompt)
        return found


def counts(tokens: Tokens) -> dict[str, int]:
    """Token counts by the names that prices have."""
    return {
        "in": tokens.in_,
        "out": tokens.out,
        "cached": tokens.cached,
        "cache_write": tokens.cache_write,
        "cache_write_1h": tokens.cache_write_1h,
        "reasoning": tokens.reasoning,
    }
