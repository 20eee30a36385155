"""Changing single values in a JSON text: everything else stays as it was, to the byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callmeter.policy.document_text import DocumentText

texts = st.text(max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | texts,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(texts, below, max_size=3),
    max_leaves=12,
)
layouts = st.sampled_from([None, 1, 2, 4, "\t"])


def changed(text: str, *steps: tuple[Any, ...]) -> str:
    document = DocumentText(text)
    for name, *arguments in steps:
        getattr(document, name)(*arguments)
    return document.text


def paths_of(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in items for found in paths_of(item, (*path, key)))]


@given(st.dictionaries(texts, values, min_size=1, max_size=4), layouts, values, st.data())
def test_any_value_can_be_replaced_and_taken_away_and_nothing_else_changes(
    document: dict[str, Any], indent: int | str | None, value: object, data: st.DataObject
) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=data.draw(st.booleans()))
    path = data.draw(st.sampled_from(paths_of(document)[1:]))
    replaced, removed = json.loads(text), json.loads(text)
    inside, outside = replaced, removed
    for step in path[:-1]:
        inside, outside = inside[step], outside[step]
    inside[path[-1]] = value
    del outside[path[-1]]
    assert json.loads(changed(text, ("set", path, value))) == replaced
    assert json.loads(changed(text, ("remove", path))) == removed
    assert changed(text, ("set", path, value)).startswith(text[: text.find(":")])


@given(st.dictionaries(texts, values, max_size=3), st.lists(values, max_size=3), layouts, texts, values)
def test_members_and_items_are_added_at_the_end(
    document: dict[str, Any], items: list[Any], indent: int | str | None, name: str, value: object
) -> None:
    document["a list"] = items
    text = json.dumps(document, indent=indent)
    assert json.loads(changed(text, ("append", ("a list",), value)))["a list"] == [*items, value]
    if name not in document:
        found = json.loads(changed(text, ("set", (name,), value)))
        assert list(found.items()) == [*document.items(), (name, value)]


def test_the_layout_of_the_neighbours_is_kept() -> None:
    text = '{\n\t"a": 1,\n\t"list": [\n\t\t{"x": 1}\n\t],\n\t"wide": [\n\t\t{\n\t\t\t"y": [1,2]\n\t\t}\n\t]\n}\n'
    found = changed(
        text,
        ("append", ("list",), {"x": 2, "z": [0.5]}),
        ("append", ("wide",), {"y": {"m": [3]}}),
        ("set", ("b",), "ü"),
    )
    assert found.replace("\t", ">").splitlines() == [
        "{",
        '>"a": 1,',
        '>"list": [',
        '>>{"x": 1},',
        '>>{"x": 2, "z": [0.5]}',
        ">],",
        '>"wide": [',
        ">>{",
        '>>>"y": [1,2]',
        ">>},",
        ">>{",
        '>>>"y": {',
        '>>>>"m": [3]',
        ">>>}",
        ">>}",
        ">],",
        '>"b": "ü"',
        "}",
    ]
    assert found.endswith("}\n")


def test_a_text_on_one_line_stays_on_one_line() -> None:
    found = changed('{"a": {"b": [1]}}', ("append", ("a", "b"), {"c": 2}), ("set", ("a", "d"), True))
    assert found == '{"a": {"b": [1, {"c": 2}], "d": true}}'


def test_the_smallest_document_is_laid_out_over_lines() -> None:
    found = changed("{}", ("set", ("version",), 1), ("set", ("quotas",), []), ("append", ("quotas",), {"a": 1}))
    assert found == '{\n  "version": 1,\n  "quotas": [\n    {"a": 1}\n  ]\n}'


@pytest.mark.parametrize("text", ["", "{", '{"a" 1', '{"a": 1 "b": 2}', "[1 2]"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|Expecting|Unterminated"):
        DocumentText(text)
