"""Money: exact, rounded up to the nano-dollar, never a float."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callmeter.words.money import NANO, nano, parse_usd, shown, usd


@given(st.integers(min_value=-(10**18), max_value=10**18))
def test_nano_dollars_survive_the_way_to_decimal_text_and_back(nanos: int) -> None:
    assert nano(usd(nanos)) == nanos
    assert "E" not in str(f"{usd(nanos):f}")
    assert nano(Decimal(f"{usd(nanos):f}")) == nanos


@given(st.decimals(min_value=0, max_value=1000, places=15))
def test_rounding_never_understates_and_overstates_by_less_than_a_nano_dollar(amount: Decimal) -> None:
    assert 0 <= nano(amount) - amount * NANO < 1


def test_a_cost_that_openrouter_really_gave_is_rounded_up() -> None:
    assert nano(Decimal("0.000001979964")) == 1980


@pytest.mark.parametrize("text", ["NaN", "inf", "-Infinity", "1e30", "1_000", "１２", "", "ten", "0x10", "1" * 50])
def test_what_is_not_money_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_usd(text)


@pytest.mark.parametrize(
    ("nanos", "text"),
    [
        (0, "$0.00"),
        (None, "unknown"),
        (12_340_000_000, "$12.34"),
        (1_234_567_890_000_000, "$1,234,567.89"),
        (9_600_000, "$0.00960"),
        (217_000, "$0.000217"),
        (1, "$0.000000001"),
        (-500_000_000, "-$0.500"),
        (1_000_000_000, "$1.00"),
    ],
)
def test_people_see_cents_or_three_significant_digits(nanos: int | None, text: str) -> None:
    assert shown(nanos) == text
