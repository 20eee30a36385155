"""Counting usage lines in groups, and what is counted over all of them: where the money's figures come from."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

from callmeter.reports.grouping import Reads
from callmeter.reports.sums import Sums
from callmeter.words.money import shown, usd
from callmeter.words.record import UsageRecord
from callmeter.words.usage import COST_SOURCES

_LARGEST = (1 << 63) - 1
Group = tuple[tuple[str, ...], Sums]
_SOURCE_WORDS = {
    "provider": "billed by the provider",
    "price": "computed from prices",
    "estimate": "estimated",
    "reconciled": "reconciled",
    "unstated": "of unstated origin",
}


class Tally:
    """`sources` has calls and nano-dollars for each origin of a cost, `statuses` what became of the calls.

    A call that a correction priced counts under the correction's origin, wherever in the log the two stand.
    """

    def __init__(self) -> None:
        # Calls, nano-dollars. Imported lines may have a cost and not say where it comes from.
        self.sources = {name: [0, 0] for name in (*COST_SOURCES, "unstated")}
        self.statuses: dict[str, int] = {}
        self.corrections = 0
        self.without_tokens = 0
        # Calls whose cost a correction may replace: hash of the id, group, cost (-1: unknown), tokens.
        self._open = tuple(array("q") for _ in range(4))
        self._corrected: dict[int, str] = {}

    def count(self, records: Iterable[UsageRecord], readers: Sequence[Reads]) -> list[Group]:
        """The innermost groups, by the values that the readers give, in the order in which they first appear."""
        places: dict[object, int] = {}
        groups: list[Group] = []
        first, single = readers[0], len(readers) == 1
        for record in records:
            key = first(record) if single else tuple([read(record) for read in readers])
            place = places.get(key)
            if place is None:
                place = places[key] = len(groups)
                groups.append((tuple([read(record) for read in readers]), Sums()))
            nano = record.cost_nano
            groups[place][1].add(record, nano)
            self._note(record, nano, place)
        self._settle([sums for _, sums in groups])
        return groups

    def facts(self) -> dict[str, object]:
        """For machines; amounts in USD."""
        return {
            "cost_sources": {
                name: {"calls": calls, "cost": None if name == "unknown" else usd(nano)}
                for name, (calls, nano) in self.sources.items()
            },
            "statuses": dict(sorted(self.statuses.items())),
            "corrections": self.corrections,
            "calls_without_tokens": self.without_tokens,
        }

    def notes(self, total: Sums) -> list[str]:
        """For people: how much of the cost is known from whom, and what is not counted."""
        if not self.statuses and not self.corrections:
            return ["No calls."]
        known = [
            f"{shown(nano)} {words} ({_calls(self.sources[name][0])})"
            for name, words in _SOURCE_WORDS.items()
            for nano in [self.sources[name][1]]
            if any(self.sources[name])
        ]
        notes = ["Of the cost: " + ", ".join(known) + "."] if known else []
        if total.unknown:
            notes.append(f"The cost of {_calls(total.unknown)} is unknown and in no sum.")
        if total.refused:
            notes.append(f"{_calls(total.refused)} refused before anything was sent: not among the calls.")
        if self.corrections:
            notes.append(f"{self.corrections} later correction{'s' * (self.corrections != 1)} included.")
        if self.without_tokens:
            notes.append(f"{_calls(self.without_tokens)} without token counts.")
        return notes

    def _note(self, record: UsageRecord, nano: int | None, place: int) -> None:
        origin = record.cost_source
        if nano is None:
            origin = "unknown"
        elif origin == "unknown":
            origin = "unstated"
        source = self.sources[origin]
        if record.corrects is not None:
            self.corrections += 1
            if nano is not None:
                self._corrected[hash(record.corrects)] = origin
                source[1] += nano
            return
        self.statuses[record.status] = self.statuses.get(record.status, 0) + 1
        if nano is not None:
            source[1] += nano
        if record.status == "refused":
            return
        source[0] += 1
        tokens = record.tokens
        if tokens is None:
            self.without_tokens += 1
        if nano is None or origin == "estimate":
            size = 0 if tokens is None else tokens.in_ + tokens.out
            values = (hash(record.id), place, -1 if nano is None else nano, size)
            if max(values) <= _LARGEST:
                for column, value in zip(self._open, values, strict=True):
                    column.append(value)

    def _settle(self, groups: Sequence[Sums]) -> None:
        """Corrections may stand before or after what they correct, so their calls change class at the end."""
        if not self._corrected:
            return
        for id, place, nano, tokens in zip(*self._open, strict=True):
            source = self._corrected.get(id)
            if source is None:
                continue
            before = self.sources["unknown" if nano < 0 else "estimate"]
            before[0] -= 1
            self.sources[source][0] += 1
            if nano < 0:
                groups[place].settle_unknown(tokens)
            else:
                before[1] -= nano
                self.sources[source][1] += nano


def _calls(count: int) -> str:
    return f"{count:,} call{'s' * (count != 1)}"
