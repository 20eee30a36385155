"""A person's own prices, `prices.toml`, as a value.

    [openrouter."anthropic/claude-sonnet-4.5"]
    input = "2.4"      # USD for a million tokens, as text or a number
    output = "12"

Further members: `cached`, `cache_write`, `cache_write_1h`, `reasoning` (for a million tokens), `request`, `image`
(for each), `from` and `until` (dates, UTC, half-open: outside them the entry is not there), `date` (when it was set).
"""

from __future__ import annotations

from decimal import Decimal

from callmeter.policy.prices import Price, Rate, amount_from
from callmeter.words.errors import UsageError
from callmeter.words.instant import parse_instant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

AMOUNTS = {
    "input": "in",
    "output": "out",
    "cached": "cached",
    "cache_write": "cache_write",
    "cache_write_1h": "cache_write_1h",
    "reasoning": "reasoning",
    "request": "request",
    "image": "image",
}
_PER_PIECE = ("request", "image")
_DATES = ("from", "until", "date")


class BadOverride(ValueError):
    """An entry that cannot be read. `table` and `member` say where: the words of its header, and its key or ""."""

    def __init__(self, message: str, table: tuple[str, ...], member: str = "") -> None:
        super().__init__(message)
        self.table = table
        self.member = member


class Override:
    """One entry. `date` is the day it was set, or ""."""

    __slots__ = ("date", "price")

    def __init__(self, price: Price, date: str) -> None:
        self.price = price
        self.date = date


def parse_overrides(document: Mapping[str, object]) -> dict[str, dict[str, Override]]:
    """Entries by provider and model. Raises BadOverride for the first that is wrong."""
    result: dict[str, dict[str, Override]] = {}
    for provider, models in document.items():
        if not isinstance(models, dict):
            raise BadOverride(f"`{provider}` is not a provider's table", (provider,))
        for model, entry in models.items():
            result.setdefault(provider, {})[model] = _override(entry, (provider, model))
    return result


def override_entry(texts: Mapping[str, str | None], *, per_token: bool, date: str) -> dict[str, object]:
    """An entry from what a person typed, by member; None was not given. Raises UsageError."""
    entry: dict[str, object] = {"date": date}
    for name, text in texts.items():
        if text is None:
            continue
        try:
            amount = amount_from(text, "request")
        except ValueError:
            raise UsageError(f"--{name.replace('_', '-')}: not a price in USD: {text!r}", "write `0.25`") from None
        if per_token and name not in _PER_PIECE:
            amount = amount.scaleb(6)
        entry[name] = f"{amount.normalize():f}"
    if "input" not in entry or "output" not in entry:
        raise UsageError("a price needs --input and --output", "add both; 0 is a price too")
    try:
        _override(entry, ("", ""))
    except BadOverride as error:
        raise UsageError(str(error), "prices are in USD for a million tokens, or with `--per token` for one") from None
    return entry


def _override(entry: object, table: tuple[str, str]) -> Override:
    if not isinstance(entry, dict):
        raise BadOverride(f"`{table[0]}.{table[1]}` is not a model's table", table)
    for name in entry:
        if name not in AMOUNTS and name not in _DATES:
            import difflib

            close = difflib.get_close_matches(name, [*AMOUNTS, *_DATES], 1)
            raise BadOverride(f"unknown key {name!r}" + (f", did you mean {close[0]!r}?" if close else ""), table, name)
    for name in ("input", "output"):
        if name not in entry:
            raise BadOverride(f"no `{name}` price for {table[1]!r}", table)
    amounts = {}
    for name, own_name in AMOUNTS.items():
        if name in entry:
            try:
                amounts[own_name] = _amount(entry[name], own_name, per_million=name not in _PER_PIECE)
            except ValueError as error:
                raise BadOverride(f"`{name}`: {error}", table, name) from None
    since, until = _date(entry, "from", table), _date(entry, "until", table)
    _date(entry, "date", table)
    return Override(Price((Rate(amounts, since=since, until=until),)), str(entry.get("date", "")))


def _amount(value: object, name: str, *, per_million: bool) -> Decimal:
    if isinstance(value, float):
        # TOML's numbers are binary; up to 15 digits their shortest text is what the person wrote.
        value = repr(value)
        if len(Decimal(value).as_tuple().digits) > 15:
            raise ValueError("write a number of so many digits as text, in quotes")
    amount = amount_from(value, "request")
    if not per_million:
        return amount
    return amount_from(amount.scaleb(-6), name)


def _date(entry: dict[str, object], name: str, table: tuple[str, str]) -> datetime | None:
    value = entry.get(name)
    if value is None:
        return None
    try:
        if not isinstance(value, str):
            raise ValueError
        return parse_instant(value)
    except ValueError:
        raise BadOverride(f"`{name}` is not a date such as 2026-11-21", table, name) from None
