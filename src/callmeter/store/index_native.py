"""Rows of plain lines by compiled code (`native/lines.c`), if it was compiled when callmeter was installed.

It makes of lines what SQL would make of them (`index_plain`), in a fifth of the time.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from callmeter.store import parquet
from callmeter.store.index_columns import COLUMNS

if TYPE_CHECKING:
    import ctypes

_LIBRARY = os.path.join(os.path.dirname(__file__), "native", "lines.so")
# So many zeros stand behind a text, so that what looks at several bytes at once need not ask how many are left.
PADDING = 64
_HIGHEST = (1 << 64) - 1
_MEANING = 1
_CHUNK = ("offset", "dictionary", "size", "values", "nulls", "encoding", "low", "high")


class Gap(NamedTuple):
    """Lines that are not plain: the bytes of the source's text from `start` to `stop`, after `line` lines."""

    start: int
    line: int
    stop: int


class Written(NamedTuple):
    """How many rows were written; their lowest and highest rank, and whether these are distinct; and all other
    lines."""

    rows: int
    low: int
    high: int
    distinct: bool
    gaps: list[Gap]


class Native:
    """The compiled code in a library. Raises OSError, AttributeError if it is none, or another version's."""

    def __init__(self, path: str) -> None:
        import ctypes

        number = ctypes.c_int64

        class _Chunk(ctypes.Structure):
            _fields_ = [(name, number) for name in _CHUNK]

        class _Gap(ctypes.Structure):
            _fields_ = [(name, number) for name in Gap._fields]

        class _Batch(ctypes.Structure):
            _fields_ = [
                *((name, number) for name in ("rows", "gaps", "distinct", "size")),
                ("gap", ctypes.POINTER(_Gap)),
                ("body", ctypes.POINTER(ctypes.c_char)),
                ("chunks", _Chunk * len(COLUMNS)),
            ]

        self._ctypes = ctypes
        library = ctypes.CDLL(path)
        columns = library.callmeter_columns
        columns.restype, columns.argtypes = ctypes.c_char_p, []
        if columns() != f"{_MEANING} {' '.join(COLUMNS)}".encode("ascii"):
            raise OSError(f"{path} is of another version")
        batch = ctypes.POINTER(_Batch)
        self._count, self._new, self._read = library.callmeter_count, library.callmeter_new, library.callmeter_read
        self._count.restype, self._count.argtypes = number, [ctypes.c_void_p, number]
        self._new.restype, self._new.argtypes = batch, [ctypes.c_uint64]
        self._read.restype = ctypes.c_int
        self._read.argtypes = [batch, ctypes.c_void_p, number, number, number, number, number]
        self._free = library.callmeter_free
        self._free.restype, self._free.argtypes = None, [batch]
        # Memory that nobody uses: to have it anew from the system takes time.
        self._batches: list[ctypes._Pointer[_Batch]] = []

    def newlines(self, text: bytearray, start: int, stop: int) -> int:
        """How many there are between two places."""
        return int(self._count(self._address(text) + start, stop - start))

    def write(
        self, text: bytearray, size: int, lines: int, path: str, *, source: int, line: int, start: int
    ) -> Written:
        """Write the rows of the plain ones of `lines` lines, the first `size` bytes of a text. They follow `line` lines
        and `start` bytes of the source. Without rows there is no file.

        Raises MemoryError, OSError."""
        text[size : size + PADDING] = bytes(PADDING)
        # Whoever writes a log shall not choose which of its texts fall into one place of a table: hence the seed.
        try:
            batch = self._batches.pop()
        except IndexError:  # asked for only now: several threads take them
            batch = self._new(int.from_bytes(os.urandom(8), "little"))
        if not batch:
            raise MemoryError
        if not self._read(batch, self._address(text), size, lines, source, line, start):
            self._free(batch)
            raise MemoryError
        try:
            return self._written(batch.contents, path)
        finally:
            self._batches.append(batch)

    def release(self) -> None:
        """Give memory back that nobody uses."""
        while self._batches:
            self._free(self._batches.pop())

    def _address(self, text: bytearray) -> int:
        """Of a text that is not resized meanwhile."""
        return self._ctypes.addressof(self._ctypes.c_char.from_buffer(text))

    def _written(self, batch: ctypes.Structure, path: str) -> Written:
        gaps = [Gap(gap.start, gap.line, gap.stop) for gap in batch.gap[: batch.gaps]]
        if not batch.rows:
            return Written(0, 0, 0, True, gaps)
        chunks = [parquet.Chunk(*(getattr(chunk, name) for name in _CHUNK)) for chunk in batch.chunks]
        body = (self._ctypes.c_char * batch.size).from_address(self._ctypes.addressof(batch.body.contents))
        with open(path, "wb", buffering=0) as file:
            parquet.write(file, COLUMNS, batch.rows, memoryview(body), chunks)
        rank = chunks[list(COLUMNS).index("rank")]
        return Written(batch.rows, rank.low & _HIGHEST, rank.high & _HIGHEST, bool(batch.distinct), gaps)


@cache
def native() -> Native | None:
    """The compiled code; None where there is none."""
    try:
        return Native(_LIBRARY)
    except (OSError, AttributeError, ImportError):
        return None
