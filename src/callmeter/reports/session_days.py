"""An agent's sessions, each by its days: what they cost, and when they called first and last."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import cached_property

from callmeter.reports.anomaly_finding import Scope
from callmeter.reports.usage import Usage
from callmeter.words.instant import parse_instant

Name = tuple[str, str]  # agent, session


@dataclass
class Part:
    """A session's calls of some days."""

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


@dataclass
class Session:
    """A session as far as it was read."""

    agent: str
    name: str
    days: dict[date, Part] = field(default_factory=dict)

    @cached_property
    def whole(self) -> Part:
        """All its days together."""
        parts = list(self.days.values())
        whole = replace(parts[0])
        for each in parts[1:]:
            whole.add(each)
        return whole


def read_sessions(usage: Usage, scope: Scope, before: int) -> dict[Name, Session]:
    """The sessions of the period and of so many days before it."""
    found: dict[Name, Session] = {}
    names, period = ("agent", "session", "day"), scope.back(before)
    for (agent, name, day), figures in usage.groups(names, period=period, where=scope.where):
        if figures.first is not None and figures.last is not None:
            session = found.setdefault((agent, name), Session(agent, name))
            part = Part(parse_instant(figures.first), parse_instant(figures.last), figures.nano, figures.calls)
            session.days[date.fromisoformat(day)] = part
    return found


def only(scope: Scope, names: Collection[Name]) -> list[str]:
    """Conditions for these sessions. They let through others of the same names, which the reader leaves out."""
    agents, sessions = {agent for agent, _ in names}, {session for _, session in names}
    return scope.narrowed(
        [*(f"agent={each}" for each in sorted(agents)), *(f"session={each}" for each in sorted(sessions))]
    )
