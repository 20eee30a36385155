"""The merit pool by recorded value: what each agent earned, and the share that this gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from callmeter.policy.allocation import split
from callmeter.reports.grouping import NONE
from callmeter.reports.report import Board, Cell, Column, Kind, Report, Row
from callmeter.reports.sums import apportion, share_of
from callmeter.reports.value import Credit
from callmeter.words.money import NANO, shown
from callmeter.words.period import Period


def earned(agents: Mapping[str, Credit], measure: str) -> dict[str, int]:
    """What each agent earned: nano-dollars of value, or outputs, each as one dollar. What nobody earned is left out."""
    return {
        name: credit.value if measure == "value" else credit.outputs * NANO
        for name, credit in agents.items()
        if name != NONE
    }


def merit_shares(
    agents: Mapping[str, Credit], weights: Mapping[str, Decimal], pool: int, measure: str, period: Period, zone: str
) -> Report:
    """A row for each agent that worked or earned anything: the figures, its share of the pool, what that comes to."""
    parts = split(pool, weights)
    tenths = apportion([_size(weight) for weight in weights.values()], sum(map(_size, weights.values())), 1000)
    shares = dict(zip(weights, map(share_of, tenths), strict=True))
    ranked = sorted(agents.items(), key=lambda each: (-parts.get(each[0], 0), -each[1].value, -each[1].cost, each[0]))
    rows = [
        Row(
            {
                "agent": name,
                "cost": credit.known_cost,
                "value": credit.value,
                "outputs": credit.outputs,
                "return": credit.returns,
                "share": shares.get(name, Decimal(0)),
                "merit": parts.get(name, 0),
            }
        )
        for name, credit in ranked
    ]
    columns = [
        Column("agent", "agent", Kind.TEXT),
        Column("cost", "cost", Kind.MONEY, optional=2),
        Column("value", "value", Kind.MONEY),
        Column("outputs", "outputs", Kind.COUNT, optional=1),
        Column("return", "return", Kind.RATIO, optional=3),
        Column("share", "share", Kind.SHARE),
        Column("merit", "merit", Kind.RATE),
    ]
    total: dict[str, Cell] = {
        "cost": sum(credit.cost for credit in agents.values()),
        "value": sum(credit.value for credit in agents.values()),
        "outputs": sum(credit.outputs for credit in agents.values()),
        "share": sum(shares.values(), Decimal(0)),
        "merit": sum(parts.values()),
    }
    by = "recorded value" if measure == "value" else "outputs"
    notes = [f"The merit pool of {shown(pool)} is shared out by {by}; parts add up to it, to the nano-dollar."]
    nobody = agents.get(NONE)
    if nobody is not None and nobody.outcomes:
        when = " in this period" if period.start is not None else ""
        notes.append(
            f"{shown(nobody.value)} of the value is no agent's: its work items have no calls with a name{when}."
        )
    left = [name for name, amount in earned(agents, measure).items() if amount > 0 and name not in weights]
    if left:
        notes.append(f"Not among the strategy's agents, and so without a share: {', '.join(sorted(left)[:5])}.")
    return Report("Merit", columns, rows, total=total, notes=notes, period=period, zone=zone)


def with_merit(merit: Report, table: Report) -> Board:
    """The figures first, then what they give."""
    return Board("Allocation by what came of the work", {"merit": merit, "allocation": replace(table, period=None)})


def _size(weight: Decimal) -> int:
    return int(weight.scaleb(9))
