"""A usage line, whatever it is made of, is one bounded line that is read back as it was written."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from callmeter.words.record import parse_record
from callmeter.words.usage import MAX_LINE, usage_line

SMALL: dict[str, object] = {"v": 1, "id": "x", "timestamp": "2026-11-21T09:30:00.000Z"}
# Lone halves of surrogate pairs, newlines, escapes and emoji: a provider's JSON can hold any of them.
texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=60)
long_texts = st.builds(lambda text, times: text * times, texts, st.integers(1, 3000))


@given(st.dictionaries(texts, long_texts, max_size=20), long_texts, long_texts, long_texts)
@example(tags={"a\ud83d": "b\ude00"}, model="m\ud800", error="\udfff" * 20_000, note="n")
@settings(max_examples=100, deadline=None)
def test_any_text_makes_one_bounded_line_that_can_be_read(
    tags: dict[str, str], model: str, error: str, note: str
) -> None:
    line = usage_line(
        {**SMALL, "tags": tags, "model": model, "served_model": model, "error": error, "key": error, "note": note}
    )
    assert len(line) <= MAX_LINE
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert line.isascii()
    parse_record(line[:-1])
    json.loads(line)


@given(st.dictionaries(st.text(max_size=40), st.text(max_size=200), max_size=10), st.text(max_size=200))
@settings(deadline=None)
def test_texts_of_ordinary_length_come_back_as_they_were(tags: dict[str, str], model: str) -> None:
    record = parse_record(usage_line({**SMALL, "tags": tags, "model": model})[:-1])
    assert (record.tags, record.model) == (tags, model)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=0, max_value=10**9 - 1, places=12))
@settings(deadline=None)
def test_money_comes_back_exactly(cost: Decimal) -> None:
    assert parse_record(usage_line({**SMALL, "cost": cost, "cost_source": "provider"})[:-1]).cost == cost


def test_a_long_record_loses_text_and_no_number() -> None:
    tokens = {"in": 1, "out": 2, "cached": 0, "cache_write": 0, "cache_write_1h": 0, "reasoning": 0}
    record = parse_record(
        usage_line({**SMALL, "error": "e" * 10**6, "note": "n" * 10**6, "cost": Decimal("1.5"), "tokens": tokens})[:-1]
    )
    assert record.error == "e" * 1024
    assert (record.note, record.cost) == (None, Decimal("1.5"))
    assert record.tokens is not None and record.tokens.out == 2


def test_a_name_that_is_no_field_is_a_mistake_in_the_program() -> None:
    with pytest.raises(ValueError, match="prompt"):
        usage_line({**SMALL, "prompt": "text"})
    with pytest.raises(TypeError):
        usage_line({**SMALL, "cost": 0.1})
