"""Periods and buckets: half-open, in a zone, without gaps, through every clock change."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callmeter.words.errors import UsageError
from callmeter.words.period import EVER, UNITS, as_of, bucket, bucket_label, chosen_period, moment, zone_named

BERLIN = zone_named("Europe/Berlin")
NOW = datetime(2026, 11, 21, 15, 4, 5, tzinfo=UTC)  # a Saturday
TICK = timedelta(microseconds=1)
ZONES = sorted(name for name in zoneinfo.available_timezones() if not name.startswith(("posix", "right")))


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


INSTANTS = st.datetimes(datetime(1970, 1, 1), datetime(2037, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC))


@given(instant=INSTANTS, zone=st.sampled_from(ZONES), unit=st.sampled_from(UNITS))
@example(instant=utc(2005, 10, 30, 2, 45), zone="America/St_Johns", unit="day")  # 23:15 of the day before, again
@example(instant=utc(2005, 10, 30, 2, 45), zone="America/St_Johns", unit="hour")
@example(instant=utc(2011, 12, 30, 10), zone="Pacific/Apia", unit="day")  # 30 December did not happen
@example(instant=utc(1919, 3, 31, 4, 40), zone="America/Toronto", unit="day")  # 23:30 became 00:30
@example(instant=utc(1919, 3, 31, 4, 40), zone="America/Toronto", unit="hour")
@example(instant=utc(2026, 4, 4, 15, 10), zone="Australia/Lord_Howe", unit="hour")  # half an hour back
def test_a_bucket_contains_its_instant_and_touches_its_neighbours(instant: datetime, zone: str, unit: str) -> None:
    place = zoneinfo.ZoneInfo(zone)
    start, end = bucket(instant, unit, place)
    assert start <= instant < end
    assert bucket(start, unit, place) == (start, end)
    assert bucket(end - TICK, unit, place) == (start, end)
    assert bucket(end, unit, place)[0] == end
    assert bucket(start - TICK, unit, place)[1] == start


@given(instant=INSTANTS, zone=st.sampled_from(ZONES))
def test_hours_lie_within_days_and_days_within_weeks_and_months(instant: datetime, zone: str) -> None:
    place = zoneinfo.ZoneInfo(zone)
    hour, day, week, month = (bucket(instant, unit, place) for unit in UNITS)
    assert day[0] <= hour[0] < hour[1] <= day[1]
    assert week[0] <= day[0] < day[1] <= week[1]
    assert month[0] <= day[0] < day[1] <= month[1]


@pytest.mark.parametrize(("day", "hours"), [((2026, 3, 29), 23), ((2026, 10, 25), 25), ((2026, 11, 21), 24)])
def test_a_day_of_the_clock_change_has_23_or_25_hours(day: tuple[int, int, int], hours: int) -> None:
    start, end = bucket(utc(*day, 12), "day", BERLIN)
    assert (end - start) / timedelta(hours=1) == hours
    labels = {bucket_label(start + n * timedelta(hours=1), "hour", BERLIN) for n in range(hours)}
    assert len(labels) == hours, "the hour that comes twice needs two names"


def test_weeks_start_on_monday_and_months_on_the_first_in_the_zone() -> None:
    assert bucket(utc(2026, 11, 22, 22, 59), "week", BERLIN) == (utc(2026, 11, 15, 23), utc(2026, 11, 22, 23))
    assert bucket(utc(2026, 11, 22, 23), "week", BERLIN)[0] == utc(2026, 11, 22, 23)
    assert bucket(utc(2026, 10, 31, 23), "month", BERLIN) == (utc(2026, 10, 31, 23), utc(2026, 11, 30, 23))
    assert bucket_label(utc(2026, 10, 31, 23), "month", BERLIN) == "2026-11"
    assert bucket_label(utc(2026, 11, 15, 23), "week", BERLIN) == "2026-11-16"


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
@pytest.mark.parametrize("instant", [datetime.min, datetime(1, 1, 2), datetime(9999, 12, 30), datetime.max])
def test_the_ends_of_the_calendar_have_buckets_too(instant: datetime, unit: str, zone: str) -> None:
    start, end = bucket(instant.replace(tzinfo=UTC), unit, zone_named(zone))
    assert start <= instant.replace(tzinfo=UTC) <= end
    assert bucket_label(start, unit, UTC)


@pytest.mark.parametrize(
    ("options", "start", "end", "label"),
    [
        ({"today": True}, utc(2026, 11, 20, 23), utc(2026, 11, 21, 23), "today, 2026-11-21"),
        ({"yesterday": True}, utc(2026, 11, 19, 23), utc(2026, 11, 20, 23), "yesterday, 2026-11-20"),
        ({"this_week": True}, utc(2026, 11, 15, 23), utc(2026, 11, 22, 23), "this week, 2026-11-16 to 2026-11-22"),
        ({"last_week": True}, utc(2026, 11, 8, 23), utc(2026, 11, 15, 23), "last week, 2026-11-09 to 2026-11-15"),
        ({"this_month": True}, utc(2026, 10, 31, 23), utc(2026, 11, 30, 23), "this month, 2026-11-01 to 2026-11-30"),
        ({"last_month": True}, utc(2026, 9, 30, 22), utc(2026, 10, 31, 23), "last month, 2026-10-01 to 2026-10-31"),
        ({"month": "2026-02"}, utc(2026, 1, 31, 23), utc(2026, 2, 28, 23), "2026-02-01 to 2026-02-28"),
        ({"month": "2026-01"}, utc(2025, 12, 31, 23), utc(2026, 1, 31, 23), "2026-01-01 to 2026-01-31"),
        ({"month": "2026-12"}, utc(2026, 11, 30, 23), utc(2026, 12, 31, 23), "2026-12-01 to 2026-12-31"),
        (
            {"last": "24h"},
            NOW - timedelta(hours=24),
            NOW,
            "last 24 hours, 2026-11-20 16:04 until 2026-11-21 16:04",
        ),
        ({"last": "4w"}, NOW - timedelta(weeks=4, hours=1), NOW, None),
        ({"last": "30d"}, NOW - timedelta(days=30, hours=1), NOW, None),  # the same time of day, across the change
        ({"last": "3m"}, utc(2026, 8, 21, 14, 4, 5), NOW, None),
        ({"since": "2026-11-01"}, utc(2026, 10, 31, 23), None, "since 2026-11-01"),
        ({"until": "2026-11-01T09:30Z"}, None, utc(2026, 11, 1, 9, 30), "until 2026-11-01 10:30"),
        (
            {"since": "2026-11-01", "until": "2026-11-03"},
            utc(2026, 10, 31, 23),
            utc(2026, 11, 2, 23),
            "2026-11-01 to 2026-11-02",
        ),
        ({}, None, None, "all time"),
    ],
)
def test_each_option_names_its_period(
    options: dict[str, object], start: object, end: object, label: str | None
) -> None:
    period = chosen_period(NOW, BERLIN, **options)  # type: ignore[arg-type]
    assert (period.start, period.end) == (start, end)
    assert label is None or period.label == label


def test_a_period_holds_its_start_and_not_its_end() -> None:
    period = chosen_period(NOW, UTC, month="2026-11")
    assert utc(2026, 11, 1) in period
    assert utc(2026, 12, 1) - TICK in period
    assert utc(2026, 12, 1) not in period
    assert NOW in EVER


def test_the_last_month_from_the_31st_begins_on_the_last_day_there_is() -> None:
    period = chosen_period(utc(2026, 3, 31, 12), UTC, last="1m")
    assert period.start == utc(2026, 2, 28, 12)


def test_as_of_a_date_is_the_end_of_that_day() -> None:
    instant = as_of("2026-11-20", BERLIN)
    assert instant == utc(2026, 11, 20, 23) - TICK
    assert chosen_period(instant, BERLIN, today=True).label == "today, 2026-11-20"
    assert chosen_period(instant, BERLIN, last="7d").label == "last 7 days, 2026-11-14 to 2026-11-20"
    assert as_of("2026-11-20T12:00:00Z", BERLIN) == utc(2026, 11, 20, 12)


@pytest.mark.parametrize("text", ["0001-01-02", "1969-12-31", "9991-01-02", "9999-12-31T23:59:59Z"])
def test_reports_are_not_from_the_ends_of_the_calendar(text: str) -> None:
    with pytest.raises(UsageError, match="outside the calendar"):
        as_of(text, BERLIN)


def test_a_time_without_a_zone_is_in_the_policys_zone() -> None:
    assert moment("2026-11-21 09:30", BERLIN, "--since") == utc(2026, 11, 21, 8, 30)
    assert moment("2026-11-21T09:30:00-05:00", BERLIN, "--since") == utc(2026, 11, 21, 14, 30)


@pytest.mark.parametrize(
    "options",
    [
        {"since": "yesterday"},
        {"since": "20261121"},
        {"since": "2026-W47-6"},
        {"since": "2026-02-30"},
        {"since": "２０２６-11-21"},
        {"since": ""},
        {"until": "2026-11-21T25:00"},
        {"since": "2026-11-02", "until": "2026-11-02"},
        {"since": "2026-11-03", "until": "2026-11-02"},
        {"since": "0001-01-01T00:00+14:00"},
        {"month": "2026-13"},
        {"month": "2026-1"},
        {"month": "November"},
        {"month": "0000-01"},
        {"last": "7"},
        {"last": "d"},
        {"last": "0d"},
        {"last": "-7d"},
        {"last": "７d"},
        {"last": "1_0d"},
        {"last": "1.5d"},
        {"last": "7 d"},
        {"last": "999999m"},
        {"last": "9999999999999d"},
        {"today": True, "yesterday": True},
        {"last": "7d", "until": "2026-11-21"},
        {"month": "2026-11", "since": "2026-11-21"},
    ],
)
def test_what_is_no_period_is_a_usage_error_with_a_hint(options: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        chosen_period(NOW, UTC, **options)  # type: ignore[arg-type]
    assert caught.value.hint


def test_contradictions_name_both_options() -> None:
    with pytest.raises(UsageError, match="--month and --today contradict each other"):
        chosen_period(NOW, UTC, month="2026-11", today=True)


def test_a_default_is_meant_only_where_nothing_is_named() -> None:
    unnamed, named = chosen_period(NOW, UTC, default="30d"), chosen_period(NOW, UTC, today=True, default="30d")
    assert (unnamed.start, unnamed.end) == (NOW - timedelta(days=30), chosen_period(NOW, UTC, last="30d").end)
    assert named.label == chosen_period(NOW, UTC, today=True).label
    assert chosen_period(NOW, UTC) is EVER


def test_an_unknown_zone_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no time zone 'Mars/Base'"):
        zone_named("Mars/Base")
