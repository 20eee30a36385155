"""The lines of a stream that others wrote: a batch, rows of outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

MAX_LINE = 32 * 1024 * 1024
_READ = 256 * 1024


class Line(NamedTuple):
    """One line as bytes, None when it is longer than `MAX_LINE`; its number from 1, and the byte after it."""

    number: int
    data: bytes | None
    end: int


def lines(read: Callable[[int], bytes | None]) -> Iterator[Line]:
    """The lines of a stream that are not blank. Only a line feed ends a line (U+2028 is text in JSON), and what
    follows the last one is a line too. Never more than one line is in memory."""
    begun: list[bytes] = []  # the pieces of a line that goes on
    size = number = end = 0
    while True:
        data = read(_READ) or b""
        pieces = data.split(b"\n")
        for piece in pieces[:-1] if data else pieces:
            number += 1
            size += len(piece)
            end += size + (1 if data else 0)
            line = b"".join((*begun, piece))
            begun = []
            if size > MAX_LINE:
                yield Line(number, None, end)
            elif line.strip():
                yield Line(number, line, end)
            size = 0
        if not data:
            return
        size += len(pieces[-1])
        if size <= MAX_LINE:
            begun.append(pieces[-1])
        else:
            begun = []
