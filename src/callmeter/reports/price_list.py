"""What models cost, as a report: USD for a million tokens, by model name."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from callmeter.policy.prices import DAYS, PER_TOKEN, Price, Rate, part_price
from callmeter.reports.report import Cell, Column, Kind, Report, Row
from callmeter.words.money import nano, shown


class Found(Protocol):
    """A price with what its source says about the model (`store/price_table.py`)."""

    price: Price
    source: str
    date: str
    context: int | None
    max_output: int | None


COLUMNS = (
    Column("model", "model", Kind.TEXT),
    Column("provider", "provider", Kind.TEXT, optional=4),
    Column("input", "input / M", Kind.PRICE),
    Column("output", "output / M", Kind.PRICE),
    Column("cached", "cached / M", Kind.PRICE, optional=1),
    Column("cache_write", "cache write / M", Kind.PRICE, optional=3),
    Column("request", "request", Kind.PRICE, optional=5),
    Column("context", "context", Kind.COUNT, optional=2),
    Column("max_output", "max output", Kind.COUNT, optional=6),
    Column("source", "from", Kind.TEXT),
    Column("date", "date", Kind.TEXT, optional=1),
)
# With more models than this, what changes their prices by hour or size is left out of the notes.
_NOTED = 10
_TITLES = {"in": "input", "out": "output", "cache_write": "cache write", "cache_write_1h": "cache write for an hour"}


def price_list(provider: str, found: Mapping[str, Found | None], at: datetime) -> Report:
    """Prices at an instant, of short prompts without a service tier; None is a model without a known price."""
    rows = [Row(_cells(provider, model, found[model], at)) for model in sorted(found)]
    notes = []
    for model in sorted(found):
        price = found[model]
        if price is None:
            notes.append(
                f"The price of {model} is unknown: set it with `callmeter prices set {model} --input … --output …`."
            )
        elif len(found) <= _NOTED:
            notes += [f"{model}: {text}" for text in _variations(price.price, at)]
    return Report(f"Prices of {provider}, USD", COLUMNS, rows, notes=notes, facts={"as_of": at.isoformat()})


def _cells(provider: str, model: str, found: Found | None, at: datetime) -> dict[str, Cell]:
    cells: dict[str, Cell] = {"model": model, "provider": provider}
    amounts = found.price.amounts(at) if found is not None else {}
    for column, name in (("input", "in"), ("output", "out"), ("cached", "cached"), ("cache_write", "cache_write")):
        amount = part_price(amounts, name)
        cells[column] = None if amount is None else nano(amount.scaleb(6))
    cells["request"] = nano(amounts.get("request", Decimal(0))) if amounts else None
    cells["context"] = found.context if found is not None else None
    cells["max_output"] = found.max_output if found is not None else None
    cells["source"] = found.source if found is not None else "unknown"
    cells["date"] = found.date if found is not None else ""
    return cells


def _variations(price: Price, at: datetime) -> list[str]:
    """What other prices hold today for other prompts, hours and service tiers."""
    texts = []
    for rate in price.rates:
        when = _when(rate)
        if when and rate.valid(at, rate.service):
            amounts = ", ".join(
                f"{_TITLES.get(name, name)} {shown(nano(amount.scaleb(6) if name in PER_TOKEN else amount))}"
                for name, amount in rate.amounts.items()
            )
            texts.append(f"{when}: {amounts}")
    return texts


def _when(rate: Rate) -> str:
    parts = []
    if rate.above >= 0:
        parts.append(f"prompts of more than {rate.above:,} tokens")
    if rate.days:
        parts.append("on " + ", ".join(DAYS[day].capitalize() for day in rate.days))
    if rate.start != rate.end:
        parts.append(
            f"from {rate.start // 60:02d}:{rate.start % 60:02d} to {rate.end // 60:02d}:{rate.end % 60:02d} UTC"
        )
    if rate.service:
        parts.append(f"in the service tier {rate.service}")
    return " ".join(parts)
