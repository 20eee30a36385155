"""What a review is made of besides the usage log: prices, the policy's quotas, approvals, the audit log, the keys, and
what was forecast before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from callmeter.flows.anomalies import headline
from callmeter.flows.forecast_past import past_of
from callmeter.flows.offers import offers_of, rates_of
from callmeter.policy.document import Policy
from callmeter.reports.anomalies import anomaly_report, examine
from callmeter.reports.anomaly_finding import Floors, Scope
from callmeter.reports.anomaly_sessions import zombie_sessions
from callmeter.reports.forecast_grades import Said
from callmeter.reports.grouping import NONE
from callmeter.reports.report import Report
from callmeter.reports.review import Sources
from callmeter.reports.review_events import KeyAge
from callmeter.reports.review_outlook import outlook
from callmeter.reports.review_span import Span
from callmeter.reports.savings import savings
from callmeter.reports.savings_zombies import awake
from callmeter.reports.session_days import Name, Part
from callmeter.reports.usage import Usage
from callmeter.secrets.registry import Entry, read_registry
from callmeter.store.approvals import read_everything
from callmeter.store.audit import read_events
from callmeter.store.forecasts import keep_forecasts, read_forecasts
from callmeter.store.places import Places
from callmeter.store.settings import Settings
from callmeter.store.toml import read_toml
from callmeter.words.errors import CallmeterError
from callmeter.words.instant import parse_instant
from callmeter.words.money import shown
from callmeter.words.period import Period
from callmeter.words.wording import capitalised

_WEEK = timedelta(days=7)
_TOP = 5
_Part = TypeVar("_Part")


@dataclass(frozen=True)
class Ground:
    """Where and when a review is made. `own` is whether it is about one's own log, of which earlier forecasts were
    made; `live` whether it is about today, so that its own forecast is kept. `every` says how often a key is to be
    rotated."""

    policy: Policy
    places: Places
    settings: Settings
    now: datetime
    own: bool
    live: bool
    every: Callable[[Entry], timedelta]


def sources(usage: Usage, span: Span, ground: Ground) -> Sources:
    """The sources of a review. A part that cannot be read is left out, and a note says so: a review that failed because
    of one part would hide the others."""
    notes: list[str] = []
    places, now = ground.places, ground.now

    def read(what: str, part: Callable[[], _Part], default: _Part) -> _Part:
        try:
            return part()
        except CallmeterError as problem:
            notes.append(f"{what} left out: {problem.message}.")
            return default

    said: list[Said] = []
    if ground.own:
        said = read("Earlier forecasts are", lambda: read_forecasts(places.forecasts), said)
    present = past_of(usage, now, places, own=ground.own)
    # What was forecast after the moment of this review is none of its business.
    ahead = outlook(present, span.unit, ground.policy, [each for each in said if parse_instant(each.made_at) <= now])
    if ground.live:
        read("Grades of this forecast are", lambda: keep_forecasts(places.forecasts, ahead.said, present.today), None)
    rates = rates_of(places, ground.settings.providers)
    findings, remarks, zombies = _anomalies(usage, span, ground)
    saved, advice = _savings(usage, span, ground, zombies)
    return Sources(
        now=now,
        rates=lambda provider, model: rates(provider, model, span.end),
        quotas=ground.policy.quotas,
        allowances=read("Approvals and freezes are", lambda: read_everything(places, now, past=not ground.live), None),
        events=read("Decisions are", lambda: _events(places.audit, now), []),
        keys=read("Keys are", lambda: _keys(usage, span, ground), []),
        outlook=ahead.sections,
        findings=findings,
        savings=saved,
        remarks=remarks,
        prospects=[*ahead.sentences, *advice],
        notes=notes,
    )


def _anomalies(
    usage: Usage, span: Span, ground: Ground
) -> tuple[dict[str, Report], list[str], Mapping[Name, Part] | None]:
    """What was out of the ordinary in the span, as a section, and the dearest of it in a sentence; and the zombie
    sessions among it, None where nobody looked."""
    if usage.reading.first is None or usage.reading.first >= span.end:
        return {}, [], None
    scope = _scope(span.period, span, ground)
    examined = examine(usage, scope)
    found = examined.findings
    report = replace(anomaly_report(found, scope, examined), period=None)
    if not found:
        return {"anomalies": report}, [], examined.zombies
    more = f" (and {len(found) - 1} more anomal{'ies' if len(found) > 2 else 'y'})" if len(found) > 1 else ""
    return {"anomalies": report}, [f"{capitalised(headline(found[0]))}{more}."], examined.zombies


def _savings(
    usage: Usage, span: Span, ground: Ground, zombies: Mapping[Name, Part] | None
) -> tuple[dict[str, Report], list[str]]:
    """What could have been saved in the span, a week at least, as a section and in a sentence. `zombies` are those of
    the span."""
    period = Period(min(span.start, span.end - _WEEK), span.end, "")
    if not any(figures.calls for _, figures in usage.groups(period=period, only=("calls",))):
        return {}, []
    if zombies is None or period.start != span.start:
        zombies = zombie_sessions(usage, _scope(period, span, ground))
    offers = offers_of(ground.places, ground.settings.providers)
    found = savings(usage, ground.policy, offers, period, span.end, zombies=awake(zombies), top=_TOP)
    report = replace(found, title="What could be saved", period=None)
    month = found.total["month"] if found.total else None
    if not isinstance(month, int) or not month:
        return {"savings": report}, []
    largest = found.rows[0].cells
    where = f" for {largest['where']}" if largest["where"] not in ("", NONE) else ""
    return {"savings": report}, [f"Savings: up to {shown(month)} a month, the largest: {largest['saving']}{where}."]


def _scope(period: Period, span: Span, ground: Ground) -> Scope:
    places, policy = ground.places, ground.policy
    return Scope(
        ground.now,
        span.zone,
        period,
        floors=Floors(None, policy.quotas),
        rules=policy.loop_breaker,
        rates=rates_of(places, ground.settings.providers),
    )


def _events(path: str, now: datetime) -> list[Mapping[str, object]]:
    found: list[Mapping[str, object]] = []
    for event in read_events(path):
        try:
            if parse_instant(str(event.fields.get("at", ""))) <= now:
                found.append(event.fields)
        except ValueError:
            continue
    return found


def _keys(usage: Usage, span: Span, ground: Ground) -> Sequence[KeyAge]:
    places = ground.places
    entries = read_registry(read_toml(places.keys, places.cache), places.keys)
    if not entries:
        return []
    used = {names[0] for names, figures in usage.groups(("key",), period=span.period, only=("calls",)) if figures.calls}
    return [
        KeyAge(
            entry.label,
            entry.agent,
            entry.last_rotated or entry.created,
            entry.expires,
            ground.every(entry),
            entry.label in used,
        )
        for entry in entries.values()
        if entry.retired is None
    ]
