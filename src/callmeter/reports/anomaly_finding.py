"""What an anomaly is, whatever found it: where, when, what was to be expected, what came, and what to do about it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal

from callmeter.policy.controls import LoopBreaker
from callmeter.policy.quotas import Quota
from callmeter.reports.grouping import FIELDS, NONE
from callmeter.words.digest import hex_digest
from callmeter.words.money import NANO
from callmeter.words.period import EVER, Period, bucket, bucket_label, moment
from callmeter.words.subject import FACTS, Subject, matches

SPIKE, SHIFT, NEW_MODEL, PRICE, STORM, RUNAWAY, ZOMBIE = (
    "spike",
    "shift",
    "new model",
    "price change",
    "error storm",
    "runaway",
    "zombie",
)
BY = ("agent", "purpose", "model", "key")
# Per cent of an event's excess: what took so much of it is the event.
NEARLY_ALL = 80
# A provider's price of a model at an instant: amounts in USD per token by name, None when nobody knows.
Rates = Callable[[str, str, datetime], Mapping[str, Decimal] | None]
# What kinds of tokens cost against each other where no price list says it; common among the large providers.
USUAL_RATES = {"in": Decimal(1), "cached": Decimal("0.1"), "cache_write": Decimal("1.25"), "out": Decimal(5)}
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Finding:
    """One anomaly. Amounts are nano-dollars; `low` and `high` are what was to be expected, None where nothing was.

    `first` and `last` are a day (`2026-11-21`), an hour (`2026-11-21 14:00`) or a minute in the report's zone, the last
    one included. `id` stays the same from one report to the next, however the event goes on. `excess` is below 0 where
    something became cheaper. `command` acts, or shows more where acting needs a person's judgement.
    """

    id: str
    kind: str
    subject: str
    first: str
    last: str
    low: int | None
    high: int | None
    actual: int
    excess: int
    evidence: str
    command: str
    # Subjects in which the same event shows.
    also: tuple[str, ...] = ()
    # The agent and session that it is about, or in which nearly all of the excess lies.
    session: tuple[str, str] | None = None


@dataclass(frozen=True)
class Floors:
    """Below which excess nothing is told, in nano-dollars: `fixed` for all, else 1 % of the subject's quota for a
    month, of the total's, or 1 USD."""

    fixed: int | None = None
    quotas: Sequence[Quota] = ()

    def of(self, kind: str, value: str) -> int:
        """The floor of one subject."""
        if self.fixed is not None:
            return self.fixed
        monthly = [quota for quota in self.quotas if quota.period == "month" and quota.unit == "usd"]
        own = [quota for quota in monthly if quota.subject.kind == kind and matches(quota.subject.value, value)]
        # A quota by name goes before one by a pattern.
        own.sort(key=lambda quota: "*" in quota.subject.value)
        total = [quota for quota in monthly if quota.subject.kind == "total"]
        return next((quota.limit // 100 for quota in own + total), NANO)

    def lowest(self, kind: str) -> int:
        """The lowest floor that any subject of a kind has."""
        if self.fixed is not None:
            return self.fixed
        monthly = [quota for quota in self.quotas if quota.period == "month" and quota.unit == "usd"]
        floors = [quota.limit // 100 for quota in monthly if quota.subject.kind in (kind, "total")]
        return min(floors if any(quota.subject.kind == "total" for quota in monthly) else [*floors, NANO])


@dataclass(frozen=True)
class Scope:
    """What is looked for: events that touch the period, as things stood at `now`. `by` are groupings, aliases
    resolved; `where` restricts the calls."""

    now: datetime
    zone: tzinfo = UTC
    period: Period = EVER
    by: Sequence[str] = BY
    where: Sequence[str] = ()
    floors: Floors = field(default_factory=Floors)
    rules: LoopBreaker = field(default_factory=LoopBreaker)
    rates: Rates = lambda provider, model, at: None

    @property
    def end(self) -> datetime:
        """Where reading ends."""
        return min(self.period.end or self.now, self.now + _TICK)

    @property
    def history(self) -> Period:
        """The log's whole past: what is usual stands before the period."""
        return Period(None, self.end, "")

    def back(self, days: int) -> Period:
        """The period, and so many days before it."""
        start = self.period.start
        if start is None or start.toordinal() <= days + 1:
            return self.history
        return Period(start - timedelta(days), self.end, "")

    @property
    def until(self) -> date:
        """The first day that is not over: it is judged only by what it has come to already."""
        return self.day(self.end)

    def day(self, instant: datetime) -> date:
        """The day of an instant."""
        return date.fromisoformat(bucket_label(bucket(instant, "day", self.zone)[0], "day", self.zone))

    def minute(self, instant: datetime) -> str:
        """`2026-11-21 09:30`."""
        return instant.astimezone(self.zone).replace(tzinfo=None).isoformat(" ", "minutes")

    def narrowed(self, where: Sequence[str]) -> list[str]:
        """The scope's conditions and further ones. Of two on one name either would do, so the further one stands for
        both: it is about a value that the first let through."""
        names = {_name(each) for each in where}
        return [*(each for each in self.where if _name(each) not in names), *where]

    def touches(self, first: str, last: str) -> bool:
        """Whether something from `first` to `last` (days, hours or minutes) lies in the period, if only in part."""
        start = "" if self.period.start is None else self.day(self.period.start).isoformat()
        return last[:10] >= start and first[:10] <= self.day(self.end - _TICK).isoformat()

    def lasts(self, last: str) -> bool:
        """Whether something that was seen last then may still go on."""
        return last[:10] >= (self.day(self.now) - timedelta(1)).isoformat()

    def id(self, *parts: str) -> str:
        """What a finding is known by."""
        return hex_digest("\n".join([*parts, *sorted(self.where)]).encode("utf-8", "surrogatepass"))[:12]


def days_period(first: date, last: date, zone: tzinfo) -> Period:
    """Whole days, the last one included."""
    start, end = (moment(day.isoformat(), zone, "") for day in (first, last + timedelta(1)))
    return Period(start, end, "")


def earlier(day: date, days: int) -> date:
    """So many days before, or the calendar's first one."""
    return date.fromordinal(max(1, day.toordinal() - days))


def _name(condition: str) -> str:
    return condition.partition("=")[0].strip()


def subject_of(kind: str, value: str) -> str:
    """`agent:code`; `total` for everything."""
    return f"{kind}:{value}" if kind != "total" else "total"


def freeze(kind: str, value: str, reason: str) -> str:
    """The command that stops a subject; "" for one that cannot be frozen by name."""
    if value == NONE or "*" in value or not value.isprintable() or (kind in FIELDS and kind not in FACTS):
        return ""
    subject = str(Subject(kind, "" if kind == "total" else value))
    return f"callmeter budget freeze {shlex.quote(subject)} --reason {shlex.quote(reason)}"


def breakdown(scope: Scope, by: Sequence[str], where: Sequence[str], first: str, last: str) -> str:
    """The command that shows what some calls of these days were. What cannot be printed, and so not be copied, is `*`
    in it, which lets it through."""
    words = ["callmeter", "budget", "breakdown"]
    for name in by:
        words += ["--by", name]
    for condition in scope.narrowed(where):
        copied = "".join(each if each.isprintable() else "*" for each in condition)
        words += ["--where", shlex.quote(copied)]
    end = date.fromisoformat(last[:10]) + timedelta(1)
    return " ".join([*words, "--since", first[:10], "--until", end.isoformat()])


def condition(kind: str, value: str) -> list[str]:
    """`--where`'s text for a subject."""
    return [] if kind == "total" else [f"{kind}={value}"]


def times(actual: float, usual: float) -> str:
    """`9.1` for nine times as much, `120` for very much more."""
    ratio = actual / usual if usual else 0.0
    return f"{ratio:,.1f}" if ratio < 20 else f"{ratio:,.0f}"
