"""What a sum is made of: calls that failed, shares that make 100 % together; and by how much it changed."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from heapq import nsmallest

# Calls that brought no whole answer, though nobody asked for their end. `unknown` is a process that died.
FAILED = frozenset(("error", "timeout", "truncated", "unknown"))
_THOUSANDTH = Decimal("0.001")


def apportion(parts: Sequence[int], total: int, units: int) -> list[int]:
    """Whole units for each part of `total`, which add up to `units` (largest remainder; ties to the earlier part).

    `total` is the sum of the parts and not 0; a part may be negative.
    """
    if total < 0:
        parts, total = [-part for part in parts], -total
    shares = [part * units // total for part in parts]
    remainders = [part * units - share * total for part, share in zip(parts, shares, strict=True)]
    # There may be hundreds of thousands of parts, and never more than a thousand units.
    for index in nsmallest(units - sum(shares), range(len(parts)), key=lambda index: -remainders[index]):
        shares[index] += 1
    return shares


def relative(now: int, before: int) -> Decimal | None:
    """By what share a sum of money changed, to a tenth of a per cent (0.12 is 12 % more); None when there is nothing
    above 0 to compare with."""
    return (Decimal(now - before) / before).quantize(_THOUSANDTH) if before > 0 else None


def share_of(units: int) -> Decimal:
    """Tenths of a per cent as a Decimal from 0 to 1."""
    return Decimal(units).scaleb(-3)
