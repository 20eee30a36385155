"""What goes on right now: sums of the last minute, this hour and today, kept up as lines come in.

This hour and today are those of the reports: a call belongs to the time at which it began. The last minute has what
ended in it, because that is when its money is known.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

from callmeter.reports.grouping import NONE
from callmeter.reports.odd_hours import OddHour, Usual, odd_hour, usual_hour
from callmeter.reports.sums import FAILED
from callmeter.words.instant import parse_instant
from callmeter.words.period import bucket, bucket_label
from callmeter.words.record import UsageRecord

MINUTES = 60
_RECENT = 200
# Clocks of other hosts may be so much ahead; what is later has not happened.
_AHEAD = timedelta(minutes=5)
Hour = tuple[date, int]


@dataclass(slots=True)
class Spend:
    """Nano-dollars, calls, and how many of these failed. Refused ones are no calls."""

    nano: int = 0
    calls: int = 0
    errors: int = 0

    def add(self, other: Spend) -> None:
        """Add another's sums."""
        self.nano += other.nano
        self.calls += other.calls
        self.errors += other.errors


@dataclass(frozen=True)
class Traffic:
    """How things go at one moment. `minutes` are nano-dollars of the last 60 minutes, the current one last; `agents`
    have today's spend and this hour's, the dearest first; `calls` the newest lines first; `culprit` is the agent that
    spent most in the odd hour, and how much. `unknown` has by agent how many calls of today have no known cost."""

    minute: Spend
    hour: Spend
    today: Spend
    refused: int
    unknown: Mapping[str, int]
    minutes: tuple[int, ...]
    usual: Usual | None
    agents: tuple[tuple[str, Spend, int], ...]
    odd: OddHour | None
    culprit: tuple[str, int] | None
    calls: tuple[UsageRecord, ...]


