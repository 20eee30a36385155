"""The JSON Schema of the policy and the reading of it agree: what one refuses, the other does."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from test_policy_faults import FAULTS, faults

SCHEMA = json.loads(files("callmeter.data").joinpath("budget.schema.json").read_text())
EXAMPLE = json.loads((Path(__file__).parent.parent / "budget.example.json").read_text())


def valid(document: object) -> bool:
    return bool(jsonschema.Draft202012Validator(SCHEMA).is_valid(document))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


# What only reading finds, because it needs to compare two places or to know the world.
SENSE = (
    "second quota on",
    "already in `roles",
    "stands twice",
    "is not a tier",
    "above the limit that stops",
    "what `total_budget` says",
    "not a name such as `Europe/Berlin`",
    "second rate for one",
    "second stage",
    "no agent's name",
    "more than the",
    "above the",
    "has no weight above 0",
    "among `allocations.agents`",
    "is an alias itself",
    "is not a tag's name",
    "cannot be the value of a tag",
)


@pytest.mark.parametrize("document", [document for document, _ in FAULTS if not isinstance(document, bytes)], ids=str)
def test_the_schema_refuses_what_reading_refuses(document: dict[str, Any]) -> None:
    if not any(sense in fault for fault in faults(document) for sense in SENSE):
        assert not valid(document)


def _places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _places(item, (*path, key))


def _changed(document: Any, path: tuple[Any, ...], value: object, drop: bool) -> Any:
    result = copy.deepcopy(document)
    target = result
    for step in path[:-1]:
        target = target[step]
    if drop:
        del target[path[-1]]
    else:
        target[path[-1]] = copy.deepcopy(value)
    return result


OTHERS = [
    {
        "allocation_strategy": "equal_base_plus_merit",
        "total_budget": 15.0,
        "allocations": {
            "base_per_agent": "3.00",
            "merit_pool": 6,
            "agents": ["code", "chat"],
            "weights": {"code": 1, "chat": "0.5"},
        },
        "models": ["anthropic/*"],
        "loop_breaker": {"mode": "off", "freeze_minutes": "until_thawed", "times_busiest": "2.5"},
        "production_key": {"budget": 15, "allowed_models": ["claude-3-haiku"], "rate_limit": "50/day", "alerts": True},
    },
    {
        "allocation_strategy": "dynamic",
        "allocations": {"pool": 20, "cap_per_agent": "4"},
        "users": {"*": None, "a": "unlimited", "b": "12.5"},
        "quotas": [{"subject": "total", "soft": 40, "period": "year", "reserve": "0.5", "warn_at": ["1.0"]}],
    },
]  # fmt: skip
VALUES: list[object] = [
    None, True, False, 0, 1, -1, 2, 0.5, 1.5, 1000, 10**9, 10**15, 10**16, "", " ", "0", "1", "0.5", "1.0", "1.5", "-1",
    "10$", "1e3", "１", "x", "agent:x", "total", "session:*", "a:b:c", ":x", "agent:", "day", "hard", "stop", "warn",
    "downgrade:m", "downgrade:", "unlimited", "free", "value", "5/min", "5/", "/day", "0/day", "enabled", "5\n", "*",
    "https://x", "/x", "http://localhost:1/", "until_thawed", [], [0.5], [0], ["x"], [""], [None], ["5/s", "6/m"], {},
    {"x": 1}, {"allocation": 1}, {"limit": 1}, {"tier": "free"}, {"subject": "total", "limit": 1},
    [{"subject": "total", "limit": 1}],
]  # fmt: skip


@st.composite
def changed_documents(draw: st.DrawFn) -> Any:
    document = draw(st.sampled_from([EXAMPLE, *OTHERS]))
    for _ in range(draw(st.integers(0, 2))):
        path = draw(st.sampled_from([path for path in _places(document) if path]))
        if isinstance(path[-1], str) and draw(st.booleans()):
            path = (*path[:-1], draw(st.sampled_from(["limit", "hard", "agents", "x", "x_key", "agent:y", "0.7", "1"])))
        parent = document
        for step in path[:-1]:
            parent = parent[step]
        present = not isinstance(parent, dict) or path[-1] in parent
        document = _changed(document, path, draw(st.sampled_from(VALUES)), present and draw(st.booleans()))
    return document


@given(changed_documents())
def test_what_is_valid_by_the_schema_loads_and_what_is_not_does_not(document: Any) -> None:
    found = faults(document)
    if valid(document):
        assert [fault for fault in found if not any(sense in fault for sense in SENSE)] == []
    else:
        assert found != []


def test_the_example_is_valid_and_loads() -> None:
    assert valid(EXAMPLE)
    assert faults(EXAMPLE) == []
