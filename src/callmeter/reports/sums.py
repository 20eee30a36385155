"""What a sum is made of: calls that failed, and shares that make 100 % together."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

# Calls that brought no whole answer, though nobody asked for their end. `unknown` is a process that died.
FAILED = frozenset(("error", "timeout", "truncated", "unknown"))


def apportion(parts: Sequence[int], total: int, units: int) -> list[int]:
    """Whole units for each part of `total`, which add up to `units` (largest remainder; ties to the earlier part).

    `total` is the sum of the parts and not 0; a part may be negative.
    """
    if total < 0:
        parts, total = [-part for part in parts], -total
    shares = [part * units // total for part in parts]
    remainders = [part * units - share * total for part, share in zip(parts, shares, strict=True)]
    for index in sorted(range(len(parts)), key=lambda index: -remainders[index])[: units - sum(shares)]:
        shares[index] += 1
    return shares


def share_of(units: int) -> Decimal:
    """Tenths of a per cent as a Decimal from 0 to 1."""
    return Decimal(units).scaleb(-3)
