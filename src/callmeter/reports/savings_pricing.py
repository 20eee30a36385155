"""What calls would have cost otherwise: the same tokens at another model's price."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import NamedTuple

from callmeter.policy.prices import PER_TOKEN, Price, part_price
from callmeter.words.record import Tokens

_NANO_DIGITS = 9
# Of a dollar. Beyond that nobody prices, and the cost of the largest call would not fit 128 bits.
_MOST_DIGITS = 18
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Offer:
    """A model's price, and how many tokens it takes in all and gives at most; None where nobody knows."""

    price: Price
    context: int | None = None
    max_output: int | None = None


# What holds for a provider's model on the day that begins at an instant; None when its price is unknown.
Offers = Callable[[str, str, datetime], Offer | None]


class Rates:
    """The amounts that hold for a call, as whole numbers of a small enough part of a dollar: exact, and several times
    as fast as `policy.prices.cost`, which gives the same (a test compares them)."""

    __slots__ = ("cached", "in_", "out", "reasoning", "request", "unit", "write", "write_1h")

    def __init__(self, amounts: Mapping[str, Decimal]) -> None:
        request = amounts.get("request", Decimal(0))
        found = [part_price(amounts, name) for name in PER_TOKEN]
        exponents = [int(amount.as_tuple().exponent) for amount in (*found, request) if amount is not None]
        digits = min(max(_NANO_DIGITS, -min(exponents)), _MOST_DIGITS)
        # How many units are a nano-dollar.
        self.unit: int = 10 ** (digits - _NANO_DIGITS)
        self.request = _units(request, digits)
        whole = [None if amount is None else _units(amount, digits) for amount in found]
        self.in_, self.out, self.cached, self.write, self.write_1h, self.reasoning = whole

    @property
    def most(self) -> int:
        """No fewer units than all of the amounts together."""
        return sum(filter(None, (self.in_, self.out, self.cached, self.write, self.write_1h, self.reasoning)))

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


class Charge(NamedTuple):
    """The rates for calls that began from `begin` to before `end` (milliseconds since 1970, of one day in UTC) with a
    prompt of more than `above` tokens and at most `upto`; and what the model takes and gives at most, None for both if
    nobody knows."""

    begin: int
    end: int
    above: int
    upto: int | None
    rates: Rates
    context: int | None = None
    max_output: int | None = None


class Tariffs:
    """Prices of models over time. What a day (UTC) has for an offer is what holds at its beginning; within an offer,
    amounts change to the millisecond."""

    def __init__(self, offers: Offers) -> None:
        self._offer = offers
        self._rates: dict[frozenset[tuple[str, Decimal]], Rates] = {}
        self._at: dict[tuple[str, str, datetime, int], Rates | None] = {}
        self._steps: dict[int, tuple[Price, list[int]]] = {}

    def rates(self, provider: str, model: str, at: datetime, prompt: int) -> Rates | None:
        """The rates for a call with a prompt of so many tokens; None when nobody knows."""
        offer = self._offer(provider, model, _day_of(at))
        if offer is None:
            return None
        place = provider, model, at, bisect_left(self._steps_of(offer.price), prompt)
        if place not in self._at:
            self._at[place] = self._rates_of(offer.price.amounts(at, prompt))
        return self._at[place]

    def takes(self, provider: str, model: str, at: datetime, prompt: int, answer: int) -> bool:
        """Whether the model takes a prompt and gives an answer of so many tokens, as far as anybody knows."""
        offer = self._offer(provider, model, _day_of(at))
        if offer is None:
            return False
        return (offer.context is None or prompt + answer <= offer.context) and (
            offer.max_output is None or answer <= offer.max_output
        )

    def charges(self, provider: str, model: str, days: Iterable[int]) -> list[Charge]:
        """All that can hold on some days (their ordinals), in order of time; nothing where nobody knows."""
        found: list[Charge] = []
        for day in sorted(days):
            start = datetime.fromordinal(day).replace(tzinfo=UTC)
            offer = self._offer(provider, model, start)
            if offer is None:
                continue
            steps = self._steps_of(offer.price)
            begin = (start - _EPOCH) // _MILLISECOND
            ends = _changes(offer.price, start)
            for since, until in zip([timedelta(0), *ends], [*ends, _DAY], strict=True):
                for above, upto in zip([-1, *steps], [*steps, None], strict=True):
                    rates = self._rates_of(offer.price.amounts(start + since, above + 1))
                    if rates is not None:
                        span = begin + since // _MILLISECOND, begin + until // _MILLISECOND
                        found.append(Charge(*span, above, upto, rates, offer.context, offer.max_output))
        return found

    def _steps_of(self, price: Price) -> list[int]:
        """Sizes of prompts above which other amounts hold."""
        # With the price, so that no other one gets its `id`.
        kept = self._steps.get(id(price))
        if kept is None:
            steps = sorted({rate.above for rate in price.rates if rate.above >= 0})
            kept = self._steps[id(price)] = (price, steps)
        return kept[1]

    def _rates_of(self, amounts: Mapping[str, Decimal]) -> Rates | None:
        if not amounts:
            return None
        key = frozenset(amounts.items())
        found = self._rates.get(key)
        if found is None:
            found = self._rates[key] = Rates(amounts)
        return found


def _day_of(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _changes(price: Price, start: datetime) -> list[timedelta]:
    """When in a day other amounts can begin to hold."""
    found: set[timedelta] = set()
    for rate in price.rates:
        if rate.start != rate.end:
            found |= {timedelta(minutes=rate.start), timedelta(minutes=rate.end)}
        found |= {at - start for at in (rate.since, rate.until) if at is not None}
    return sorted(each for each in found if timedelta(0) < each < _DAY)


def _units(amount: Decimal, digits: int) -> int:
    return int(amount.scaleb(digits).to_integral_value(ROUND_CEILING))
