"""The zombie sessions that `budget anomalies` finds, for `budget savings`."""

from __future__ import annotations

from datetime import datetime

from callmeter.policy.document import Policy
from callmeter.reports.anomaly_finding import Floors, Scope
from callmeter.reports.anomaly_sessions import zombie_sessions
from callmeter.reports.savings_calls import Zombies
from callmeter.reports.usage import Usage
from callmeter.words.period import Period


def zombies_of(usage: Usage, policy: Policy, period: Period, now: datetime) -> Zombies:
    """By agent and session, when each was first and last awake."""
    scope = Scope(now, usage.zone, period, floors=Floors(quotas=policy.quotas), rules=policy.loop_breaker)
    return {name: (part.first, part.last) for name, part in zombie_sessions(usage, scope).items()}
