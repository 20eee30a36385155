"""Why a sum changed: parts that add up to the change, each under the name that it deserves."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callmeter.reports.change import CAUSES, OTHER, Change, Served, by_model, change
from callmeter.reports.usage import Figures

PRICES = {
    "large": {"in": Decimal("0.000003"), "out": Decimal("0.000015"), "cached": Decimal("0.0000003")},
    "small": {"in": Decimal("0.00000015"), "out": Decimal("0.0000006")},
    "free": {"in": Decimal(0), "out": Decimal(0)},
}


def rates(provider: str, model: str) -> Mapping[str, Decimal] | None:
    return PRICES.get(model)


def figures(calls: int, tokens_in: int = 0, tokens_out: int = 0, cached: int = 0, nano: int | None = None) -> Figures:
    """So many calls of so many tokens each, at the large model's list price unless `nano` (for all) is given."""
    amount = calls * (3000 * (tokens_in - cached) + 300 * cached + 15000 * tokens_out)
    return Figures(
        calls=calls,
        priced=calls,
        nano=amount if nano is None else nano,
        tokens_in=calls * tokens_in,
        tokens_out=calls * tokens_out,
        tokens_cached=calls * cached,
    )


def of(**models: Figures) -> dict[Served, Figures]:
    return {("openrouter", model): each for model, each in models.items()}


def only(found: Change) -> dict[str, int]:
    return {cause: part for cause, part in found.parts.items() if part}


def test_failed_calls_whose_tokens_cost_nothing_are_no_lower_price() -> None:
    answered, failed = figures(10, 1000, 100), figures(40, 1000, 0, nano=0)
    before = by_model([(("openrouter", "large", "ok"), answered)])
    after = by_model([(("openrouter", "large", "ok"), answered), (("openrouter", "large", "error"), failed)])
    found = change(before, after, rates)
    assert after["openrouter", "large"].calls == 50
    assert set(only(found)) == {"volume", "tokens"}
    assert found.total == 0
    # What was paid for has its tokens.
    billed = by_model([(("openrouter", "large", "truncated"), answered)])
    assert only(change(before, billed, rates)) == {}


@pytest.mark.parametrize(
    ("before", "after", "cause"),
    [
        (figures(10, 1000, 100), figures(30, 1000, 100), "volume"),
        (figures(10, 1000, 100), figures(10, 1500, 220), "tokens"),
        (figures(10, 1000, 100), figures(10, 1000, 100, cached=600), "cache"),
        (figures(10, 1000, 100), figures(10, 1000, 100, nano=70_000_000), "price"),
        (figures(1, 1000, 100), figures(2, 1000, 100), "volume"),
        (figures(1, 1000, 100), figures(1, 1500, 220), "tokens"),
    ],
)
def test_what_alone_changed_is_the_only_cause(before: Figures, after: Figures, cause: str) -> None:
    found = change(of(large=before), of(large=after), rates)
    assert only(found) == {cause: after.nano - before.nano}


def test_another_model_for_the_same_calls_is_the_choice_of_models() -> None:
    before = of(large=figures(10, 1000, 100), small=figures(10, 1000, 100, nano=2_100_000))
    after = of(large=figures(5, 1000, 100), small=figures(15, 1000, 100, nano=3_150_000))
    found = change(before, after, rates)
    assert only(found) == {"mix": 22_500_000 + 3_150_000 - 45_000_000 - 2_100_000}


def test_a_model_that_comes_and_one_that_goes_are_choice_not_price() -> None:
    found = change(of(large=figures(10, 1000, 100)), of(small=figures(10, 1000, 100, nano=2_100_000)), rates)
    assert only(found) == {"mix": 2_100_000 - 45_000_000}


def test_a_model_without_a_list_price_says_so_and_still_adds_up() -> None:
    found = change(of(odd=figures(2, 100, 10)), of(odd=figures(2, 100, 10, cached=50)), rates)
    assert found.unlisted == [("openrouter", "odd")]
    assert only(found) == {"price": found.total}


def test_calls_whose_tokens_nobody_counted_are_told_apart_by_price_alone() -> None:
    found = change(of(large=Figures(calls=4, priced=4, nano=400)), of(large=figures(4, 100, 10, nano=1000)), rates)
    assert only(found) == {"price": 600}


