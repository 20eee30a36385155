"""One event shows in every tag of its calls: its agent's, its purpose's, its model's. It is told once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Generic, TypeVar

from callmeter.reports.anomaly_days import COUNTED, Day
from callmeter.reports.anomaly_finding import Scope, days_period, earlier, subject_of
from callmeter.reports.grouping import NONE
from callmeter.reports.usage import Usage

# An event is the same as others if they hold so much of it.
_MOST = 0.8
# Where the larger of two is told: so much larger.
_LARGER = 1.5
# Where no event was seen nothing is read, of whatever day.
_ANY = "0001-02-01"
_What = TypeVar("_What")
Joint = dict[tuple[str, str], dict[str, Day]]


@dataclass
class Seen(Generic[_What]):
    """An event of one subject, before it is compared with others: `first` and `last` are labels of days or hours,
    `size` is what it came to, in money or in errors. `also` are the subjects that show it too."""

    name: str
    kind: str
    value: str
    first: str
    last: str
    size: int
    what: _What
    also: list[str] = field(default_factory=list)


class Overlaps(Generic[_What]):
    """What the calls of two subjects together came to, by `unit` of time, from `before` days before the first event
    on. One query for two groupings, however many values were seen."""

    def __init__(self, usage: Usage, scope: Scope, seen: Sequence[Seen[_What]], unit: str, before: int = 0) -> None:
        self._usage = usage
        self._scope = scope
        self._unit = unit
        self._values: dict[str, list[str]] = {}
        for each in seen:
            self._values.setdefault(each.kind, []).append(each.value)
        first = min((each.first for each in seen), default=_ANY)
        last = max((each.last for each in seen), default=_ANY)
        start = earlier(date.fromisoformat(first[:10]), before)
        self._period = days_period(start, date.fromisoformat(last[:10]), usage.zone)
        self._known: dict[tuple[str, str], Joint] = {}

    def of(self, one: Seen[_What], other: Seen[_What]) -> dict[str, Day]:
        """By label of the unit."""
        pair = one.kind, other.kind
        if pair not in self._known:
            self._known[pair] = self._read(*pair)
        return self._known[pair].get((one.value, other.value), {})

    def _read(self, one: str, other: str) -> Joint:
        names = [name for name in (one, other) if name != "total"]
        where = self._scope.narrowed([f"{name}={value}" for name in names for value in self._values[name]])
        found: Joint = {}
        by = (*names, self._unit, "origin")
        for (*labels, unit, origin), figures in self._usage.groups(by, period=self._period, where=where, only=COUNTED):
            values = dict(zip(names, labels, strict=True))
            pair = values.get(one, ""), values.get(other, "")
            found.setdefault(pair, {}).setdefault(unit, Day()).add(figures, origin)
        return found


def folded(
    seen: Sequence[Seen[_What]], joint: Callable[[Seen[_What], Seen[_What]], int], *, larger: bool = False
) -> list[Seen[_What]]:
    """The events without those that others hold for the most part; of two that hold each other, the one whose
    grouping comes first stays, and with `larger` one that is much larger. `seen` comes in the order of groupings;
    `joint` is what the first one has of the second."""
    kinds = list(dict.fromkeys(each.kind for each in seen))
    order = sorted(seen, key=lambda each: (kinds.index(each.kind), -each.size, each.value, each.first))
    if larger:
        for each in list(order):
            wide = [
                other
                for other in order
                if _meet(other, each) and other.kind != "total" and other.size >= _LARGER * each.size
            ]
            holder = max(wide, key=lambda other: joint(other, each), default=None)
            if holder is not None and joint(holder, each) >= _MOST * each.size:
                order.remove(each)
                holder.also.extend([*_named(each), *each.also])
    kept: list[Seen[_What]] = []
    for each in order:
        holders: dict[str, list[tuple[int, Seen[_What]]]] = {}
        for other in kept:
            if _meet(other, each):
                holders.setdefault(other.kind, []).append((joint(other, each), other))
        held = max(holders.values(), key=lambda parts: sum(part for part, _ in parts), default=[])
        if held and sum(part for part, _ in held) >= _MOST * each.size:
            for part, other in held:
                if part >= (1 - _MOST) * each.size:
                    other.also.extend(_named(each))
        else:
            kept.append(each)
    return kept


def _named(each: Seen[_What]) -> list[str]:
    """Calls without a tag are no subject that anybody knows."""
    return [] if each.value == NONE else [subject_of(each.kind, each.value)]


def _meet(one: Seen[_What], other: Seen[_What]) -> bool:
    return one.kind != other.kind and one.first <= other.last and other.first <= one.last
