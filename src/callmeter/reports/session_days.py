"""An agent's sessions, whole and by their days: what they cost, and when they called first and last."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from callmeter.reports.anomaly_finding import Scope
from callmeter.reports.grouping import condition_on
from callmeter.reports.usage import Spent, Usage
from callmeter.words.period import Period

Name = tuple[str, str]  # agent, session
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Part:
    """A session's calls of some time."""

    first: datetime
    last: datetime
    nano: int
    calls: int

    @property
    def open(self) -> timedelta:
        return self.last - self.first

    def add(self, other: Part) -> None:
        """Its calls as well."""
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)
        self.nano += other.nano
        self.calls += other.calls


def whole_sessions(
    usage: Usage, scope: Scope, period: Period, *, least: int | None = None, agents: Collection[str] | None = None
) -> dict[Name, Part]:
    """The sessions of a period that came to `least` nano-dollars; those of all agents or of some."""
    found = usage.spent(("agent", "session"), period=period, where=_of(scope, agents), least=least)
    return {
        (each.names[0], each.names[1]): part_of(each)
        for each in found
        if each.begin is not None and (agents is None or each.names[0] in agents)
    }


def session_days(
    usage: Usage, scope: Scope, period: Period, *, least: int | None = None, agents: Collection[str] | None = None
) -> list[tuple[Spent, Name, date]]:
    """The same by day, in no order."""
    days: dict[str, date] = {}
    found = []
    for each in usage.spent(("agent", "session", "day"), period=period, where=_of(scope, agents), least=least):
        agent, session, label = each.names
        if each.begin is not None and (agents is None or agent in agents):
            day = days.get(label)
            if day is None:
                day = days[label] = date.fromisoformat(label)
            found.append((each, (agent, session), day))
    return found


def part_of(spent: Spent) -> Part:
    """A group that has calls."""
    assert spent.begin is not None and spent.end is not None
    return Part(instant_at(spent.begin), instant_at(spent.end), spent.nano, spent.calls)


def instant_at(ms: int) -> datetime:
    """The instant so many milliseconds after 1970."""
    return _EPOCH + timedelta(milliseconds=ms)


def only(scope: Scope, names: Collection[Name]) -> list[str]:
    """Conditions for these sessions. They let through others of the same names, which the reader leaves out."""
    agents, sessions = {agent for agent, _ in names}, {session for _, session in names}
    return scope.narrowed(
        [
            *(condition_on("agent", each) for each in sorted(agents)),
            *(condition_on("session", each) for each in sorted(sessions)),
        ]
    )


def _of(scope: Scope, agents: Collection[str] | None) -> list[str]:
    return (
        list(scope.where)
        if agents is None
        else scope.narrowed([condition_on("agent", each) for each in sorted(agents)])
    )
