"""What a stream can show, and text as a terminal takes it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO


@dataclass(frozen=True)
class Look:
    """What a stream can show: its width in cells, colour, and block characters."""

    width: int = 100
    colour: bool = False
    blocks: bool = True

    def bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self.colour and text else text

    def dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self.colour and text else text


def look_of(stream: TextIO | None, env: Mapping[str, str]) -> Look:
    """The look for a stream: colour only on a terminal, and not with NO_COLOR or TERM=dumb."""
    terminal = stream is not None and stream.isatty()
    columns = env.get("COLUMNS", "")
    width = int(columns) if columns.isascii() and columns.isdigit() and len(columns) < 6 else 0
    if not width and terminal and stream is not None:
        try:
            width = os.get_terminal_size(stream.fileno()).columns
        except (OSError, ValueError):
            width = 80
    try:
        "█─…".encode(getattr(stream, "encoding", None) or "ascii")
        blocks = True
    except (UnicodeError, LookupError):
        blocks = False
    colour = terminal and not env.get("NO_COLOR") and env.get("TERM", "") != "dumb"
    return Look(max(width or 100, 20), colour, blocks)


def escaped(text: str) -> str:
    """Text on one line that cannot drive a terminal: control, bidirectional and invisible characters as escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def cut(text: str, width: int, look: Look) -> str:
    """Text in so many cells, its middle left out: both ends of a model's or a session's name tell it apart."""
    if cells_of(text) <= width:
        return text
    mark = "…" if look.blocks else ".."
    room = max(width - len(mark), 0)
    head, tail = "", ""
    for character in text:
        if cells_of(head + character) > (room + 1) // 2:
            break
        head += character
    for character in reversed(text):
        if cells_of(character + tail) > room - cells_of(head):
            break
        tail = character + tail
    return head + mark + tail


def cells_of(text: str) -> int:
    """How many cells a terminal needs for a text."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
