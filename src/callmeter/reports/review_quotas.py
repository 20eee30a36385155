"""How far quotas were used in a span, from the log alone: what a ledger says, it says of this moment.

Of a quota that resets within the span, the window in which it was fullest; of others, where they stood when the span
ended, and how long the rest lasts at the pace of the last seven days. The limits are those of today's policy, with
what was approved on top.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from callmeter.policy.grants import Allowances
from callmeter.policy.quotas import SHORT_PERIODS, Quota, window_of
from callmeter.reports.burn import FARTHEST, RECENT
from callmeter.reports.grouping import NONE
from callmeter.reports.quota_choice import SECTIONS, chosen, passes
from callmeter.reports.report import Column, Kind, Report, Row
from callmeter.reports.review_span import Span
from callmeter.reports.usage import Figures, Usage
from callmeter.words.period import Period, bucket, bucket_label

_MOST = 10
_DAY = 86_400
_TICK = timedelta(microseconds=1)
_TENTH = Decimal("0.1")
_THOUSANDTH = Decimal("0.001")
_SIZES = ("hour", "day", "week", "month", "year", "life")
# What quotas count.
_AMOUNTS = ("nano", "tokens_in", "tokens_out", "sent")


@dataclass(frozen=True)
class Level:
    """A quota's bucket (`agent:code`) with what its window took of its limit, in its unit. `window` is the label of
    the fullest of several, `passed` how many of them went over; `lasts` are days until it is used up, None when it
    resets before, or when nothing was used."""

    quota: Quota
    bucket: str
    used: int
    limit: int
    window: str = ""
    passed: int = 0
    lasts: Decimal | None = None
    resets: datetime | None = None

    @property
    def share(self) -> Decimal:
        """1 is full."""
        return (Decimal(self.used) / self.limit).quantize(_THOUSANDTH) if self.limit > 0 else Decimal(self.used > 0)


def levels(usage: Usage, quotas: Sequence[Quota], allowances: Allowances | None, span: Span) -> list[Level]:
    """Every quota's buckets, the fullest first. Quotas per second and minute are left out, and of those for the life
    of each session, or the like, what had no call in the span."""
    reader = _Reader(usage, span, any(quota.pools or quota.subject.kind == "pool" for quota in quotas))
    found: list[Level] = []
    for quota in quotas:
        if quota.period not in SHORT_PERIODS:
            found += (
                _within(quota, reader, allowances, span) if _resets(quota, span) else _over(quota, reader, allowances)
            )
    return sorted(found, key=lambda level: (-level.share, level.bucket, level.quota.period))


def quota_tables(found: Sequence[Level], span: Span) -> dict[str, Report]:
    """A section for each unit that has quotas, ten rows at most, of each session's or the like five."""
    sections = {}
    for unit, (name, title) in SECTIONS.items():
        every = [level for level in found if level.quota.unit == unit]
        if every:
            sections[name] = _table(title, unit, every, span)
    return sections


def subject_of(level: Level) -> str:
    """A bucket's name for people."""
    return level.bucket.removeprefix("own/")


class _Reader:
    """What buckets took in a period, one query for all quotas about the same kind of thing."""

    def __init__(self, usage: Usage, span: Span, pools: bool) -> None:
        self.span = span
        self._usage = usage
        self._pools = pools
        self.days = _pace(usage, span.end)
        self._known: dict[tuple[object, ...], list[tuple[tuple[str, ...], Figures]]] = {}

    def amounts(self, quota: Quota, period: Period) -> dict[str, int]:
        """What each bucket took, in the quota's unit."""
        sums: dict[str, int] = {}
        if passes(quota) and quota.unit == "usd" and not self._pools:
            # There may be a million sessions.
            for each in self._usage.spent((quota.subject.kind,), period=period, times=False):
                name = quota.bucket({quota.subject.kind: each.names[0]}) if each.names[0] != NONE else None
                if name is not None:
                    sums[name] = each.nano
            return sums
        for name, _, figures in self.taken(quota, period):
            sums[name] = sums.get(name, 0) + figures.amount(quota.unit)
        return sums

    def taken(self, quota: Quota, period: Period, unit: str = "") -> Iterator[tuple[str, str, Figures]]:
        """Bucket, label of the `unit` of time (or nothing), and figures."""
        kind = quota.subject.kind
        names = [] if kind == "total" else [kind]
        if self._pools and kind != "pool":
            names.append("pool")
        by = (*([unit] if unit else []), *names)
        place = (by, period.start, period.end)
        if place not in self._known:
            self._known[place] = self._usage.groups(by, period=period, only=_AMOUNTS)
        for values, figures in self._known[place]:
            label, values = (values[0], values[1:]) if unit else ("", values)
            facts = {name: value for name, value in zip(names, values, strict=True) if value != NONE}
            bucket_name = quota.bucket(facts)
            if bucket_name is not None:
                yield bucket_name, label, figures


