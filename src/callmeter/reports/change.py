"""Why a sum changed: more calls, larger calls, other models, another use of the cache, other prices.

Spend is calls x share of each model x list cost of its average call x what was paid for each dollar of list cost. The
list cost is taken from one price list for both periods, so what is paid above or below it is price. Each cause is the
mean of its effect over all orders in which the causes can be put in one after the other: the Shapley value, in this
field "complete decomposition" (Sun 1998; Albrecht, Francois and Schoors 2002). It treats all causes alike, bears
models that come and go, and leaves no rest: in exact fractions the parts add up to the change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from itertools import combinations
from typing import TypeVar

from callmeter.policy.prices import part_price
from callmeter.reports.sums import FAILED
from callmeter.reports.usage import Figures, Group

CAUSES = ("volume", "tokens", "mix", "cache", "price")
OTHER = "other"

# A provider and a model.
Served = tuple[str, str]
# Their amounts in USD per token (`Price.amounts`), or None when nobody knows.
Rates = Callable[[str, str], Mapping[str, Decimal] | None]

_Side = TypeVar("_Side")
_NOTHING = Fraction(0)
_EQUAL = (Fraction(1),) * 4


@dataclass(frozen=True)
class Change:
    """`parts` are nano-dollars by cause, and `other` for money without a call that it belongs to; they add up to
    `total`. `models` are the parts of each model, unrounded; `unlisted` the models without a list price."""

    total: int
    parts: Mapping[str, int]
    models: Mapping[Served, Mapping[str, Fraction]]
    unlisted: Sequence[Served]


def change(before: Mapping[Served, Figures], after: Mapping[Served, Figures], rates: Rates) -> Change:
    """What made the sum over all models of `after` differ from that of `before`.

    Models whose cost is unknown in both are left out. A model without a list price, or priced 0, has each of its
    tokens count the same: how it uses the cache, and how long its answers are, then shows as price.
    """
    served = sorted({*before, *after})
    pairs = {each: (before.get(each, Figures()), after.get(each, Figures())) for each in served}
    known = {each: pair for each, pair in pairs.items() if any(_counts(side) for side in pair)}
    models = [_model(each, pair, rates) for each, pair in known.items()]
    calls = tuple(sum(model.calls[side] for model in models) for side in (0, 1))
    effects = {model.served: _effects(model, calls) for model in models}
    exact = {cause: sum((parts[cause] for parts in effects.values()), _NOTHING) for cause in CAUSES}
    total = sum(pair[1].nano - pair[0].nano for pair in pairs.values())
    exact[OTHER] = total - sum(exact.values(), _NOTHING)
    return Change(total, _rounded(exact, total), effects, [model.served for model in models if not model.listed])


def by_model(groups: Iterable[Group]) -> dict[Served, Figures]:
    """Groups by provider, model and status as `change` takes them. Calls that failed before they cost anything took no
    tokens, whatever is said of their prompts: what nobody paid for is no lower price."""
    found: dict[Served, Figures] = {}
    for (provider, model, status), figures in groups:
        free = status in FAILED and not figures.nano and not figures.unknown
        if free:
            figures = replace(figures, tokens_in=0, tokens_out=0, tokens_cached=0, tokens_cache_write=0)
        found.setdefault((provider, model), Figures()).merge(figures)
    return found


class _Model:
    """A model in both periods: calls, and for each period prompt and answer tokens per call, the shares of the prompt
    read from and written to the cache, and what was paid for each unit of list cost. A period without its calls
    borrows the other's: what it would have looked like is not why the sum changed."""

    def __init__(
        self, served: Served, pair: tuple[Figures, Figures], weights: Sequence[Fraction], listed: bool
    ) -> None:
        self.served = served
        self.listed = listed
        self.calls = tuple(side.calls if _counts(side) else 0 for side in pair)
        self._weights = weights
        sizes: list[tuple[Fraction, Fraction] | None] = []
        caches: list[tuple[Fraction, Fraction] | None] = []
        for side, calls in zip(pair, self.calls, strict=True):
            prompt = side.tokens_in
            sizes.append((Fraction(prompt, calls), Fraction(side.tokens_out, calls)) if calls else None)
            parts = (side.tokens_cached, side.tokens_cache_write)
            caches.append((Fraction(parts[0], prompt), Fraction(parts[1], prompt)) if calls and prompt > 0 else None)
        self._sizes = _both(sizes, (_NOTHING, _NOTHING))
        self._caches = _both(caches, (_NOTHING, _NOTHING))
        self.flat = False
        self.flat = any(calls and self.list_cost(side, side) <= 0 for side, calls in enumerate(self.calls))
        paid = [
            Fraction(figures.nano, calls) / self.list_cost(side, side) if calls else None
            for side, (figures, calls) in enumerate(zip(pair, self.calls, strict=True))
        ]
        self.paid = _both(paid, _NOTHING)

    def list_cost(self, sizes: int, caches: int) -> Fraction:
        """The list cost of an average call, of the tokens of one period and the cache of one; 1 for a model whose
        tokens nobody counted."""
        if self.flat:
            return Fraction(1)
        (prompt, answer), (read, written) = self._sizes[sizes], self._caches[caches]
        fresh, out, cached, write = self._weights
        return prompt * ((1 - read - written) * fresh + read * cached + written * write) + answer * out


