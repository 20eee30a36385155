"""Where quotas stand, as reports: all of them with their bars, or some of them line by line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from callmeter.policy.decision import Stand
from callmeter.policy.grants import Grant
from callmeter.reports.quota_choice import NO_QUOTA
from callmeter.reports.report import Board, Cell, Column, Kind, Report, Row
from callmeter.words.instant import text_of
from callmeter.words.wording import duration

_TITLES = {"usd": "Dollars", "tokens": "Tokens", "calls": "Calls"}


@dataclass(frozen=True)
class Holder:
    """A call that holds something: how much, in each unit, since when (seconds since 1970), and who it is."""

    amounts: Mapping[str, int]
    since: int
    who: str
    what: str


@dataclass(frozen=True)
class Wanted:
    """What a call may take at most, in each unit (None: nobody knows), and the call in words."""

    amounts: Mapping[str, int | None]
    what: str


def standings_board(stands: Sequence[Stand], hidden: int, notes: Sequence[str] = ()) -> Board:
    """A section for each unit, a row for each quota: the fullest first. `hidden` rows were left out."""
    sections = {}
    for unit, title in _TITLES.items():
        rows = [_row(stand) for stand in stands if stand.quota.unit == unit]
        if rows:
            rows.sort(key=lambda row: (-_share(row), str(row.cells["subject"]), str(row.cells["period"])))
            sections[unit] = Report(title, _columns(unit), rows)
    if not sections:
        sections["usd"] = Report(_TITLES["usd"], _columns("usd"), [])
        notes = [*notes, NO_QUOTA]
    if hidden:
        notes = [*notes, f"{hidden:,} not shown: `--top {hidden + len(stands)}` shows all."]
    return Board("Quotas", sections, notes=notes)


def explanation(
    stands: Sequence[Stand],
    holders: Mapping[Stand, Sequence[Holder]],
    grants: Mapping[Stand, Sequence[Grant]],
    wanted: Wanted | None,
    now: datetime,
    notes: Sequence[str] = (),
) -> Board:
    """A section for each quota: its limit, what is taken of it and by whom, what a call would take, what is left."""
    sections = {}
    for stand in stands:
        quota = stand.quota
        lines = _lines(stand, holders.get(stand, ()), grants.get(stand, ()), wanted, now)
        kind = Kind.EXACT if quota.unit == "usd" else Kind.COUNT
        columns = [
            Column("item", "", Kind.TEXT),
            Column("amount", quota.unit if quota.unit != "usd" else "USD", kind),
            Column("note", "", Kind.TEXT),
        ]
        rows = [Row({"item": item, "amount": amount, "note": note}) for item, amount, note in lines]
        name = f"{_subject(stand)} per {quota.period}" + ("" if quota.unit == "usd" else f" ({quota.unit})")
        sections[name] = Report(f"{name}, {quota.enforcement}", columns, rows)
    return Board("Quotas, line by line", sections, notes=notes)


def _columns(unit: str) -> list[Column]:
    kind = Kind.MONEY if unit == "usd" else Kind.COUNT
    return [
        Column("subject", "subject", Kind.TEXT),
        Column("period", "per", Kind.TEXT),
        Column("enforcement", "enforced", Kind.TEXT, optional=3),
        Column("limit", "limit", kind),
        Column("granted", "granted", kind, quiet=True),
        Column("used", "used", kind),
        Column("held", "held", kind, optional=4),
        Column("left", "left", kind),
        Column("level", "full", Kind.FILL, optional=1),
        Column("resets", "resets", Kind.INSTANT, optional=2, quiet=True),
    ]


def _row(stand: Stand) -> Row:
    limit = stand.limit()
    cells: dict[str, Cell] = {
        "subject": _subject(stand),
        "period": stand.quota.period,
        "enforcement": stand.quota.enforcement,
        "limit": stand.quota.limit,
        "granted": stand.granted,
        "used": stand.settled,
        "held": stand.held,
        "left": limit - stand.taken,
        "level": (Decimal(stand.taken) / (limit or max(stand.taken, 1))).quantize(Decimal("0.001")),
        "resets": _instant(stand.bucket.end),
    }
    return Row(cells)


def _share(row: Row) -> Decimal:
    level = row.cells["level"]
    return level if isinstance(level, Decimal) else Decimal(0)


def _subject(stand: Stand) -> str:
    key = stand.bucket.key
    return f"{key.removeprefix('own/')} (own part)" if key.startswith("own/") else key


def _lines(
    stand: Stand, holders: Sequence[Holder], grants: Sequence[Grant], wanted: Wanted | None, now: datetime
) -> list[tuple[str, int | None, str]]:
    quota, unit = stand.quota, stand.quota.unit
    lines: list[tuple[str, int | None, str]] = [("limit", quota.limit, quota.source)]
    lines += [("granted", grant.amount, f"{grant.id} by {grant.by}{_ends(grant, quota.period)}") for grant in grants]
    lines.append(("used", -stand.settled, "settled, as the usage log has it"))
    lines += [("held", -holder.amounts[unit], _held(holder, now)) for holder in holders]
    unseen = stand.held - sum(holder.amounts[unit] for holder in holders)
    if unseen or not holders:
        lines.append(("held", -unseen, "" if unseen else "by nobody"))
    left = stand.limit() - stand.taken
    lines.append(("left", left, ""))
    if quota.reserve:
        lines.append(
            ("reserved", int(quota.limit * quota.reserve), "the last of it, for calls of high and critical priority")
        )
    if wanted is not None:
        need = wanted.amounts[unit]
        lines.append(("this call", None if need is None else -need, wanted.what))
        if need is not None and need > left:
            lines.append(("missing", need - max(left, 0), "the output ceiling is lowered first, if that helps"))
    for stage in quota.stages:
        begins = int(stage.share * stand.limit())
        reached = "reached" if stand.taken >= stage.share * stand.limit() else "not reached"
        passed = ", passed by an approval" if stage.action == "approve" and stand.approved else ""
        lines.append((f"stage at {(stage.share * 100).normalize():f}%", begins, f"{stage}: {reached}{passed}"))
    if quota.pools:
        lines.append(("then", None, "a call that does not fit is paid by " + ", else ".join(map(_pool, quota.pools))))
    if stand.bucket.end:
        lines.append(("resets", None, _moment(stand.bucket.end)))
    return lines


def _pool(name: str) -> str:
    return f"pool:{name}"


def _held(holder: Holder, now: datetime) -> str:
    age = max(0, int(now.timestamp()) - holder.since)
    return f"{holder.who}, for {duration(age)}: {holder.what}"


def _ends(grant: Grant, period: str) -> str:
    end, last = grant.ends[period], grant.calls.get(period)
    return (f" until {_moment(end)}" if end else "") + (f", up to call {last}" if last is not None else "")


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _instant(seconds: int) -> str | None:
    return text_of(datetime.fromtimestamp(seconds, UTC)) if seconds else None
