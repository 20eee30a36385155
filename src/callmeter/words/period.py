"""Periods and buckets of time: half-open, in a time zone, weeks from Monday; hours, days, weeks, months.

A day begins where the local calendar says midnight, the first of two when the clock goes back over it. Starts are
the whole truth: an instant belongs to the last bucket that began at or before it. So buckets of one kind are
adjacent and without gaps in every zone; a day has 21 to 26 hours. Hours are counted from the day's start.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from callmeter.words.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import tzinfo

UNITS = ("hour", "day", "week", "month")
_TICK = timedelta(microseconds=1)
_HOUR = timedelta(hours=1)
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_LATEST = datetime.max.replace(tzinfo=UTC)
# Nobody asked a model anything before, and a forecast of a year from the last year of the calendar has no dates.
_OLDEST, _NEWEST = 1970, 9990
_SPANS = {"h": "hour", "d": "day", "w": "week", "m": "month"}


class Period:
    """`start` (None: the beginning) up to, not including, `end` (None: for ever); both UTC. `label` is for people."""

    __slots__ = ("end", "label", "start")

    def __init__(self, start: datetime | None, end: datetime | None, label: str) -> None:
        self.start = start
        self.end = end
        self.label = label

    def __contains__(self, instant: datetime) -> bool:
        return (self.start is None or self.start <= instant) and (self.end is None or instant < self.end)

    def __repr__(self) -> str:
        return f"Period({self.label!r}, {self.start}, {self.end})"


EVER = Period(None, None, "all time")


def zone_named(name: str) -> tzinfo:
    """The zone with an IANA name. UTC needs no import. Raises UsageError."""
    if name == "UTC":
        return UTC
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        raise UsageError(
            f"there is no time zone {name!r}", "write a name such as `Europe/Berlin`", code="bad_time"
        ) from None


def chosen_period(
    now: datetime,
    zone: tzinfo,
    *,
    since: str | None = None,
    until: str | None = None,
    last: str | None = None,
    month: str | None = None,
    today: bool = False,
    yesterday: bool = False,
    this_week: bool = False,
    last_week: bool = False,
    this_month: bool = False,
    last_month: bool = False,
    default: str | None = None,
) -> Period:
    """The period that a command line's options name; without any of them, the last span that is the `default`, or all
    time. Raises UsageError for two that contradict each other, for text that is no time, and for times outside the
    calendar."""
    words = {
        "--last": last is not None,
        "--month": month is not None,
        "--today": today,
        "--yesterday": yesterday,
        "--this-week": this_week,
        "--last-week": last_week,
        "--this-month": this_month,
        "--last-month": last_month,
        "--since": since is not None,
        "--until": until is not None,
    }
    given = [name for name, wanted in words.items() if wanted]
    if len(given) > 1 and given != ["--since", "--until"]:
        hint = "keep one of them"
        if given[0] == "--last":
            hint = "`--last` ends now, or at `--as-of`; to name both ends, use `--since` and `--until`"
        raise UsageError(f"{given[0]} and {given[1]} contradict each other", hint, code="contradiction")
    try:
        if since is not None or until is not None:
            return _between(since, until, zone)
        if last is not None:
            return _last(last, now, zone)
        if month is not None:
            return _whole("", *bucket(_month(month, zone), "month", zone), zone)
        if today or yesterday:
            return _named("today", "yesterday", today, now, "day", zone)
        if this_week or last_week:
            return _named("this week", "last week", this_week, now, "week", zone)
        if this_month or last_month:
            return _named("this month", "last month", this_month, now, "month", zone)
        return EVER if default is None else _last(default, now, zone)
    except (OverflowError, ValueError):
        raise UsageError("the period lies outside the calendar", "use a year from 1 to 9998", code="bad_time") from None


def moment(text: str, zone: tzinfo, option: str) -> datetime:
    """A date (its first moment) or a date and time, in its own zone or else in `zone`, as UTC. Raises UsageError."""
    plain = text.strip()
    try:
        # `fromisoformat` would also read 20261121 and 2026-W47-6.
        if plain[4:5] != "-" or plain[7:8] != "-" or not plain.isascii():
            raise ValueError(plain)
        found = datetime.fromisoformat(plain)
        return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option} {text!r} is not a date or time",
            f"write `{option} 2026-11-21`, or `{option} 2026-11-21T09:30` with `Z` or `+01:00` for another zone",
            code="bad_time",
        ) from None


def as_of(text: str, zone: tzinfo) -> datetime:
    """The instant to report from. A date alone is the end of that day, its last microsecond. Raises UsageError, also
    within a few years of the calendar's ends: reports look back and ahead from it."""
    instant = moment(text, zone, "--as-of")
    if not _OLDEST <= instant.year <= _NEWEST:
        raise UsageError(
            f"--as-of {text!r} lies outside the calendar",
            f"use a year from {_OLDEST} to {_NEWEST}",
            code="bad_time",
        )
    if len(text.strip()) > len("2026-11-21"):
        return instant
    return bucket(instant, "day", zone)[1] - _TICK


def bucket(instant: datetime, unit: str, zone: tzinfo) -> tuple[datetime, datetime]:
    """Start and end, UTC, of the hour, day, week or month that holds an instant; cut at the ends of the calendar."""
    if unit == "hour":
        start, end = bucket(instant, "day", zone)
        start += (instant - start) // _HOUR * _HOUR
        return start, start + min(_HOUR, end - start)
    first = _first(_date(instant, zone), unit)
    following = _next(first, unit)
    start, end = _midnight(first, zone), _midnight(following, zone)
    while end <= instant and following:  # the clock went back over midnight: the calendar shows the old day again
        first, following = following, _next(following, unit)
        start, end = end, _midnight(following, zone)
    if instant < start:  # the clock skipped midnight, and the calendar's day began before it
        before = _first(first - timedelta(days=1), unit) if first > date.min else None
        return (_midnight(before, zone) if before else _EARLIEST), start
    return start, end


