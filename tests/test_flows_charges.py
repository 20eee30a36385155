"""What a call came to: whose word counts for its cost, and what earlier attempts add."""

from __future__ import annotations

from decimal import Decimal

import pytest

from callmeter.flows.charges import over_max_cost, settle_cost
from callmeter.providers.chat import Usage

TOKENS = {"in": 10, "out": 5, "cached": 0, "cache_write": 0, "cache_write_1h": 0, "reasoning": 0}
WORST, PRICED = Decimal("0.05"), Decimal("0.003")


def settled(
    usage: Usage | None,
    *,
    status: str = "ok",
    worst: Decimal | None = WORST,
    priced: Decimal | None = PRICED,
    charged: bool = True,
    earlier: Decimal | None = Decimal(0),
) -> tuple[Decimal | None, str, str]:
    """Cost, its source, and the warning."""
    record: dict[str, object] = {"status": status}
    warning = settle_cost(record, usage, worst, lambda _: priced, charged=charged, earlier=earlier)
    cost, source = record["cost"], record["cost_source"]
    assert cost is None or isinstance(cost, Decimal)
    return cost, str(source), warning


def test_the_endpoints_own_word_counts_then_the_price_then_the_worst_case() -> None:
    assert settled(Usage(TOKENS, Decimal("0.002"))) == (Decimal("0.002"), "provider", "")
    assert settled(Usage(TOKENS, None)) == (PRICED, "price", "")
    assert settled(Usage(TOKENS, None), priced=None) == (WORST, "estimate", "")
    assert settled(None) == (WORST, "estimate", "")
    assert settled(None, worst=None) == (None, "unknown", "")


def test_what_was_certainly_not_charged_costs_nothing_but_an_answer_does() -> None:
    assert settled(None, status="error", charged=False) == (Decimal(0), "price", "")
    assert settled(None, status="error", charged=True) == (WORST, "estimate", "")
    for status in ("ok", "truncated"):
        assert settled(None, status=status, charged=False) == (WORST, "estimate", "")


@pytest.mark.parametrize(
    ("said", "worst", "believed"),
    [
        ("1", "0.0001", True),
        ("1.01", "0.0001", False),
        ("5", "0.05", True),
        ("5.01", "0.05", False),
        ("500", "5", True),
        ("1.01", None, False),
    ],
)
def test_a_cost_beyond_a_dollar_and_a_hundred_worst_cases_is_not_believed(
    said: str, worst: str | None, believed: bool
) -> None:
    most = None if worst is None else Decimal(worst)
    cost, source, warning = settled(Usage(TOKENS, Decimal(said)), worst=most)
    if believed:
        assert (cost, source, warning) == (Decimal(said), "provider", "")
    else:
        assert (cost, source) == (most, "unknown" if most is None else "estimate")
        assert "not believed" in warning


def test_earlier_attempts_that_may_have_been_charged_make_the_sum_an_estimate() -> None:
    earlier = Decimal("0.05")
    assert settled(Usage(TOKENS, Decimal("0.002")), earlier=earlier) == (Decimal("0.052"), "estimate", "")
    assert settled(None, status="error", charged=False, earlier=earlier) == (earlier, "estimate", "")
    assert settled(Usage(TOKENS, Decimal("0.002")), earlier=None) == (None, "unknown", "")


def test_a_call_may_cost_exactly_its_most_and_no_more() -> None:
    assert over_max_cost(WORST, WORST, "m") is None
    refused = over_max_cost(WORST, WORST + Decimal("0.000000001"), "m")
    assert refused is not None and refused.code == "max_cost"
    unknown = over_max_cost(WORST, None, "m")
    assert unknown is not None and unknown.code == "price_unknown"
