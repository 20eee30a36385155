"""What the lines of a piece usually have, and in which order, as a sample of them says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import msgspec

from callmeter.store.index_text import Piece
from callmeter.words.tags import BUILT_IN, MAX_NAME

_PLACES = 64
_BLOCK = 1 << 13
_MOST = 32
_GOLDEN = 0.6180339887


class Usual(NamedTuple):
    """`tags` in the order that most lines keep, and whether some do not (`mixed`); which `fields` there are, and which
    fields and tags are in `every` line that was looked at."""

    tags: Sequence[str]
    mixed: bool
    fields: frozenset[str]
    every_field: frozenset[str]
    every_tag: frozenset[str]


class Habits:
    """What the pieces before taught of a source: whether all lines are JSON, and lines that were not as usual."""

    def __init__(self) -> None:
        self.all_json = True
        self.others: list[bytes] = []


class _Line(msgspec.Struct):
    tags: dict[str, str] = {}


_decoder = msgspec.json.Decoder(_Line)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def usual_lines(piece: Piece, others: Sequence[bytes] = ()) -> Usual:
    """What a sample of a piece's lines, and some others, are like."""
    lines = 0
    fields: Counter[str] = Counter()
    orders: Counter[tuple[str, ...]] = Counter()
    for line in chain(_sample(piece), others):
        try:
            tags = tuple(_decoder.decode(line).tags)
            fields.update(_fields.decode(line).keys())
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
        lines += 1
        orders[tags] += 1
    names = _in_order(orders)
    places = {name: place for place, name in enumerate(names)}
    mixed = any((order := [places[name] for name in tags if name in places]) != sorted(order) for tags in orders)
    every_tag = frozenset(names).intersection(*map(set, orders)) if orders else frozenset()
    every_field = frozenset(name for name, count in fields.items() if count == lines)
    return Usual(names, mixed, frozenset(fields), every_field, every_tag)


def _in_order(orders: Iterable[tuple[str, ...]]) -> list[str]:
    """The names, each behind the one that it stands behind in the longest of the lines that have it."""
    names: list[str] = []
    others = 0
    for tags in sorted(orders, key=len, reverse=True):
        place = 0
        for name in tags:
            if name in names:
                place = names.index(name) + 1
            elif name in BUILT_IN or (others < _MOST and _is_plain(name)):
                others += name not in BUILT_IN
                names.insert(place, name)
                place += 1
    return names


def _sample(piece: Piece) -> Iterator[bytes]:
    step = max(_BLOCK, piece.size // _PLACES)
    for place, start in enumerate(range(piece.start, piece.start + piece.size, step)):
        # Not at equal distances: what recurs at such would be seen always or never.
        start += int(place * _GOLDEN % 1 * (step - _BLOCK))
        block = piece.read(start, min(start + _BLOCK, piece.stop))
        yield from block.split(b"\n")  # whose ends are no whole lines, and not read


def _is_plain(name: str) -> bool:
    """Whether a name can stand in SQL and in JSON as it is; names that differ in case alone cannot stand together."""
    letters = name.replace("_", "").replace(".", "")
    return letters.isalnum() and name.isascii() and name == name.lower() and len(name) <= MAX_NAME
