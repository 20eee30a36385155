"""How forecasts are put into words: chances in tens of a per cent, ends of ranges without false cents, never "will"."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from callmeter.words.money import NANO, shown

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_TEN_DOLLARS = 10 * NANO
# A range that rounding to whole dollars changes by a tenth at most.
_WIDE = 5 * NANO


def chance_text(chance: Decimal | float) -> str:
    """`under 5%`, `30%`, `over 95%`."""
    if chance < Decimal("0.05"):
        return "under 5%"
    if chance > Decimal("0.95"):
        return "over 95%"
    return f"{min(90, max(10, round(chance * 10) * 10))}%"


def range_text(low: int, high: int) -> str:
    """`$33 to $52`: whole dollars where cents would claim too much, unless they are what tells the ends apart."""
    low_places, high_places = (0 if end >= _TEN_DOLLARS and high - low >= _WIDE else None for end in (low, high))
    return f"{shown(low, low_places)} to {shown(high, high_places)}"


def weekday_of(day: date) -> str:
    """`Monday`, whatever the locale."""
    return _WEEKDAYS[day.weekday()]


def days_text(first: date, last: date) -> str:
    """`2026-11-23 to 2026-11-29`."""
    return first.isoformat() if first == last else f"{first.isoformat()} to {last.isoformat()}"
