"""Sessions whose prompts repeat themselves, by the sketches in the log.

They are compared as the loop breaker does it live (`policy.loop_rule`), by the policy's thresholds. The lines of the
log are read only for sessions that cost enough to matter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

from callmeter.policy.controls import LoopBreaker
from callmeter.policy.loop_rule import CLOSE, Seen, one_thing
from callmeter.reports.anomaly_finding import Scope, days_period
from callmeter.reports.grouping import NONE
from callmeter.reports.session_days import Name, only
from callmeter.reports.usage import Spent, Usage
from callmeter.words.record import UsageRecord
from callmeter.words.sketch import NEAR

# So many calls are compared; of more, those of the sessions that cost most in a day.
_MOST_LINES = 50_000


@dataclass(frozen=True)
class Loop:
    """Near-identical prompts of one session, from the first to the last of them. `sizes` are the tokens of the first
    and the last prompt."""

    first: datetime
    last: datetime
    calls: int
    nano: int
    sizes: tuple[int, int]


def find_loops(
    usage: Usage, scope: Scope, sessions: Iterable[tuple[Spent, Name, date]]
) -> tuple[dict[Name, list[Loop]], int]:
    """The loops of each session that has some; and how many calls were too many to be compared. `sessions` are those
    that came to half of a floor in a day."""
    chosen, unread = _suspects(scope, sessions)
    found: dict[Name, _Repeats] = {}
    for day in sorted(chosen):
        names = chosen[day]
        for record in usage.calls(period=days_period(day, day, usage.zone), where=only(scope, names)):
            name = record.tags.get("agent") or NONE, record.tags.get("session") or NONE
            if name in names:
                found.setdefault(name, _Repeats(scope.rules)).add(record)
    loops = {
        name: [
            loop
            for loop in repeats.loops()
            if loop.nano > scope.floors.of("agent", name[0])
            and scope.touches(scope.minute(loop.first), scope.minute(loop.last))
        ]
        for name, repeats in found.items()
    }
    return {name: runs for name, runs in loops.items() if runs}, unread


def _suspects(scope: Scope, sessions: Iterable[tuple[Spent, Name, date]]) -> tuple[dict[date, set[Name]], int]:
    """The sessions whose lines of a day are worth reading, and how many calls of others were too many. A loop may have
    begun the day before the period, and one over midnight has a half on each day."""
    start = scope.back(1).start
    first = date.min if start is None else scope.day(start)
    parts = [
        (part, day, name)
        for part, name, day in sessions
        if day >= first and 2 * part.nano > scope.floors.of("agent", name[0]) and 2 * part.calls >= scope.rules.similar
    ]
    parts.sort(key=lambda each: (-each[0].nano, each[1:]))
    chosen: dict[date, set[Name]] = {}
    lines = unread = 0
    for part, day, name in parts:
        if lines + part.calls > _MOST_LINES:
            unread += part.calls
            continue
        lines += part.calls
        chosen.setdefault(day, set()).add(name)
    return chosen, unread


class _Repeats:
    """The near-identical prompts of one session, call by call in order of time."""

    def __init__(self, rules: LoopBreaker) -> None:
        self._rules = rules
        self._last: deque[tuple[float, int, UsageRecord]] = deque(maxlen=rules.of_last)
        self._costs: dict[str, int] = {}
        self._loops: list[list[UsageRecord]] = []
        self._ids: set[str] = set()
        self._until = 0.0

    def add(self, record: UsageRecord) -> None:
        """A line, corrections included."""
        if record.corrects is not None or record.cost_nano is not None:
            about = record.corrects or record.id
            self._costs[about] = self._costs.get(about, 0) + (record.cost_nano or 0)
        if record.corrects is not None or record.status == "refused" or record.prompt_sketch is None:
            return
        try:
            sketch = int(record.prompt_sketch, 16)
        except ValueError:
            return
        at = record.instant.timestamp()
        self._last.append((at, sketch, record))
        # As `loop_rule` does it, on numbers: this is done for every line.
        alike = [seen for seen in self._last if at - seen[0] <= CLOSE and (seen[1] ^ sketch).bit_count() <= NEAR]
        if len(alike) < self._rules.similar:
            return
        if not one_thing([Seen(int(seen[0]), f"{seen[1]:x}", 0) for seen in alike]):
            return
        if not self._loops or at - self._until > CLOSE:
            self._loops.append([])
            self._ids = set()
        for _, _, each in alike:
            if each.id not in self._ids:
                self._ids.add(each.id)
                self._loops[-1].append(each)
        self._until = at

    def loops(self) -> list[Loop]:
        """The loops, in order of time."""
        return [
            Loop(
                records[0].instant,
                records[-1].instant,
                len(records),
                sum(self._costs.get(each.id, 0) for each in records),
                (_prompt(records[0]), _prompt(records[-1])),
            )
            for records in self._loops
        ]


def _prompt(record: UsageRecord) -> int:
    return record.tokens.in_ if record.tokens else 0
