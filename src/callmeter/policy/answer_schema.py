"""The shape that an answer must have: JSON Schema, or the short form `name, age int, bio: what they did`."""

from __future__ import annotations

import json
from typing import Any

from callmeter.words.errors import UsageError
from callmeter.words.jsontext import dumps, loads

Schema = dict[str, object]

_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_MAX_FAULTS = 20
_MAX_FAULT = 300


def parse_schema(text: str) -> Schema:
    """A schema from JSON text, or from the short form: fields separated by commas (or, where there are several
    lines, one a line), each a name, perhaps a type (`str`, `int`, `float`, `bool`), perhaps a description after a
    colon. Raises UsageError, also for a schema that refers to another document: nothing is ever fetched."""
    if text.lstrip().startswith(("{", "[")):
        try:
            schema = loads(text, unique_keys=True)
        except ValueError as error:
            raise UsageError(f"--schema: not JSON: {error}", "give a JSON Schema, or `name, age int`") from None
        if not isinstance(schema, dict):
            raise UsageError("--schema: a JSON Schema is an object", 'begin with `{"type": "object", …`')
        _check(schema)
        return schema
    return _short_form(text)


def response_format(schema: Schema) -> dict[str, object]:
    """The request's `response_format`. It is `strict` where the schema allows that: the endpoints refuse strictness
    for objects that leave members open or optional, and take such a schema as guidance only."""
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": _is_closed(schema), "schema": schema},
    }


def faults(schema: Schema, answer: str) -> list[str]:
    """Where an answer departs from the schema, one sentence each; empty when it does not."""
    try:
        found = json.loads(answer, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        return [f"it is not JSON: {str(error)[:_MAX_FAULT]}"]
    texts = []
    try:
        for fault in _validator(schema).iter_errors(found):
            texts.append(f"{fault.json_path}: {fault.message}"[:_MAX_FAULT])
            if len(texts) == _MAX_FAULTS:
                break
    except RecursionError:
        texts.append("it is nested too deeply")
    return texts


def _short_form(text: str) -> Schema:
    fields = text.split("\n") if "\n" in text.strip() else text.split(",")
    properties: dict[str, object] = {}
    for field in fields:
        head, _, description = (part.strip() for part in field.partition(":"))
        words = head.split()
        if not words and not description:
            continue
        if not 1 <= len(words) <= 2 or not all(c.isalnum() or c in "_-" for c in words[0]):
            raise UsageError(
                f"--schema: {field.strip()!r} is not a field", "write `name`, `age int` or `bio: what for`"
            )
        name, kind = words[0], words[1] if len(words) == 2 else "str"
        if kind not in _TYPES:
            raise UsageError(f"--schema: {kind!r} is not a type", f"use one of {', '.join(_TYPES)}")
        if name in properties:
            raise UsageError(f"--schema: the field {name!r} stands twice", "name each field once")
        properties[name] = {"type": _TYPES[kind], **({"description": description} if description else {})}
    if not properties:
        raise UsageError("--schema names no field", "write `--schema 'name, age int'`")
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _check(schema: Schema) -> None:
    """Every fault that can be known before anything is paid for."""
    from jsonschema.exceptions import SchemaError  # type: ignore[import-untyped]

    try:
        validator = _validator(schema)
        # With the formats that are known: a broken regular expression would show only after the answer was paid.
        type(validator).check_schema(validator.schema, format_checker=type(validator).FORMAT_CHECKER)
        _check_references(validator.schema)
    except SchemaError as error:
        raise UsageError(
            f"--schema: {error.json_path}: {error.message[:_MAX_FAULT]}", "see https://json-schema.org"
        ) from None
    except RecursionError:
        raise UsageError("--schema is nested too deeply", "make it flatter") from None


def _validator(schema: Schema) -> Any:
    from jsonschema.validators import Draft202012Validator, validator_for  # type: ignore[import-untyped]
    from referencing.jsonschema import EMPTY_REGISTRY

    # Through binary numbers, as the answer is read: to the validator a Decimal 1.0 is no integer.
    plain = json.loads(dumps(schema))
    # Without a registry, jsonschema fetches what it does not know.
    return validator_for(plain, default=Draft202012Validator)(plain, registry=EMPTY_REGISTRY)


def _check_references(schema: Any) -> None:
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012, EMPTY_REGISTRY, specification_with

    dialect = schema.get("$schema") if isinstance(schema, dict) else None
    rules = specification_with(dialect, DRAFT202012) if isinstance(dialect, str) else DRAFT202012

    def check(part: Any, resolver: Any) -> None:
        if isinstance(part, dict):
            if isinstance(part.get("$id"), str) and part is not schema:
                resolver = resolver.in_subresource(rules.create_resource(part))
            for name, value in part.items():
                if name in ("$ref", "$dynamicRef", "$recursiveRef") and isinstance(value, str):
                    look_up(value, resolver)
                else:
                    check(value, resolver)
        elif isinstance(part, list):
            for item in part:
                check(item, resolver)

    def look_up(reference: str, resolver: Any) -> None:
        try:
            resolver.lookup(reference)
        except Unresolvable:
            where = "" if reference.startswith("#") else "; other documents are never fetched"
            raise UsageError(
                f"--schema: $ref {reference!r} leads nowhere{where}", "put what it names in `$defs`"
            ) from None

    check(schema, EMPTY_REGISTRY.resolver_with_root(rules.create_resource(schema)))


def _is_closed(part: object) -> bool:
    if isinstance(part, list):
        return all(_is_closed(item) for item in part)
    if not isinstance(part, dict):
        return True
    if part.get("type") == "object" or isinstance(part.get("properties"), dict):
        members, required = part.get("properties", {}), part.get("required", [])
        if part.get("additionalProperties") is not False or not isinstance(members, dict):
            return False
        if not isinstance(required, list) or set(members) != {name for name in required if isinstance(name, str)}:
            return False
    return all(_is_closed(item) for item in part.values())


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
