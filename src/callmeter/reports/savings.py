"""What could have been saved: cheaper models, caches, failed calls that were paid for, long answers, zombie sessions.

Each call counts once, so the rows add up to what could be saved, and never to more than was spent: under its largest
saving, but under a cheaper model that was not tried for such work only if there is nothing else. A month is a twelfth
of a year; the period's figure is stretched to it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from callmeter.policy.document import Policy
from callmeter.reports.anomaly_finding import freeze
from callmeter.reports.grouping import NONE
from callmeter.reports.report import Cell, Column, Kind, Report, Row
from callmeter.reports.savings_calls import Calls, Found, Place, Zombies, calls_of
from callmeter.reports.savings_models import Cheaper
from callmeter.reports.savings_pricing import Offers, Tariffs
from callmeter.reports.savings_question import Saving
from callmeter.reports.sums import apportion
from callmeter.reports.usage import Usage
from callmeter.words.money import shown, usd
from callmeter.words.period import Period
from callmeter.words.wording import counted

TOP = 10
_MONTH = timedelta(days=365) / 12
_DAY = timedelta(days=1)
_TICK = timedelta(microseconds=1)
# Fewer days are a guess of what a month costs.
_SHORT = 7
_COLUMNS = (
    Column("saving", "saving", Kind.TEXT),
    Column("where", "of", Kind.TEXT),
    Column("what", "what", Kind.TEXT),
    Column("calls", "calls", Kind.COUNT, optional=3),
    Column("cost", "cost", Kind.MONEY, optional=4),
    Column("saved", "saves", Kind.MONEY, optional=2),
    Column("month", "a month", Kind.MONEY),
    Column("evidence", "evidence", Kind.TEXT, below=True),
    Column("act", "to do", Kind.COMMAND, below=True),
)
_REPEATS = {"grown": "conversations that send all of it again", "same": "the same prompt again, by its sketch"}


def savings(
    usage: Usage,
    policy: Policy,
    offers: Offers,
    period: Period,
    now: datetime,
    *,
    zombies: Zombies | None = None,
    only: Sequence[str] = (),
    top: int = TOP,
) -> Report:
    """A row for each kind of saving, place and change, the largest first; the `top` of them, the rest as one row.
    `only` are the models to price the calls at instead of those that the policy lists or the team uses."""
    end = now if period.end is None else min(period.end, now)
    tariffs = Tariffs(offers)
    cheaper = Cheaper(usage, policy, tariffs, period, end, only)
    zombies = zombies or {}
    calls = calls_of(usage, cheaper, tariffs, period, zombies)
    days = _days(usage, period, end)
    spent = cheaper.spent
    spent_month = _a_month(spent.nano, days)
    ranked = sorted(calls.rows.items(), key=lambda each: (-each[1].saved, each[0]))
    whole = _sum([found for _, found in ranked])
    month = _a_month(whole.saved, days)
    months = apportion([found.saved for _, found in ranked], whole.saved, month) if whole.saved else [0] * len(ranked)
    rows = _rows(ranked, months, calls, zombies, end, top)
    notes = _notes(cheaper, calls.rows, days, only)
    if whole.saved and spent_month:
        notes = [*_sums(calls, whole.saved, spent_month, days, asked=bool(only)), *notes]
    elif not spent.calls:
        notes = ["No calls in this period."]
    else:
        notes = ["Nothing to be saved was found.", *notes]
    facts = {
        "days": days,
        "spent": usd(spent.nano),
        "spent_month": usd(spent_month),
        "kinds": {kind: usd(_saved(calls, kind)) for kind in Saving},
        "alone": {kind: usd(calls.alone.get(kind, 0)) for kind in Saving},
        "untried": usd(calls.untried),
    }
    total = _cells(whole, month) if rows else None
    return Report("Savings", _COLUMNS, rows, total, notes, facts, period=period, zone=str(usage.zone))


def _rows(
    ranked: Sequence[tuple[Place, Found]],
    months: Sequence[int],
    calls: Calls,
    zombies: Zombies,
    end: datetime,
    top: int,
) -> list[Row]:
    """The `top` rows with what each comes to in a month, the rest as one."""
    rows = [
        Row({**_cells(found, month), **_words(place, found, calls, zombies, end)})
        for (place, found), month in list(zip(ranked, months, strict=True))[:top]
    ]
    if len(ranked) > top:
        rest = _cells(_sum([found for _, found in ranked[top:]]), sum(months[top:]))
        rows.append(Row({**rest, "saving": f"other ({len(ranked) - top})"}, rest=True))
    return rows


def _sums(calls: Calls, saved: int, spent_month: int, days: Decimal, *, asked: bool) -> list[str]:
    """How much could be saved of what is spent and how, and by each kind of saving alone; `asked` about models."""
    month = _a_month(saved, days)
    moved = _saved(calls, Saving.MODEL)
    # What needs no other answers, what needs those of a model that is known, and what is a bet.
    ways = {
        "with the same models": saved - moved,
        "with models asked about" if asked else "with models that serve the purpose already": moved - calls.untried,
        "with models not tried for it": calls.untried,
    }
    ways = {way: nano for way, nano in ways.items() if nano}
    how = f", {next(iter(ways))}"
    if len(ways) > 1:
        how = ": " + ", ".join(f"{shown(_a_month(nano, days))} {way}" for way, nano in ways.items())
    share = Decimal(month) / spent_month
    said = [f"{shown(month)} of {shown(spent_month)} a month ({share:.0%}){how}; each call counts once."]
    if len(calls.alone) > 1:
        largest = sorted(calls.alone.items(), key=lambda each: -each[1])
        each = ", ".join(f"{kind} {shown(_a_month(nano, days))}" for kind, nano in largest)
        said.append(f"Each by itself, which overlap: {each}.")
    return said


def _saved(calls: Calls, kind: Saving) -> int:
    return sum(found.saved for place, found in calls.rows.items() if place.kind == kind)


def _cells(found: Found, month: int) -> dict[str, Cell]:
    return {"calls": found.calls, "cost": found.cost, "saved": found.saved, "month": month}


def _words(place: Place, found: Found, calls: Calls, zombies: Zombies, end: datetime) -> dict[str, Cell]:
    """What a row is about, what speaks for it, and the command that acts, or shows what was over by the `end`."""
    where, what, evidence, act = place.where, place.what, "", ""
    purpose = () if where == NONE else ("--purpose", where)
    match place.kind:
        case Saving.MODEL:
            what, evidence = f"{place.what} to {place.to}", place.why
            if found.unfit:
                evidence += f"; {counted(found.unfit, 'more call')} {'does' if found.unfit == 1 else 'do'} not fit it"
            act = _command("llm-call --model", place.to, *purpose)
        case Saving.CACHE:
            evidence = (
                f"{_REPEATS[place.why]}: {found.tokens:,} tokens; put first what stays the same, and have the provider "
                "cache it"
            )
        case Saving.FAILED:
            what = "no whole answer"
            evidence = "paid for: " + ", ".join(f"{count:,} {name}" for name, count in sorted(found.ended.items()))
            act = _command("callmeter budget breakdown --by status --by error", *_condition("purpose", where))
        case Saving.RETRIES:
            evidence = "attempts before the one that answered, above the price of its tokens"
            act = _command("callmeter budget breakdown --by model --by status", *_condition("purpose", where))
        case Saving.ANSWERS:
            ceiling = calls.ceilings[where]
            what = f"above {ceiling:,} tokens"
            evidence = f"half of its answers have at most {calls.usual[where]:,} tokens"
            act = _command("llm-call --max-tokens", str(ceiling), *purpose)
        case Saving.ZOMBIE:
            first, last = zombies[where, what]
            days = f"{(last - first) / _DAY:.1f}"
            evidence = f"open for {days} days and never silent for long; all after its third day"
            act = freeze("session", what, f"open for {days} days") if end - last <= _DAY else ""
            act = act or _command("callmeter budget breakdown --by day", *_condition("session", what))
    return {"saving": place.kind, "where": where, "what": what, "evidence": evidence, "act": act}


def _sum(parts: Sequence[Found]) -> Found:
    return Found(sum(part.calls for part in parts), sum(part.cost for part in parts), sum(part.saved for part in parts))


def _days(usage: Usage, period: Period, end: datetime) -> Decimal:
    """How long the part of the period is that the log covers, at least a day: an hour is no basis for a month."""
    first = usage.reading.first
    start = max(filter(None, (first, period.start)), default=end)
    return (Decimal(max(end - start, _DAY) // _TICK) / (_DAY // _TICK)).quantize(Decimal("0.01"))


def _a_month(nano: int, days: Decimal) -> int:
    month = Decimal(_MONTH // _TICK) / (_DAY // _TICK)
    return int((nano * month / days).to_integral_value())


def _notes(cheaper: Cheaper, rows: Mapping[Place, Found], days: Decimal, only: Sequence[str]) -> list[str]:
    kinds = {place.kind for place in rows}
    notes = []
    if Saving.MODEL in kinds or cheaper.listed or only:
        basis = (
            f"models asked about: {', '.join(only)}"
            if only
            else "models that the policy's lists name or permit among those in use"
            if cheaper.listed
            else "models that the team uses already, since the policy has no list of models"
        )
        notes.append(
            f"Cheaper models: {basis}; the same tokens at the other price. Another model may need more tokens or give "
            "worse answers: try it on some calls first."
        )
    for model, calls in cheaper.kept.items():
        if calls:
            notes.append(f"The policy's lists of models keep {model} from {calls:,} of {cheaper.spent.calls:,} calls.")
    if Saving.ANSWERS in kinds:
        notes.append("Long answers: what is above four times the usual; a ceiling cuts such an answer off.")
    if Saving.CACHE in kinds:
        notes.append("Prompt cache: where the log shows that prompts repeat within five minutes; writes are paid for.")
    if days < _SHORT:
        notes.append(f"A month is guessed from {days.normalize():f} day{'s' * (days != 1)}.")
    return notes


def _command(start: str, *words: str) -> str:
    """A command line that can be copied; none with a name that cannot be printed."""
    if not all(word.isprintable() for word in words):
        return ""
    return " ".join([start, *map(shlex.quote, words)])


def _condition(name: str, value: str) -> tuple[str, ...]:
    return () if "*" in value else ("--where", f"{name}={value}")