class Live:
    """The calls of today and of the last hour. `hours` has what earlier hours came to, `first` is the first day that
    the log covers. Each line counts once, however often it comes."""

    def __init__(self, zone: tzinfo, hours: Mapping[Hour, int], first: date | None) -> None:
        self._zone = zone
        self._hours = dict(hours)
        self._first = first
        self._groups: dict[tuple[date, int, str], Spend] = {}
        self._seconds: dict[int, Spend] = {}
        self._refused: dict[date, int] = {}
        # Calls whose cost nobody knows, until a correction says it.
        self._unknown: dict[str, tuple[date, str]] = {}
        self._corrected: set[str] = set()
        self._seen: dict[date, set[int]] = {}
        self._calls: deque[UsageRecord] = deque(maxlen=_RECENT)
        # By hour of today: the days before do not change any more.
        self._usual: dict[int, Usual | None] = {}
        self._span: tuple[datetime, datetime, Hour] | None = None
        self._today = date.min

    def add(self, records: Iterable[UsageRecord], now: datetime) -> None:
        """Lines of the log, in the order in which they come."""
        self._turn(now)
        for record in records:
            place = self._hour(record.instant)
            known = hash(record.id)
            if any(known in ids for ids in self._seen.values()):
                continue
            self._seen.setdefault(max(place[0], self._today), set()).add(known)
            self._calls.append(record)
            if place[0] >= self._today:
                self._count(record, place)
            self._time(record, now)

    def traffic(self, now: datetime) -> Traffic:
        """How things go now."""
        self._turn(now)
        today, hour = self._hour(now)
        agents: dict[str, tuple[Spend, Spend]] = {}
        whole, running = Spend(), Spend()
        for (day, at, agent), spend in self._groups.items():
            if day == today:
                both = agents.setdefault(agent, (Spend(), Spend()))
                for sums in (both[0], whole):
                    sums.add(spend)
                if at == hour:
                    for sums in (both[1], running):
                        sums.add(spend)
        ranked = sorted(agents.items(), key=lambda item: (-item[1][0].nano, -item[1][0].calls, item[0]))
        odd = odd_hour(self._hours, today, hour, self._usual_in)
        return Traffic(
            minute=self._between(now, 60),
            hour=running,
            today=whole,
            refused=self._refused.get(today, 0),
            unknown=Counter(agent for day, agent in self._unknown.values() if day == today),
            minutes=self._by_minute(now),
            usual=self._usual_in(hour),
            agents=tuple((agent, spent, inside.nano) for agent, (spent, inside) in ranked),
            odd=odd,
            culprit=None if odd is None else self._culprit(today, odd.hour),
            calls=tuple(reversed(self._calls)),
        )

    def _turn(self, now: datetime) -> None:
        """At midnight, forget what the day before needed."""
        today = self._hour(now)[0]
        if today == self._today:
            return
        self._today = today
        self._usual.clear()
        self._groups = {place: spend for place, spend in self._groups.items() if place[0] >= today}
        self._unknown = {id: place for id, place in self._unknown.items() if place[0] >= today}
        self._refused = {day: count for day, count in self._refused.items() if day >= today}
        self._seen = {day: ids for day, ids in self._seen.items() if day >= today - timedelta(days=1)}
        if self._first is None:
            self._first = today

    def _count(self, record: UsageRecord, place: Hour) -> None:
        cost = record.cost_nano
        agent = record.tags.get("agent") or NONE
        spend = self._groups.setdefault((*place, agent), Spend())
        spend.nano += cost or 0
        self._hours[place] = self._hours.get(place, 0) + (cost or 0)
        if record.corrects is not None:
            self._corrected.add(record.corrects)
            self._unknown.pop(record.corrects, None)
        elif record.status == "refused":
            self._refused[place[0]] = self._refused.get(place[0], 0) + 1
        else:
            spend.calls += 1
            spend.errors += record.status in FAILED
            if cost is None and record.id not in self._corrected:
                self._unknown[record.id] = place[0], agent

    def _time(self, record: UsageRecord, now: datetime) -> None:
        """Count a line in the second in which its call ended."""
        ended = record.instant + timedelta(milliseconds=max(record.duration_ms or 0, 0))
        if record.recorded_at is not None:
            try:
                ended = max(ended, parse_instant(record.recorded_at))
            except ValueError:
                pass
        if ended > now + _AHEAD:
            return
        second = int(min(ended, now).timestamp())
        if second <= int(now.timestamp()) - MINUTES * 60:
            return
        spend = self._seconds.setdefault(second, Spend())
        spend.nano += record.cost_nano or 0
        if record.corrects is None and record.status != "refused":
            spend.calls += 1
            spend.errors += record.status in FAILED
        if len(self._seconds) > 2 * MINUTES * 60:
            oldest = int(now.timestamp()) - MINUTES * 60
            self._seconds = {at: each for at, each in self._seconds.items() if at > oldest}

    def _between(self, now: datetime, seconds: int) -> Spend:
        whole = Spend()
        last = int(now.timestamp())
        for second in range(last - seconds + 1, last + 1):
            spend = self._seconds.get(second)
            if spend is not None:
                whole.add(spend)
        return whole

    def _by_minute(self, now: datetime) -> tuple[int, ...]:
        minutes = [0] * MINUTES
        last = int(now.timestamp()) // 60
        for second, spend in self._seconds.items():
            back = last - second // 60
            if 0 <= back < MINUTES:
                minutes[MINUTES - 1 - back] += spend.nano
        return tuple(minutes)

    def _usual_in(self, hour: int) -> Usual | None:
        if hour not in self._usual:
            self._usual[hour] = usual_hour(self._hours, self._first, self._today, hour)
        return self._usual[hour]

    def _culprit(self, day: date, hour: int) -> tuple[str, int] | None:
        found = [(spend.nano, agent) for (on, at, agent), spend in self._groups.items() if (on, at) == (day, hour)]
        nano, agent = max(found, default=(0, ""))
        return (agent, nano) if nano > 0 else None

    def _hour(self, instant: datetime) -> Hour:
        if self._span is None or not self._span[0] <= instant < self._span[1]:
            start, end = bucket(instant.astimezone(UTC), "hour", self._zone)
            self._span = (start, end, hour_of(bucket_label(start, "hour", self._zone)))
        return self._span[2]


def hour_of(label: str) -> Hour:
    """The day and the hour of an hour's name, `2026-11-21 09:00`. An hour that comes twice is one."""
    return date.fromisoformat(label[:10]), int(label[11:13])
