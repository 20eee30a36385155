"""The stretch of time that a review is about: the last complete day, week or month, and the one before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from callmeter.words.period import Period, bucket, bucket_label

_TICK = timedelta(microseconds=1)
# How many of its kind a review looks back over, and by what it divides itself.
_LOOKED_BACK = {"day": 14, "week": 8, "month": 6}
_PARTS = {"day": "hour", "week": "day", "month": "day"}


@dataclass(frozen=True)
class Span:
    """`start` and `end` (half-open, UTC) of a day, a week from Monday or a month in a zone."""

    unit: str
    start: datetime
    end: datetime
    zone: tzinfo

    @property
    def period(self) -> Period:
        """As a period, its label the ISO name."""
        return Period(self.start, self.end, self.iso)

    @property
    def before(self) -> Span:
        """The one before."""
        return Span(self.unit, *bucket(self.start - _TICK, self.unit, self.zone), self.zone)

    @property
    def first(self) -> date:
        """Its first day."""
        return self.start.astimezone(self.zone).date()

    @property
    def last(self) -> date:
        """Its last day."""
        return (self.end - _TICK).astimezone(self.zone).date()

    @property
    def label(self) -> str:
        """Its name among the groups of a log (`week`: its Monday)."""
        return bucket_label(self.start, self.unit, self.zone)

    @property
    def iso(self) -> str:
        """`2026-W46`, `2026-10`, `2026-11-14`: ISO 8601."""
        if self.unit == "week":
            year, week, _ = self.first.isocalendar()
            return f"{year}-W{week:02}"
        return self.label

    @property
    def name(self) -> str:
        """`week 46`, `October 2026`, `Saturday 14 November`."""
        if self.unit == "week":
            return f"week {self.first.isocalendar().week}"
        return f"{self.first:%B %Y}" if self.unit == "month" else f"{self.first:%A} {self.first.day} {self.first:%B}"

    @property
    def title(self) -> str:
        """`week 46 of 2026, 9 to 15 November`."""
        first, last = self.first, self.last
        if self.unit == "month":
            return self.name
        if self.unit == "day":
            return f"{self.name} {first.year}"
        begins = str(first.day) + (f" {first:%B}" if first.month != last.month else "")
        begins += f" {first.year}" if first.year != last.year else ""
        ends = f"{last.day} {last:%B}" + (f" {last.year}" if first.year != last.year else "")
        return f"{self.name} of {first.isocalendar().year}, {begins} to {ends}"

    @property
    def parts_unit(self) -> str:
        """The unit by which it is divided."""
        return _PARTS[self.unit]

    def parts(self) -> Iterator[tuple[datetime, datetime]]:
        """Its hours, or its days."""
        start = self.start
        while start < self.end:
            start, end = bucket(start, self.parts_unit, self.zone)
            yield start, end
            start = end

    def looked_back(self) -> list[Span]:
        """The spans up to this one, the oldest first."""
        spans = [self]
        while len(spans) < _LOOKED_BACK[self.unit]:
            spans.append(spans[-1].before)
        return spans[::-1]


def last_span(now: datetime, unit: str, zone: tzinfo) -> Span:
    """The last day, week or month that was over at `now`. The last moment of a day, which `--as-of` with a date
    means, is the end of that day."""
    start, _ = bucket(now + _TICK, unit, zone)
    return Span(unit, *bucket(start - _TICK, unit, zone), zone)
