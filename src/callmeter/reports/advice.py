"""What to do next: stay with showback or enforce, and how much machinery the spend is worth.

Showback, which reports and never interferes, is enough until one of three signs: the budget goes much faster than
its period, days differ so much that nobody can plan with them, one agent uses most of it. Below 100 USD a month the
last two are told but change nothing: there is too little to win.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from callmeter.reports.report import Column, Kind, Report, Row
from callmeter.words.money import NANO, shown, usd

# The signs: more than half is used before three tenths of the time are over; the days' deviation exceeds their mean;
# one agent of three and more has more than half.
_HALF_USED, _EARLY = Decimal("0.5"), Decimal("0.3")
_HIGH_VARIATION, _FEWEST_DAYS = Decimal(1), 7
_LARGEST_SHARE, _FEWEST_AGENTS = Decimal("0.5"), 3
# What a month comes to: below the one, machinery costs more work than it saves; above the other, it pays.
_SMALL, _MEDIUM = 100 * NANO, 500 * NANO


@dataclass(frozen=True)
class Budget:
    """A quota of money: the share of it that is used, and the share of its period that is over."""

    name: str
    used: Decimal
    elapsed: Decimal


@dataclass(frozen=True)
class Basis:
    """What the advice rests on, in nano-dollars. `days` are complete days since the log begins; `agents` what each
    spent this month; `month` what a month comes to, and `basis` from what; `enforced` whether a hard quota holds."""

    budgets: Sequence[Budget]
    days: Sequence[int]
    agents: Mapping[str, int]
    month: int
    basis: str
    enforced: bool


def advice(figures: Basis) -> Report:
    """Two rows: how to control the spend, and what of callmeter fits it, each with its reason."""
    controls, why, signs = _controls(figures)
    rows = [
        Row({"advice": controls, "because": why}),
        Row({"advice": _fitting(figures.month), "because": f"{shown(figures.month)} a month, {figures.basis}"}),
    ]
    columns = [Column("advice", "what fits", Kind.TEXT), Column("because", "because", Kind.TEXT)]
    variation = variation_of(figures.days)
    facts = {
        "signs": signs,
        "month": usd(figures.month),
        "variation": None if variation is None else variation.quantize(Decimal("0.01")),
        "days": len(figures.days),
    }
    return Report("Advice", columns, rows, facts=facts)


def variation_of(days: Sequence[int]) -> Decimal | None:
    """The standard deviation of days divided by their mean; None for fewer than seven, or without spend."""
    total = sum(days)
    if len(days) < _FEWEST_DAYS or total <= 0:
        return None
    squares = len(days) * sum(day * day for day in days) - total * total
    return Decimal(squares).sqrt() / total


def _controls(figures: Basis) -> tuple[str, str, list[str]]:
    fast = [each for each in figures.budgets if each.used > _HALF_USED and each.elapsed < _EARLY]
    signs: dict[str, str] = {}
    quiet: list[str] = []
    if fast:
        signs["fast"] = "; ".join(_budget(each) for each in fast)
    elif figures.budgets:
        quiet.append(_budget(max(figures.budgets, key=lambda each: each.used)))
    else:
        # Where quotas hold, it is of a shorter period, or the ledger could not be read.
        quiet.append("no budget for a week or longer is known here" if figures.enforced else "no budget is set")
    small = figures.month < _SMALL
    for name, (sign, text) in {"variation": _varies(figures.days), "unequal": _unequal(figures.agents)}.items():
        if sign and not small:
            signs[name] = text
        elif text:
            quiet.append(f"{text}, of no weight below {shown(_SMALL)} a month" if sign else text)
    if signs:
        return "keep hard quotas" if figures.enforced else "move on to hard quotas", "; ".join(signs.values()), [*signs]
    return "showback would do" if figures.enforced else "stay with showback", "; ".join(quiet), []


def _budget(budget: Budget) -> str:
    return f"{budget.used:.0%} of {budget.name} is used in {budget.elapsed:.0%} of the time"


def _varies(days: Sequence[int]) -> tuple[bool, str]:
    variation = variation_of(days)
    if variation is None:
        return False, ""
    return variation > _HIGH_VARIATION, f"{len(days)} days vary by {variation:.0%} of their mean"


def _unequal(agents: Mapping[str, int]) -> tuple[bool, str]:
    total = sum(agents.values())
    if total <= 0 or len(agents) < _FEWEST_AGENTS:
        return False, ""
    largest = max(agents, key=lambda name: agents[name])
    share = Decimal(agents[largest]) / total
    return share > _LARGEST_SHARE, f"{largest} has {share:.0%} of the spend of {len(agents)} agents"


def _fitting(month: int) -> str:
    if month < _SMALL:
        return "shared keys and showback"
    if month <= _MEDIUM:
        return "a key and a cap per workflow"
    return "everything: keys, caps, approvals, alerts"
