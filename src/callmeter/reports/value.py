"""What the spend brought: outcomes against what their work items cost, by agent, purpose, customer and work item.

An outcome's value goes to the calls of its work item: to those of the agent, purpose and customer that it names, shared
out by what they cost, to the nano-dollar. Outcomes are whole: as an output, one counts where most of that cost is, in
each table for itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from callmeter.reports.grouping import NONE, condition_on
from callmeter.reports.report import Board, Cell, Column, Kind, Report, Row
from callmeter.reports.sums import apportion
from callmeter.reports.usage import Spent, Usage
from callmeter.words.money import shown, usd
from callmeter.words.outcome import TAGS, Outcome
from callmeter.words.period import EVER, Period

TOP = 20
_KEYS = ("work_item", *TAGS)
_RATIO = Decimal("0.0001")
_Key = tuple[str, str, str, str]


@dataclass(slots=True)
class Credit:
    """What a group cost and what came of it; money in nano-dollars. `unknown` calls are in no sum of money."""

    cost: int = 0
    calls: int = 0
    unknown: int = 0
    value: int = 0
    outcomes: int = 0
    valued: int = 0  # outcomes with a value, whatever it is
    outputs: int = 0
    rejected: int = 0

    def add(self, other: Credit) -> None:
        """Add another group's."""
        self.cost += other.cost
        self.calls += other.calls
        self.unknown += other.unknown
        self.value += other.value
        self.outcomes += other.outcomes
        self.valued += other.valued
        self.outputs += other.outputs
        self.rejected += other.rejected

    @property
    def known_cost(self) -> int | None:
        """The cost; None where nobody knows that of any call."""
        return None if self.unknown and self.unknown == self.calls and not self.cost else self.cost

    @property
    def per_output(self) -> int | None:
        """Nano-dollars for a valuable output, rounded; None without one, without a call, or without a known cost."""
        if not self.outputs or not self.calls or self.known_cost is None:
            return None
        return (2 * self.cost + self.outputs) // (2 * self.outputs)

    @property
    def returns(self) -> Decimal | None:
        """Value ÷ cost; None where nothing was spent, or nobody said what anything is worth."""
        if self.cost <= 0 or not (self.valued or self.value):
            return None
        return (Decimal(self.value) / self.cost).quantize(_RATIO)


@dataclass
class Credits:
    """Cost and value by work item, by agent, by purpose and by customer. All add up to the same totals, exactly."""

    sums: dict[str, dict[str, Credit]] = field(default_factory=dict)

    @classmethod
    def of(cls, usage: Usage, outcomes: Iterable[Outcome], period: Period = EVER) -> Credits:
        """The calls of a period, and these outcomes."""
        outcomes = list(outcomes)
        found = cls()
        for name in _KEYS:
            groups = usage.spent((name,), period=period, times=False)
            found.sums[name] = {each.names[0]: Credit(each.nano, each.calls, each.unknown) for each in groups}
        items: dict[str, dict[_Key, Spent]] = {outcome.work_item: {} for outcome in outcomes}
        if items:
            where = [condition_on("work_item", item) for item in items]
            for each in sorted(usage.spent(_KEYS, period=period, where=where), key=lambda each: each.names):
                item, agent, purpose, customer = each.names
                if item in items:
                    items[item][item, agent, purpose, customer] = each
        for outcome in outcomes:
            found._give(outcome, items[outcome.work_item])
        return found

    def by(self, name: str) -> dict[str, Credit]:
        """The credit of each `work_item`, `agent`, `purpose` or `customer`."""
        return dict(self.sums[name])

    @property
    def total(self) -> Credit:
        return summed(self.sums["agent"].values())  # of which there are few, unlike work items

    def _give(self, outcome: Outcome, worked: Mapping[_Key, Spent]) -> None:
        """Credit those who `worked` on the outcome's work item: each agent, purpose, … by all that it spent."""
        weights = _weights(outcome, worked)
        for place, name in enumerate(_KEYS):
            # In order of their names, which decides between equals.
            spent = dict.fromkeys(sorted({key[place] for key in weights}), 0)
            for key, weight in weights.items():
                spent[key[place]] += weight
            parts = apportion(list(spent.values()), sum(spent.values()), outcome.worth)
            for value, part in zip(spent, parts, strict=True):
                self.sums[name].setdefault(value, Credit()).value += part
            most = self.sums[name][max(spent, key=lambda value: spent[value])]
            most.outcomes += 1
            most.valued += outcome.value is not None
            most.outputs += outcome.valuable
            most.rejected += outcome.accepted is False


