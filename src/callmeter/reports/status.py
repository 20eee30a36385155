"""Where we stand: spend so far, by agent, how fast it goes, the last calls that failed, and what fits all that; with a
policy also its quotas, the thresholds passed, what waits for approval and what is frozen.

"Before" is the same stretch of the period before: until this time yesterday, this weekday and time last week, this
day and time last month. The straight line to the month's end takes the month so far and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal

from callmeter.policy.decision import Stand
from callmeter.policy.grants import Allowances
from callmeter.policy.quotas import Quota
from callmeter.reports.advice import Basis, advice
from callmeter.reports.burn import Burn
from callmeter.reports.grouping import bound_text, time_text
from callmeter.reports.quota_bars import budgets, quota_reports, thresholds
from callmeter.reports.quota_choice import LeftOut
from callmeter.reports.report import Board, Cell, Column, Kind, Report, Row
from callmeter.reports.requests import requests
from callmeter.reports.sums import FAILED, apportion, share_of
from callmeter.reports.usage import Figures, Usage, growth, summed
from callmeter.words.instant import parse_instant, text_of
from callmeter.words.period import Period, bucket, bucket_label, local_time
from callmeter.words.record import UsageRecord
from callmeter.words.wording import counted

_TICK = timedelta(microseconds=1)
_DAY = timedelta(days=1)
_AGENTS = 10
_ERRORS = 5
_SPANS = {"today": "day", "this week": "week", "this month": "month"}


class Spans:
    """The stretches of time that a status is made of, around `now`."""

    def __init__(self, now: datetime, zone: tzinfo) -> None:
        self.now = now
        self.zone = zone
        self.named = {name: bucket(now, unit, zone) for name, unit in _SPANS.items()}
        self.before = {name: self._before(self.named[name][0], unit) for name, unit in _SPANS.items()}
        self.day = (now - _DAY, now + _TICK)
        today = self.named["today"][0]
        midnights = [today]
        for _ in range(28):
            midnights.append(bucket(midnights[-1] - _TICK, "day", zone)[0])
        self.weeks = midnights[::-1]  # midnights, from 28 days ago to today's
        self.days = self.weeks[-8:]  # from seven days ago

    @property
    def all(self) -> list[tuple[datetime, datetime]]:
        """Every stretch."""
        return [*self.named.values(), *self.before.values(), self.day, *zip(self.weeks, self.weeks[1:], strict=False)]

    @property
    def whole(self) -> Period:
        """From the earliest of them to the latest: what of the log has to be read."""
        return Period(min(start for start, _ in self.all), max(end for _, end in self.all), "")

    def _before(self, start: datetime, unit: str) -> tuple[datetime, datetime]:
        first, last = bucket(start - _TICK, unit, self.zone)
        return first, min(first + (self.now - start) + _TICK, last)


def status(
    usage: Usage,
    spans: Spans,
    *,
    stands: Sequence[Stand] = (),
    left_out: Mapping[Quota, LeftOut] | None = None,
    burn: Burn | None = None,
    allowances: Allowances | None = None,
    enforced: bool = False,
    notes: Sequence[str] = (),
) -> Board:
    """The status at `spans.now`; where quotas stand (`stands`, without those `left_out`) and how fast they go (`burn`),
    what was asked and frozen (`allowances`), and whether any quota is hard (`enforced`), as they are then."""
    burn = burn or Burn((stand.quota for stand in stands), usage, spans.now)
    live = [stand for stand in stands if not burn.over(stand)]
    sums = _Stretches(usage, spans)
    month = sums.of(spans.named["this month"])
    recovered = sums.of(spans.named["this month"], "status=unknown").calls
    said = [*notes]
    if month.unknown:
        said.append(f"This month the cost of {counted(month.unknown, 'call')} is unknown and in no sum.")
    if recovered:
        said.append(
            f"This month {counted(recovered, 'call')} had to be recovered: the process died, or no outcome arrived."
        )
    if month.refused:
        said.append(f"Refused this month, before anything was sent: {counted(month.refused, 'call')}.")
    return Board(
        title=f"Where we stand, {spans.now.astimezone(spans.zone):%Y-%m-%d %H:%M} ({spans.zone})",
        sections={
            "spend": _spend(sums, spans),
            **_pending(allowances, said),
            **quota_reports(stands, burn, spans.now, spans.zone, left_out),
            **({"thresholds": passed} if (passed := thresholds(live)) else {}),
            "agents": _agents(sums, spans),
            "rate": _rate(sums, spans),
            "errors": _errors(_failed(usage, spans), spans.zone),
            "advice": advice(_basis(sums, spans, stands, enforced)),
        },
        notes=said,
        facts={
            "now": text_of(spans.now),
            "zone": str(spans.zone),
            "unknown_calls": month.unknown,
            "recovered_calls": recovered,
            "refused_calls": month.refused,
        },
    )


class _Stretches:
    """Figures of any stretch, each asked for once. `first` is when the log's first call began."""

    def __init__(self, usage: Usage, spans: Spans) -> None:
        self._usage = usage
        self._zone = spans.zone
        self._known: dict[object, Figures] = {}
        self.first = None if usage.reading.first is None else text_of(usage.reading.first)
        weeks = Period(spans.weeks[0], spans.weeks[-1], "")
        self._days = {day: figures for (day,), figures in usage.groups(("day",), period=weeks)}
        self._agents = {
            span: {agent: figures for (agent,), figures in usage.groups(("agent",), period=Period(*span, ""))}
            for span in spans.named.values()
        }

    def of(self, span: tuple[datetime, datetime], *where: str) -> Figures:
        """A stretch, or what in it satisfies the conditions."""
        key = (span, where)
        if key not in self._known:
            groups = self._usage.groups((), period=Period(*span, ""), where=where)
            self._known[key] = groups[0][1] if groups else Figures()
        return self._known[key]

    def begun(self, start: datetime, now: datetime) -> datetime:
        """From when on a stretch that runs is in the log: its start, or the log's, but never less than a day ago."""
        return start if self.first is None else max(start, min(parse_instant(self.first), now - _DAY))

    def day(self, start: datetime) -> Figures:
        """One of the complete days."""
        return self._days.get(bucket_label(start, "day", self._zone), Figures())

    def agent(self, name: str, span: tuple[datetime, datetime]) -> Figures:
        """What an agent did in one of the named stretches."""
        return self._agents[span].get(name, Figures())

    def agents(self) -> list[str]:
        """Every agent of the named stretches."""
        return sorted({name for agents in self._agents.values() for name in agents})