def test_free_calls_move_the_choice_and_cost_nothing() -> None:
    before = of(large=figures(10, 1000, 100))
    after = of(large=figures(10, 1000, 100), free=figures(10, 500, 50, nano=0))
    found = change(before, after, rates)
    assert found.total == 0
    assert found.parts["volume"] > 0
    assert found.parts["mix"] == -found.parts["volume"]


def test_money_without_a_call_is_kept_apart() -> None:
    found = change({}, of(large=Figures(corrections=1, priced=1, nano=-70)), rates)
    assert only(found) == {OTHER: -70}


def test_calls_of_unknown_cost_are_left_out() -> None:
    found = change(of(large=Figures(calls=5, unknown=5, tokens_in=100)), of(large=figures(5, 1000, 100)), rates)
    assert only(found) == {"volume": 22_500_000}


def test_nothing_before_and_nothing_after_change_nothing() -> None:
    assert change({}, {}, rates).parts == dict.fromkeys((*CAUSES, OTHER), 0)


def test_the_parts_are_the_means_over_all_orders() -> None:
    """Against the definition, worked out the long way for one model: all 120 orders, one step after the other."""
    before, after = figures(7, 900, 130, cached=100), figures(11, 1400, 90, cached=700, nano=31_415_926)
    sides = [
        {
            "volume": Fraction(each.calls),
            "tokens": (Fraction(each.tokens_in, each.calls), Fraction(each.tokens_out, each.calls)),
            "mix": Fraction(1),
            "cache": Fraction(each.tokens_cached, each.tokens_in),
            "price": Fraction(each.nano, each.calls)
            / (
                (3000 * (each.tokens_in - each.tokens_cached) + 300 * each.tokens_cached + 15000 * each.tokens_out)
                / Fraction(each.calls)
            ),
        }
        for each in (before, after)
    ]

    def worth(chosen: set[str]) -> Fraction:
        at = {cause: sides[cause in chosen][cause] for cause in CAUSES}
        prompt, answer = at["tokens"]  # type: ignore[misc]
        share = at["cache"]
        listed = prompt * (3000 * (1 - share) + 300 * share) + 15000 * answer  # type: ignore[operator]
        return at["volume"] * listed * at["price"]  # type: ignore[operator,return-value]

    mean = dict.fromkeys(CAUSES, Fraction(0))
    for order in permutations(CAUSES):
        chosen: set[str] = set()
        for cause in order:
            mean[cause] += (worth(chosen | {cause}) - worth(chosen)) / 120
            chosen.add(cause)
    found = change(of(large=before), of(large=after), rates)
    assert found.total == 31_415_926 - before.nano
    for cause in CAUSES:
        assert abs(found.parts[cause] - mean[cause]) < 1
        assert found.models["openrouter", "large"][cause] == mean[cause]


SIDES = st.dictionaries(
    st.sampled_from([("a", "large"), ("a", "small"), ("b", "odd"), ("b", "free")]),
    st.builds(
        Figures,
        calls=st.integers(0, 1000),
        priced=st.integers(0, 3),
        unknown=st.integers(0, 3),
        nano=st.integers(-(10**12), 10**15),
        tokens_in=st.integers(-10, 10**9),
        tokens_out=st.integers(-10, 10**8),
        tokens_cached=st.integers(0, 10**8),
        tokens_cache_write=st.integers(0, 10**6),
    ),
)


@given(SIDES, SIDES)
def test_the_parts_add_up_to_the_nano_dollar_whatever_the_log_says(
    before: dict[Served, Figures], after: dict[Served, Figures]
) -> None:
    found = change(before, after, rates)
    assert found.total == sum(each.nano for each in after.values()) - sum(each.nano for each in before.values())
    assert sum(found.parts.values()) == found.total


@given(SIDES, SIDES)
def test_the_way_back_is_the_same_way(before: dict[Served, Figures], after: dict[Served, Figures]) -> None:
    there, back = change(before, after, rates), change(after, before, rates)
    for served, parts in there.models.items():
        assert {cause: -part for cause, part in back.models[served].items()} == parts
