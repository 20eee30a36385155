"""What a call came to: the cost in its line, the line of one that was refused, and what `--max-cost` says before it
is sent."""

from __future__ import annotations

from decimal import Decimal

from callmeter.store.usage_append import append_usage
from callmeter.words.errors import Refused
from callmeter.words.ids import uuid7
from callmeter.words.instant import text_of
from callmeter.words.money import nano, shown, usd
from callmeter.words.usage import VERSION, usage_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from callmeter.providers.chat import Usage
    from callmeter.words.errors import CallmeterError


def settle_cost(
    record: dict[str, object],
    usage: Usage | None,
    worst: Decimal | None,
    cost_of: Callable[[dict[str, int]], Decimal | None],
    *,
    charged: bool,
    earlier: Decimal | None,
) -> str:
    """Put tokens, cost and its source into the record: what the endpoint says it charged, else tokens at the price
    (`cost_of`), else the worst case; and what `earlier` attempts may have cost. Gives a warning, or ""."""
    warning = ""
    cost: Decimal | None
    if usage is not None and usage.tokens is not None:
        record["tokens"] = usage.tokens
    priced = cost_of(usage.tokens) if usage is not None and usage.tokens is not None else None
    if usage is not None and usage.cost is not None and _is_suspicious(usage.cost, worst):
        warning = (
            f"the endpoint says that this call cost {shown(nano(usage.cost))}; that is not believed, "
            f"and counted as {shown(None if worst is None else nano(worst))}"
        )
        cost, source = worst, "estimate"
    elif usage is not None and usage.cost is not None:
        cost, source = usage.cost, "provider"
    elif not charged and record["status"] not in ("ok", "truncated"):
        cost, source = Decimal(0), "price"
    elif priced is not None:
        cost, source = priced, "price"
    else:
        cost, source = worst, "estimate"
    if earlier is None or cost is None:
        cost, source = None, "unknown"
    else:
        cost += earlier
        if earlier:
            source = "estimate"
    record["cost"] = None if cost is None else usd(nano(cost))
    record["cost_source"] = source
    return warning


def refuse(
    provider: str,
    tags: dict[str, str],
    error: CallmeterError,
    model: str,
    *,
    log: str,
    host: str,
    anchor: str | None,
    now: datetime,
) -> None:
    """Log a call that was refused before anything was sent: it costs nothing, but it is an outcome. `anchor` is the
    audit log's newest one."""
    record: dict[str, object] = {
        "v": VERSION,
        "id": uuid7(int(now.timestamp() * 1000)),
        "timestamp": text_of(now),
        "tags": tags,
        "provider": provider,
        "model": model,
        "cost": Decimal(0),
        "cost_source": "price",
        "status": "refused",
        "error": error.code,
        "attempts": 0,
        "host": host,
    }
    if anchor is not None:
        record["audit"] = anchor
    append_usage(log, usage_line(record))


def over_max_cost(limit: Decimal, worst: Decimal | None, model: str) -> Refused | None:
    """The refusal of a call whose worst case is above `--max-cost`, or that has no price; None for any other."""
    if worst is None:
        return Refused(
            f"the price of {model} is unknown, so --max-cost {limit} cannot be kept",
            f"set it with `callmeter prices set {model} --input … --output …`",
            code="price_unknown",
        )
    if worst > limit:
        return Refused(
            f"this call may cost up to {shown(nano(worst))}, the limit is {shown(nano(limit))} (--max-cost)",
            "shorten the prompt, lower `--max-tokens` or raise `--max-cost`",
            code="max_cost",
            limit=limit,
            estimate=worst,
        )
    return None


def _is_suspicious(cost: Decimal, worst: Decimal | None) -> bool:
    return cost > max(Decimal(1), (worst or Decimal(0)) * 100)