def _failed(usage: Usage, spans: Spans) -> list[UsageRecord]:
    """The newest calls that failed, the newest first."""
    where = [f"status={status}" for status in sorted(FAILED)]
    for last in (10 * _ERRORS, 0):  # corrections among them are no calls
        lines = list(usage.calls(period=spans.whole, where=where, last=last))
        found = [record for record in lines if record.corrects is None][: -_ERRORS - 1 : -1]
        if len(found) == _ERRORS or len(lines) < last:
            break
    return found


def _spend(sums: _Stretches, spans: Spans) -> Report:
    rows = []
    for name, span in spans.named.items():
        now, before = sums.of(span), sums.of(spans.before[name])
        rows.append(
            Row(
                {
                    "period": name,
                    "cost": now.cost,
                    "unknown": now.unknown,
                    "calls": now.calls,
                    "errors": now.errors,
                    "before": before.cost if before.calls else None,
                    "change": growth(now, before),
                }
            )
        )
    columns = [
        Column("period", "period", Kind.TEXT),
        Column("cost", "cost", Kind.MONEY),
        Column("unknown", "unknown", Kind.COUNT, quiet=True),
        Column("calls", "calls", Kind.COUNT, optional=1),
        Column("errors", "errors", Kind.COUNT, optional=2),
        Column("before", "before", Kind.RATE, optional=3, quiet=True),
        Column("change", "change", Kind.CHANGE, optional=4, quiet=True),
    ]
    is_compared = any(row.cells["before"] is not None for row in rows)
    note = "Before is the same stretch of the day, week or month before, up to this time of it."
    return Report("Spend", columns, rows, notes=[note] if is_compared else [])


def _agents(sums: _Stretches, spans: Spans) -> Report:
    every = [(agent, [sums.agent(agent, span) for span in spans.named.values()]) for agent in sums.agents()]
    found = sorted(
        ((agent, each) for agent, each in every if any(part.calls or part.nano for part in each)),
        key=lambda group: (-group[1][2].nano, -group[1][1].nano, -group[1][2].calls, group[0]),
    )
    shown, rest = found[:_AGENTS], found[_AGENTS:]
    if rest:
        parts = [summed(each[index] for _, each in rest) for index in range(len(_SPANS))]
        shown.append((f"other ({len(rest)})", parts))
    whole = sum(each[2].nano for _, each in shown)
    shares = apportion([each[2].nano for _, each in shown], whole, 1000) if whole else [None] * len(shown)
    rows = [
        Row(_agent_cells(each, share) | {"agent": agent}, rest=bool(rest) and index == _AGENTS)
        for index, ((agent, each), share) in enumerate(zip(shown, shares, strict=True))
    ]
    columns = [
        Column("agent", "agent", Kind.TEXT),
        Column("today", "today", Kind.MONEY, optional=2),
        Column("this_week", "this week", Kind.MONEY, optional=3),
        Column("this_month", "this month", Kind.MONEY),
        Column("unknown", "unknown", Kind.COUNT, quiet=True),
        Column("share", "share", Kind.SHARE, optional=1),
        Column("calls", "calls", Kind.COUNT, optional=4),
    ]
    total = _agent_cells([sums.of(span) for span in spans.named.values()], 1000 if whole else None)
    return Report("By agent", columns, rows, total=total)


