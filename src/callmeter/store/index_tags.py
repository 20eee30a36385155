"""Which tags the lines of a piece have, in which order, as a sample of them says."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from callmeter.store.index_text import Piece
from callmeter.words.tags import BUILT_IN, MAX_NAME

_PLACES = 64
_BLOCK = 1 << 13
_MOST = 32


class _Line(msgspec.Struct):
    tags: dict[str, str] = {}


_decoder = msgspec.json.Decoder(_Line)


def tag_names(piece: Piece) -> list[str]:
    """The names, in an order that most lines keep: each stands behind the one that it was first seen behind."""
    names: list[str] = []
    others = 0
    for line in _sample(piece):
        try:
            tags = _decoder.decode(line).tags
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
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
    for start in range(piece.start, piece.start + piece.size, step):
        block = piece.read(start, min(start + _BLOCK, piece.stop))
        yield from block.split(b"\n")  # whose ends are no whole lines, and not read


def _is_plain(name: str) -> bool:
    """Whether a name can stand in SQL and in JSON as it is; names that differ in case alone cannot stand together."""
    letters = name.replace("_", "").replace(".", "")
    return letters.isalnum() and name.isascii() and name == name.lower() and len(name) <= MAX_NAME
