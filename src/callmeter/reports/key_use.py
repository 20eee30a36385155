"""What was done with a key, or for an end user, in a period: requests, tokens, cost, and that by model."""

from __future__ import annotations

from callmeter.reports.report import Cell, Column, Kind, Row
from callmeter.reports.usage import Usage
from callmeter.words.money import usd
from callmeter.words.period import Period

COLUMNS = [
    Column("model", "model", Kind.TEXT),
    Column("requests", "requests", Kind.COUNT),
    Column("tokens_in", "tokens in", Kind.COUNT, optional=2),
    Column("tokens_out", "tokens out", Kind.COUNT, optional=1),
    Column("cost", "cost", Kind.MONEY),
]


def key_use(usage: Usage, where: str, period: Period) -> tuple[dict[str, object], list[Row]]:
    """The sums as members of a JSON document (money in USD, None where no cost is known), and a row for each model, the
    dearest first. `where` is a condition such as `user=u42`."""
    rows = []
    requests = tokens_in = tokens_out = nano = unknown = 0
    groups = usage.groups(("model",), period=period, where=(where,))
    for (model,), figures in sorted(groups, key=lambda group: (-group[1].nano, group[0])):
        cells: dict[str, Cell] = {"model": model, "requests": figures.calls, "cost": figures.cost}
        rows.append(Row(cells | {"tokens_in": figures.tokens_in, "tokens_out": figures.tokens_out}))
        requests += figures.calls
        tokens_in += figures.tokens_in
        tokens_out += figures.tokens_out
        nano += figures.nano
        unknown += figures.cost is None
    cost = None if rows and unknown == len(rows) else usd(nano)
    facts: dict[str, object] = {"period": period.label, "requests": requests}
    facts |= {"tokens": {"in": tokens_in, "out": tokens_out}, "cost": cost}
    return facts, rows
