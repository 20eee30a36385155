"""The period that another one is compared with. A period that still runs is compared with as much of the other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from callmeter.words.errors import UsageError
from callmeter.words.period import UNITS, Period, bucket, chosen_period

WAYS = ("last-week", "last-month", "previous")
_TICK = timedelta(microseconds=1)
_DEFAULTS = {"last-week": "week", "last-month": "month"}


def with_default(text: str, period: Period, now: datetime, zone: tzinfo) -> Period:
    """The period to look at: without a beginning, `last-week` is about this week and `last-month` about this month.

    Raises UsageError for one without a beginning, and for text that names no way to compare.
    """
    if text not in WAYS and ".." not in text:
        raise UsageError(
            f"--compare {text!r} is no period to compare with",
            "write `last-week`, `last-month`, `previous`, or `2026-11-01..2026-11-08`",
            code="bad_time",
        )
    if period.start is not None:
        return period
    if period.end is None and text in _DEFAULTS:
        this = _DEFAULTS[text]
        return chosen_period(now, zone, this_week=this == "week", this_month=this == "month")
    raise UsageError(
        f"--compare {text} wants a period that begins somewhere",
        "name one, such as `--this-week`, `--last 7d` or `--since 2026-11-01`",
        code="bad_time",
    )


def compared_period(text: str, period: Period, now: datetime, zone: tzinfo) -> Period:
    """The period that `--compare` names, for a period with a beginning.

    `last-week` and `last-month` are the same days so much earlier, `previous` the day, week or month before, or for
    another span the equally long one before it; up to the hour that has come in this one. `DATE..DATE` is from the
    first, up to, not including, the second. Raises UsageError.
    """
    start, end = period.start, period.end
    assert start is not None
    if text not in WAYS:
        since, _, until = text.partition("..")
        try:
            return chosen_period(now, zone, since=since, until=until)
        except UsageError:
            raise UsageError(
                f"--compare {text!r} is not from one date to a later one",
                "write `--compare 2026-11-01..2026-11-08`, which ends before 8 November",
                code="bad_time",
            ) from None
    running = end is None or now < end
    # The last moment of a day, which `--as-of` with a date means, is the end of that day.
    until_now = max(now + _TICK if (now + _TICK).microsecond == 0 else now, start + _TICK)
    last = until_now if running or end is None else end
    try:
        if text == "previous":
            first, before = _previous(start, end, last, zone)
        else:
            months, days = (1, 0) if text == "last-month" else (0, 7)
            first, before = _earlier(start, months, days, zone), _earlier(last, months, days, zone)
    except (OverflowError, ValueError):
        raise UsageError("the period lies outside the calendar", "use a year from 1 to 9998", code="bad_time") from None
    before = max(before, first + _TICK)
    return chosen_period(now, zone, since=_exact(first), until=_exact(before))


def _previous(start: datetime, end: datetime | None, last: datetime, zone: tzinfo) -> tuple[datetime, datetime]:
    for unit in UNITS:
        if (start, end) == bucket(start, unit, zone):
            first, whole = bucket(start - _TICK, unit, zone)
            return first, whole if last == end else min(first + (last - start), whole)
    local, local_last = _local(start, zone), _local(last, zone)
    return _instant(local - (local_last - local), zone), start


def _earlier(instant: datetime, months: int, days: int, zone: tzinfo) -> datetime:
    local = _local(instant, zone) - timedelta(days=days)
    for _ in range(months):
        month_before = local.replace(day=1) - timedelta(days=1)
        local = local.replace(year=month_before.year, month=month_before.month, day=min(local.day, month_before.day))
    return _instant(local, zone)


def _local(instant: datetime, zone: tzinfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None)


def _instant(local: datetime, zone: tzinfo) -> datetime:
    return local.replace(tzinfo=zone).astimezone(UTC)


def _exact(instant: datetime) -> str:
    return instant.isoformat()