def _weights(outcome: Outcome, worked: Mapping[_Key, Spent]) -> dict[_Key, int]:
    """Who gets how much of an outcome, by cost; by calls where nobody's is known or above 0, and else alike. It goes to
    whom it names; what no call of the work item says, such as a customer, does not take it away from those who worked.
    """
    wanted = tuple(getattr(outcome, name) for name in TAGS)
    said = [name if any(name == key[place] for key in worked) else "" for place, name in enumerate(wanted, 1)]
    fitting: dict[_Key, list[Spent]] = {}
    # No one call may say all of it: its agent then counts before its purpose and customer.
    for kept in range(len(said), -1, -1):
        for key, spent in worked.items():
            if all(not name or name == own for name, own in zip(said[:kept], key[1:], strict=False)):
                agent, purpose, customer = (name or own for name, own in zip(wanted, key[1:], strict=True))
                fitting.setdefault((outcome.work_item, agent, purpose, customer), []).append(spent)
        if fitting:
            break
    for weights in (
        {key: sum(max(spent.nano, 0) for spent in parts) for key, parts in fitting.items()},
        {key: sum(spent.calls for spent in parts) for key, parts in fitting.items()},
        dict.fromkeys(fitting, 1),
    ):
        if any(weights.values()):
            return weights
    agent, purpose, customer = (name or NONE for name in wanted)
    return {(outcome.work_item, agent, purpose, customer): 1}


def summed(credits: Iterable[Credit]) -> Credit:
    """The sum of several."""
    total = Credit()
    for credit in credits:
        total.add(credit)
    return total


def value(usage: Usage, outcomes: Iterable[Outcome], *, period: Period = EVER, top: int = TOP) -> Board:
    """Totals, and a section each for agents, purposes, customers, work items with an outcome, work items with none,
    and outcomes of work items without calls; the `top` rows of each, the rest as one. Sorted by value, then by cost."""
    credits = Credits.of(usage, outcomes, period)
    items = credits.by("work_item")
    unattributed = items.pop(NONE, Credit())
    total = credits.total
    closed = {name: credit for name, credit in items.items() if credit.outcomes and credit.calls}
    open_ = {name: credit for name, credit in items.items() if not credit.outcomes}
    orphans = {name: credit for name, credit in items.items() if credit.outcomes and not credit.calls}
    waiting = summed(open_.values())
    customers = credits.by("customer")
    zone = str(usage.zone)
    sections = {
        "summary": _summary(total, unattributed, waiting, period, zone),
        "agents": _table("By agent", "agent", credits.by("agent"), top),
        "purposes": _table("By purpose", "purpose", credits.by("purpose"), top),
        **({"customers": _table("By customer", "customer", customers, top)} if set(customers) - {NONE} else {}),
        **({"work_items": _table("Work items with an outcome", "work_item", closed, top)} if closed else {}),
        **({"no_outcome": _table("Cost without an outcome", "work_item", open_, top, bare=True)} if open_ else {}),
        **({"no_cost": _table("Outcomes without a call", "work_item", orphans, top)} if orphans else {}),
    }
    return Board(
        "What the spend brought",
        sections,
        notes=_notes(total, unattributed, len(open_), len(orphans), period),
        facts={
            "cost": usd(total.cost),
            "value": usd(total.value),
            "outcomes": total.outcomes,
            "outputs": total.outputs,
            "unattributed_cost": usd(unattributed.cost),
            "cost_without_outcome": usd(waiting.cost),
            "unknown_calls": total.unknown,
        },
    )


