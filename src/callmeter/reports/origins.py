"""Where the money's figures come from: how much of it is billed, computed, estimated, and what nobody knows."""

from __future__ import annotations

from collections.abc import Sequence

from callmeter.reports.usage import Figures, Usage
from callmeter.words.money import shown, usd
from callmeter.words.period import Period
from callmeter.words.usage import COST_SOURCES
from callmeter.words.wording import counted

_SOURCE_WORDS = {
    "provider": "billed by the provider",
    "price": "computed from prices",
    "estimate": "estimated",
    "reconciled": "reconciled",
    "unstated": "of unstated origin",
}
_COUNTED = ("calls", "refused", "corrections", "unknown", "without_tokens", "nano")


class Origins:
    """Calls and nano-dollars for each origin of a cost, and what became of the calls.

    A corrected call counts under the correction's origin, wherever in the log the two stand.
    """

    def __init__(self, usage: Usage, period: Period, where: Sequence[str]) -> None:
        # Calls, nano-dollars. Imported lines may have a cost and not say where it comes from.
        self._sources = {name: [0, 0] for name in (*COST_SOURCES, "unstated")}
        self._statuses: dict[str, int] = {}
        self._corrections = 0
        self._without_tokens = 0
        groups = usage.groups(("origin", "status"), period=period, where=where, only=_COUNTED)
        for (origin, status), figures in groups:
            self._sources["unknown"][0] += figures.unknown
            source = self._sources["unstated" if origin == "unknown" else origin]
            source[0] += figures.calls - figures.unknown
            source[1] += figures.nano
            if figures.calls or figures.refused:
                self._statuses[status] = self._statuses.get(status, 0) + figures.calls + figures.refused
            self._corrections += figures.corrections
            self._without_tokens += figures.without_tokens

    def facts(self) -> dict[str, object]:
        """For machines; amounts in USD."""
        return {
            "cost_sources": {
                name: {"calls": calls, "cost": None if name == "unknown" else usd(nano)}
                for name, (calls, nano) in self._sources.items()
            },
            "statuses": dict(sorted(self._statuses.items())),
            "corrections": self._corrections,
            "calls_without_tokens": self._without_tokens,
        }

    def notes(self, total: Figures) -> list[str]:
        """For people: how much of the cost is known from whom, and what is not counted."""
        if not self._statuses and not self._corrections:
            return ["No calls."]
        known = [
            f"{shown(nano)} {_SOURCE_WORDS[name]} ({counted(calls, 'call')})"
            for name, (calls, nano) in self._sources.items()
            if name in _SOURCE_WORDS and (calls or nano)
        ]
        notes = ["Of the cost: " + ", ".join(known) + "."] if known else []
        if total.unknown:
            notes.append(f"The cost of {counted(total.unknown, 'call')} is unknown and in no sum.")
        if total.refused:
            notes.append(f"{counted(total.refused, 'call')} refused before anything was sent: not among the calls.")
        if self._corrections:
            notes.append(f"{counted(self._corrections, 'later correction')} included.")
        if self._without_tokens:
            notes.append(f"{counted(self._without_tokens, 'call')} without token counts.")
        return notes
