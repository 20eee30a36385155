"""The shape of an answer: JSON Schema and its short form, and where an answer departs from it."""

from __future__ import annotations

import socket
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callmeter.policy.answer_schema import faults, parse_schema, response_format
from callmeter.words.errors import UsageError
from callmeter.words.jsontext import dumps

PERSON = "name, age int, weight float, member bool"


def test_the_short_form_names_fields_types_and_descriptions_on_one_line_or_on_several() -> None:
    assert parse_schema("name, age int, bio: what they did") == {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer"},
            "bio": {"type": "string", "description": "what they did"},
        },
        "required": ["name", "age", "bio"],
        "additionalProperties": False,
    }
    # In several lines a description may hold a comma.
    several = parse_schema("\nage int: years, rounded down\n\nok bool\n")
    assert several["properties"] == {
        "age": {"type": "integer", "description": "years, rounded down"},
        "ok": {"type": "boolean"},
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no field"),
        (" , ,", "names no field"),
        ("age integer", "'integer' is not a type"),
        ("a b c", "'a b c' is not a field"),
        ("na;me", "not a field"),
        (": only a description", "not a field"),
        ("a, b int, a", "'a' stands twice"),
        ('{"type": ', "not JSON"),
        ('{"type": "object", "type": "array"}', "stands twice"),
        ('["name"]', "a JSON Schema is an object"),
        ('{"type": "strin"}', "$.type"),
        ('{"properties": {"a": {"minimum": "3"}}}', "$.properties.a.minimum"),
        ('{"pattern": "("}', "$.pattern"),
        ('{"$ref": "#/$defs/nowhere"}', "'#/$defs/nowhere' leads nowhere"),
        ('{"$ref": "other.json"}', "other documents are never fetched"),
        ('{"not":' * 3000 + "{}" + "}" * 3000, "nested too deeply"),
    ],
)
def test_a_schema_that_cannot_work_is_refused_before_anything_is_sent(text: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_schema(text)
    assert says in refused.value.message
    assert refused.value.hint


def test_a_remote_reference_is_never_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        with pytest.raises(UsageError, match="never fetched"):
            parse_schema(dumps({"properties": {"a": {"$ref": url}}}))
        with pytest.raises(BlockingIOError):
            server.accept()


def test_references_within_the_schema_hold() -> None:
    schema = parse_schema(
        '{"$defs": {"age": {"$id": "https://example.org/age", "$defs": {"n": {"type": "integer"}},'
        ' "$ref": "#/$defs/n"},'
        ' "name": {"$anchor": "name", "type": "string"}},'
        ' "properties": {"age": {"$ref": "#/$defs/age"}, "name": {"$ref": "#name"}}}'
    )
    assert faults(schema, '{"age": 3, "name": "x"}') == []
    assert faults(schema, '{"age": "three", "name": 4}') == [
        "$.age: 'three' is not of type 'integer'",
        "$.name: 4 is not of type 'string'",
    ]


def test_an_answer_that_meets_the_schema_has_no_faults_and_every_departure_is_named_with_its_place() -> None:
    schema = parse_schema(PERSON)
    assert faults(schema, ' {"name": "Ada", "age": 36, "weight": 60.5, "member": true}\n') == []
    assert faults(schema, '{"name": "Ada", "age": 36.0, "weight": 60, "member": true}') == []
    assert faults(schema, '{"name": 1, "age": 3.5, "weight": "x", "member": 0}') == [
        "$.name: 1 is not of type 'string'",
        "$.age: 3.5 is not of type 'integer'",
        "$.weight: 'x' is not of type 'number'",
        "$.member: 0 is not of type 'boolean'",
    ]
    assert faults(schema, '{"name": "Ada"}')[0] == "$: 'age' is a required property"
    assert "more" in faults(schema, '{"name": "A", "age": 1, "weight": 1, "member": true, "more": 1}')[0]


@pytest.mark.parametrize("answer", ["", "Sure! {}", '```json\n{"name": 1}\n```', '{"age": NaN}', "[" * 100_000])
def test_an_answer_that_is_not_json_is_one_fault(answer: str) -> None:
    found = faults(parse_schema("name"), answer)
    assert len(found) == 1
    assert found[0].startswith("it is not JSON")


def test_faults_are_few_and_short_however_wrong_the_answer_is() -> None:
    schema = parse_schema('{"items": {"type": "integer"}}')
    found = faults(schema, dumps(["x" * 10_000] * 1000))
    assert len(found) == 20
    assert max(map(len, found)) <= 300


def test_the_request_is_strict_only_where_the_schema_leaves_nothing_open() -> None:
    short = parse_schema(PERSON)
    assert response_format(short) == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": short},
    }

    def strict(text: str) -> object:
        form = response_format(parse_schema(text))["json_schema"]
        assert isinstance(form, dict)
        return form["strict"]

    closed = '{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}'
    assert strict(closed) is True
    assert strict(closed.replace('"required":["a"],', "")) is False
    assert strict(closed.replace(',"additionalProperties":false', "")) is False
    assert strict('{"type":"array","items":' + closed + "}") is True
    assert strict('{"type":"array","items":{"type":"object"}}') is False


def test_numbers_in_a_schema_reach_the_request_as_they_were_written() -> None:
    schema = parse_schema('{"properties": {"a": {"multipleOf": 0.10, "maximum": 1e2}}}')
    assert schema["properties"] == {"a": {"multipleOf": Decimal("0.10"), "maximum": Decimal("1E+2")}}
    assert '"multipleOf":0.10' in dumps(response_format(schema))


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True), st.sampled_from(["str", "int", "bool"]), min_size=1
    )
)
def test_every_short_form_is_a_strict_schema_that_its_own_example_meets(fields: dict[str, str]) -> None:
    schema = parse_schema(", ".join(f"{name} {kind}" for name, kind in fields.items()))
    example = {name: {"str": "x", "int": 1, "bool": True}[kind] for name, kind in fields.items()}
    assert faults(schema, dumps(example)) == []
    del example[next(iter(example))]
    assert faults(schema, dumps(example))
