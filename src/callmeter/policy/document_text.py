"""A JSON text with single values changed: everything else stays as it was, to the byte.

A policy is a person's file. Writing it anew from its values would take away how it was laid out.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import NamedTuple

Path = tuple[str | int, ...]

_decoded = json.JSONDecoder().raw_decode
_BLANK = re.compile(r"[ \t\r\n]*")
_PLAIN = re.compile(r"[^\s,\]}]+")


class _Span(NamedTuple):
    """Where a member or item begins (its key, if it has one), and where its value begins and ends."""

    start: int
    value: int
    end: int


class DocumentText:
    """A JSON text, its values by path. Raises ValueError for what is no JSON; paths must be there."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._scan()

    def __contains__(self, path: Path) -> bool:
        return path in self._spans

    def set(self, path: Path, value: object) -> None:
        """Put a value in the place of another one, or add a member at the end of its object."""
        if path in self._spans:
            span = self._spans[path]
            old = self.text[span.value : span.end]
            self._splice(span.value, span.end, self._written(value, path, spread="\n" in old))
        else:
            self._insert(path, f"{_quoted(str(path[-1]))}: ", value)

    def append(self, path: Path, value: object) -> None:
        """Add an item at the end of a list."""
        self._insert((*path, len(self._below(path))), "", value)

    def remove(self, path: Path) -> None:
        """Take a member or an item away, with its comma."""
        span = self._spans[path]
        siblings = self._below(path[:-1])
        index = siblings.index(path)
        if index:
            self._splice(self._spans[siblings[index - 1]].end, span.end, "")
        elif len(siblings) > 1:
            self._splice(span.start, self._spans[siblings[1]].start, "")
        else:
            parent = self._spans[path[:-1]]
            self._splice(parent.value + 1, parent.end - 1, "")

    def _insert(self, path: Path, key: str, value: object) -> None:
        parent, siblings = self._spans[path[:-1]], self._below(path[:-1])
        if siblings:
            last = self._spans[siblings[-1]]
            before = _indent_of(self.text, last.start)
            spread = "\n" in self.text[last.value : last.end] if isinstance(path[-1], int) else False
            written = key + self._written(value, path, spread=spread)
            self._splice(last.end, last.end, "," + (" " if before is None else f"\n{before}") + written)
            return
        written = key + self._written(value, path, spread=False)
        outer = _indent_of(self.text, parent.start)
        if outer is None and path[:-1]:
            self._splice(parent.value + 1, parent.end - 1, written)
        else:
            inner = (outer or "") + self._step()
            self._splice(parent.value + 1, parent.end - 1, f"\n{inner}{written}\n{outer or ''}")

    def _written(self, value: object, path: Path, *, spread: bool) -> str:
        """A value in the layout of its place: on one line, or `spread` over several."""
        if not spread:
            return _one_line(value)
        near = self._spans[path] if path in self._spans else self._spans[self._below(path[:-1])[-1]]
        return _spread(value, _indent_of(self.text, near.start) or "", self._step())

    def _step(self) -> str:
        """One level of indentation, as the text has it."""
        found = re.search(r"\{\s*?\n([ \t]+)\S", self.text)
        return found[1] if found else "  "

    def _below(self, path: Path) -> list[Path]:
        return [each for each in self._spans if len(each) == len(path) + 1 and each[:-1] == path]

    def _splice(self, start: int, end: int, text: str) -> None:
        self.text = self.text[:start] + text + self.text[end:]
        self._scan()

    def _scan(self) -> None:
        self._spans: dict[Path, _Span] = {}
        start = self._blank(0)
        self._spans[()] = _Span(start, start, start)
        self._spans[()] = _Span(start, start, self._value(start, ()))

    def _value(self, at: int, path: Path) -> int:
        """Note the spans below a value that begins here, and give its end."""
        opening = self.text[at : at + 1]
        if opening == '"':
            return int(_decoded(self.text, at)[1])
        if opening not in ("{", "["):
            plain = _PLAIN.match(self.text, at)
            if plain is None:
                raise ValueError(f"not JSON at {at}")
            return plain.end()
        closing = "}" if opening == "{" else "]"
        at = self._blank(at + 1)
        index = 0
        while self.text[at : at + 1] != closing:
            start = at
            step: str | int = index
            if opening == "{":
                step, at = _decoded(self.text, at)
                at = self._blank(self._blank(at) + 1)
            self._spans[*path, step] = _Span(start, at, at)
            end = self._value(at, (*path, step))
            self._spans[*path, step] = _Span(start, at, end)
            at = self._blank(end)
            if self.text[at : at + 1] == ",":
                at = self._blank(at + 1)
            elif self.text[at : at + 1] != closing:
                raise ValueError(f"not JSON at {at}")
            index += 1
        return at + 1

    def _blank(self, at: int) -> int:
        found = _BLANK.match(self.text, at)
        return found.end() if found else at


def _indent_of(text: str, at: int) -> str | None:
    """The blanks before what begins here, if it begins its line; None when something stands before it."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line if not line.strip() and "\n" in text[:at] else None


def _one_line(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(key)}: {_one_line(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_one_line(item) for item in value) + "]"
    if isinstance(value, str):
        return _quoted(value)
    return f"{value:f}" if isinstance(value, Decimal) else json.dumps(value)


def _spread(value: object, indent: str, step: str) -> str:
    """An object with each member on its own line; lists of plain values stay on one."""
    if isinstance(value, dict) and value:
        inner = indent + step
        members = [f"{inner}{_quoted(key)}: {_spread(item, inner, step)}" for key, item in value.items()]
        return "{\n" + ",\n".join(members) + f"\n{indent}}}"
    return _one_line(value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
