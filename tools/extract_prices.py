"""Extract the shipped price table from the `genai-prices` data (`make prices`; `--check` finds drift).

    python tools/extract_prices.py [--check] [TARGET]

The table is JSON lines: first what it is and its date; then, for each provider, one line with its `fallback`
providers and its `patterns`, and a line for each model with the `names` that mean exactly this model. A look-up
reads three lines of it (`store/price_table.py`).

genai-prices finds a model by the first clause that holds, in order. Names that a clause lists in full are resolved
here; what is left are a few patterns a provider, in the same order. Prices for other things than text tokens and
requests (audio hours, pixels, pages), batch processing and other request contexts than the service tier are left
out; a model that has only such prices stays in the table without a price, so that no pattern gives it another's.
"""

from __future__ import annotations

import argparse
import re
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from callmeter.policy.prices import Price, Rate, to_json
from callmeter.words.jsontext import dumps, loads

if TYPE_CHECKING:
    from genai_prices import types

TARGET = Path(__file__).parent.parent / "src" / "callmeter" / "data" / "prices.jsonl"
AMOUNTS = {
    "input_mtok": ("in", 6),
    "output_mtok": ("out", 6),
    "cache_read_mtok": ("cached", 6),
    "cache_write_mtok": ("cache_write", 6),
    "cache_write_1h_mtok": ("cache_write_1h", 6),
    "output_reasoning_mtok": ("reasoning", 6),
    "requests_kcount": ("request", 3),
    "web_searches_kcount": ("web_search", 3),
}
FREE = {"in": Decimal(0), "out": Decimal(0)}


def main() -> int:
    """Write the table, or compare it with the shipped one; gives the exit status."""
    parser = argparse.ArgumentParser(description="Extract the shipped price table from genai-prices.")
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if the table would change")
    parser.add_argument("target", nargs="?", type=Path, default=TARGET)
    options = parser.parse_args()
    shipped = options.target.read_text() if options.target.exists() else ""
    # Announced prices begin after today. A check on a later day must not see another table for it.
    today = _date_of(shipped) if options.check and shipped else datetime.now(UTC).date()
    table = extract(today)
    if options.check:
        if table != shipped:
            sys.stderr.write(f"{options.target} is not what genai-prices gives; run `make prices`\n")
            return 1
        return 0
    options.target.write_text(table)
    sys.stdout.write(f"{options.target}: {len(table)} bytes, {table.count(chr(10))} lines\n")
    return 0


def extract(today: date) -> str:
    """The table as text. Its date is that of the newest price in it that holds today."""
    from genai_prices.data import providers

    starts = {start for provider in providers for model in provider.models for start in _starts(model)}
    newest = max(start for start in starts if start <= today)
    lines: list[object] = [{"table": f"genai-prices {version('genai-prices')}", "date": newest.isoformat()}]
    for provider in providers:
        lines.extend(_provider(provider))
    return "".join(dumps(line) + "\n" for line in lines)


def _provider(provider: types.Provider) -> list[object]:
    names: dict[str, list[str]] = {}
    patterns: list[object] = []
    models: dict[str, types.ModelInfo] = {}
    for model in provider.models:
        models.setdefault(model.id, model)
        assert models[model.id] is model, f"{provider.id} has {model.id} twice"
        for clause in _alternatives(model.match):
            if isinstance(clause, str) and clause.startswith("="):
                first = provider.find_model(clause[1:])
                assert first is not None
                owned = names.setdefault(first.id, [])
                if clause[1:] not in owned:
                    owned.append(clause[1:])
            else:
                patterns.append([clause, model.id])
    head = {"provider": provider.id, "fallback": provider.fallback_model_providers or [], "patterns": patterns}
    return [head, *(_model(model, names.get(model.id, [])) for model in models.values())]


def _model(model: types.ModelInfo, names: list[str]) -> dict[str, object]:
    line: dict[str, object] = {"id": model.id, "names": names}
    if model.context_window:
        line["context"] = model.context_window
    return {**line, "rates": to_json(Price(tuple(_rates(model))))}


