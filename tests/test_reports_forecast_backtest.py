"""The figures of a backtest, against plain loops over the days."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callmeter.reports.forecast_backtest import backtest, backtest_report
from callmeter.words.money import NANO

UNTIL = date(2026, 11, 21)
DAY = timedelta(1)


@given(st.lists(st.integers(0, 10**12), min_size=28, max_size=70), st.sampled_from([7, 28]))
def test_errors_are_those_of_repeating_the_week_and_of_the_mean_of_thirty_days(days: list[int], length: int) -> None:
    trial = backtest(days, UNTIL - DAY, length)
    origins = range(len(days) - length, 13, -7)
    came = [sum(days[origin : origin + length]) for origin in origins]
    weeks = [sum(days[origin - 7 : origin]) * length / 7 for origin in origins]
    months = [sum(days[max(0, origin - 30) : origin]) * length / min(30, origin) for origin in origins]
    assert (trial.count, trial.came) == (len(origins), sum(came))
    assert trial.error_of_repeating == pytest.approx(sum(abs(a - b) for a, b in zip(weeks, came, strict=True)))
    assert trial.error_of_burn_rate == pytest.approx(sum(abs(a - b) for a, b in zip(months, came, strict=True)))
    assert trial.inside <= trial.nearly <= trial.count


def test_what_was_said_is_what_the_forecast_said_then() -> None:
    """The day after a runaway is forecast from the days before it alone, and what it cost is held against that."""
    quiet = [NANO] * 28
    trial = backtest([*quiet, 50 * NANO, *[NANO] * 6], UNTIL - DAY, 7)
    assert trial.count == 3
    assert (trial.said, trial.came) == (pytest.approx(21 * NANO, rel=1e-6), 70 * NANO)
    assert trial.error == pytest.approx(49 * NANO, rel=1e-6)
    assert (trial.inside, trial.nearly) == (2, 2)


def test_a_row_has_the_errors_as_shares_of_the_simple_rules() -> None:
    days = [(1 + number % 7) * NANO for number in range(42)]
    week, month = backtest_report({"total": [*days, 40 * NANO, *days[1:14]]}, UNTIL).rows
    trial = backtest([*days, 40 * NANO, *days[1:14]], UNTIL - DAY, 7)
    assert week.cells["against_last_week"] == Decimal(trial.error / trial.error_of_repeating).quantize(Decimal("0.01"))
    assert week.cells["against_burn_rate"] == Decimal(trial.error / trial.error_of_burn_rate).quantize(Decimal("0.01"))
    assert week.cells["bias"] == Decimal(trial.said / trial.came - 1).quantize(Decimal("0.001"))
    assert (week.cells["days"], week.cells["forecasts"]) == (7, 6)
    assert (month.cells["days"], month.cells["forecasts"]) == (28, 3)
    assert (week.cells["inside_80"], week.cells["inside_95"]) == (trial.inside, trial.nearly)