def _model(served: Served, pair: tuple[Figures, Figures], rates: Rates) -> _Model:
    amounts = rates(*served)
    if amounts:
        found = [part_price(amounts, name) for name in ("in", "out", "cached", "cache_write")]
        weights = [Fraction(amount) for amount in found if amount is not None]
        if len(weights) == len(found):
            model = _Model(served, pair, weights, listed=True)
            if not model.flat:
                return model
    return _Model(served, pair, _EQUAL, listed=False)


def _counts(side: Figures) -> bool:
    """Whether a period has calls of which at least one has a known cost."""
    return side.calls > 0 and side.cost is not None


def _effects(model: _Model, calls: tuple[int, ...]) -> dict[str, Fraction]:
    """The Shapley value of each cause for one model's part of the sum."""
    shares = [Fraction(model.calls[side], calls[side]) if calls[side] else None for side in (0, 1)]
    share = _both(shares, _NOTHING)
    list_costs = {(sizes, caches): model.list_cost(sizes, caches) for sizes in (0, 1) for caches in (0, 1)}
    worth: dict[frozenset[str], Fraction] = {}
    for size in range(len(CAUSES) + 1):
        for chosen in combinations(CAUSES, size):
            volume, tokens, mix, cache, price = (int(cause in chosen) for cause in CAUSES)
            worth[frozenset(chosen)] = calls[volume] * share[mix] * list_costs[tokens, cache] * model.paid[price]
    effects = dict.fromkeys(CAUSES, _NOTHING)
    orders = math.factorial(len(CAUSES))
    for chosen_set, value in worth.items():
        size = len(chosen_set)
        for cause in CAUSES:
            if cause not in chosen_set:
                weight = Fraction(math.factorial(size) * math.factorial(len(CAUSES) - size - 1), orders)
                effects[cause] += weight * (worth[chosen_set | {cause}] - value)
    return effects


def _both(sides: Sequence[_Side | None], default: _Side) -> tuple[_Side, _Side]:
    first, last = sides
    if first is None:
        first = last
    if last is None:
        last = first
    return (default if first is None else first), (default if last is None else last)


def _rounded(exact: Mapping[str, Fraction], total: int) -> dict[str, int]:
    """Whole nano-dollars that add up to the total (largest remainder; ties to the earlier cause)."""
    whole = {cause: math.floor(part) for cause, part in exact.items()}
    order = sorted(exact, key=lambda cause: whole[cause] - exact[cause])
    for cause in order[: total - sum(whole.values())]:
        whole[cause] += 1
    return whole
