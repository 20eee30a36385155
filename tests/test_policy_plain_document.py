"""The short way to read a policy gives what the full reader gives, or hands over."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callmeter.policy.document import Policy
from callmeter.policy.plain_document import plain_policy
from callmeter.policy.sections import read_policy
from callmeter.words.jsontext import dumps

AMOUNTS = st.one_of(
    st.integers(-1, 10**9 + 1),
    st.decimals(-1, 1000, places=4),
    st.sampled_from([True, None, "5", "0.25", "x", 10**15, 10**15 + 1, Decimal("1E-9"), Decimal("1E-10")]),
)
WORDS = st.sampled_from(
    ["hard", "soft", "showback", "usd", "tokens", "calls", "day", "month", "life", "second", "", None, 1, ["day"]]
)
SUBJECTS = st.sampled_from(
    ["total", "agent:code", "agent:*", "session:*", "ticket_uuid:1", "Work-Item:7", "model:anthropic/*", "code", "", 3]
)


def some(*names: str, values: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    return dict.fromkeys(names, values)


ENTRIES = st.fixed_dictionaries(
    {"subject": SUBJECTS, "limit": AMOUNTS},
    optional={
        **some("unit", "period", "enforcement", values=WORDS),
        **some("hard", "reserve", "nonsense", values=AMOUNTS),
    },
) | st.sampled_from([{}, {"subject": "total"}, {"limit": 3}, 5, "total"])
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "$schema": st.just("https://example.com/policy.json"),
        "version": st.sampled_from([1, Decimal("1.0"), 2, True, "1"]),
        "total_budget": AMOUNTS,
        "enforcement": WORDS,
        "period": WORDS,
        "quotas": st.lists(ENTRIES, max_size=4),
        "time_zone": st.just("Europe/Berlin"),
    },
)


def parts(value: object) -> object:
    """A policy, a quota or what is in them as plain values."""
    if isinstance(value, tuple):
        return [parts(item) for item in value]
    names = vars(value) if hasattr(value, "__dict__") else getattr(type(value), "__slots__", ())
    return {name: parts(getattr(value, name)) for name in names} or value


@given(DOCUMENTS)
@example({"total_budget": 5, "quotas": [{"subject": "total", "limit": 6}]})
@example({"period": "life", "quotas": [{"subject": "session:*", "limit": 1}, {"subject": "agent:a", "limit": 2}]})
@example({"enforcement": "soft", "total_budget": Decimal("0.5"), "quotas": [{"subject": "agent:a", "limit": 1}]})
def test_the_short_way_agrees_with_the_full_reader_or_hands_over(document: dict[str, object]) -> None:
    data = dumps(document).encode()
    found = plain_policy(data)
    if found is not None:
        assert parts(found) == parts(read_policy(data, "budget.json"))


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"total_budget": 100},
        {"version": 1, "enforcement": "hard", "quotas": [{"subject": "agent:code", "limit": 2.5, "period": "day"}]},
        {"quotas": [{"subject": "agent:*", "limit": 100, "unit": "calls"}, {"subject": "session:*", "limit": 1}]},
    ],
)
def test_plain_documents_are_read_the_short_way(document: dict[str, object]) -> None:
    found = plain_policy(json.dumps(document).encode())
    assert isinstance(found, Policy)
    assert len(found.quotas) == len(document.get("quotas", ())) + ("total_budget" in document)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"quotas": [',
        b'{"quotas": 1}',
        b'{"total_budget": 1, "total_budget": 2}',
        b'{"total_budget": NaN}',
        b'{"quotas": [{"subject": "total", "limit": 1}, {"subject": "total", "limit": 2}]}',
        b'{"quotas": [{"subject": "total", "limit": 1, "stages": {"0.9": "stop"}}]}',
        b'\xef\xbb\xbf{"total_budget": 1}',
        b'{"tags": {}}',
    ],
)
def test_everything_else_is_left_to_the_full_reader(data: bytes) -> None:
    assert plain_policy(data) is None
