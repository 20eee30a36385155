"""JSON text without binary floats: numbers with a fraction are Decimal on the way in and on the way out.

The standard encoder cannot write a Decimal as a number, and through a float money would not be exact. Writing refuses
floats, so one cannot slip into a file unseen.
"""

from __future__ import annotations

import json
from decimal import Decimal
from json.encoder import encode_basestring_ascii as _quoted


def dumps(value: object) -> str:
    """Compact, ASCII-only JSON. Takes None, bool, int, finite Decimal, str, dict with str keys, list, tuple."""
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return str(_quoted(value))
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError("NaN and infinity are not JSON")
        return f"{value:f}"
    if isinstance(value, dict):
        return "{" + ",".join(f"{_quoted(key)}:{dumps(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(dumps(item) for item in value) + "]"
    raise TypeError(f"not a JSON value here: {type(value).__name__}")


def loads(text: str | bytes, *, unique_keys: bool = False, lenient: bool = False) -> object:
    """Strict JSON: numbers with a fraction or exponent become Decimal; NaN and Infinity are refused.

    With `unique_keys`, a repeated key is an error. With `lenient`, for what others write, NaN and Infinity are None.
    Raises ValueError for everything that is not JSON, text that is not UTF-8, integers of thousands of digits and
    nesting too deep to read.
    """
    pairs = _unique if unique_keys else None
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        return json.loads(
            text, parse_float=_decimal, parse_constant=_nothing if lenient else _refuse, object_pairs_hook=pairs
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _decimal(text: str) -> Decimal:
    number = Decimal(text)
    # 1e999999 is a legal Decimal that would fill the memory once it is written out as digits.
    if abs(number.adjusted()) > 400:
        raise ValueError(f"number out of range: {text[:40]}")
    return number


def _nothing(name: str) -> None:
    return None


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"key {key!r} stands twice")
            seen.add(key)
    return result
