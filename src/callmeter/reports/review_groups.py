"""What a span cost, by its groups, by its days, and among the spans before it, each against the span before."""

from __future__ import annotations

from datetime import datetime

from callmeter.reports.grouping import NONE, title_of
from callmeter.reports.report import Cell, Column, Kind, Report, Row
from callmeter.reports.review_account import DIMENSIONS, Account, Groups
from callmeter.reports.review_span import Span
from callmeter.reports.sums import apportion, share_of
from callmeter.reports.usage import Figures, difference, growth, summed
from callmeter.words.period import bucket_label

# So many groups are shown, and of those that are over so many, where there are others to show.
_MOST, _MOST_GONE = 10, 3


def by_group(key: str, now: Groups, before: Groups | None) -> Report | None:
    """A row for each group, the dearest first; the ten that are largest in one of the two spans, but of those without
    calls in this one three, where there are others; then the rest. None when no call says anything of the kind.
    `before` is None when there was no span before."""
    if not {*now, *(before or ())} - {(NONE,)}:
        return None
    earlier, nothing = before or {}, Figures()
    pairs = [(names[0], now.get(names, nothing), earlier.get(names, nothing)) for names in {*now, *earlier}]
    ranked = sorted(pairs, key=lambda pair: (-max(pair[1].nano, pair[2].nano), -pair[1].calls, pair[0]))
    # One more takes no more room than a row that says so.
    most = _MOST if len(ranked) > _MOST + 1 else len(ranked)
    gone = [pair for pair in ranked if not pair[1].calls and not pair[1].nano]
    hidden = {pair[0] for pair in gone[max(_MOST_GONE, most - (len(ranked) - len(gone))) :]}
    ranked.sort(key=lambda pair: pair[0] in hidden)
    kept, rest = ranked[:most], ranked[most:]
    kept.sort(key=lambda pair: (-pair[1].nano, -pair[1].calls, -pair[2].nano, pair[0]))
    if rest:
        kept.append((f"other ({len(rest)})", summed(pair[1] for pair in rest), summed(pair[2] for pair in rest)))
    whole = sum(pair[1].nano for pair in kept)
    shares = apportion([pair[1].nano for pair in kept], whole, 1000) if whole > 0 else [None] * len(kept)
    compared = before is not None
    rows = [
        Row({key: name, **_cells(figures, old, share, compared)}, rest=bool(rest) and index == _MOST)
        for index, ((name, figures, old), share) in enumerate(zip(kept, shares, strict=True))
    ]
    total = _cells(
        summed(pair[1] for pair in kept), summed(pair[2] for pair in kept), 1000 if whole > 0 else None, compared
    )
    columns = [
        Column(key, title_of(key), Kind.TEXT),
        Column("cost", "cost", Kind.MONEY),
        Column("unknown", "unknown", Kind.COUNT, optional=1, quiet=True),
        Column("share", "share", Kind.SHARE, optional=1),
        Column("before", "before", Kind.RATE, optional=4, quiet=True),
        Column("difference", "change", Kind.DIFFERENCE, quiet=True),
        Column("change", "%", Kind.CHANGE, optional=2, quiet=True),
        Column("calls", "calls", Kind.COUNT, optional=3),
    ]
    return Report(DIMENSIONS[key][1], columns, rows, total=total)


def by_part(account: Account, *, compared: bool) -> Report:
    """A row for each day of a week or month, or each hour of a day, from the log's beginning on; `before` is the same
    one of the span before, where the two are of one length. Parts without calls cost nothing."""
    span = account.span
    unit = span.parts_unit
    known = _known(account, span)
    labels = [bucket_label(start, unit, span.zone) for start, _ in known]
    found = account.now(unit)
    earlier = _earlier(account) if compared else {}
    figures = [found.get((label,), Figures()) for label in labels]
    whole = sum(each.nano for each in figures)
    shares = apportion([each.nano for each in figures], whole, 1000) if whole > 0 else [None] * len(figures)
    rows = [
        Row(
            {
                unit: label if unit == "hour" else f"{label} {start.astimezone(span.zone):%a}",
                "cost": each.cost,
                "share": None if share is None or each.cost is None else share_of(share),
                "before": earlier.get(start),
                "calls": each.calls,
                "errors": each.errors,
            }
        )
        for label, (start, _), each, share in zip(labels, known, figures, shares, strict=True)
    ]
    columns = [
        Column(unit, unit, Kind.TEXT),
        Column("cost", "cost", Kind.MONEY),
        Column("share", "share", Kind.SHARE, optional=1),
        Column("before", f"{span.unit} before", Kind.RATE, optional=3, quiet=True),
        Column("calls", "calls", Kind.COUNT),
        Column("errors", "errors", Kind.COUNT, optional=2, quiet=True),
    ]
    return Report(f"By {unit}", columns, rows)


def _known(account: Account, span: Span) -> list[tuple[datetime, datetime]]:
    """A span's parts, without those that were over when the log began."""
    first = account.first
    return [part for part in span.parts() if first is None or first < part[1]]


def _earlier(account: Account) -> dict[datetime, int | None]:
    """What the parts of the span before cost, by the beginnings of those that they stand against; without those that
    were over when the log began."""
    span = account.span
    parts, before = list(span.parts()), list(span.before.parts())
    if len(parts) != len(before):
        return {}
    found = account.before(span.parts_unit)
    known = _known(account, span.before)
    return {
        start: found.get((bucket_label(other[0], span.parts_unit, span.zone),), Figures()).cost
        for (start, _), other in zip(parts, before, strict=True)
        if other in known
    }


def course(account: Account, first: datetime) -> Report:
    """The span among those before it, the oldest first, from the one in which the log begins (`first`, before the
    span's end)."""
    span = account.span
    rows = []
    last: Figures | None = None
    for each in span.looked_back():
        if first >= each.end:
            continue
        figures = account.total(each)
        rows.append(
            Row(
                {
                    span.unit: each.iso,
                    "cost": figures.cost,
                    "unknown": figures.unknown,
                    "difference": None if last is None else difference(figures, last),
                    "change": None if last is None else growth(figures, last),
                    "calls": figures.calls,
                    "tokens": figures.tokens_in + figures.tokens_out,
                    "cost_per_1k_tokens": figures.per_1k,
                    "errors": figures.errors,
                    "refused": figures.refused,
                }
            )
        )
        last = figures
    columns = [
        Column(span.unit, span.unit, Kind.TEXT),
        Column("cost", "cost", Kind.MONEY),
        Column("unknown", "unknown", Kind.COUNT, optional=1, quiet=True),
        Column("difference", "change", Kind.DIFFERENCE, quiet=True),
        Column("change", "%", Kind.CHANGE, optional=1, quiet=True),
        Column("calls", "calls", Kind.COUNT, optional=1),
        Column("tokens", "tokens", Kind.COUNT, optional=2),
        Column("cost_per_1k_tokens", "per 1k", Kind.RATE, optional=3),
        Column("errors", "errors", Kind.COUNT, optional=4, quiet=True),
        Column("refused", "refused", Kind.COUNT, optional=5, quiet=True),
    ]
    return Report(f"The last {span.unit}s", columns, rows)


def _cells(now: Figures, before: Figures, share: int | None, compared: bool) -> dict[str, Cell]:
    return {
        "cost": now.cost,
        "unknown": now.unknown,
        "share": None if share is None or now.cost is None else share_of(share),
        "before": before.cost if compared else None,
        "difference": difference(now, before) if compared else None,
        "change": growth(now, before) if compared else None,
        "calls": now.calls,
    }
