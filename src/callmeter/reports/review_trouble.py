"""What went wrong in a span and what it cost, and how far its figures can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from callmeter.reports.grouping import NONE
from callmeter.reports.report import Column, Kind, Report, Row
from callmeter.reports.review_account import Account, Groups
from callmeter.reports.sums import FAILED, apportion, share_of
from callmeter.reports.usage import Figures, summed

_MOST_ERRORS = 5
_STATUSES = {
    "error": "failed",
    "timeout": "took too long",
    "truncated": "broke off",
    "unknown": "died, no outcome known",
    "cancelled": "stopped by the caller",
}
_CUT = "cut at the output ceiling"
_RETRIED = "took more than one attempt"
_REFUSED = "refused before anything was sent"
_ORDER = (*_STATUSES.values(), _CUT, _RETRIED, _REFUSED)
_ORIGINS = {
    "billed": (("provider", "reconciled"), "what the provider says it charged"),
    "computed": (("price",), "tokens times price"),
    "estimated": (("estimate",), "worst case of calls without a known outcome"),
    "unknown": (("unknown", NONE), "nobody knows; in no sum"),
}


def trouble(account: Account, *, compared: bool) -> dict[str, Report]:
    """What did not go well, by kind, with its cost, as the section `trouble`; and as `errors` the commonest reasons.
    Sections without rows are left out."""
    by = ("status", "finish_reason", "error")
    now, before = account.now(*by), account.before(*by)
    kinds, earlier = _kinds(now), _kinds(before if compared else {})
    kinds[_RETRIED] = _retried(now)
    earlier[_RETRIED] = Figures(calls=sum(figures.retried for figures in before.values()))
    rows = [
        Row(
            {
                "what": what,
                "calls": found.refused if what == _REFUSED else found.calls,
                "before": (old.refused if what == _REFUSED else old.calls) if compared else None,
                "cost": _paid(found, refused=what == _REFUSED),
            }
        )
        for what in _ORDER
        for found in [kinds.get(what, Figures())]
        for old in [earlier.get(what, Figures())]
        if found.calls or found.refused
    ]
    columns = [
        Column("what", "calls that", Kind.TEXT),
        Column("calls", "calls", Kind.COUNT),
        Column("before", "before", Kind.COUNT, optional=1, quiet=not compared),
        Column("cost", "cost", Kind.MONEY),
    ]
    sections = {}
    if rows:
        note = "A call can be in more than one row." if len(rows) > 1 else ""
        sections["trouble"] = Report("What went wrong, and what it cost", columns, rows, notes=[note] if note else [])
    errors = _errors(now)
    if errors:
        sections["errors"] = errors
    return sections


def origin(account: Account) -> tuple[Report, Mapping[str, int]]:
    """How much of the cost is billed, computed, estimated and unknown; and the thousandths of each."""
    found = account.now("origin")
    sums = {
        name: summed(found[source,] for source in sources if (source,) in found)
        for name, (sources, _) in _ORIGINS.items()
    }
    whole = sum(each.nano for each in sums.values())
    parts = apportion([each.nano for each in sums.values()], whole, 1000) if whole > 0 else []
    shares = dict(zip(sums, parts, strict=False))
    rows = [
        Row(
            {
                "origin": name,
                "cost": None if name == "unknown" else each.nano,
                "share": share_of(shares[name]) if name in shares and name != "unknown" else None,
                "calls": each.calls,
                "meaning": _ORIGINS[name][1],
            }
        )
        for name, each in sums.items()
        if each.calls or each.nano
    ]
    columns = [
        Column("origin", "cost is", Kind.TEXT),
        Column("cost", "cost", Kind.MONEY),
        Column("share", "share", Kind.SHARE, optional=1),
        Column("calls", "calls", Kind.COUNT, optional=2),
        Column("meaning", "which means", Kind.TEXT, optional=3),
    ]
    return Report("How sure these figures are", columns, rows), shares


def _kinds(found: Groups) -> dict[str, Figures]:
    sums: dict[str, Figures] = {}
    for (status, finish, _), figures in found.items():
        names = [_STATUSES[status]] if status in _STATUSES else [_REFUSED] if status == "refused" else []
        if status == "ok" and finish == "length":
            names.append(_CUT)
        for name in names:
            sums.setdefault(name, Figures()).merge(figures)
    return sums


def _retried(found: Groups) -> Figures:
    """The calls that took several attempts."""
    whole = summed(found.values())
    return Figures(
        calls=whole.retried,
        calls_nano=whole.retried_nano,
        unknown=whole.retried_unknown,
    )


def _paid(found: Figures, *, refused: bool) -> int | None:
    """What these calls came to; None when nobody knows of any. A correction need not say how its call ended, so it
    counts with that call and not where it stands."""
    if refused:
        return found.cost
    return None if found.calls and found.unknown == found.calls else found.calls_nano


def _errors(found: Groups) -> Report | None:
    sums: dict[tuple[str, str], Figures] = {}
    for (status, _, error), figures in found.items():
        if error != NONE and status in (*FAILED, "refused"):
            kind = "refused" if status == "refused" else "failed"
            sums.setdefault((error, kind), Figures()).merge(figures)
    ranked = sorted(sums.items(), key=lambda each: (-(each[1].calls + each[1].refused), each[0]))
    rows = [
        Row({"error": error, "kind": kind, "calls": figures.calls + figures.refused, "cost": cost})
        for (error, kind), figures in ranked[:_MOST_ERRORS]
        for cost in [_paid(figures, refused=kind == "refused")]
    ]
    columns = [
        Column("error", "error", Kind.TEXT),
        Column("kind", "outcome", Kind.TEXT, optional=1),
        Column("calls", "calls", Kind.COUNT),
        Column("cost", "cost", Kind.MONEY),
    ]
    left = len(ranked) - len(rows)
    notes: Sequence[str] = [f"{left} more kinds are not shown."] if left > 0 else []
    return Report("The commonest errors", columns, rows, notes=notes) if rows else None