def _summary(total: Credit, unattributed: Credit, open_: Credit, period: Period, zone: str) -> Report:
    cells = {
        **_cells(total),
        "what": "everything",
        "unattributed": unattributed.known_cost,
        "no_outcome": open_.known_cost,
    }
    columns = [
        Column("what", "", Kind.TEXT),
        Column("cost", "cost", Kind.MONEY),
        Column("unattributed", "no work item", Kind.MONEY, optional=6),
        Column("no_outcome", "no outcome yet", Kind.MONEY, optional=5),
        *_EARNED,
    ]
    return Report("Cost and value", columns, [Row(cells)], period=period, zone=zone)


_EARNED = (
    Column("value", "value", Kind.MONEY),
    Column("outputs", "outputs", Kind.COUNT, optional=2),
    Column("rejected", "rejected", Kind.COUNT, optional=4, quiet=True),
    Column("cost_per_output", "cost per output", Kind.RATE, optional=3),
    Column("return", "return", Kind.RATIO, optional=1),
)


def _table(title: str, name: str, credits: Mapping[str, Credit], top: int, *, bare: bool = False) -> Report:
    ranked = sorted(credits.items(), key=lambda each: (-each[1].value, -each[1].cost, -each[1].calls, each[0]))
    shown_, rest = ranked[:top], ranked[top:]
    rows = [Row({**_cells(credit), name: key}) for key, credit in shown_]
    if rest:
        others = summed(credit for _, credit in rest)
        rows.append(Row({**_cells(others), name: f"other ({len(rest)})"}, rest=True))
    columns = [
        Column(name, name.replace("_", " "), Kind.TEXT),
        Column("cost", "cost", Kind.MONEY),
        Column("unknown", "unknown", Kind.COUNT, optional=2, quiet=True),
        Column("calls", "calls", Kind.COUNT, optional=5),
        *(() if bare else _EARNED),
    ]
    return Report(title, columns, rows, total=_cells(summed(credits.values())) if rows else None)


def _cells(credit: Credit) -> dict[str, Cell]:
    return {
        "cost": credit.known_cost,
        "unknown": credit.unknown,
        "calls": credit.calls,
        "value": credit.value,
        "outputs": credit.outputs,
        "rejected": credit.rejected,
        "cost_per_output": credit.per_output,
        "return": credit.returns,
    }


def _notes(total: Credit, unattributed: Credit, open_: int, orphans: int, period: Period) -> list[str]:
    if not total.outcomes:
        said = "in this period" if period.start or period.end else "yet"
        return [f"No outcome is recorded {said}: `callmeter budget outcome record` says what came of a work item."]
    notes = ["An outcome is shared out among those who worked on it by what they spent; as an output it counts once."]
    if unattributed.cost:
        share = f" ({Decimal(unattributed.cost) / total.cost:.0%})" if total.cost > 0 else ""
        notes.append(
            f"{shown(unattributed.cost)}{share} was spent without a work item: it is in the returns of agents and "
            "purposes, but nothing can come of it."
        )
    if total.valued < total.outcomes:
        without = total.outcomes - total.valued
        said = "1 outcome has" if without == 1 else f"{without:,} outcomes have"
        notes.append(f"{said} a verdict and no value: nothing in the sums of value and in the returns.")
    if open_:
        notes.append("A work item without an outcome may still be at work: its cost is counted all the same.")
    if orphans and (period.start or period.end):
        notes.append("Outcomes without a call may have been paid for before this period.")
    if total.unknown:
        notes.append(f"The cost of {total.unknown:,} calls is unknown and in no sum.")
    return notes
