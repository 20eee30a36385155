"""A log's text in pieces of whole lines, each in a file in memory that DuckDB can read while the log grows."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator

from callmeter.store.memory import is_scarce
from callmeter.words.usage import MAX_LINE

BOM = b"\xef\xbb\xbf"
LONGEST = MAX_LINE + len(BOM)
_PIECE = 64 << 20
_NEVER_IN_PLAIN = (b"\0", b"\r", b"\1", b"\2")


class Piece:
    """Whole lines of a source: `lines` of them after `line` others, in `size` bytes from `start` of its text.

    `plain` is False if something is in it that no plain line has. A piece with `skipped` bytes stands for one line that
    is too long to be a record, and holds nothing. An `unfinished` piece is a last line without newline.
    """

    def __init__(self, start: int, line: int) -> None:
        self.start = start
        self.line = line
        self.lines = 0
        self.size = 0
        self.skipped = 0
        self.plain = True
        self.unfinished = False
        self._file = memory_file()

    @property
    def stop(self) -> int:
        """Where the text after this piece begins."""
        return self.start + self.size + self.skipped

    def add(self, data: bytes) -> None:
        """Append text."""
        if self.plain and (any(odd in data for odd in _NEVER_IN_PLAIN) or (not self.size and data.startswith(BOM))):
            self.plain = False
        self.lines += _newlines(data)
        self.size += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]

    def cut(self, size: int) -> None:
        """Take so many bytes, which are no whole line, from its end."""
        self.size -= size
        os.ftruncate(self._file, self.size)

    def has_empty_lines(self) -> bool:
        """Whether a line has nothing in it at all."""
        text = self.read(self.start, self.stop)
        return text.startswith(b"\n") or b"\n\n" in text

    def path(self) -> str:
        """A name under which this process can open it."""
        return f"/dev/fd/{self._file}"

    def read(self, start: int, stop: int) -> bytes:
        """The text between two places of the source."""
        data = b""
        while len(data) < stop - start:
            more = os.pread(self._file, stop - start - len(data), start - self.start + len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def after(self, skipped: int = 0) -> Piece:
        """The next piece, empty; or the line of `skipped` bytes that is too long to be one."""
        piece = Piece(self.stop, self.line + self.lines)
        piece.skipped = skipped
        piece.lines = 1 if skipped else 0
        return piece

    def close(self) -> None:
        """Give the memory back."""
        os.close(self._file)


def pieces(chunks: Iterable[bytes], start: int, line: int) -> Iterator[Piece]:
    """The text of `chunks`, which begin at `start` after `line` lines, as pieces; who takes one closes it."""
    piece = Piece(start, line)
    rest = b""  # the end of the piece, after its last newline
    skipped = 0
    most = _PIECE // 4 if is_scarce() else _PIECE
    for chunk in chunks:
        if skipped:
            cut = chunk.find(b"\n") + 1
            skipped += cut or len(chunk)
            if not cut:
                continue
            chunk = chunk[cut:]
            yield (piece := piece.after(skipped))
            piece, skipped = piece.after(), 0
        piece.add(chunk)
        cut = chunk.rfind(b"\n") + 1
        rest = chunk[cut:] if cut else rest + chunk
        if len(rest) > LONGEST:
            piece.cut(len(rest))
            yield piece
            rest, skipped = b"", len(rest)
        elif piece.size - len(rest) >= most:
            piece.cut(len(rest))
            yield piece
            piece = piece.after()
            piece.add(rest)
    if skipped:
        piece = piece.after(skipped)
        piece.unfinished = True
        yield piece
        return
    piece.cut(len(rest))
    yield piece
    if rest:
        piece = piece.after()
        piece.add(rest)
        piece.lines, piece.unfinished = 1, True
        yield piece


def _newlines(data: bytes) -> int:
    """How many there are. `bytes.count` looks at each byte for itself, `find` does not: a third of the time."""
    count = place = 0
    while place := data.find(b"\n", place) + 1:
        count += 1
    return count


def memory_file() -> int:
    """A file without a name, in memory where the system has such files; who takes it closes it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("callmeter", os.MFD_CLOEXEC)
    descriptor, path = tempfile.mkstemp()
    os.unlink(path)
    return descriptor
