"""The forecast's model: an example by hand, and what must hold for any past."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callmeter.reports.forecast_model import NOTHING, Fit, Range, fit
from callmeter.words.money import NANO

SUNDAY = date(2026, 11, 22)
MONDAY = SUNDAY + timedelta(1)
PAST = st.lists(st.one_of(st.just(0), st.integers(0, 10**15)), min_size=1, max_size=60)


def fitted(days: Sequence[int | None], newest: date = SUNDAY) -> Fit:
    found = fit(days, newest)
    assert found is not None
    return found


def week(days: Sequence[int | None]) -> Range:
    return week_of(fitted(days))


def week_of(found: Fit, first: date = MONDAY) -> Range:
    return found.sum((first + timedelta(number), 1.0) for number in range(7))


def weeks(count: int, *shape: float) -> list[int]:
    """Whole weeks, Monday first."""
    return [round(amount * NANO) for _ in range(count) for amount in shape]


@pytest.mark.parametrize("ahead", [Range(100.0 * NANO, 900.0 * NANO**2), Range(NANO, 3.0 * NANO**2, 0.02)])
def test_the_ends_of_ranges_are_exceeded_as_often_as_they_say(ahead: Range) -> None:
    (low, high), (lowest, highest) = ahead.likely, ahead.nearly_sure
    assert [ahead.over(amount) for amount in (high, highest)] == pytest.approx([0.1, 0.025], abs=0.001)
    assert low == 0 or ahead.over(low) == pytest.approx(0.9, abs=0.001)
    assert lowest == 0 or ahead.over(lowest) == pytest.approx(0.975, abs=0.001)
    assert ahead.over(ahead.median) == pytest.approx(0.5, abs=0.001)


def test_what_may_be_nothing_at_all_has_its_mean_and_variance_all_the_same() -> None:
    ahead = Range(2.0 * NANO, 9.0 * NANO**2, 0.4)
    amounts = [ahead.quantile((number + 0.5) / 4000) / NANO for number in range(4000)]
    mean = sum(amounts) / 4000
    assert (ahead.over(0), ahead.quantile(0.39)) == (pytest.approx(0.6), 0)
    assert mean == pytest.approx(2, rel=0.02)
    assert sum((amount - mean) ** 2 for amount in amounts) / 4000 == pytest.approx(9, rel=0.03)


@pytest.mark.parametrize("nothing", [0.0, 0.3])
@pytest.mark.parametrize("above", [20, 100, 160])
def test_what_lies_beyond_an_amount_has_the_moments_of_that_part(nothing: float, above: int) -> None:
    """E(X - a)+ is the integral of P(X > x) from a on, E((X - a)+)^2 that of 2 (x - a) P(X > x)."""
    whole = Range(100.0 * NANO, 9000.0 * NANO**2, nothing)
    beyond = whole.beyond(above * NANO)
    step = 0.1
    tail = [(number * step, whole.over(round((above + number * step) * NANO))) for number in range(16_000)]
    mean = sum(chance for _, chance in tail) * step - tail[0][1] * step / 2
    square = 2 * sum(far * chance for far, chance in tail) * step
    assert beyond.mean / NANO == pytest.approx(mean, rel=1e-3)
    assert beyond.variance / NANO**2 == pytest.approx(square - mean * mean, rel=1e-3)
    assert beyond.over(0) == pytest.approx(whole.over(above * NANO))


def test_what_lies_beyond_nothing_is_all_of_it_and_beyond_everything_nothing() -> None:
    whole = Range(100.0 * NANO, 2500.0 * NANO**2)
    assert whole.beyond(0) is whole and whole.beyond(-1) is whole
    assert whole.beyond(10**6 * NANO) is NOTHING
    assert NOTHING.beyond(5) is NOTHING


def test_two_days_by_hand() -> None:
    """Saturday 3, Sunday 1, in dollars; two days say nothing of weekdays, and nothing is capped.

    Level weights a: 1 and 0.5^(1/7) = 0.905724. The level is (1 + 3 x 0.905724) / 1.905724 = 1.950531.
    """
    b, a, c = 0.5 ** (1 / 42), 0.5 ** (1 / 7), 0.5 ** (1 / 28)
    level = (1 + 3 * a) / (1 + a)
    own_sunday = min(0.8, 1 / (1 + a) + 1 / 2)
    own_saturday = min(0.8, a / (1 + a) + b / (1 + b))
    off_sunday = (1 - level) / (1 - own_sunday)
    off_saturday = (3 - level) / (1 - own_saturday)
    variance = (off_sunday**2 + c * off_saturday**2 + level**2) / (1 + c + 1)

    found = fitted([3 * NANO, NANO])
    assert found.weekdays == (1.0,) * 7
    assert found.level / NANO == pytest.approx(level)
    assert found.level / NANO == pytest.approx(1.950531, abs=1e-5)
    assert found.variance / NANO**2 == pytest.approx(variance)
    assert found.effective_days == pytest.approx((1 + a) ** 2 / (1 + a * a))
    assert (found.days, found.days_with_spend) == (2, 2)

    ahead = week_of(found)
    assert ahead.mean / NANO == pytest.approx(7 * level)
    drift = ((0.08 + 0.04 * 2) * 7 * level) ** 2  # a day of these two varies by more than twice the level
    assert ahead.variance / NANO**2 == pytest.approx(variance * (7 + 49 / found.effective_days) + drift)


def test_a_weeks_weekdays_by_hand() -> None:
    """Monday 3, the other days 1, in dollars: weekday weights b = 0.5^(age/42), Sunday 1 and Monday 0.905724; each
    weekday is (b x amount / mean + 1) / (b + 1), scaled so that the seven add up to 7."""
    amounts = [3.0, 1, 1, 1, 1, 1, 1]
    weights = [0.5 ** ((6 - day) / 42) for day in range(7)]
    mean = sum(b * x for b, x in zip(weights, amounts, strict=True)) / sum(weights)
    ratios = [(b * x / mean + 1) / (b + 1) for b, x in zip(weights, amounts, strict=True)]
    found = fitted([round(x * NANO) for x in amounts])
    assert found.weekdays == pytest.approx([7 * each / sum(ratios) for each in ratios])
    assert found.weekdays[0] == pytest.approx(1.6416, abs=1e-4)
    a = [0.5 ** ((6 - day) / 7) for day in range(7)]
    usual = sum(w * r for w, r in zip(a, found.weekdays, strict=True))
    assert found.level / NANO == pytest.approx(sum(w * x for w, x in zip(a, amounts, strict=True)) / usual)


def test_a_day_has_its_own_range() -> None:
    found = fitted(weeks(8, 5, 5, 5, 5, 5, 0, 0))
    monday = found.day(MONDAY)
    usual = found.weekdays[0]
    drift = 0.08 + 0.04 * found.variance**0.5 / found.level
    expected = found.variance * usual * (1 + usual / found.effective_days) + (drift * monday.mean) ** 2 / 7
    assert monday.variance == pytest.approx(expected)
    assert found.day(MONDAY + timedelta(5)).expected < monday.expected / 5


def test_a_level_that_moves_counts_more_where_days_vary_up_to_twice_their_level() -> None:
    def moved(deviation: float) -> float:
        week = replace(fitted([NANO] * 28), variance=deviation**2 * NANO**2)
        return week_of(week).variance / NANO**2 - deviation**2 * (7 + 49 / week.effective_days)

    assert moved(0.0) == pytest.approx((0.08 * 7) ** 2)
    assert moved(1.0) == pytest.approx((0.12 * 7) ** 2)
    assert moved(2.0) == pytest.approx((0.16 * 7) ** 2)
    assert moved(5.0) == pytest.approx((0.16 * 7) ** 2)


def test_a_spike_is_capped_and_comes_back_as_an_everyday_share() -> None:
    """14 days of 1, one of them 100: the largest is left out, so a day counts for 1 at most; the level is 15 % up."""
    days = [NANO] * 14
    days[3] = 100 * NANO
    assert fitted(days).level == pytest.approx(1.15 * NANO)
    guarded = fit(days, SUNDAY, guarded=True)
    assert guarded is not None
    assert guarded.level == pytest.approx(NANO)
    assert guarded.variance < fitted(days).variance


def test_nothing_is_known_of_no_days() -> None:
    assert fit([], SUNDAY) is None
    assert fit([None, None], SUNDAY) is None


def test_missing_days_are_not_zero() -> None:
    known = [NANO] * 20
    assert fitted([NANO, None, None, *known]).level == pytest.approx(NANO)
    assert fitted([NANO, 0, 0, *known]).level < 0.99 * NANO
    assert fitted([*[None] * 5, *known]).days == 20


def test_a_log_of_zeros_expects_nothing_for_sure() -> None:
    ahead = week([0] * 30)
    assert (ahead.expected, ahead.median, ahead.likely, ahead.nearly_sure) == (0, 0, (0, 0), (0, 0))
    assert ahead.over(0) == 0
    assert ahead.over(-1) == 1


@pytest.mark.parametrize("days", [[1], [0, 0, 1], [10**18], [1] * 40, [0] * 39 + [10**15], [10**15] + [1] * 20])
def test_tiny_and_huge_amounts_make_sense(days: list[int]) -> None:
    _sane(week(days))


@given(PAST)
def test_no_past_makes_crossed_or_negative_ranges(days: list[int]) -> None:
    found = fitted(days)
    for ahead in (week_of(found), found.day(MONDAY), found.sum([(SUNDAY, 0.01)]), found.sum([])):
        _sane(ahead)
    assert sum(found.weekdays) == pytest.approx(7)


@given(PAST.map(lambda days: [*days, 10**9]))
def test_ten_times_the_money_is_ten_times_the_forecast(days: list[int]) -> None:
    once, tenfold = week(days), week([10 * day for day in days])
    assert tenfold.mean == pytest.approx(10 * once.mean)
    assert tenfold.likely[1] == pytest.approx(10 * once.likely[1], rel=1e-6, abs=20)
    assert tenfold.over(10**12) == pytest.approx(once.over(10**11), abs=1e-9)


@given(PAST, st.floats(0.001, 1000))
def test_a_scaled_range_has_scaled_ends(days: list[int], factor: float) -> None:
    ahead = week([*days, 10**12])
    assert ahead.scaled(factor).likely[1] == pytest.approx(factor * ahead.likely[1], rel=1e-6, abs=2)
    assert week_of(fitted([*days, 10**12]).scaled(factor)).variance == pytest.approx(
        ahead.scaled(factor).variance, rel=1e-6
    )


def test_the_chance_of_more_fits_the_quantiles() -> None:
    ahead = week(weeks(5, 3, 8, 1, 4, 9, 0, 2))
    assert ahead.over(ahead.likely[1]) == pytest.approx(0.1, abs=1e-6)
    assert ahead.over(ahead.median) == pytest.approx(0.5, abs=1e-6)
    assert 1 - ahead.over(ahead.nearly_sure[0]) == pytest.approx(0.025, abs=1e-6)


def test_a_monday_cron_gets_its_mondays_after_three_weeks() -> None:
    found = fitted(weeks(3, 70, 0, 0, 0, 0, 0, 0))
    mondays = found.day(MONDAY).mean
    others = max(found.day(MONDAY + timedelta(n)).mean for n in range(1, 7))
    assert mondays > 2.5 * others
    longer = fitted(weeks(12, 70, 0, 0, 0, 0, 0, 0))
    assert longer.day(MONDAY).mean > 8 * longer.day(MONDAY + timedelta(1)).mean
    assert week_of(longer).mean == pytest.approx(70 * NANO, rel=0.25)


@pytest.mark.parametrize("length", [21, 28, 56, 120])
@pytest.mark.parametrize("age", [0, 1, 5, 13])
def test_a_runaway_day_hardly_moves_next_week(length: int, age: int) -> None:
    chance = random.Random(length + age)
    calm = [round(chance.uniform(0.8, 1.2) * NANO) for _ in range(length)]
    wild = list(calm)
    wild[-1 - age] = 50 * NANO
    assert week(wild).mean < 1.35 * week(calm).mean
    assert week(wild).likely[1] < 2 * week(calm).likely[1]
    assert week(wild).median > 0.7 * week(calm).median


def test_a_level_that_changed_is_followed_within_two_weeks() -> None:
    assert week([NANO] * 60 + [3 * NANO] * 14).mean == pytest.approx(21 * NANO, rel=0.3)


def test_ranges_widen_with_fewer_days_and_narrow_with_more() -> None:
    chance = random.Random(7)
    days = [round(chance.uniform(0.5, 1.5) * NANO) for _ in range(90)]

    def width(count: int) -> float:
        ahead = week(days[-count:])
        return (ahead.likely[1] - ahead.likely[0]) / ahead.mean

    assert width(2) > width(7) > width(60)


def test_the_ranges_hold_what_they_promise_on_steady_noise() -> None:
    chance = random.Random(11)
    inside = 0
    for _ in range(200):
        days = [round(chance.gammavariate(2, 1) * NANO) for _ in range(35)]
        low, high = week(days[:28]).likely
        inside += low <= sum(days[28:]) <= high
    assert 0.72 < inside / 200 < 0.96


def test_a_leap_day_is_a_day_like_any_other() -> None:
    found = fitted([NANO] * 30, date(2028, 2, 28))
    assert found.day(date(2028, 2, 29)).expected == pytest.approx(NANO, rel=1e-6)
    assert week_of(found, date(2028, 2, 28)).expected == pytest.approx(7 * NANO, rel=1e-6)


def _sane(ahead: Range) -> None:
    low, high = ahead.likely
    least, most = ahead.nearly_sure
    assert all(math.isfinite(each) for each in (ahead.mean, ahead.variance))
    assert 0 <= least <= low <= ahead.median <= high <= most
    assert ahead.expected >= 0 and ahead.variance >= 0
    assert 0 <= ahead.over(10**9) <= 1
    assert ahead is NOTHING or ahead.mean > 0


def test_where_few_days_have_spend_a_quiet_week_hardly_lowers_the_level() -> None:
    """One day in ten has spend: a week without says nothing. Every day has spend: a week without says much."""
    seldom = [NANO if day % 10 == 0 else 0 for day in range(60)]
    before, after = week(seldom[:51]).mean, week(seldom[:51] + [0] * 9).mean
    assert after == pytest.approx(0.7 * NANO, rel=0.2)
    assert after > 0.6 * before
    daily = [NANO] * 51
    assert week([*daily, *[0] * 9]).mean < 0.5 * week(daily).mean


def test_the_usual_mean_counts_for_nothing_where_each_day_has_spend() -> None:
    """The level of a subject that doubled two weeks ago and spends daily is what weights halving every 7 days say."""
    found = fitted([NANO] * 42 + [2 * NANO] * 14)
    assert found.weekdays == pytest.approx((1.0,) * 7)
    late = sum(0.5 ** (age / 7) for age in range(14))
    early = sum(0.5 ** (age / 7) for age in range(14, 56))
    assert found.level / NANO == pytest.approx((2 * late + early) / (late + early))


def test_a_job_that_seems_to_be_over_is_forgotten_soon() -> None:
    """Once a week for half a year: two weeks without are nothing, four months without are the end."""
    weekly = [NANO if day % 7 == 0 else 0 for day in range(183)]
    running = week(weekly).mean
    assert running == pytest.approx(NANO, rel=0.1)
    assert week([*weekly, *[0] * 14]).mean > 0.5 * running
    assert week([*weekly, *[0] * 120]).mean < 0.02 * running


def test_days_that_are_missing_are_no_silence() -> None:
    weekly = [NANO if day % 7 == 0 else 0 for day in range(120)]
    assert week([*weekly, *[None] * 60]).mean == pytest.approx(week(weekly).mean, rel=0.1)
