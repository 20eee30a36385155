"""JSON without floats."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callmeter.words.jsontext import dumps, loads

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(10**30), max_value=10**30)
    | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=12)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_what_is_written_is_json_that_reads_back_equal(value: object) -> None:
    text = dumps(value)
    assert text.isascii()
    assert "\n" not in text
    assert loads(text) == value
    json.loads(text)


def test_a_decimal_is_written_as_an_exact_number() -> None:
    assert dumps({"cost": Decimal("0.0096")}) == '{"cost":0.0096}'
    assert dumps(Decimal("1E-9")) == "0.000000001"


def test_a_float_cannot_slip_into_a_file() -> None:
    with pytest.raises(TypeError):
        dumps({"cost": 0.1})


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", "{", "", "[" * 100_000, "1" * 5000, "1e999999", b"\xff\xfe", '{"a":1} x']
)
def test_what_is_not_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        loads(text)


def test_a_repeated_key_is_named_when_keys_must_be_unique() -> None:
    with pytest.raises(ValueError, match="'limit' stands twice"):
        loads('{"limit": 1, "limit": 2}', unique_keys=True)
