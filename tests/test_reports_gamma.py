"""The gamma distribution: against published tables, closed forms, and itself."""

from __future__ import annotations

from math import exp, factorial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callmeter.reports.gamma import quantile, upper_tail

# Critical values of chi-squared, Abramowitz & Stegun, table 26.8: with n degrees of freedom it is twice a gamma with
# shape n / 2. (degrees of freedom, probability above, value)
CHI_SQUARED = [
    (1, 0.05, 3.84146),
    (1, 0.001, 10.8276),
    (2, 0.10, 4.60517),
    (3, 0.95, 0.351846),
    (10, 0.975, 3.24697),
    (10, 0.001, 29.5883),
    (30, 0.90, 20.5992),
    (30, 0.025, 46.9792),
    (100, 0.05, 124.342),
    (100, 0.001, 149.449),
]


@pytest.mark.parametrize(("degrees", "above", "value"), CHI_SQUARED)
def test_tails_and_quantiles_are_those_of_the_tables(degrees: int, above: float, value: float) -> None:
    assert upper_tail(degrees / 2, value / 2) == pytest.approx(above, rel=2e-4)
    assert 2 * quantile(degrees / 2, 1 - above) == pytest.approx(value, rel=2e-5)


@pytest.mark.parametrize("shape", [1, 2, 5, 20, 100])
@pytest.mark.parametrize("amount", [0.01, 0.5, 1.0, 4.0, 20.0, 99.0, 150.0])
def test_whole_shapes_have_a_closed_form(shape: int, amount: float) -> None:
    poisson = sum(exp(-amount) * amount**k / factorial(k) for k in range(shape))
    assert upper_tail(shape, amount) == pytest.approx(poisson, rel=1e-9, abs=1e-13)


@pytest.mark.parametrize(("shape", "normal"), [(1000.0, 3.0902323), (5000.0, 1.2815516)])
def test_large_shapes_are_nearly_normal(shape: float, normal: float) -> None:
    probability = 0.999 if normal > 3 else 0.9
    # Wilson and Hilferty's cube root of 1931, good to five digits here.
    expected = shape * (1 - 1 / (9 * shape) + normal / (9 * shape) ** 0.5) ** 3
    assert quantile(shape, probability) == pytest.approx(expected, rel=1e-4)


@given(st.floats(0.05, 2000), st.floats(0.001, 0.999))
def test_a_quantile_is_the_tail_read_backwards(shape: float, probability: float) -> None:
    amount = quantile(shape, probability)
    if amount > 1e-6 * shape:
        assert 1 - upper_tail(shape, amount) == pytest.approx(probability, abs=1e-7)


@given(st.floats(1e-6, 1e5), st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_tail_is_a_probability_and_falls(shape: float, one: float, other: float) -> None:
    less, more = sorted((one, other))
    assert 0 <= upper_tail(shape, more) <= upper_tail(shape, less) + 1e-9 <= 1 + 1e-9


def test_the_ends() -> None:
    assert upper_tail(2.0, 0.0) == upper_tail(2.0, -1.0) == 1
    assert upper_tail(2.0, float("inf")) == 0
    assert quantile(0.0001, 0.5) == 0  # nearly always nothing, now and then a lot
