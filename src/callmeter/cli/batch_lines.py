"""The lines of a batch: where they come from, and what one of them says.

    {"prompt": "Sort this", "id": "a-1", "agent": "code", "tags": {"team": "search"}, "max_tokens": 200}

`prompt` or `messages` (or both: the prompt then comes last) is what is asked. `id` comes back with the result.
`system`, `model`, `max_tokens`, `options`, `params` (for a template) and the tags, built-in ones also at the top,
say what is different from the command line. Any other member is an error: a misspelt one would be paid for.
"""

from __future__ import annotations

import difflib
from io import FileIO
from typing import Any, BinaryIO, NamedTuple

from callmeter.words.errors import UsageError
from callmeter.words.jsontext import dumps, loads
from callmeter.words.lines import MAX_LINE
from callmeter.words.tags import BUILT_IN

_TEXTS = ("prompt", "system", "model")
MEMBERS = ("id", *_TEXTS, "max_tokens", "messages", "options", "params", "tags", *BUILT_IN)


class Said(NamedTuple):
    """What a line says: parameters as the command line's, messages before the prompt, tags."""

    given: dict[str, object]
    messages: list[dict[str, object]]
    tags: list[tuple[str, str]]


def identity(data: bytes) -> str | int | None:
    """The id of a line, as far as it can be known, so that an error can be told from others."""
    try:
        document = loads(data)
    except ValueError:
        return None
    found = document.get("id") if isinstance(document, dict) else None
    return found if isinstance(found, str | int) and not isinstance(found, bool) else None


def parse(data: bytes, place: str) -> Said:
    """What a line says. Raises UsageError with its place."""
    try:
        document = loads(data.removeprefix(b"\xef\xbb\xbf"), unique_keys=True)
    except ValueError as error:
        raise _wrong(place, f"not JSON: {error}") from None
    if not isinstance(document, dict):
        raise _wrong(place, "not a JSON object")
    for name in document:
        if name not in MEMBERS:
            close = difflib.get_close_matches(name, MEMBERS, 1)
            raise _wrong(place, f"unknown member {name!r}" + (f", did you mean {close[0]!r}?" if close else ""))
    return _said({name: value for name, value in document.items() if value is not None}, place)


def too_long(place: str) -> UsageError:
    """The error for a line that is longer than `MAX_LINE`."""
    return _wrong(place, f"longer than {MAX_LINE // 2**20} MiB")


def _said(document: dict[str, Any], place: str) -> Said:
    found = document.get("id", "")
    if not isinstance(found, str | int) or isinstance(found, bool):
        raise _wrong(place, "`id` is neither text nor a whole number")
    given: dict[str, object] = {}
    for name in _TEXTS:
        if name in document:
            given[name] = _text(document[name], name, place)
    if "max_tokens" in document:
        ceiling = document["max_tokens"]
        if not isinstance(ceiling, int) or isinstance(ceiling, bool) or ceiling < 1:
            raise _wrong(place, "`max_tokens` is not a whole number above 0")
        given["max_tokens"] = str(ceiling)
    options = _table(document, "options", place)
    given["option"] = [f"{name}={dumps(value)}" for name, value in options.items()]
    parameters = _table(document, "params", place)
    given["param"] = [f"{name}={_plain(value, f'params.{name}', place)}" for name, value in parameters.items()]
    tags = [(name, _plain(document[name], name, place)) for name in BUILT_IN if name in document]
    tags += [(name, _plain(value, f"tags.{name}", place)) for name, value in _table(document, "tags", place).items()]
    messages = _messages(document.get("messages"), place)
    if not messages and not str(given.get("prompt", "")).strip():
        raise _wrong(place, "neither `prompt` nor `messages`")
    return Said(given, messages, tags)


def _messages(found: object, place: str) -> list[dict[str, object]]:
    if found is None:
        return []
    if not isinstance(found, list) or not all(
        isinstance(message, dict) and isinstance(message.get("role"), str) for message in found
    ):
        raise _wrong(place, "`messages` is not a list of objects with `role` and `content`")
    return found


def _table(document: dict[str, Any], name: str, place: str) -> dict[str, object]:
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise _wrong(place, f"`{name}` is not an object")
    return table


def _plain(value: object, name: str, place: str) -> str:
    if isinstance(value, dict | list) or value is None:
        raise _wrong(place, f"`{name}` is not text or a number")
    return _text(value, name, place) if isinstance(value, str) else dumps(value)


def _text(value: object, name: str, place: str) -> str:
    if not isinstance(value, str):
        raise _wrong(place, f"`{name}` is not text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise _wrong(place, f"`{name}` has half a character (a lone surrogate)") from None
    return value


def _wrong(place: str, what: str) -> UsageError:
    return UsageError(f"{place}: {what}", 'a line is such as `{"id": 1, "prompt": "…"}`', code="bad_line")


def source(path: str, standard_input: BinaryIO | None) -> FileIO | BinaryIO:
    """The stream of a batch, without a buffer in between: `-` is standard input. Raises UsageError."""
    if path == "-":
        if standard_input is None:
            raise UsageError("--batch -: standard input is closed", "name a file, or pipe one in")
        # The thread that reads may still do so when the process ends, which a buffer's lock would not survive.
        return getattr(standard_input, "raw", standard_input)
    try:
        return open(path, "rb", buffering=0)
    except OSError as error:
        raise UsageError(
            f"--batch: cannot read {path}: {(error.strerror or str(error)).lower()}", "name a file of JSON lines"
        ) from None