def _agent_cells(each: Sequence[Figures], share: int | None) -> dict[str, Cell]:
    today, week, month = each
    return {
        "today": today.cost,
        "this_week": week.cost,
        "this_month": month.cost,
        "unknown": month.unknown,
        "share": None if share is None or month.cost is None else share_of(share),
        "calls": month.calls,
    }


def _rate(sums: _Stretches, spans: Spans) -> Report:
    day = sums.of(spans.day)
    rows = [_rate_row("last 24 hours", day, Decimal(1) / 24, "hour")]
    # A log that begins within the week is not diluted by the days before it.
    days = [
        start for start, end in zip(spans.days, spans.days[1:], strict=False) if (sums.first or "~") < bound_text(end)
    ]
    if days:
        name = "last complete day" if len(days) == 1 else f"last {len(days)} complete days"
        rows.append(_rate_row(name, summed(sums.day(start) for start in days), Decimal(1) / len(days), "day"))
    start, end = spans.named["this month"]
    month = sums.of((start, end))
    begun = sums.begun(start, spans.now)
    gone, length = spans.now - begun + _TICK, end - begun
    rows.append(_rate_row("this month so far", month, Decimal(length // _TICK) / (gone // _TICK), "month"))
    note = (
        f"The month's figure is a straight line: {Decimal(gone // _TICK) / (_DAY // _TICK):.1f} of "
        f"{Decimal(length // _TICK) / (_DAY // _TICK):.{0 if begun == start else 1}f} days are over"
        f"{'' if begun == start else ' since the log began'}."
    )
    columns = [
        Column("basis", "basis", Kind.TEXT),
        Column("spent", "spent", Kind.MONEY, optional=1),
        Column("rate", "comes to", Kind.MONEY),
        Column("per", "per", Kind.TEXT),
    ]
    return Report("Burn rate", columns, rows, notes=[note])


def _rate_row(basis: str, sums: Figures, factor: Decimal, per: str) -> Row:
    rate = None if sums.cost is None else int((sums.nano * factor).to_integral_value())
    return Row({"basis": basis, "spent": sums.cost, "rate": rate, "per": per})


def _pending(allowances: Allowances | None, notes: list[str]) -> dict[str, Report]:
    """What waits for approval and what is frozen, each if there is any."""
    if allowances is None:
        return {}
    board = requests(allowances, everything=False)
    notes += board.notes
    found = {name: report for name, report in board.sections.items() if report.rows}
    if "requests" in found:
        answer = "Answer with `callmeter budget approve ID` or `callmeter budget deny ID`."
        found["requests"] = replace(found["requests"], notes=[answer])
    return found


def _basis(sums: _Stretches, spans: Spans, stands: Sequence[Stand], enforced: bool) -> Basis:
    spans_of_days = zip(spans.weeks, spans.weeks[1:], strict=False)
    days = [span for span in spans_of_days if (sums.first or "~") < bound_text(span[1])]
    past = [sums.day(start) for start, _ in days]
    start, end = month = spans.named["this month"]
    if days:
        whole = summed(past)
        pace = Decimal(whole.nano) / len(days) * ((end - start) // _TICK) / (_DAY // _TICK)
        basis = "at the pace of the last " + ("complete day" if len(days) == 1 else f"{len(days)} complete days")
    else:
        gone = spans.now - sums.begun(start, spans.now) + _TICK
        whole = sums.of(month)
        pace = Decimal(whole.nano) * ((end - start) // _TICK) / (gone // _TICK)
        basis = "at the pace of the month so far"
    if whole.cost is None:
        basis += ", in which nobody knows what calls cost"
    agents = {agent: sums.agent(agent, month).nano for agent in sums.agents()}
    return Basis(
        budgets=budgets(stands, spans.now),
        days=[day.nano for day in past],
        agents={agent: nano for agent, nano in agents.items() if nano > 0},
        month=int(pace.to_integral_value()),
        basis=basis,
        enforced=enforced,
    )


def _errors(errors: Sequence[UsageRecord], zone: tzinfo) -> Report:
    times = [local_time(parse_instant(time_text(record)), zone) for record in errors]
    rows = [
        Row(
            {
                "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "agent": record.tags.get("agent"),
                "model": record.model,
                "status": record.status,
                "error": record.error,
            }
        )
        for record, time in zip(errors, times, strict=True)
    ]
    columns = [
        Column("time", "time", Kind.INSTANT),
        Column("agent", "agent", Kind.TEXT),
        Column("model", "model", Kind.TEXT, optional=1),
        Column("status", "status", Kind.TEXT),
        Column("error", "error", Kind.TEXT, quiet=True),
    ]
    return Report("Last errors", columns, rows)
