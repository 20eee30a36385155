"""Counts, lists and the beginnings of sentences."""

from __future__ import annotations

import pytest

from callmeter.words.wording import capitalised, counted, duration, listed


@pytest.mark.parametrize(("count", "text"), [(0, "0 calls"), (1, "1 call"), (2, "2 calls"), (2310, "2,310 calls")])
def test_only_one_is_singular_and_thousands_are_parted(count: int, text: str) -> None:
    assert counted(count, "call") == text


@pytest.mark.parametrize(
    ("names", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a, b"), (["a", "b", "c", "d"], "a, b and 2 more")]
)
def test_a_long_list_says_how_many_it_leaves_out(names: list[str], text: str) -> None:
    assert listed(names, 2) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (90_000, "25 h")],
)
def test_a_duration_has_the_largest_unit_of_which_there_are_two(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def test_a_sentence_begins_with_a_capital_and_keeps_its_names() -> None:
    assert capitalised("agent OCR cost more") == "Agent OCR cost more"
    assert capitalised("") == ""