def _rates(model: types.ModelInfo) -> list[Rate]:
    from genai_prices import types

    prices = model.prices
    conditional = prices if isinstance(prices, list) else [types.ConditionalPrice(prices=prices)]
    rates: list[Rate] = []
    for number, price in enumerate(conditional):
        # The first price also holds where no other does, so its own condition decides nothing.
        condition = {} if number == 0 else _condition(price.constraint)
        found = _tiers(price.prices, whole=number > 0, condition=condition)
        if not price.prices._comparable_values() and model.id.endswith(":free"):
            found = [Rate(FREE, whole=number > 0, **condition)]  # type: ignore[arg-type]
        rates += found
    for variant in reversed(model.price_variants or []):
        service = variant.when.get("service_tier")
        if service and len(variant.when) == 1:
            rates += _tiers(
                variant.prices, whole=False, condition={**_condition(variant.constraint), "service": service}
            )
    return [rate for rate in rates if rate.amounts or rate.whole]


def _tiers(prices: types.ModelPrice, *, whole: bool, condition: dict[str, object]) -> list[Rate]:
    from genai_prices import types

    base: dict[str, Decimal] = {}
    tiers: dict[int, dict[str, Decimal]] = {}
    for key, value in prices.__dict__.items():
        if key not in AMOUNTS or value is None:
            continue
        name, shift = AMOUNTS[key]
        if isinstance(value, types.TieredPrices):
            base[name] = value.base.scaleb(-shift)
            for tier in value.tiers:
                tiers.setdefault(tier.start, {})[name] = tier.price.scaleb(-shift)
        else:
            base[name] = value.scaleb(-shift)
    # A flat amount stays as it is above a threshold that a tiered one of another rate has set.
    rates = [Rate(base, whole=whole, **condition)]  # type: ignore[arg-type]
    return rates + [Rate(tiers[start], above=start, **condition) for start in sorted(tiers)]  # type: ignore[arg-type]


def _condition(constraint: object) -> dict[str, object]:
    from genai_prices import types

    if isinstance(constraint, types.StartDateConstraint):
        return {"since": datetime.combine(constraint.start_date, datetime.min.time(), UTC)}
    if isinstance(constraint, types.TimeOfDateConstraint):
        start, end = constraint.start_time, constraint.end_time
        assert not start.second and not end.second and start.utcoffset() == end.utcoffset() == UTC.utcoffset(None)
        return {"start": start.hour * 60 + start.minute, "end": end.hour * 60 + end.minute}
    assert constraint is None, f"an unknown condition: {constraint}"
    return {}


def _alternatives(match: object) -> list[object]:
    """Clauses of which one must hold: text with a letter that says how, or a list of texts that must all hold."""
    from genai_prices import types

    if isinstance(match, types.ClauseOr):
        return [clause for part in match.or_ for clause in _alternatives(part)]
    if isinstance(match, types.ClauseAnd):
        return [list(parts) for parts in product(*map(_alternatives, match.and_))]
    if isinstance(match, types.ClauseRegex):
        return list(_regex(match.regex))
    for kind, sign in (("starts_with", "^"), ("ends_with", "$"), ("contains", "*"), ("equals", "=")):
        text = getattr(match, kind, None)
        if text is not None:
            return [sign + text.lower()]
    raise AssertionError(f"an unknown clause: {match}")


def _regex(pattern: str) -> list[str]:
    """A regular expression that only counts digits becomes text with `#` for a digit, which needs no compiling."""
    optional = re.search(r"\(([^()]*)\)\?", pattern)
    if optional:
        before, after = pattern[: optional.start()], pattern[optional.end() :]
        return _regex(before + after) + _regex(before + optional[1] + after)
    choice = re.search(r"(?<!\\)\[([-@]+)\]", pattern)
    if choice:
        before, after = pattern[: choice.start()], pattern[choice.end() :]
        return [text for letter in choice[1] for text in _regex(before + letter + after)]
    if pattern.startswith("^") and pattern.endswith("$"):
        text = re.sub(r"\\d\{(\d)\}", lambda count: "#" * int(count[1]), pattern[1:-1])
        text = re.sub(r"\\([.\[\]])", r"\1", text)
        if re.fullmatch(r"[-\w./@=#\[\]]+", text):
            return [("#" if "#" in text else "=") + text.lower()]
    return ["~" + pattern]


def _starts(model: types.ModelInfo) -> list[date]:
    from genai_prices import types

    constraints = [price.constraint for price in model.prices] if isinstance(model.prices, list) else []
    constraints += [variant.constraint for variant in model.price_variants or []]
    return [item.start_date for item in constraints if isinstance(item, types.StartDateConstraint)]


def _date_of(table: str) -> date:
    head = loads(table.partition("\n")[0])
    assert isinstance(head, dict)
    return date.fromisoformat(str(head["date"]))


if __name__ == "__main__":
    sys.exit(main())
