"""The advice: which signs count, and from which figures on."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest

from callmeter.reports.advice import Basis, Budget, advice, variation_of
from callmeter.words.money import NANO

STAY, MOVE = "stay with showback", "move on to hard quotas"
WILD = [0] * 9 + [100 * NANO]
EVEN = {"a": NANO, "b": NANO, "c": NANO}
UNEVEN = {"a": 3 * NANO, "b": NANO, "c": NANO}


def figures(
    *,
    used: str = "0.2",
    elapsed: str = "0.2",
    days: Sequence[int] = (NANO,) * 10,
    agents: dict[str, int] = EVEN,
    month: int = 100 * NANO,
    enforced: bool = False,
) -> Basis:
    budget = Budget("total per month", Decimal(used), Decimal(elapsed))
    return Basis([budget], days, agents, month, "at some pace", enforced)


def said(given: Basis) -> tuple[str, str]:
    row = advice(given).rows[0].cells
    return str(row["advice"]), str(row["because"])


@pytest.mark.parametrize(
    ("used", "elapsed", "expected"),
    [
        ("0.51", "0.29", MOVE),
        ("0.5", "0.29", STAY),
        ("0.51", "0.3", STAY),
        ("0.9", "0.9", STAY),
        ("1.2", "0.01", MOVE),
    ],
)
def test_a_budget_that_goes_too_fast_is_a_sign(used: str, elapsed: str, expected: str) -> None:
    assert said(figures(used=used, elapsed=elapsed))[0] == expected


def test_the_reason_has_the_figures() -> None:
    assert said(figures(used="0.58", elapsed="0.22")) == (
        MOVE,
        "58% of total per month is used in 22% of the time",
    )
    assert said(figures(used="0.41", elapsed="0.68"))[1] == (
        "41% of total per month is used in 68% of the time; 10 days vary by 0% of their mean; "
        "a has 33% of the spend of 3 agents"
    )


def test_days_that_vary_by_more_than_their_mean_are_a_sign() -> None:
    assert said(figures(days=WILD)) == (MOVE, "10 days vary by 300% of their mean")
    # Half of the days nothing, half the same: the deviation is exactly the mean, and no more.
    assert said(figures(days=[0, 2 * NANO] * 5))[0] == STAY
    assert said(figures(days=[0, 2 * NANO] * 5 + [0]))[0] == MOVE


def test_fewer_than_seven_days_tell_nothing_of_variation() -> None:
    assert variation_of(WILD[-6:]) is None
    assert variation_of(WILD[-7:]) is not None
    assert variation_of([0] * 10) is None
    assert said(figures(days=WILD[-6:]))[0] == STAY


@pytest.mark.parametrize(
    ("agents", "expected"),
    [
        (UNEVEN, MOVE),
        ({"a": 2 * NANO, "b": NANO, "c": NANO}, STAY),
        ({"a": 9 * NANO, "b": NANO}, STAY),
        ({}, STAY),
    ],
)
def test_one_of_several_agents_with_more_than_half_is_a_sign(agents: dict[str, int], expected: str) -> None:
    assert said(figures(agents=agents))[0] == expected


def test_below_a_hundred_dollars_a_month_only_the_budget_counts() -> None:
    small = 100 * NANO - 1
    controls, why = said(figures(days=WILD, agents=UNEVEN, month=small))
    assert controls == STAY
    assert "of no weight below $100.00 a month" in why
    assert said(figures(used="0.51", elapsed="0.1", month=small))[0] == MOVE


def test_hard_quotas_that_are_there_are_kept_or_not_needed() -> None:
    assert said(figures(used="0.6", elapsed="0.1", enforced=True))[0] == "keep hard quotas"
    assert said(figures(enforced=True))[0] == "showback would do"


@pytest.mark.parametrize(
    ("month", "expected"),
    [
        (0, "shared keys and showback"),
        (100 * NANO - 1, "shared keys and showback"),
        (100 * NANO, "a key and a cap per workflow"),
        (500 * NANO, "a key and a cap per workflow"),
        (500 * NANO + 1, "everything: keys, caps, approvals, alerts"),
    ],
)
def test_what_fits_depends_on_what_a_month_comes_to(month: int, expected: str) -> None:
    assert advice(figures(month=month)).rows[1].cells["advice"] == expected


def test_without_budget_and_spend_there_is_advice_all_the_same() -> None:
    nothing = Basis([], [], {}, 0, "at the pace of the month so far", False)
    assert said(nothing) == (STAY, "no budget is set")
    assert advice(nothing).facts["variation"] is None


def test_machines_get_the_figures_too() -> None:
    assert advice(figures(days=WILD, agents=UNEVEN)).facts == {
        "signs": ["variation", "unequal"],
        "month": 100,
        "variation": Decimal("3.00"),
        "days": 10,
    }


def test_where_quotas_hold_nobody_says_that_there_is_no_budget() -> None:
    unread = Basis([], [], {}, 0, "at the pace of the month so far", True)
    assert said(unread)[1] == "no budget for a week or longer is known here"
