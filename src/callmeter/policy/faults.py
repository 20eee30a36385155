"""What is wrong with a policy, in full: read only once a fault is certain.

A text that is JSON but for NaN, numbers of thousands of digits or keys that stand twice is read all the same, so
that its other faults are told at the same time; and each fault gets the line on which it stands.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal

from callmeter.policy.document import MalformedPolicy
from callmeter.policy.reading import Fault, Unfit, shown

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_DIGITS = 400
_BOM = b"\xef\xbb\xbf"


def read_anyway(data: bytes, path: str, faults: list[Fault]) -> object:
    """The document of a text that is not strict JSON; what is not strict about it is noted, or stands in the
    document as Unfit. Raises MalformedPolicy for a text that cannot be read at all."""
    try:
        text = data.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise MalformedPolicy(path, [(line, Fault((), "is not JSON: not UTF-8", "save it as UTF-8"))]) from None
    try:
        document: object = json.loads(text, parse_int=_whole, parse_float=_fraction, parse_constant=Unfit)
    except json.JSONDecodeError as error:
        fault = Fault((), f"is not JSON: {error.msg[:1].lower()}{error.msg[1:]}", _advice(text, error.pos))
        raise MalformedPolicy(path, [(error.lineno if text.strip() else 0, fault)]) from None
    except RecursionError:
        raise MalformedPolicy(path, [(0, Fault((), "is not JSON that can be read: nested too deeply"))]) from None
    twice = _scan(text)[1]
    faults += [Fault(key, "stands twice", "keep one") for key in twice]
    return document


def unread(document: object, faults: list[Fault]) -> list[Fault]:
    """A fault for each Unfit in a document that was read by now and at which nobody took offence."""
    known = {fault.path for fault in faults}
    found = _unfit(document, ())
    return [
        Fault(path, f"{shown(value)} is not JSON", "write a plain number") for path, value in found if path not in known
    ]


def with_lines(faults: list[Fault], data: bytes) -> list[tuple[int, Fault]]:
    """The faults in the order of the text, each with the line on which its key or list item stands; 0 if it is about
    the whole. Of several faults of one thing that say the same, one stays."""
    lines = _scan(data.removeprefix(_BOM).decode("utf-8", "replace"))[0]
    found: dict[tuple[int, str], Fault] = {}
    for fault in faults:
        path = fault.path
        while path and path not in lines:
            path = path[:-1]
        found.setdefault((lines.get(path, 0) if path else 0, str(fault)), fault)
    return sorted(((line, fault) for (line, _), fault in found.items()), key=lambda entry: entry[0])


def _whole(text: str) -> object:
    return int(text) if len(text) <= _DIGITS else Unfit(text)


def _fraction(text: str) -> object:
    number = Decimal(text)
    return number if abs(number.adjusted()) <= _DIGITS else Unfit(text)


def _unfit(value: object, path: tuple[str | int, ...]) -> list[tuple[tuple[str | int, ...], Unfit]]:
    if isinstance(value, Unfit):
        return [(path, value)]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in items for found in _unfit(item, (*path, key))]


def _scan(text: str) -> tuple[dict[tuple[str | int, ...], int], list[tuple[str | int, ...]]]:
    """The line of each key and list item of a JSON text, and the keys that stand twice. A text that is no JSON gives
    what can be made of it."""
    lines: dict[tuple[str | int, ...], int] = {}
    twice: list[tuple[str | int, ...]] = []
    path: list[str | int] = []  # the way to the value that comes next
    kinds: list[str] = []
    line, at = 1, 0
    wants_key = False
    for match in _TOKEN.finditer(text):
        line += text.count("\n", at, match.start())
        at = match.start()
        token = match[0]
        if kinds and kinds[-1] == "[" and token not in ",]":
            lines.setdefault(tuple(path), line)
        if token in "{[":
            kinds.append(token)
            path.append("" if token == "{" else 0)
            wants_key = token == "{"
        elif token in "}]":
            if kinds:
                kinds.pop()
                path.pop()
            wants_key = False
        elif token == ",":
            if kinds and kinds[-1] == "[":
                path[-1] = int(path[-1]) + 1
            wants_key = bool(kinds) and kinds[-1] == "{"
        elif wants_key and token[0] == '"':
            path[-1] = _key(token)
            where = tuple(path)
            if where in lines:
                twice.append(where)
                lines = {key: value for key, value in lines.items() if key[: len(where)] != where}
            lines[where] = line
            wants_key = False
    return lines, twice


def _key(token: str) -> str:
    try:
        return str(json.loads(token))
    except ValueError:
        return token[1:-1]


def _advice(text: str, position: int) -> str:
    """What is most often wrong where JSON breaks."""
    before, after = text[:position].rstrip(), text[position:]
    if not text.strip():
        return 'it is empty; the smallest policy is `{"version": 1}`'
    if after[:1] in "}]" and after and before.endswith(","):
        return "remove the comma before it"
    if after.startswith(("//", "/*", "#")):
        return "JSON has no comments: remove it"
    if after.startswith("'"):
        return "write `\"` instead of `'`"
    if after.startswith('"'):
        return "a comma is missing before it"
    return ""
