"""A log's text in pieces of whole lines, in memory: the log may grow or go meanwhile."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator

from callmeter.store.index_native import PADDING, native
from callmeter.store.memory import is_scarce
from callmeter.words.usage import MAX_LINE

BOM = b"\xef\xbb\xbf"
LONGEST = MAX_LINE + len(BOM)
_PIECE = 32 << 20
# Puts text into memory, from its beginning on: how many bytes, 0 at the end.
Fill = Callable[[memoryview], int]
CHUNK = 1 << 21
# Memory of pieces that were closed.
_SPARE = 4
_spare: list[bytearray] = []
_NEVER_IN_PLAIN = (b"\0", b"\r", b"\1", b"\2")


class Piece:
    """Whole lines of a source: `lines` of them after `line` others, in `size` bytes from `start` of its text.

    A piece with `skipped` bytes stands for one line that is too long to be a record, and holds nothing. An `unfinished`
    piece is a last line without newline.
    """

    def __init__(self, start: int, line: int) -> None:
        self.start = start
        self.line = line
        self.lines = 0
        self.size = 0
        self.skipped = 0
        self.unfinished = False
        self.text = _spare.pop() if _spare else bytearray(_most() + CHUNK + LONGEST + PADDING)
        self._file = -1

    @property
    def stop(self) -> int:
        """Where the text after this piece begins."""
        return self.start + self.size + self.skipped

    def fill(self, fill: Fill) -> int:
        """Append what `fill` puts there; how many bytes."""
        if len(self.text) < self.size + CHUNK:
            self.text.extend(bytes(self.size + CHUNK))
        with memoryview(self.text) as whole, whole[self.size : self.size + CHUNK] as room:
            size = fill(room)
        self.lines += _newlines(self.text, self.size, self.size + size)
        self.size += size
        return size

    def add(self, data: bytes | bytearray) -> None:
        """Append text."""
        fill = given([data])
        while self.fill(fill):
            pass

    def cut(self, size: int) -> None:
        """Take so many bytes, which are no whole line, from its end."""
        self.size -= size

    def is_plain(self) -> bool:
        """Whether nothing is in it that no plain line has."""
        text = memoryview(self.text)[: self.size]
        return not any(self.text.find(odd, 0, self.size) >= 0 for odd in _NEVER_IN_PLAIN) and text[: len(BOM)] != BOM

    def has_empty_lines(self) -> bool:
        """Whether a line has nothing in it at all."""
        text = self.read(self.start, self.stop)
        return text.startswith(b"\n") or b"\n\n" in text

    def path(self) -> str:
        """A name under which this process can open it as a file in memory."""
        if self._file < 0:
            self._file = memory_file()
            view = memoryview(self.text)[: self.size]
            while view:
                view = view[os.write(self._file, view) :]
        return f"/dev/fd/{self._file}"

    def read(self, start: int, stop: int) -> bytes:
        """The text between two places of the source."""
        return bytes(memoryview(self.text)[start - self.start : min(stop - self.start, self.size)])

    def after(self, skipped: int = 0) -> Piece:
        """The next piece, empty; or the line of `skipped` bytes that is too long to be one."""
        piece = Piece(self.stop, self.line + self.lines)
        piece.skipped = skipped
        piece.lines = 1 if skipped else 0
        return piece

    def close(self) -> None:
        """Leave the memory to other pieces: to have it anew from the system takes time."""
        if self._file >= 0:
            os.close(self._file)
        if len(_spare) < _SPARE:
            _spare.append(self.text)
        self.text = bytearray()


def pieces(fill: Fill, start: int, line: int) -> Iterator[Piece]:
    """The text that `fill` gives, which begins at `start` after `line` lines, as pieces; who takes one closes it."""
    piece = Piece(start, line)
    rest = skipped = 0  # bytes: those of the piece after its last newline; those of a line that is too long
    most = _most()
    while size := piece.fill(fill):
        cut = piece.text.rfind(b"\n", piece.size - size, piece.size) + 1
        rest = piece.size - cut if cut else rest + size
        if skipped:
            begin = piece.text.find(b"\n", 0, piece.size) + 1
            skipped += begin or size
            tail = piece.text[begin : piece.size] if begin else b""
            piece.size = piece.lines = 0
            if begin:
                yield (long := piece.after(skipped))
                piece.close()
                piece, skipped = long.after(), 0
                piece.add(tail)
            rest = min(rest, piece.size)
        elif rest > LONGEST:
            piece.cut(rest)
            yield piece
            piece, rest, skipped = piece.after(), 0, rest
        elif piece.size - rest >= most:
            tail = piece.text[piece.size - rest : piece.size]
            piece.cut(rest)
            yield piece
            piece = piece.after()
            piece.add(tail)
    if skipped:
        piece = piece.after(skipped)
        piece.unfinished = True
        yield piece
        return
    tail = piece.text[piece.size - rest : piece.size]
    piece.cut(rest)
    yield piece
    if rest:
        piece = piece.after()
        piece.add(tail)
        piece.lines, piece.unfinished = 1, True
        yield piece


def release() -> None:
    """Give all memory for pieces back: until then, closed ones leave theirs to others."""
    _spare.clear()
    compiled = native()
    if compiled:
        compiled.release()


def given(chunks: Iterable[bytes | bytearray]) -> Fill:
    """What fills memory with these texts, one after the other."""
    each = iter(chunks)
    rest = memoryview(b"")

    def fill(room: memoryview) -> int:
        nonlocal rest
        while not rest:
            chunk = next(each, None)
            if chunk is None:
                return 0
            rest = memoryview(chunk)
        size = min(len(rest), len(room))
        room[:size] = rest[:size]
        rest = rest[size:]
        return size

    return fill


def _most() -> int:
    return _PIECE // 4 if is_scarce() else _PIECE


def _newlines(text: bytearray, start: int, stop: int) -> int:
    """How many there are between two places."""
    compiled = native()
    if compiled:
        return compiled.newlines(text, start, stop)
    # `bytes.count` looks at each byte for itself, `find` does not: a third of the time.
    count = 0
    while start := text.find(b"\n", start, stop) + 1:
        count += 1
    return count


def memory_file() -> int:
    """A file without a name, in memory where the system has such files; who takes it closes it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("callmeter", os.MFD_CLOEXEC)
    descriptor, path = tempfile.mkstemp()
    os.unlink(path)
    return descriptor
