"""Requests for approval as a report: what was asked, by whom, and what became of it."""

from __future__ import annotations

from datetime import UTC, datetime

from callmeter.policy.grants import Allowances, Freeze, Request
from callmeter.reports.report import Board, Cell, Column, Kind, Report, Row
from callmeter.words.instant import text_of


def requests(allowances: Allowances, *, everything: bool) -> Board:
    """Requests that wait for an answer, oldest first, or with `everything` all of them; and what is frozen."""
    found = sorted(allowances.requests.values(), key=lambda one: (one.at, one.id))
    rows = [_row(allowances, one) for one in found if everything or allowances.state(one) == "open"]
    columns = [
        Column("id", "id", Kind.TEXT),
        Column("state", "state", Kind.TEXT),
        Column("subject", "subject", Kind.TEXT),
        Column("period", "period", Kind.TEXT, optional=3),
        Column("usd", "more", Kind.RATE, quiet=True),
        Column("tokens", "tokens more", Kind.COUNT, quiet=True),
        Column("calls", "calls more", Kind.COUNT, quiet=True),
        Column("asked", "asked", Kind.INSTANT, optional=2),
        Column("by", "by", Kind.TEXT, optional=4),
        Column("agent", "agent", Kind.TEXT, optional=6, quiet=True),
        Column("until", "until", Kind.INSTANT, optional=5),
        Column("answered_by", "answered by", Kind.TEXT, optional=1, quiet=True),
        Column("reason", "reason", Kind.TEXT),
    ]
    notes = [] if rows or everything else ["No request waits for an answer; `--all` shows earlier ones."]
    sections = {"requests": Report("Requests", columns, rows, notes=notes)}
    frozen = allowances.live_freezes()
    if frozen:
        sections["frozen"] = _frozen(frozen)
    return Board("Approvals", sections, notes=allowances.problems)


def _row(allowances: Allowances, request: Request) -> Row:
    grant, denial = allowances.grants.get(request.id), allowances.denials.get(request.id)
    answer = grant or denial
    amount = grant.amount if grant else request.amount
    cells: dict[str, Cell] = {
        "id": request.id,
        "state": allowances.state(request),
        "subject": request.bucket,
        "period": request.period,
        "usd": amount if request.unit == "usd" and amount else None,
        "tokens": amount if request.unit == "tokens" else None,
        "calls": amount if request.unit == "calls" else None,
        "asked": _text(request.at),
        "by": request.by,
        "agent": request.agent,
        "until": _text(max(grant.ends.values()) if grant and all(grant.ends.values()) else request.until),
        "answered_by": answer.by if answer else None,
        "reason": (answer.reason if answer else "") or request.reason,
    }
    return Row(cells)


def _frozen(freezes: list[Freeze]) -> Report:
    columns = [
        Column("subject", "subject", Kind.TEXT),
        Column("at", "since", Kind.INSTANT, optional=2),
        Column("until", "until", Kind.INSTANT, quiet=True),
        Column("by", "by", Kind.TEXT, optional=1),
        Column("reason", "reason", Kind.TEXT),
    ]
    rows = [
        Row(
            {
                "subject": str(one.subject),
                "at": _text(one.at),
                "until": _text(one.until) if one.until else None,
                "by": "the loop breaker" if one.automatic else one.by,
                "reason": one.reason,
            }
        )
        for one in freezes
    ]
    return Report("Frozen", columns, rows)


def _text(seconds: int) -> str:
    return text_of(datetime.fromtimestamp(seconds, UTC))
