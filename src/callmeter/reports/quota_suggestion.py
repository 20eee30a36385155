"""What a quota might be, from what was used: two figures, and on what evidence.

`expected` is the mean of the recent days (four weeks at most, from the subject's first call on), for one period, plus
a buffer of 30 %. `quantile` is the 90 % quantile of the complete periods before this one, by nearest rank. With ten
periods or more the quantile is suggested, otherwise the larger of the two; rounded up to two digits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from callmeter.reports.grouping import NONE
from callmeter.reports.report import Column, Kind, Report, Row
from callmeter.reports.usage import Figures, Usage
from callmeter.words.period import Period, bucket

PERIODS = ("day", "week", "month")
RECENT = 28
HISTORY = 400  # days
ENOUGH = 10
_TICK = timedelta(microseconds=1)
TOTAL = "total"


@dataclass(frozen=True)
class Suggestion:
    """For one subject, in nano-dollars, tokens or calls. `days` and `periods` are the evidence; `above` of the periods
    were above the suggestion. None where the evidence gives nothing."""

    subject: str
    days: int
    expected: int | None
    periods: int
    quantile: int | None
    above: int
    suggested: int | None


def suggestions(usage: Usage, tag: str, period: str, unit: str, now: datetime, zone: tzinfo) -> list[Suggestion]:
    """One for each value of a tag, the dearest first, and one for all calls together."""
    used: dict[str, Counter[str]] = {}
    past = Period(now - timedelta(days=HISTORY), now, "the past")
    for (value, day), figures in usage.groups((tag, "day"), period=past):
        taken = _amount_of(figures, unit)
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
        Column("expected", "mean + 30 %", kind, optional=1),
        Column("days", "of days", Kind.COUNT, optional=2),
        Column("quantile", "90 % quantile", kind, optional=1),
        Column("periods", f"of {period}s", Kind.COUNT, optional=2),
        Column("above", "above it", Kind.COUNT, optional=3),
    ]
    rows = [
        Row(
            {
                "subject": each.subject,
                "now": limits.get(each.subject),
                "suggested": each.suggested,
                "expected": each.expected,
                "days": each.days,
                "quantile": each.quantile,
                "periods": each.periods,
                "above": each.above,
            }
        )
        for each in found
    ]
    notes = [
        f"Per {period}. The mean is that of the last {RECENT} days at most, since the first call; the quantile, by "
        f"nearest rank, that of the complete {period}s before. It is suggested from {ENOUGH} {period}s on; below, the "
        "larger of the two. `above it`: so many of them would have been stopped by it."
    ]
    if not found:
        notes = ["Nothing was used yet, so nothing can be suggested."]
    return Report("Quotas that would fit", columns, rows, notes=notes)


def _suggestion(subject: str, days: Mapping[str, int], period: str, now: datetime, zone: tzinfo) -> Suggestion:
    today = now.astimezone(zone).date()
    first = date.fromisoformat(min(days))
    begin = max(first, today - timedelta(days=RECENT))
    recent = max((today - begin).days, 0)
    expected = None
    start, end = bucket(now, period, zone)
    if recent:
        spent = sum(amount for day, amount in days.items() if begin <= date.fromisoformat(day) < today)
        length = round((end - start) / timedelta(days=1))
        # 130 / 100, in whole numbers and rounded up.
        expected = -(-max(spent, 0) * length * 130 // (recent * 100))
    before = _complete(days, first, period, start, zone)
    quantile = sorted(before)[-(-9 * len(before) // 10) - 1] if before else None
    basis = quantile if len(before) >= ENOUGH else max(expected or 0, quantile or 0)
    suggested = _rounded(basis) if basis and basis > 0 else None
    above = sum(amount > (suggested or 0) for amount in before) if suggested else 0
    return Suggestion(subject, recent, expected, len(before), quantile, above, suggested)


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


def _amount_of(figures: Figures, unit: str) -> int:
    if unit == "usd":
        return figures.nano
    return figures.tokens_in + figures.tokens_out if unit == "tokens" else figures.sent
