"""The zombie sessions that `budget anomalies` finds, as `budget savings` takes them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from callmeter.policy.document import Policy
from callmeter.reports.anomaly_finding import Floors, Scope
from callmeter.reports.anomaly_sessions import zombie_sessions
from callmeter.reports.savings_calls import Zombies
from callmeter.reports.session_days import Name, Part
from callmeter.reports.usage import Usage
from callmeter.words.period import Period


def zombies_of(usage: Usage, policy: Policy, period: Period, now: datetime) -> Zombies:
    """Those that touch the period."""
    scope = Scope(now, usage.zone, period, floors=Floors(quotas=policy.quotas), rules=policy.loop_breaker)
    return awake(zombie_sessions(usage, scope))


def awake(sessions: Mapping[Name, Part]) -> Zombies:
    """When each session was first and last awake."""
    return {name: (part.first, part.last) for name, part in sessions.items()}
