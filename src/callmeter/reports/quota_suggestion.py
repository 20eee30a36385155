"""What a quota might be, from what was used: two figures by the forecast's model, and on what evidence.

`expected` is what the next whole period is expected to take, plus a buffer of 30%; `quantile` is what it does not
exceed with 9 chances in 10. Quotas per day are for the busiest day of the next seven. With two weeks of days, five of
them with spend, the quantile is suggested, otherwise the larger of the two; rounded up to two digits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from decimal import Decimal

from callmeter.reports.forecast_history import HISTORY, days_of, quality
from callmeter.reports.forecast_model import Fit, Range, fit
from callmeter.reports.grouping import NONE
from callmeter.reports.report import Column, Kind, Report, Row
from callmeter.reports.usage import Usage
from callmeter.words.period import Period, bucket

PERIODS = ("day", "week", "month")
_PAST = timedelta(days=400)
_DAY = timedelta(1)
_TICK = timedelta(microseconds=1)
TOTAL = "total"


@dataclass(frozen=True)
class Suggestion:
    """For one subject, in nano-dollars, tokens or calls. The evidence are `days`, `days_with_use` among them. `chance`
    is that of the next period to need more than is suggested; so many (`above`) of the complete `periods` before did.
    None where the evidence gives nothing."""

    subject: str
    days: int
    days_with_use: int
    expected: int | None
    quantile: int | None
    suggested: int | None
    chance: float | None
    periods: int
    above: int


def suggestions(usage: Usage, tag: str, period: str, unit: str, now: datetime, zone: tzinfo) -> list[Suggestion]:
    """One for each value of a tag, the dearest first, and one for all calls together."""
    used: dict[str, Counter[str]] = {}
    past = Period(now - _PAST, now, "the past")
    for (value, day), figures in usage.groups((tag, "day"), period=past):
        taken = figures.amount(unit)
        used.setdefault(TOTAL, Counter())[day] += taken
        if value != NONE:
            used.setdefault(f"{tag}:{value}", Counter())[day] += taken
    found = [_suggestion(subject, days, period, now, zone) for subject, days in used.items()]
    return sorted(found, key=lambda each: (each.subject != TOTAL, -(each.suggested or 0), each.subject))


def suggestion_report(found: Sequence[Suggestion], limits: Mapping[str, int], period: str, unit: str) -> Report:
    """The suggestions as a table; `limits` are those that hold now."""
    kind = Kind.RATE if unit == "usd" else Kind.COUNT
    columns = [
        Column("subject", "subject", Kind.TEXT),
        Column("now", "now", kind, quiet=True),
        Column("suggested", "suggested", kind),
        Column("chance", "chance to pass", Kind.CHANCE, optional=3),
        Column("expected", "mean + 30%", kind, optional=1),
        Column("quantile", "90% quantile", kind, optional=1),
        Column("days", "from days", Kind.COUNT, optional=2),
        Column("days_with_use", "with use", Kind.COUNT, optional=4),
        Column("periods", f"{period}s before", Kind.COUNT, optional=5),
        Column("above", "of them above", Kind.COUNT, optional=5),
    ]
    rows = [
        Row(
            {
                "subject": each.subject,
                "now": limits.get(each.subject),
                "suggested": each.suggested,
                "chance": None if each.chance is None else Decimal(each.chance).quantize(Decimal("0.01")),
                "expected": each.expected,
                "quantile": each.quantile,
                "days": each.days,
                "days_with_use": each.days_with_use,
                "periods": each.periods,
                "above": each.above,
            }
        )
        for each in found
    ]
    what = "the busiest of the next 7 days" if period == "day" else f"the next whole {period}"
    notes = [
        f"Per {period}, by the forecast of {what}: what is expected, plus 30%, and what is enough with 9 chances in "
        "10. With two weeks of days, five with use, the second is suggested; before, the larger of the two."
    ]
    if not found:
        notes = ["Nothing was used yet, so nothing can be suggested."]
    return Report("Quotas that would fit", columns, rows, notes=notes)


def _suggestion(subject: str, days: Mapping[str, int], period: str, now: datetime, zone: tzinfo) -> Suggestion:
    today = now.astimezone(zone).date()
    first = date.fromisoformat(min(days))
    begin = max(first, today - HISTORY * _DAY)
    known = [days.get((begin + n * _DAY).isoformat(), 0) for n in range((today - begin).days)]
    model = fit(known, today - _DAY)
    start, end = bucket(now, period, zone)
    before = _complete(days, first, period, start, zone)
    if model is None:
        return Suggestion(subject, 0, 0, None, None, None, None, len(before), 0)
    coming = _coming(model, period, end, today, zone)
    # In whole numbers and rounded up.
    expected, quantile = -(-coming.expected * 130 // 100), coming.quantile(0.9)
    basis = quantile if quality(model) == "ok" else max(expected, quantile)
    suggested = _rounded(basis) if basis > 0 else None
    return Suggestion(
        subject,
        model.days,
        model.days_with_spend,
        expected,
        quantile,
        suggested,
        None if suggested is None else coming.over(suggested),
        len(before),
        0 if suggested is None else sum(amount > suggested for amount in before),
    )


def _coming(model: Fit, period: str, end: datetime, today: date, zone: tzinfo) -> Range:
    """What the period that begins at `end` may take; of days, the busiest of the next seven."""
    if period == "day":
        return max((model.day(today + n * _DAY) for n in range(1, 8)), key=lambda each: each.mean)
    last = (bucket(end, period, zone)[1] - _TICK).astimezone(zone).date()
    return model.sum(days_of(end.astimezone(zone).date(), last))


def _complete(days: Mapping[str, int], first: date, period: str, start: datetime, zone: tzinfo) -> list[int]:
    """What each complete period before the current one took, from the first that the subject saw whole."""
    sums: list[int] = []
    end = start
    while True:
        begin = bucket(end - _TICK, period, zone)[0]
        one, two = begin.astimezone(zone).date(), end.astimezone(zone).date()
        if one < first:
            return sums
        sums.append(sum(days.get((one + timedelta(days=n)).isoformat(), 0) for n in range((two - one).days)))
        end = begin


def _rounded(amount: int) -> int:
    """Rounded up to two digits."""
    unit: int = 10 ** max(len(str(amount)) - 2, 0)
    return -(-amount // unit) * unit
