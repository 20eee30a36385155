"""The period that `--compare` names. All about Saturday, 21 November 2026, 15:04."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callmeter.words.comparison import WAYS, compared_period, with_default
from callmeter.words.errors import UsageError
from callmeter.words.period import EVER, Period, as_of, chosen_period, zone_named

NOW = datetime(2026, 11, 21, 15, 4, tzinfo=UTC)


def compared(way: str, *, now: datetime = NOW, zone: tzinfo = UTC, **chosen: Any) -> tuple[str, str]:
    """Both ends of the other period, in the zone, to the minute."""
    period = with_default(way, chosen_period(now, zone, **chosen), now, zone)
    found = compared_period(way, period, now, zone)
    assert found.start is not None and found.end is not None
    return f"{found.start.astimezone(zone):%m-%d %H:%M}", f"{found.end.astimezone(zone):%m-%d %H:%M}"


@pytest.mark.parametrize(
    ("way", "chosen", "expected"),
    [
        ("last-week", {}, ("11-09 00:00", "11-14 15:04")),
        ("last-month", {}, ("10-01 00:00", "10-21 15:04")),
        ("last-week", {"today": True}, ("11-14 00:00", "11-14 15:04")),
        ("last-week", {"yesterday": True}, ("11-13 00:00", "11-14 00:00")),
        ("last-week", {"last_week": True}, ("11-02 00:00", "11-09 00:00")),
        ("last-week", {"this_month": True}, ("10-25 00:00", "11-14 15:04")),
        ("last-month", {"month": "2026-10"}, ("09-01 00:00", "10-01 00:00")),
        ("last-month", {"month": "2026-03"}, ("02-01 00:00", "03-01 00:00")),
        ("last-month", {"since": "2026-10-30", "until": "2026-10-31"}, ("09-30 00:00", "09-30 00:00")),
        ("previous", {"this_week": True}, ("11-09 00:00", "11-14 15:04")),
        ("previous", {"this_month": True}, ("10-01 00:00", "10-21 15:04")),
        ("previous", {"today": True}, ("11-20 00:00", "11-20 15:04")),
        ("previous", {"yesterday": True}, ("11-19 00:00", "11-20 00:00")),
        ("previous", {"last_month": True}, ("09-01 00:00", "10-01 00:00")),
        ("previous", {"last": "7d"}, ("11-07 15:04", "11-14 15:04")),
        ("previous", {"last": "24h"}, ("11-19 15:04", "11-20 15:04")),
        ("previous", {"since": "2026-11-20"}, ("11-18 08:56", "11-20 00:00")),
        ("previous", {"since": "2026-11-10", "until": "2026-11-13"}, ("11-07 00:00", "11-10 00:00")),
        ("2026-11-01..2026-11-08", {"this_week": True}, ("11-01 00:00", "11-08 00:00")),
    ],
)
def test_the_other_period_has_the_same_length_as_what_is_over_of_this_one(
    way: str, chosen: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert compared(way, **chosen) == expected


def test_a_month_that_runs_longer_than_the_one_before_had_days_takes_all_of_that() -> None:
    end = datetime(2026, 3, 31, 12, tzinfo=UTC)
    assert compared("previous", now=end, this_month=True) == ("02-01 00:00", "03-01 00:00")


def test_as_of_a_day_means_its_end() -> None:
    sunday = as_of("2026-11-22", UTC)
    assert compared("last-week", now=sunday) == ("11-09 00:00", "11-16 00:00")
    assert compared("previous", now=sunday, today=True) == ("11-21 00:00", "11-22 00:00")


def test_a_week_earlier_is_the_same_time_of_day_when_the_clock_changed_between() -> None:
    berlin = zone_named("Europe/Berlin")  # back to standard time on 25 October
    monday = datetime(2026, 10, 26, 9, 30, tzinfo=UTC)
    assert compared("last-week", now=monday, zone=berlin, today=True) == ("10-19 00:00", "10-19 10:30")
    assert compared("previous", now=monday, zone=berlin, last="1d") == ("10-24 10:30", "10-25 10:30")


@pytest.mark.parametrize(
    ("way", "chosen"),
    [
        ("yesterday", {}),
        ("", {"today": True}),
        ("..", {"today": True}),
        ("2026-11-01..", {"today": True}),
        ("2026-11-08..2026-11-01", {"today": True}),
        ("a..b", {"today": True}),
        ("previous", {}),
        ("2026-11-01..2026-11-08", {}),
        ("last-week", {"until": "2026-11-08"}),
        ("last-month", {"month": "0001-01"}),
    ],
)
def test_what_cannot_be_compared_is_a_usage_error(way: str, chosen: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        compared(way, **chosen)


@given(
    st.sampled_from(WAYS),
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
    st.timedeltas(timedelta(seconds=1), timedelta(days=100)),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "America/Sao_Paulo"]),
)
def test_the_other_period_lies_before_this_one_and_is_never_empty(
    way: str, start: datetime, length: timedelta, zone: str
) -> None:
    period = Period(start, start + length, "")
    found = compared_period(way, period, NOW, zone_named(zone))
    assert found.start is not None and found.end is not None
    assert found.start < found.end
    assert found.start < start
    if way == "previous":
        assert found.end <= start


def test_all_time_has_no_default_but_a_week_and_a_month() -> None:
    assert with_default("last-week", EVER, NOW, UTC).label.startswith("this week")
    assert with_default("last-month", EVER, NOW, UTC).label.startswith("this month")
