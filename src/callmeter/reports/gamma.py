"""The gamma distribution with scale 1: how much of it lies above an amount, and its quantiles.

Source: Press, Teukolsky, Vetterling, Flannery, *Numerical Recipes*, 3rd edition 2007, section 6.2 (the regularised
incomplete gamma function by its series below `shape + 1`, by its continued fraction above).
"""

from __future__ import annotations

from functools import lru_cache
from math import exp, inf, lgamma, log

_EXACT = 1e-15
_FINE = 1e-12
_TINY = 1e-300


def upper_tail(shape: float, amount: float) -> float:
    """The probability of more than `amount`, from 0 to 1; exact to about 1e-12. `shape` is positive."""
    if amount <= 0:
        return 1.0
    if amount == inf:
        return 0.0
    if amount < shape + 1:
        return max(0.0, 1.0 - _series(shape, amount))
    return min(1.0, _fraction(shape, amount))


@lru_cache(maxsize=4096)
def quantile(shape: float, probability: float) -> float:
    """The amount that is not exceeded with this probability (between 0 and 1), by bisection. The mean is `shape`;
    what is smaller than a millionth of a millionth of it is 0."""
    low, high = 0.0, shape + 1.0
    while upper_tail(shape, high) > 1 - probability:
        low, high = high, 2 * high
    while high - low > _FINE * high and high > _FINE * shape:
        middle = (low + high) / 2
        if upper_tail(shape, middle) > 1 - probability:
            low = middle
        else:
            high = middle
    return high if high > _FINE * shape else 0.0


def _series(shape: float, amount: float) -> float:
    """The lower part, for small amounts: its terms shrink from the start."""
    term = total = 1 / shape
    divisor = shape
    while term > total * _EXACT:
        divisor += 1
        term *= amount / divisor
        total += term
    return total * _density(shape, amount)


def _fraction(shape: float, amount: float) -> float:
    """The upper part, for large amounts: Lentz's evaluation of the continued fraction."""
    base = amount + 1 - shape
    ratio, inverse = 1 / _TINY, 1 / base
    found, step, count = inverse, 0.0, 0
    while abs(step - 1) > _EXACT and count < 100_000:
        count += 1
        factor = -count * (count - shape)
        base += 2
        inverse = 1 / (factor * inverse + base or _TINY)
        ratio = base + factor / ratio or _TINY
        step = ratio * inverse
        found *= step
    return found * _density(shape, amount)


def _density(shape: float, amount: float) -> float:
    return exp(shape * log(amount) - amount - lgamma(shape))
