"""Forecasts as a page: sentences first, then the sums, the days, and what it means for quotas."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal

from callmeter.reports.forecast import Forecast, Part
from callmeter.reports.forecast_grades import Grade, grade_sentence, hits_sentence
from callmeter.reports.forecast_history import HISTORY, RECENT, History, Present, doubt, quality
from callmeter.reports.forecast_quotas import Exhaustion
from callmeter.reports.forecast_words import chance_text, days_text, range_text, weekday_of
from callmeter.reports.grouping import column_names, title_of
from callmeter.reports.lost_days import lost_sentence
from callmeter.reports.quota_choice import SECTIONS
from callmeter.reports.report import Board, Cell, Column, Kind, Report, Row
from callmeter.reports.sums import apportion, share_of
from callmeter.words.instant import text_of
from callmeter.words.money import amount_text, shown
from callmeter.words.wording import capitalised, counted

_DAY = timedelta(1)
_MOST_SENTENCES = 5
# A median below this part of the mean is worth a word: a few dear days are most of what is expected.
_SKEWED = 0.75
_RANGE = [
    Column("expected", "expected", Kind.RATE),
    Column("median", "median", Kind.RATE, optional=5),
    Column("low_80", "8 in 10: from", Kind.RATE, optional=1),
    Column("high_80", "to", Kind.RATE, optional=1),
    Column("low_95", "95%: from", Kind.RATE, optional=6),
    Column("high_95", "to", Kind.RATE, optional=6),
]
_GROUNDS = [
    Column("days", "from days", Kind.COUNT, optional=7),
    Column("days_with_spend", "with spend", Kind.COUNT, optional=8),
    Column("from", "since", Kind.TEXT, optional=10),
    Column("quality", "quality", Kind.TEXT, optional=10),
    Column("doubt", "but", Kind.TEXT, quiet=True),
]


def forecast_page(
    forecasts: Sequence[Forecast],
    by: Sequence[str],
    quotas: Sequence[Exhaustion],
    present: Present,
    *,
    top: int = 0,
    stopped: int = 0,
    grades: Sequence[Grade] = (),
    notes: Sequence[str] = (),
) -> Board:
    """The page of at least one forecast, with its `top` parts, or all. `stopped` is on how many recent days limits
    stopped calls; `grades` are those of earlier forecasts."""
    total = forecasts[0].total
    sections = {"forecast": _sums(forecasts, by, present, top)} if total.fit else {}
    known = [each for each in forecasts if each.days and not each.total.unknown]
    sections |= {f"{each.horizon.name}_days": _days(each) for each in known}
    for unit, (name, title) in SECTIONS.items():
        chosen = [each for each in quotas if each.limit.unit == unit]
        if chosen:
            sections[name] = _quotas(title, unit, chosen)
    local = present.now.astimezone(present.usage.zone)
    return Board(
        title=f"Forecast, {weekday_of(present.today)} {local:%Y-%m-%d %H:%M} ({present.usage.zone})",
        lead=_lead(forecasts, quotas),
        sections=sections,
        notes=[
            *_basis(total, present, stopped),
            *_about_spent(forecasts, present),
            *_about_parts(forecasts),
            *_about_quotas(quotas),
            *_graded(grades),
            *notes,
        ],
        facts={
            "now": text_of(present.now),
            "zone": str(present.usage.zone),
            "basis": {
                "days": total.fit.days if total.fit else 0,
                "days_with_spend": total.fit.days_with_spend if total.fit else 0,
                "from": _first_day(total.history, present),
                "until": (present.until - _DAY).isoformat() if total.fit else None,
                "days_lost": len(_lost(total, present)),
            },
            "quality": quality(total.fit),
            "stopped_days": stopped,
        },
    )


def silence_sentence(silent: Sequence[tuple[str, date]]) -> str:
    """`No calls from build7 since 2026-11-15, after calls day by day: if its log ends there by mistake, the forecast is
    too low.`; "" for no such host."""
    if not silent:
        return ""
    host, last = min(silent, key=lambda each: (each[1], each[0]))
    more = f", nor from {counted(len(silent) - 1, 'other host')} for some days" if len(silent) > 1 else ""
    return (
        f"No calls from {host} since {last.isoformat()}{more}, after calls day by day: if its log ends there by "
        "mistake, the forecast is too low."
    )


def horizon_sentence(forecast: Forecast) -> str:
    """`Next week, 2026-11-23 to 2026-11-29: about $41.20, 8 in 10 chance of $33 to $52.`; "" without a forecast."""
    horizon, total = forecast.horizon, forecast.total
    if total.fit is None:
        return ""
    said = total.sum
    so_far = f", {shown(said.spent)} of it spent" if horizon.begun is not None else ""
    days = days_text(horizon.begun or horizon.first, horizon.last)
    if total.unknown:
        return f"{capitalised(horizon.title)}, {days}: nobody knows, for it is unknown what calls cost."
    if not said.coming.mean:
        what = f"{shown(said.spent)} spent, nothing more" if horizon.begun is not None else "nothing"
        return f"{capitalised(horizon.title)}, {days}: {what} is to be expected."
    text = f"about {shown(said.expected)}{so_far}, 8 in 10 chance of {range_text(*said.likely)}"
    if said.median <= said.spent:
        text += f"; as likely nothing{' more' if horizon.begun is not None else ''} as anything"
    elif said.median - said.spent < _SKEWED * said.coming.mean:
        text += f"; as likely below {shown(said.median)} as above"
    return f"{capitalised(horizon.title)}, {days}: {text}."


def quota_sentence(found: Exhaustion) -> str:
    """`agent:code per month: 30% chance of passing $45.00 before Tuesday 2026-12-01.`"""
    limit = found.limit
    passing = amount_text(limit.limit, limit.unit)
    if limit.pools:
        passing += f", then pool:{limit.pools[0]} pays,"
    reset = "" if limit.resets is None else f"{weekday_of(limit.resets)} {limit.resets.isoformat()}"
    if found.used_up:
        return f"{limit.name}: used up; the limit is {passing}{reset and f' until {reset}'}."
    if found.chance is None:
        return f"{limit.name}: {_when(found)}." if found.runs_out or found.earliest else ""
    text = f"{limit.name}: {chance_text(found.chance)} chance of passing {passing}{reset and f' before {reset}'}"
    when = _when(found)
    return f"{text}; {when}." if when else f"{text}."


def _when(found: Exhaustion) -> str:
    if found.runs_out is not None:
        text = f"runs out about {weekday_of(found.runs_out)} {found.runs_out.isoformat()}"
        if found.earliest is not None and found.latest is not None and found.earliest != found.latest:
            text += f" ({found.earliest.isoformat()} to {found.latest.isoformat()})"
        return text
    return f"not before {found.earliest.isoformat()}" if found.earliest is not None else ""


def _lead(forecasts: Sequence[Forecast], quotas: Sequence[Exhaustion]) -> list[str]:
    total = forecasts[0].total
    if total.fit is None:
        if total.history.first is None:
            return ["No calls yet, so no forecast."]
        return ["The first call was today: a forecast needs one complete day."]
    sentences = [text for each in forecasts if (text := horizon_sentence(each))]
    concerning = [each for each in quotas if each.used_up or each.chance is None or each.chance >= 0.05]
    sentences += [text for each in concerning[:_MOST_SENTENCES] if (text := quota_sentence(each))]
    return sentences


def _sums(forecasts: Sequence[Forecast], by: Sequence[str], present: Present, top: int) -> Report:
    own = [Column("horizon", "days", Kind.TEXT), Column("spent", "spent", Kind.RATE, quiet=True), *_RANGE, *_GROUNDS]
    names = column_names(by, [column.name for column in own])
    rows = []
    for each in forecasts:
        kept = each.parts[: top or len(each.parts)]
        for part in (each.total, *kept):
            cells = _cells(part, present) | {"horizon": each.horizon.title} | dict(zip(names, part.names, strict=False))
            if each.horizon.begun is not None:
                cells["spent"] = part.sum.spent
            whole = part is each.total
            rows.append(Row(cells, depth=0 if whole else 1, subtotal=whole and bool(each.parts)))
        if len(kept) < len(each.parts):
            rows.append(_rest(each, each.parts[len(kept) :], names[0]))
    tags = [Column(name, title_of(name), Kind.TEXT) for name in names]
    return Report("Expected spend", [own[0], *tags, *own[1:]], rows, tree=2 if by else 1)


def _rest(forecast: Forecast, parts: Sequence[Part], name: str) -> Row:
    """The parts that are not shown, as one row without a range: ranges do not add up."""
    begun = forecast.horizon.begun is not None
    cells: dict[str, Cell] = {
        "horizon": forecast.horizon.title,
        name: f"other ({len(parts):,})",
        "spent": sum(part.sum.spent for part in parts) if begun else None,
        "expected": sum(part.sum.expected for part in parts),
    }
    return Row(cells, depth=1, rest=True)


def _cells(part: Part, present: Present) -> dict[str, Cell]:
    found: dict[str, Cell] = {
        "days": part.fit.days if part.fit else 0,
        "days_with_spend": part.fit.days_with_spend if part.fit else 0,
        "from": _first_day(part.history, present),
        "quality": quality(part.fit),
        "doubt": "unknown what calls cost" if part.unknown else doubt(part.fit),
        "expected": part.sum.expected,
    }
    if part.fit is None or part.unknown:
        return found if part.names and not part.unknown else found | {"expected": None}
    said = part.sum
    return found | {
        "median": said.median,
        "low_80": said.likely[0],
        "high_80": said.likely[1],
        "low_95": said.nearly_sure[0],
        "high_95": said.nearly_sure[1],
    }


def _days(forecast: Forecast) -> Report:
    whole = sum(each.expected for each in forecast.days)
    shares = apportion([each.expected for each in forecast.days], whole, 1000) if whole else [0] * len(forecast.days)
    rows = [
        Row(
            {
                "day": each.day.isoformat(),
                "weekday": weekday_of(each.day)[:3],
                "share": share_of(share),
                "expected": each.expected,
                "median": each.range.median,
                "low_80": each.range.likely[0],
                "high_80": each.range.likely[1],
                "low_95": each.range.nearly_sure[0],
                "high_95": each.range.nearly_sure[1],
            }
        )
        for each, share in zip(forecast.days, shares, strict=True)
    ]
    columns = [
        Column("day", "day", Kind.TEXT),
        Column("weekday", "", Kind.TEXT, optional=2),
        *_RANGE,
        Column("share", "share", Kind.SHARE, optional=3),
    ]
    first = ", its first day being the rest of today" if forecast.horizon.begun is not None else ""
    return Report(f"{capitalised(forecast.horizon.title)} by day{first}", columns, rows)


def _quotas(title: str, unit: str, found: Sequence[Exhaustion]) -> Report:
    kind = Kind.RATE if unit == "usd" else Kind.COUNT
    columns = [
        Column("subject", "subject", Kind.TEXT),
        Column("period", "per", Kind.TEXT, optional=2),
        Column("enforcement", "quota", Kind.TEXT, optional=9),
        Column("limit", "limit", kind, optional=3),
        Column("used", "used", kind, optional=7),
        Column("expected", "expected", kind, optional=6),
        Column("chance", "chance to pass", Kind.CHANCE),
        Column("runs_out", "runs out", Kind.TEXT, optional=1),
        Column("earliest", "not before", Kind.TEXT, optional=4),
        Column("latest", "at latest", Kind.TEXT, optional=5),
        Column("resets", "resets", Kind.TEXT, optional=8),
    ]
    rows = [
        Row(
            {
                "subject": str(each.limit.subject),
                "period": each.limit.period,
                "enforcement": each.limit.enforcement,
                "limit": each.limit.limit,
                "used": each.limit.taken,
                "expected": each.expected,
                "chance": None if each.chance is None else Decimal(each.chance).quantize(Decimal("0.001")),
                "runs_out": _date(each.runs_out),
                "earliest": _date(each.earliest),
                "latest": _date(each.latest),
                "resets": _date(each.limit.resets),
            }
        )
        for each in found
    ]
    return Report(title, columns, rows)


def _basis(total: Part, present: Present, stopped: int) -> list[str]:
    if total.fit is None:
        return []
    days, spent = total.fit.days, total.fit.days_with_spend
    today = "" if present.until > present.today else "; today does not count until it is over"
    notes = [f"From {counted(days, 'day')}, {spent:,} with spend, the newest counting most{today}."]
    why = doubt(total.fit)
    if why and spent:
        notes.append(f"{capitalised(why)}.")
    lost = lost_sentence(present.missing, total.history.first or present.until, present.until)
    if lost:
        notes.append(lost)
    lately = present.until - 3 * _DAY
    if (
        spent
        and not total.history.sum(lately, present.until - _DAY)
        and not present.missing.within(lately, present.until)
    ):
        notes.append("Nothing was spent in the last 3 days.")
    recently = [present.until - n * _DAY for n in range(1, RECENT + 1)]
    guessed = sum(total.history.guessed[day] for day in recently)
    cost = sum(total.history.amounts["usd"][day] for day in recently)
    if guessed > 0 and cost > 0:
        notes.append(f"Of the last {RECENT} days' cost {_part_text(guessed, cost)} is estimated, not known.")
    unpriced = sum(total.history.unpriced[day] for day in recently)
    if unpriced:
        notes.append(
            f"The cost of {counted(unpriced, 'call')} of the last {RECENT} days is unknown, and there is no estimate "
            "of it: it is in no figure here."
        )
    if stopped:
        notes.append(
            f"On {stopped} of the last {RECENT} days a limit or a freeze stopped calls: capped days understate demand."
        )
    return notes


def _part_text(part: int, whole: int) -> str:
    """`12%`, `under 1%`."""
    return f"{round(100 * part / whole)}%" if 100 * part >= whole else "under 1%"


def _about_spent(forecasts: Sequence[Forecast], present: Present) -> list[str]:
    for each in forecasts:
        begun = each.horizon.begun
        unknown = 0 if begun is None else each.total.history.sum_unknown(begun, present.today)
        if unknown:
            return [
                f"Of what is spent {shown(unknown)} is the estimate of calls whose cost is unknown; breakdowns and "
                "`callmeter budget status` leave it out."
            ]
    return []


def _about_parts(forecasts: Sequence[Forecast]) -> list[str]:
    if not any(each.parts and each.total.fit for each in forecasts):
        return []
    return [
        "What is expected adds up to the total, which is forecast by itself. Ranges do not add up: not every part has "
        "a dear week at once."
    ]


def _about_quotas(quotas: Sequence[Exhaustion]) -> list[str]:
    if not quotas:
        return []
    notes = [
        "What is expected of a quota is what it has taken and what comes until its reset. Without a date it is "
        "expected to last, or the range is too wide to name one."
    ]
    if any(each.limit.subject.kind == "pool" for each in quotas):
        notes.append("What comes to a shared pool is what agents are expected to spend beyond their allocations.")
    return notes


def _graded(grades: Sequence[Grade]) -> list[str]:
    whole = [grade for grade in grades if not grade.said.by]
    if not whole:
        return []
    return [f"{grade_sentence(whole[0])} {hits_sentence(whole)}" if len(whole) > 1 else grade_sentence(whole[0])]


def _first_day(history: History, present: Present) -> str | None:
    first = history.first
    return None if first is None or first >= present.until else first.isoformat()


def _lost(part: Part, present: Present) -> list[date]:
    first = part.history.first
    return [] if first is None else present.missing.within(max(first, present.until - HISTORY * _DAY), present.until)


def _date(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
