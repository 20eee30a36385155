"""The container of a Parquet file: what stands around its column chunks.

Source of the format: https://parquet.apache.org/docs/file-format/ and parquet.thrift of the project parquet-format, in
Thrift's compact protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import BinaryIO, NamedTuple

_MAGIC = b"PAR1"
_I32, _I64, _BINARY, _LIST, _STRUCT = 5, 6, 8, 9, 12
_OPTIONAL = 1
_RLE = 3
_BOOLEAN, _INT32, _INT64, _BYTE_ARRAY, _FIXED = 0, 1, 2, 6, 7
_UTF8 = 0
# A column's type as DuckDB calls it: physical type, converted type if any.
_TYPES: Mapping[str, tuple[int, int | None]] = {
    "BOOLEAN": (_BOOLEAN, None),
    "UTINYINT": (_INT32, 11),
    "SMALLINT": (_INT32, 16),
    "INTEGER": (_INT32, 17),
    "BIGINT": (_INT64, 18),
    "UBIGINT": (_INT64, 14),
    "VARCHAR": (_BYTE_ARRAY, _UTF8),
    "UUID": (_FIXED, None),
}
_UUID_SIZE = 16

_Field = tuple[int, int, object]


class Chunk(NamedTuple):
    """A column's values, without compression: where its data page and its dictionary (-1: none) begin in the
    chunks' bytes, and how many bytes both take; `low` and `high` of whole numbers."""

    offset: int
    dictionary: int
    size: int
    values: int
    nulls: int
    encoding: int
    low: int = 0
    high: int = 0


def write(
    file: BinaryIO, columns: Mapping[str, str], rows: int, body: bytes | memoryview, chunks: Sequence[Chunk]
) -> None:
    """Write a file of one row group, whose chunks are in `body`. Raises OSError."""
    for part in (_MAGIC, body, _footer(columns, chunks, rows)):
        left = memoryview(part)
        while left:  # a file without a buffer may take a part of it, as one on a disk that is getting full does
            left = left[file.write(left) :]


def _footer(columns: Mapping[str, str], chunks: Sequence[Chunk], rows: int) -> bytes:
    schema: list[list[_Field]] = [[(4, _BINARY, b"callmeter"), (5, _I32, len(columns))]]
    groups: list[list[_Field]] = []
    for (name, kind), chunk in zip(columns.items(), chunks, strict=True):
        schema.append(_element(name, kind))
        groups.append(_chunk(name, kind, chunk))
    size = sum(chunk.size for chunk in chunks)
    group: list[_Field] = [(1, _LIST, groups), (2, _I64, size), (3, _I64, rows)]
    # Without an order for each column its lowest and highest value have no meaning: theirs is that of its type.
    orders: list[list[_Field]] = [[(1, _STRUCT, [])] for _ in columns]
    text = _struct([(1, _I32, 1), (2, _LIST, schema), (3, _I64, rows), (4, _LIST, [group]), (7, _LIST, orders)])
    return text + len(text).to_bytes(4, "little") + _MAGIC


def _element(name: str, kind: str) -> list[_Field]:
    physical, converted = _TYPES[kind]
    element: list[_Field] = [(1, _I32, physical)]
    if kind == "UUID":
        element.append((2, _I32, _UUID_SIZE))
    element += [(3, _I32, _OPTIONAL), (4, _BINARY, name.encode("ascii"))]
    if converted is not None:
        element.append((6, _I32, converted))
    if kind == "UUID":
        element.append((10, _STRUCT, [(14, _STRUCT, [])]))
    return element


def _chunk(name: str, kind: str, chunk: Chunk) -> list[_Field]:
    physical, _ = _TYPES[kind]
    start = chunk.offset if chunk.dictionary < 0 else chunk.dictionary
    found: list[_Field] = [
        (1, _I32, physical),
        (2, _LIST, [chunk.encoding, _RLE]),
        (3, _LIST, [name.encode("ascii")]),
        (4, _I32, 0),
        (5, _I64, chunk.values),
        (6, _I64, chunk.size),
        (7, _I64, chunk.size),
        (9, _I64, len(_MAGIC) + chunk.offset),
    ]
    if chunk.dictionary >= 0:
        found.append((11, _I64, len(_MAGIC) + chunk.dictionary))
    bounds: list[_Field] = [(3, _I64, chunk.nulls)]
    if physical in (_INT32, _INT64) and chunk.nulls < chunk.values:
        size = 4 if physical == _INT32 else 8
        mask = (1 << 8 * size) - 1
        ends = ((5, chunk.high), (6, chunk.low))
        bounds += [(number, _BINARY, (end & mask).to_bytes(size, "little")) for number, end in ends]
    found.append((12, _STRUCT, bounds))
    return [(2, _I64, len(_MAGIC) + start), (3, _STRUCT, found)]


def _struct(fields: Sequence[_Field]) -> bytes:
    text = b""
    before = 0
    for number, kind, value in fields:
        text += bytes([number - before << 4 | kind]) + _value(kind, value)
        before = number
    return text + b"\0"


def _value(kind: int, value: object) -> bytes:
    if isinstance(value, int):
        return _varint(value << 1 if value >= 0 else ~(value << 1))
    if isinstance(value, bytes):
        return _varint(len(value)) + value
    assert isinstance(value, list)
    if kind == _STRUCT:
        return _struct(value)
    first = value[0] if value else 0
    of = _I32 if isinstance(first, int) else _BINARY if isinstance(first, bytes) else _STRUCT
    head = bytes([len(value) << 4 | of]) if len(value) < 15 else bytes([0xF0 | of]) + _varint(len(value))
    return head + b"".join(_value(of, each) for each in value)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value >= 128:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)
