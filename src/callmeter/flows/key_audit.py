"""What the audit of keys looks at: registry, stores, usage log, policy and, with a management key, the account."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from callmeter.flows.key_account import Match
from callmeter.flows.key_places import advice, standing
from callmeter.policy.ceilings import ceiling_of
from callmeter.policy.quotas import Quota
from callmeter.reports.grouping import NONE
from callmeter.reports.key_audit import UNUSED, Audited, Seen
from callmeter.reports.usage import Usage
from callmeter.secrets.registry import Entry
from callmeter.words.instant import parse_instant
from callmeter.words.period import Period

_WEEK = timedelta(days=7)


def seen_of(usage: Usage, now: datetime) -> dict[str, Seen]:
    """What each key did in the last 30 days, by its label."""
    period = Period(now - UNUSED, None, "")
    week = {names[0]: each.nano for names, each in usage.groups(("key",), period=Period(now - _WEEK, None, ""))}
    weeks = Period(now - 4 * _WEEK, now - _WEEK, "")
    before = {names[0]: each.nano for names, each in usage.groups(("key",), period=weeks)}
    agents: dict[str, set[str]] = {}
    calls: dict[str, int] = {}
    untagged: dict[str, int] = {}
    last: dict[str, datetime] = {}
    for (key, agent), figures in usage.groups(("key", "agent"), period=period):
        calls[key] = calls.get(key, 0) + figures.calls
        if agent == NONE:
            untagged[key] = untagged.get(key, 0) + figures.calls
        elif figures.calls:
            agents.setdefault(key, set()).add(agent)
        if figures.last is not None:
            last[key] = max(last.get(key, parse_instant(figures.last)), parse_instant(figures.last))
    return {
        key: Seen(agents.get(key, ()), count, untagged.get(key, 0), week.get(key, 0), before.get(key, 0), last.get(key))
        for key, count in calls.items()
    }


def audited(
    entries: Iterable[Entry],
    matches: Sequence[Match],
    quotas: Sequence[Quota],
    *,
    state: Callable[[Entry], str],
    due: Callable[[Entry], datetime | None],
) -> list[Audited]:
    """The registered keys as the audit sees them; `matches` is empty where the account was not asked."""
    records = {match.entry.label: match for match in matches if match.entry is not None}
    found = []
    for entry in entries:
        match = records.get(entry.label)
        record = match.record if match is not None else None
        wanted = ceiling_of(quotas, label=entry.label, agent=entry.agent, user=entry.user, provider=entry.provider)
        weak = standing(entry)
        differs = (
            record is not None
            and wanted is not None
            and (record.limit, record.limit_reset) != (wanted.limit, wanted.reset)
        )
        found.append(
            Audited(
                label=entry.label,
                agent=entry.agent,
                owner=entry.owner,
                provider=entry.provider,
                environment=entry.environment,
                shared=entry.shared,
                created=entry.created,
                expires=entry.expires,
                due=due(entry),
                state=state(entry),
                weak_place=weak.worth if weak.weak else "",
                advice=advice(entry),
                known=record is not None,
                gone=match is not None and record is None and not match.trouble,
                disabled=record is not None and record.disabled,
                limit=record.limit if record is not None else None,
                wanted=wanted.limit if wanted is not None else None,
                differs=differs,
                has_quota=wanted is not None,
                management=entry.management,
            )
        )
    return found
