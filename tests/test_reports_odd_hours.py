"""The hour that a live view warns of."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from callmeter.reports.odd_hours import Hours, OddHour, odd_hour, usual_hour
from made_log import FIRST, MadeLog

DAY = date(2026, 11, 20)  # a Friday
CENT = 10_000_000


def weeks(spent: int = 100 * CENT, days: int = 28, hours: range = range(24)) -> dict[tuple[date, int], int]:
    """So much in each of these hours, and a little more in every other."""
    return {(DAY - timedelta(back), hour): spent + hour % 2 * CENT for back in range(1, days + 1) for hour in hours}


def hours_of(log: MadeLog) -> dict[tuple[date, int], int]:
    found: dict[tuple[date, int], int] = {}
    for record in log.records:
        place = (record.instant.date(), record.instant.hour)
        found[place] = found.get(place, 0) + (record.cost_nano or 0)
    return found


def found_in(hours: Hours, first: date | None, day: date, until: int = 23) -> OddHour | None:
    return odd_hour(hours, day, until, lambda hour: usual_hour(hours, first, day, hour))


def odd(hours: Hours, until: int = 23) -> tuple[int, int] | None:
    found = found_in(hours, date(2026, 1, 1), DAY, until)
    return None if found is None else (found.hour, found.spent)


def test_what_is_usual_is_the_median_of_the_hour_and_its_neighbours_on_like_days() -> None:
    usual = usual_hour(weeks(), date(2026, 1, 1), DAY, 9)
    assert usual is not None
    assert (usual.hour, usual.day, usual.days) == (100 * CENT, 24 * 100 * CENT + 12 * CENT, 20)


def test_of_several_odd_hours_the_one_furthest_beyond_its_own_usual_is_named() -> None:
    past = {
        (DAY - timedelta(back), hour): (100 if hour < 6 else 400) * CENT
        for back in range(1, 29)
        for hour in (*range(6), *range(10, 14))
    }
    assert odd({**past, (DAY, 12): 1500 * CENT}) == (12, 1500 * CENT)
    assert odd({**past, (DAY, 3): 1300 * CENT, (DAY, 12): 1500 * CENT}) == (3, 1300 * CENT)


def test_weekends_are_measured_by_weekends() -> None:
    hours = {place: 1000 * CENT if place[0].weekday() >= 5 else spent for place, spent in weeks().items()}
    workday = usual_hour(hours, date(2026, 1, 1), DAY, 9)
    saturday = usual_hour(hours, date(2026, 1, 1), DAY + timedelta(1), 9)
    assert workday is not None and saturday is not None
    assert (workday.hour, saturday.hour, saturday.days) == (100 * CENT, 1000 * CENT, 8)


@pytest.mark.parametrize(("times", "is_odd"), [(1, False), (2, False), (3, False), (4, True), (10, True)])
def test_an_hour_is_odd_from_three_times_the_usual_on(times: int, is_odd: bool) -> None:
    hours = {**weeks(), (DAY, 9): times * 100 * CENT}
    assert (odd(hours) is not None) is is_odd


@pytest.mark.parametrize(("spent", "is_odd"), [(341, False), (342, True)])
def test_what_it_costs_beyond_the_usual_is_more_than_a_tenth_of_a_day(spent: int, is_odd: bool) -> None:
    """A usual day comes to 24.12, a usual hour to 1.00."""
    assert (odd({**weeks(), (DAY, 9): spent * CENT}) is not None) is is_odd


def test_an_hour_that_is_small_beside_a_day_is_not_odd() -> None:
    hours = {place: CENT if place[1] < 6 else spent for place, spent in weeks().items()}
    assert odd({**hours, (DAY, 3): 20 * CENT}) is None


def test_where_hours_vary_much_more_is_needed() -> None:
    wild = {place: spent * 4 ** (place[0].day % 3) for place, spent in weeks().items()}
    assert odd({**wild, (DAY, 9): 1700 * CENT}) is None
    assert odd({**weeks(), (DAY, 9): 1700 * CENT}) == (9, 1700 * CENT)


def test_an_hour_in_which_usually_nothing_happens_is_odd_when_it_costs_most_of_a_day() -> None:
    hours = weeks(hours=range(9, 17))
    assert odd({**hours, (DAY, 3): 500 * CENT}) is None
    assert odd({**hours, (DAY, 3): 700 * CENT}) == (3, 700 * CENT)


def test_a_day_has_one_odd_hour_the_worst() -> None:
    hours = {**weeks(), (DAY, 8): 900 * CENT, (DAY, 9): 1000 * CENT, (DAY, 10): 800 * CENT}
    assert odd(hours) == (9, 1000 * CENT)
    assert odd(hours, until=8) == (8, 900 * CENT)


def test_an_earlier_runaway_does_not_hide_the_next() -> None:
    hours = weeks()
    hours[(DAY - timedelta(7), 9)] = 100_000 * CENT
    assert odd({**hours, (DAY, 9): 1000 * CENT}) == (9, 1000 * CENT)


@pytest.mark.parametrize("first", [None, DAY, DAY - timedelta(3)])
def test_a_log_that_has_just_begun_warns_of_nothing(first: date | None) -> None:
    assert found_in({(DAY, 9): 10**12}, first, DAY) is None


def test_quiet_weeks_have_no_odd_hour() -> None:
    for calls in (6, 20, 60):
        hours = hours_of(MadeLog(calls).quiet(56, calls=calls))
        assert not [day for day in range(28, 56) if found_in(hours, FIRST, FIRST + timedelta(day)) is not None]
