"""Quotas as reports: what is used, held and left of each, how long that lasts, and which thresholds are passed.

Days left are a straight line: what is left, divided by what a day of the last seven took; of what began later, by
what a day since then took, and never by less than a whole day.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal

from callmeter.policy.decision import Stand
from callmeter.policy.quotas import Quota
from callmeter.reports.advice import Budget
from callmeter.reports.grouping import NONE
from callmeter.reports.quota_choice import chosen, passes
from callmeter.reports.report import Cell, Column, Kind, Report, Row
from callmeter.reports.usage import Figures, Usage
from callmeter.words.instant import parse_instant
from callmeter.words.period import Period

_RECENT = 7
_DAY = 86_400
_TICK = timedelta(microseconds=1)
_MOST = 10
_TENTH = Decimal("0.1")
# Of what never resets: a week says nothing about times beyond a year.
_FARTHEST = 366
_LONG = ("week", "month", "year", "life")
_UNITS = {
    "usd": ("quotas", "Quotas"),
    "tokens": ("quotas_tokens", "Quotas, in tokens"),
    "calls": ("quotas_calls", "Quotas, in calls"),
}


class Burn:
    """What quotas' buckets took in the last seven days."""

    def __init__(self, quotas: Iterable[Quota], usage: Usage, now: datetime) -> None:
        self._now = now
        self._quotas = list(quotas)
        self._taken: dict[str, Figures] = {}
        self._older: set[str] = set()
        if self._quotas:
            since = now - timedelta(days=_RECENT)
            for bucket, figures in self._buckets(usage, Period(since, now + _TICK, "")):
                self._taken.setdefault(bucket, Figures()).merge(figures)
            self._older.update(bucket for bucket, _ in self._buckets(usage, Period(None, since, "")))

    def a_day(self, bucket: str, unit: str) -> Decimal:
        """What a bucket takes in a day."""
        figures = self._taken.get(bucket)
        taken = 0 if figures is None else figures.amount(unit)
        if figures is None or taken <= 0:
            return Decimal(0)
        if bucket in self._older or figures.first is None:
            return Decimal(taken) / _RECENT
        age = Decimal((self._now - parse_instant(figures.first)) // timedelta(seconds=1)) / _DAY
        return taken / min(max(age, Decimal(1)), Decimal(_RECENT))

    def over(self, stand: Stand) -> bool:
        """Whether it is about a session, or the like, that made no call in those days and makes none now."""
        return passes(stand.quota) and not stand.held and stand.bucket.key not in self._taken

    def _buckets(self, usage: Usage, period: Period) -> Iterator[tuple[str, Figures]]:
        """What each bucket took in a period, by the facts that decide in which bucket a call falls."""
        names = {quota.subject.kind for quota in self._quotas} - {"total"}
        if any(quota.pools for quota in self._quotas):
            names.add("pool")
        by = sorted(names)
        for values, figures in usage.groups(by, period=period):
            facts = {name: value for name, value in zip(by, values, strict=True) if value != NONE}
            for bucket in {quota.bucket(facts) for quota in self._quotas}:
                if bucket is not None:
                    yield bucket, figures


def quota_reports(stands: Sequence[Stand], burn: Burn, now: datetime, zone: tzinfo) -> dict[str, Report]:
    """A report for each unit that has quotas, by its section's name: the fullest first, ten at most, of each session's
    or the like five, without those that are over."""
    found = {}
    for unit, (name, title) in _UNITS.items():
        every = sorted(
            (stand for stand in stands if stand.quota.unit == unit), key=lambda each: (-_share(each), each.bucket.key)
        )
        if every:
            found[name] = _bars(title, unit, every, burn, now, zone)
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
        Column("passed", "passed", Kind.TEXT),
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
    limit = stand.limit()
    if limit <= 0:
        return Decimal(1)
    return (Decimal(stand.taken) / limit).quantize(Decimal("0.001"))


def _bars(title: str, unit: str, stands: Sequence[Stand], burn: Burn, now: datetime, zone: tzinfo) -> Report:
    lives = [stand for stand in stands if not burn.over(stand)]
    told, rest = chosen(lives, _MOST, lambda stand: stand.quota)
    rows = [Row(_cells(stand, burn, now, zone)) for stand in told]
    lasting = any(row.cells["lasts_days"] is not None for row in rows)
    notes = []
    if lasting:
        notes.append(
            "How long it lasts is a straight line from the last 7 days; empty where it resets before. `callmeter "
            "budget forecast` knows weekdays and gives chances."
        )
    if rest:
        notes.append(f"{len(rest):,} more, each at {_share(rest[0]):.0%} or below.")
    if len(lives) < len(stands):
        subjects = sorted({str(stand.quota.subject) for stand in stands if burn.over(stand)})
        gone = len(stands) - len(lives)
        notes.append(f"{gone:,} of {', '.join(subjects)} without a call in the last {_RECENT} days are left out.")
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
    rate = burn.a_day(stand.bucket.key, quota.unit)
    lasts = max(left, 0) / rate if rate else None
    if lasts is not None and lasts >= (_FARTHEST if resets is None else resets):
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