def bucket_label(start: datetime, unit: str, zone: tzinfo) -> str:
    """A bucket's name, which sorts by time: `2026-11-21`, for a week its Monday, `2026-11`, `2026-11-21 09:00`; an
    hour that the clock shows twice gets its offset."""
    local = local_time(start, zone)
    if unit == "month":
        return f"{local:%Y-%m}" if local.year > 999 else local.isoformat()[:7]
    if unit != "hour":
        return local.date().isoformat()
    twice = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
    return local.isoformat(" ", "minutes") if twice else local.replace(tzinfo=None).isoformat(" ", "minutes")


def local_time(instant: datetime, zone: tzinfo) -> datetime:
    """An instant by the clocks of a zone; by those of UTC if the calendar ends in between."""
    try:
        return instant.astimezone(zone)
    except OverflowError:
        return instant


def _between(since: str | None, until: str | None, zone: tzinfo) -> Period:
    start = None if since is None else moment(since, zone, "--since")
    end = None if until is None else moment(until, zone, "--until")
    if start is None or end is None:
        words = [] if start is None else [f"since {_text(start, zone)}"]
        return Period(start, end, " ".join(words if end is None else [f"until {_text(end, zone)}"]))
    if start >= end:
        raise UsageError(
            f"--since {since} is not before --until {until}",
            "a period ends before `--until`: for one day, give the next day as its end",
            code="bad_time",
        )
    return _whole("", start, end, zone)


def _last(text: str, now: datetime, zone: tzinfo) -> Period:
    number, unit = text.strip()[:-1], _SPANS.get(text.strip()[-1:])
    if unit is None or not number.isascii() or not number.isdigit() or len(number) > 6 or int(number) == 0:
        raise UsageError(f"--last {text!r} is not a span", "write `24h`, `7d`, `4w` or `3m` (months)", code="bad_time")
    count = int(number)
    # The last moment of a day, which `--as-of` with a date means, is the end of that day.
    end = now + _TICK if (now + _TICK).astimezone(zone).time() == time() else now
    local = end.astimezone(zone)
    if unit == "hour":
        start = end - count * _HOUR
    elif unit == "month":
        start = _midnight(_months_before(local.date(), count), zone, local.time())
    else:
        start = _midnight(local.date() - timedelta(days=count * (7 if unit == "week" else 1)), zone, local.time())
    return _whole(f"last {count} {unit}s" if count > 1 else f"last {unit}", start, end, zone)


def _months_before(day: date, count: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 - count, 12)
    first = date(year, month + 1, 1)
    return min(first + timedelta(days=day.day - 1), (_next(first, "month") or date.max) - timedelta(days=1))


def _month(text: str, zone: tzinfo) -> datetime:
    plain = text.strip()
    if len(plain) == 7 and plain[4] == "-" and plain.isascii() and (plain[:4] + plain[5:]).isdigit():
        year, month = int(plain[:4]), int(plain[5:])
        if year and 1 <= month <= 12:
            return _midnight(date(year, month, 1), zone)
    raise UsageError(f"--month {text!r} is not a month", "write `--month 2026-11`", code="bad_time")


def _named(this: str, before: str, current: bool, now: datetime, unit: str, zone: tzinfo) -> Period:
    start, end = bucket(now, unit, zone)
    if current:
        return _whole(this, start, end, zone)
    return _whole(before, *bucket(start - _TICK, unit, zone), zone)


def _whole(name: str, start: datetime, end: datetime, zone: tzinfo) -> Period:
    """A period with both its ends in its label: whole days by their first and last, others by the minute."""
    first, last = start.astimezone(zone), (end - _TICK).astimezone(zone)
    if first.time() == time() and end.astimezone(zone).time() == time():
        days = [first.date().isoformat(), last.date().isoformat()]
        dates = days[0] if days[0] == days[1] else " to ".join(days)
    else:
        dates = f"{_text(start, zone)} until {_text(end, zone)}"
    return Period(start, end, f"{name}, {dates}" if name else dates)


def _text(instant: datetime, zone: tzinfo) -> str:
    local = instant.astimezone(zone)
    return local.date().isoformat() if local.time() == time() else local.replace(tzinfo=None).isoformat(" ", "minutes")


def _midnight(day: date | None, zone: tzinfo, at: time = time()) -> datetime:
    try:
        return datetime.combine(day, at.replace(fold=0), zone).astimezone(UTC) if day else _LATEST
    except OverflowError:
        return _EARLIEST if day and day.year == 1 else _LATEST


def _date(instant: datetime, zone: tzinfo) -> date:
    return local_time(instant, zone).date()


def _first(day: date, unit: str) -> date:
    if unit == "month":
        return day.replace(day=1)
    return day - timedelta(days=day.weekday()) if unit == "week" else day


def _next(first: date, unit: str) -> date | None:
    """The first day of the next bucket; None at the end of the calendar."""
    try:
        if unit == "month":
            return date(first.year + first.month // 12, first.month % 12 + 1, 1)
        return first + timedelta(days=7 if unit == "week" else 1)
    except (OverflowError, ValueError):
        return None