def _resets(quota: Quota, span: Span) -> bool:
    """Whether it resets within the span, so that a span has several of its windows, or just one."""
    return _SIZES.index(quota.period) <= _SIZES.index(span.unit)


def _within(quota: Quota, reader: _Reader, allowances: Allowances | None, span: Span) -> Iterator[Level]:
    start, _ = bucket(span.start, quota.period, span.zone)
    period = Period(start, span.end, "")
    windows: dict[str, tuple[int, int]] = {}
    while start < span.end:
        begin, start = bucket(start, quota.period, span.zone)
        windows[bucket_label(begin, quota.period, span.zone)] = int(begin.timestamp()), int(start.timestamp())
    sums: dict[str, dict[str, int]] = {}
    for name, label, figures in reader.taken(quota, period, quota.period):
        by_window = sums.setdefault(name, {})
        by_window[label] = by_window.get(label, 0) + figures.amount(quota.unit)
    for name, by_window in sums.items():
        limits = {label: quota.limit + _granted(allowances, quota, name, *windows[label]) for label in by_window}
        fullest = max(by_window, key=lambda label: (Decimal(by_window[label]) / max(limits[label], 1), label))
        passed = sum(by_window[label] > limits[label] for label in by_window)
        shown = fullest if len(windows) > 1 else ""
        yield Level(quota, name, by_window[fullest], limits[fullest], shown, passed)


def _over(quota: Quota, reader: _Reader, allowances: Allowances | None) -> Iterator[Level]:
    span = reader.span
    begin, end = window_of(quota.period, span.end - _TICK, span.zone)
    start = datetime.fromtimestamp(begin, UTC) if begin else None
    sums = reader.amounts(quota, Period(start, span.end, ""))
    if passes(quota):
        lived = reader.amounts(quota, span.period)
        sums = {name: used for name, used in sums.items() if name in lived}
    recent = reader.amounts(quota, Period(span.end - timedelta(days=RECENT), span.end, ""))
    for name, used in sums.items():
        limit = quota.limit + _granted(allowances, quota, name, begin, end or int(span.end.timestamp()))
        rate = recent.get(name, 0) / reader.days
        lasts = (limit - used) / rate if rate > 0 and limit > used else None
        resets = datetime.fromtimestamp(end, UTC) if end else None
        horizon = Decimal(FARTHEST) if resets is None else Decimal((resets - span.end) // _TICK) / 1_000_000 / _DAY
        if lasts is not None and lasts >= horizon:
            lasts = None
        yield Level(quota, name, used, limit, lasts=lasts and lasts.quantize(_TENTH), resets=resets)


def _pace(usage: Usage, end: datetime) -> Decimal:
    """The days that the pace is taken from: seven, or those since the log began, but never less than one."""
    first = usage.reading.first
    age = Decimal((end - first) // timedelta(seconds=1)) / _DAY if first is not None else Decimal(0)
    return min(max(age, Decimal(1)), Decimal(RECENT))


def _granted(allowances: Allowances | None, quota: Quota, bucket_name: str, begin: int, end: int) -> int:
    """What was approved for a bucket at some time within a window."""
    return sum(
        grant.amount
        for grant in (allowances.grants.values() if allowances else ())
        if grant.at < end and grant.holds(bucket_name, quota.period, quota.unit, 0, max(begin, grant.at))
    )


def _table(title: str, unit: str, found: Sequence[Level], span: Span) -> Report:
    told, rest = chosen(found, _MOST, lambda level: level.quota)
    rows = [
        Row(
            {
                "subject": subject_of(level),
                "period": level.quota.period,
                "enforcement": level.quota.enforcement,
                "level": level.share,
                "used": level.used,
                "limit": level.limit,
                "lasts_days": level.lasts,
                "fullest": level.window or None,
                "passed": level.passed,
                "resets": level.resets.astimezone(span.zone).date().isoformat() if level.resets else None,
            }
        )
        for level in told
    ]
    notes = []
    if any(level.lasts is not None for level in told):
        notes.append(
            f"How long the rest lasts is a straight line from the 7 days before the {span.unit}'s end; empty where it "
            "resets before."
        )
    if rest:
        notes.append(f"{len(rest):,} more, each at {rest[0].share:.0%} or below.")
    kind = Kind.RATE if unit == "usd" else Kind.COUNT
    columns = [
        Column("subject", "subject", Kind.TEXT),
        Column("period", "per", Kind.TEXT),
        Column("enforcement", "quota", Kind.TEXT, optional=5),
        Column("level", "full", Kind.FILL),
        Column("used", "used", kind, optional=1),
        Column("limit", "of", kind, optional=1),
        Column("lasts_days", "rest lasts", Kind.DAYS, optional=1, quiet=True),
        Column("fullest", "fullest", Kind.TEXT, quiet=True, optional=3),
        Column("passed", "times over", Kind.COUNT, optional=1, quiet=True),
        Column("resets", "resets", Kind.TEXT, quiet=True, optional=2),
    ]
    return Report(f"{title}, as used by the end of {span.name}", columns, rows, notes=notes)
