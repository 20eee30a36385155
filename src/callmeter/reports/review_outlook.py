"""What a review says of the time to come: what will probably be spent, what that means for quotas, and how the last
forecasts did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta

from callmeter.policy.document import Policy
from callmeter.policy.quotas import Quota
from callmeter.reports.forecast import Forecast, Horizon, forecast, next_month, next_week, to_end
from callmeter.reports.forecast_grades import Grade, Said, grade_sentence, grades, hits_sentence, said_by
from callmeter.reports.forecast_history import Present, histories, stopped_days
from callmeter.reports.forecast_page import forecast_page, horizon_sentence
from callmeter.reports.forecast_quotas import Pasts, exhaustions, hidden_note, limits_by_log
from callmeter.reports.report import Column, Kind, Report, Row
from callmeter.words.instant import text_of
from callmeter.words.period import Period

_MOST = 6
_TOP = 10
_SOON_OVER = "Quotas for each session, and for the life of each, are not foreseen: sessions are over too soon."
_GUESSED = "Calls of unknown cost are in what it came to, at their worst case."
_SECTIONS = {"quotas": "outlook_usd", "quotas_tokens": "outlook_tokens", "quotas_calls": "outlook_calls"}


@dataclass(frozen=True)
class Outlook:
    """Sections by name, a sentence for each horizon and one for the last grade; `said` is what can be graded later."""

    sections: Mapping[str, Report]
    sentences: Sequence[str]
    said: Sequence[Said]


def outlook(present: Present, unit: str, policy: Policy, said: Sequence[Said]) -> Outlook:
    """The rest of this week or month, and the next one, as seen at `now`; with the grades of what was `said` before.
    Without a complete day of calls there is no forecast, and no section."""
    found = histories(present.usage, (), present)
    forecasts = [forecast(horizon, found, present) for horizon in _horizons(unit, present)]
    graded = [each for each in grades(said, present) if not each.said.by]
    sections: dict[str, Report] = {}
    if forecasts[0].total.fit is not None:
        pasts = Pasts(present)
        lasting = [quota for quota in policy.quotas if _lasts(quota)]
        limits, hidden = limits_by_log(lasting, pasts, _TOP)
        notes = [hidden_note(hidden, _TOP), "" if len(lasting) == len(policy.quotas) else _SOON_OVER]
        ahead = exhaustions(limits, pasts, policy.quotas)
        page = forecast_page(forecasts, (), ahead, present, stopped=stopped_days(present), notes=[*filter(None, notes)])
        sections["forecast"] = replace(page.sections["forecast"], title="What will probably be spent", notes=page.notes)
        for name, renamed in _SECTIONS.items():
            if name in page.sections:
                report = page.sections[name]
                sections[renamed] = replace(report, title=f"{report.title}: the chance to pass them before they reset")
    if graded:
        sections["grades"] = _graded(graded, _unknown(graded, present))
    return Outlook(sections, _sentences(forecasts, graded), _to_keep(forecasts, present))


def _lasts(quota: Quota) -> bool:
    """Whether a quota is worth foreseeing: its subjects go on, and it resets."""
    return not quota.subject.each or (quota.period != "life" and quota.subject.kind != "session")


def _horizons(unit: str, present: Present) -> list[Horizon]:
    if unit == "month":
        return [to_end(present.today, "month"), next_month(present.today)]
    return [to_end(present.today, "week"), next_week(present.today)]


def _sentences(forecasts: Sequence[Forecast], graded: Sequence[Grade]) -> list[str]:
    said = [text for each in forecasts[:1] if (text := horizon_sentence(each))]
    return said + [grade_sentence(each) for each in graded[:1]]


def _to_keep(forecasts: Sequence[Forecast], present: Present) -> list[Said]:
    return [said for each in forecasts for said in said_by(each, (), text_of(present.now))]


def _unknown(graded: Sequence[Grade], present: Present) -> bool:
    """Whether the cost of calls in what is graded is unknown."""
    first, last = min(each.said.first for each in graded), max(each.said.last for each in graded)
    zone = present.usage.zone
    period = Period(datetime.combine(first, time(), zone), datetime.combine(last + timedelta(1), time(), zone), "")
    return any(figures.unknown for _, figures in present.usage.groups(period=period))


def _graded(graded: Sequence[Grade], unknown: bool) -> Report:
    rows = [
        Row(
            {
                "first": each.said.first.isoformat(),
                "last": each.said.last.isoformat(),
                "expected": each.said.expected,
                "low_80": each.said.likely[0],
                "high_80": each.said.likely[1],
                "outcome": each.outcome,
                "difference": each.outcome - each.said.expected,
                "verdict": each.verdict,
            }
        )
        for each in graded[:_MOST]
    ]
    columns = [
        Column("first", "from", Kind.TEXT),
        Column("last", "to", Kind.TEXT, optional=1),
        Column("expected", "we said", Kind.RATE),
        Column("low_80", "8 in 10: from", Kind.RATE),
        Column("high_80", "to", Kind.RATE),
        Column("outcome", "it came to", Kind.RATE),
        Column("difference", "off by", Kind.DIFFERENCE, optional=2),
        Column("verdict", "which is", Kind.TEXT),
    ]
    notes = [hits_sentence(graded), *([_GUESSED] if unknown else [])]
    return Report("How the last forecasts did", columns, rows, notes=notes)
