"""What calls would have cost otherwise: the same tokens at another model's price."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from callmeter.policy.prices import PER_TOKEN, Price, part_price
from callmeter.words.record import Tokens

_NANO_DIGITS = 9


@dataclass(frozen=True)
class Offer:
    """A model's price, and how many tokens it takes in all and gives at most; None where nobody knows."""

    price: Price
    context: int | None = None
    max_output: int | None = None

    def takes(self, tokens: Tokens) -> bool:
        """Whether a call of this size fits the model."""
        size = tokens.in_ + tokens.out
        return (self.context is None or size <= self.context) and (
            self.max_output is None or tokens.out <= self.max_output
        )


# A provider's model at an instant; None when its price is unknown.
Offers = Callable[[str, str, datetime], Offer | None]


class Rates:
    """The amounts that hold for a call, as whole numbers of a small enough part of a dollar: exact, and several times
    as fast as `policy.prices.cost`, which gives the same (a test compares them)."""

    __slots__ = ("cached", "in_", "out", "reasoning", "request", "unit", "write", "write_1h")

    def __init__(self, amounts: Mapping[str, Decimal]) -> None:
        request = amounts.get("request", Decimal(0))
        found = [part_price(amounts, name) for name in PER_TOKEN]
        exponents = [int(amount.as_tuple().exponent) for amount in (*found, request) if amount is not None]
        digits = max(_NANO_DIGITS, -min(exponents))
        # How many units are a nano-dollar.
        self.unit: int = 10 ** (digits - _NANO_DIGITS)
        self.request = int(request.scaleb(digits))
        whole = [None if amount is None else int(amount.scaleb(digits)) for amount in found]
        self.in_, self.out, self.cached, self.write, self.write_1h, self.reasoning = whole

    def cost(self, tokens: Tokens, calls: int = 1) -> int | None:
        """Nano-dollars, rounded up, for the tokens of so many calls; None when an amount that it needs is unknown."""
        cached, write, write_1h, reasoning = tokens.cached, tokens.cache_write, tokens.cache_write_1h, tokens.reasoning
        total = self.request * calls
        for count, amount in (
            (tokens.in_ - cached - write - write_1h, self.in_),
            (tokens.out - reasoning, self.out),
            (cached, self.cached),
            (write, self.write),
            (write_1h, self.write_1h),
            (reasoning, self.reasoning),
        ):
            if count > 0:
                if amount is None:
                    return None
                total += count * amount
        return -(-total // self.unit)


class Tariffs:
    """Offers and rates, each looked up once for calls at about the same time."""

    def __init__(self, offers: Offers) -> None:
        self._look_up = offers
        self._days: dict[tuple[str, str, int], _Tariff] = {}

    def offer(self, provider: str, model: str, at: datetime) -> Offer | None:
        """The offer on the day of a call."""
        return self._on_day(provider, model, at).offer

    def rates(self, provider: str, model: str, at: datetime, prompt: int) -> Rates | None:
        """The rates for a call with a prompt of so many tokens; None when nobody knows."""
        return self._on_day(provider, model, at).rates(at, prompt)

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
        self._rates: dict[tuple[int, int], Rates | None] = {}

    def rates(self, at: datetime, prompt: int) -> Rates | None:
        if self.offer is None:
            return None
        place = (int(at.timestamp()) // self._seconds, bisect_left(self._steps, prompt))
        if place not in self._rates:
            amounts = self.offer.price.amounts(at, prompt)
            self._rates[place] = Rates(amounts) if amounts else None
        return self._rates[place]
