"""Quotas as reports: what is used, held and left of each, how long that lasts, and which thresholds are passed.

Days left are a straight line: what is left, divided by what a day took (`burn`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from decimal import Decimal

from callmeter.policy.decision import Stand
from callmeter.policy.quotas import Quota
from callmeter.reports.advice import Budget
from callmeter.reports.burn import FARTHEST, RECENT, Burn
from callmeter.reports.quota_choice import SECTIONS, LeftOut, chosen, share_of
from callmeter.reports.report import Cell, Column, Kind, Report, Row

_DAY = 86_400
_MOST = 10
_TENTH = Decimal("0.1")
_LONG = ("week", "month", "year", "life")


def quota_reports(
    stands: Sequence[Stand], burn: Burn, now: datetime, zone: tzinfo, left_out: Mapping[Quota, LeftOut] | None = None
) -> dict[str, Report]:
    """A report for each unit that has quotas, by its section's name: the fullest first, ten at most, of each session's
    or the like five, without those that are over. `left_out` are those that are not among `stands`."""
    found = {}
    for unit, (name, title) in SECTIONS.items():
        every = sorted(
            (stand for stand in stands if stand.quota.unit == unit), key=lambda each: (-_share(each), each.bucket.key)
        )
        if every:
            others = {quota: each for quota, each in (left_out or {}).items() if quota.unit == unit}
            found[name] = _bars(title, unit, every, burn, now, zone, others)
    return found


def thresholds(stands: Sequence[Stand]) -> Report | None:
    """The highest threshold that each quota has passed, and the highest stage; None when there is none."""
    rows = []
    for stand in sorted(stands, key=lambda each: (-_share(each), each.bucket.key)):
        quota = stand.quota
        if quota.enforcement == "showback" or not stand.taken:
            continue
        limit = stand.limit()
        passed = [(share, "warning") for share in quota.warn_at if stand.taken >= share * limit][-1:]
        if quota.enforcement == "hard":
            passed += [(stage.share, str(stage)) for stage in quota.stages if stand.taken >= stage.share * limit][-1:]
            if stand.taken >= limit:
                passed.append((Decimal(1), "stop"))
        rows += [
            Row({"subject": subject_of(stand), "period": quota.period, "passed": share, "means": then})
            for share, then in dict.fromkeys(passed)
        ]
    columns = [
        Column("subject", "subject", Kind.TEXT),
        Column("period", "per", Kind.TEXT),
        Column("passed", "passed", Kind.PART),
        Column("means", "which means", Kind.TEXT),
    ]
    return Report("Thresholds passed", columns, rows[: 2 * _MOST]) if rows else None


def budgets(stands: Sequence[Stand], now: datetime) -> list[Budget]:
    """The quotas of money for a week or longer that end, as the advice wants them."""
    at = int(now.timestamp())
    return [
        Budget(
            f"{subject_of(stand)} per {stand.quota.period}",
            _share(stand),
            Decimal(at - stand.bucket.start) / (stand.bucket.end - stand.bucket.start),
        )
        for stand in stands
        if stand.quota.unit == "usd" and stand.quota.period in _LONG and stand.bucket.end
    ]


def subject_of(stand: Stand) -> str:
    """A bucket's name for people."""
    return stand.bucket.key.removeprefix("own/")


def _share(stand: Stand) -> Decimal:
    return share_of(stand.taken, stand.limit())


def _bars(
    title: str,
    unit: str,
    stands: Sequence[Stand],
    burn: Burn,
    now: datetime,
    zone: tzinfo,
    left_out: Mapping[Quota, LeftOut],
) -> Report:
    lives = [stand for stand in stands if not burn.over(stand)]
    told, rest = chosen(lives, _MOST, lambda stand: stand.quota)
    burn.learn(told)
    rows = [Row(_cells(stand, burn, now, zone)) for stand in told]
    lasting = any(row.cells["lasts_days"] is not None for row in rows)
    notes = []
    if lasting:
        notes.append(
            "How long it lasts is a straight line from the last 7 days; empty where it resets before. `callmeter "
            "budget forecast` knows weekdays and gives chances."
        )
    if rest:
        more = len(rest) + sum(each.more for each in left_out.values())
        notes.append(f"{more:,} more, each at {_share(rest[0]):.0%} or below.")
    if len(lives) < len(stands):
        subjects = sorted({str(stand.quota.subject) for stand in stands if burn.over(stand)})
        gone = len(stands) - len(lives) + sum(each.over for each in left_out.values())
        notes.append(f"{gone:,} of {', '.join(subjects)} without a call in the last {RECENT} days are left out.")
    kind = Kind.RATE if unit == "usd" else Kind.COUNT
    columns = [
        Column("subject", "subject", Kind.TEXT),
        Column("period", "per", Kind.TEXT),
        Column("enforcement", "quota", Kind.TEXT, optional=8),
        Column("level", "full", Kind.FILL),
        Column("used", "used", kind, optional=4),
        Column("held", "held", kind, optional=5, quiet=True),
        Column("left", "left", kind),
        Column("limit", "limit", kind, optional=7),
        Column("lasts_days", "lasts", Kind.DAYS, quiet=not lasting),
        Column("resets_in_days", "resets in", Kind.DAYS, quiet=True),
        Column("resets", "at", Kind.INSTANT, optional=9, quiet=True),
    ]
    return Report(title, columns, rows, notes=notes)


def _cells(stand: Stand, burn: Burn, now: datetime, zone: tzinfo) -> dict[str, Cell]:
    quota, left, end = stand.quota, stand.limit() - stand.taken, stand.bucket.end
    resets = (Decimal(end) - Decimal(str(now.timestamp()))) / _DAY if end else None
    rate = burn.a_day(stand)
    lasts = max(left, 0) / rate if rate else None
    if lasts is not None and lasts >= (FARTHEST if resets is None else resets):
        lasts = None
    return {
        "subject": subject_of(stand),
        "period": quota.period,
        "enforcement": quota.enforcement,
        "level": _share(stand),
        "used": stand.settled,
        "held": stand.held,
        "left": left,
        "limit": stand.limit(),
        "lasts_days": None if lasts is None else lasts.quantize(_TENTH),
        "resets_in_days": None if resets is None else max(resets, Decimal(0)).quantize(_TENTH),
        "resets": datetime.fromtimestamp(end, zone).isoformat().replace("+00:00", "Z") if end else None,
    }
