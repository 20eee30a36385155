"""Rows for the usage index from pieces of a log's text: plain lines at once, by compiled code or in SQL, all others one
by one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from callmeter.store.index_columns import COLUMNS, json_columns, row_of
from callmeter.store.index_manifest import Part, part_at, part_of
from callmeter.store.index_native import Gap, native
from callmeter.store.index_plain import plain_rows
from callmeter.store.index_text import BOM, LONGEST, Piece, memory_file
from callmeter.store.index_usual import Habits, Usual, usual_lines
from callmeter.words.record import UsageRecord, parse_record
from callmeter.words.usage import MAX_LINE

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# So many lines are read one by one in the time in which SQL is made ready for them.
_FEW = 500
# Of lines that were read one by one, each so-many-th says what there is beside the usual, up to so many.
_EACH = 50
_MOST = 100
_TOO_LONG = f"longer than {MAX_LINE} bytes"
# No query looks for one value in a way that a Bloom filter shortens; and texts that all differ are known early.
FORMAT = """(FORMAT parquet, COMPRESSION lz4_raw, PARQUET_VERSION v2, WRITE_BLOOM_FILTER false,
    DICTIONARY_SIZE_LIMIT 8192)"""
# Neither byte is in a plain line, nor is a line empty, when SQL gets to see it.
_CSV = f"""header = false, auto_detect = false, delim = '\1', quote = '', escape = '', nullstr = '\2', new_line = '\\n',
    strict_mode = false, max_line_size = {2 * LONGEST}"""
_COUNTED = (
    f"read_csv($path, columns = {{'text': 'VARCHAR'}}, {_CSV})",
    """place AS n, strlen(text) AS size,
        sum(strlen(text) + 1) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) - strlen(text) - 1 AS start""",
)
_NUMBERED = (
    f"""read_csv($path, {_CSV},
        columns = {{'at': 'BIGINT', 'begin': 'BIGINT', 'length': 'BIGINT', 'text': 'VARCHAR'}})""",
    'at AS n, "begin" AS start, length AS size',
)
_GAPS = """
    SELECT stop, last, start FROM (
        SELECT line, start, lag(line, 1, $line) OVER () AS last, lag(start + size + 1, 1, $start) OVER () AS stop
        FROM (SELECT line, start, size FROM read_parquet($path) UNION ALL SELECT $lines + 1, $stop, 0)
    ) WHERE line > last + 1
"""


class Rows:
    """What a piece came to: files of rows that were written, and the faults (line number, reason)."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.faults: list[tuple[int, str]] = []


def write_rows(
    connection: DuckDBPyConnection, piece: Piece, source: int, name: str, habits: Habits | None = None
) -> Rows:
    """Write the rows of a piece to `name`.parquet and, of lines that are not plain, to `name`-odd.parquet.

    `habits` of the source, which are learned here, save time.
    """
    rows = Rows()
    if piece.skipped:
        rows.faults.append((piece.line + 1, _TOO_LONG))
        return rows
    habits = habits or Habits()
    gaps = [Gap(piece.start, piece.line, piece.stop)]
    path = f"{name}.parquet"
    compiled = native()
    if piece.unfinished:
        pass
    elif compiled:
        written = compiled.write(
            piece.text, piece.size, piece.lines, path, source=source, line=piece.line, start=piece.start
        )
        gaps = written.gaps
        if written.rows:
            rows.parts.append(part_at(path, written.rows, written.low, written.high, distinct=written.distinct))
    elif piece.lines >= _FEW:
        plain = _write_most(connection, piece, source, path, habits)
        if plain:
            rows.parts.append(part_of(connection, path, plain))
            gaps = _gaps(connection, piece, path) if plain < piece.lines else []
        elif os.path.exists(path):
            os.unlink(path)
    if gaps:
        _write_others(connection, piece, source, f"{name}-odd.parquet", gaps, rows, habits)
    return rows


def _write_most(connection: DuckDBPyConnection, piece: Piece, source: int, path: str, habits: Habits) -> int:
    """Write the rows of the plain lines of a piece; how many."""
    import duckdb

    usual = usual_lines(piece, habits.others)
    is_plain = piece.is_plain()
    for careful in (False, True) if habits.all_json else (True,):
        try:
            plain = _write_plain(connection, piece, source, path, usual, is_plain=is_plain, careful=careful)
        except duckdb.IOException:
            raise  # no fault of the text, perhaps a full disk
        except duckdb.Error:
            habits.all_json = False
            continue
        if not is_plain or plain == piece.lines or not piece.has_empty_lines():
            return plain
        break  # the reader passes over empty lines, and then counts wrongly
    if not is_plain:
        return 0
    # Bytes that are no text, or an overlong line: DuckDB gives up the whole file.
    try:
        return _write_plain(connection, piece, source, path, usual, is_plain=False, careful=True)
    except duckdb.Error:
        return 0


def meanings(line: bytes, number: int, finished: bool) -> Iterator[UsageRecord | str]:
    """What is in a line: the record, and what is wrong with it; as `LogReader` sees it."""
    if len(line) > LONGEST:
        yield _TOO_LONG
        return
    if number == 1:
        line = line.removeprefix(BOM)
    if b"\0" in line:
        yield "NUL bytes, as a power failure leaves them"
        line = line.strip(b"\0")
    line = line.removesuffix(b"\r")
    if not line.strip():
        return
    try:
        yield parse_record(line)
    except ValueError as error:
        if finished:
            yield str(error)


def _write_plain(
    connection: DuckDBPyConnection,
    piece: Piece,
    source: int,
    path: str,
    usual: Usual,
    *,
    is_plain: bool,
    careful: bool,
) -> int:
    lines = _COUNTED if is_plain else _NUMBERED
    descriptor = -1 if is_plain else _numbered(piece)
    text = piece.path() if is_plain else f"/dev/fd/{descriptor}"
    try:
        query = f"COPY ({plain_rows(*lines, usual, careful=careful)}) TO $file {FORMAT}"
        given = {"path": text, "file": path, "source": source, "line": piece.line, "start": piece.start}
        (count,) = connection.execute(query, given).fetchall()[0]
        return int(count)
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _gaps(connection: DuckDBPyConnection, piece: Piece, plain: str) -> list[Gap]:
    """The lines that are not in the file `plain`."""
    given = {
        "path": plain,
        "line": piece.line,
        "lines": piece.line + piece.lines,
        "start": piece.start,
        "stop": piece.stop,
    }
    return [Gap(*gap) for gap in connection.execute(_GAPS, given).fetchall()]


def _numbered(piece: Piece) -> int:
    """A file of the lines that may be plain, each with its number and place."""
    descriptor = memory_file()
    with os.fdopen(os.dup(descriptor), "wb") as file:
        start = 0
        text = piece.read(piece.start, piece.stop)
        for number, line in enumerate(text.removesuffix(b"\n").split(b"\n"), 1):
            size = len(line)
            if number + piece.line == 1:
                line = line.removeprefix(BOM)
            line = line.removesuffix(b"\r")
            if 0 < len(line) <= MAX_LINE and line[:2] == b'{"' and not _is_odd(line):
                file.write(b"%d\1%d\1%d\1%b\n" % (number, start, size, line))
            start += size + 1
    return descriptor


def _is_odd(line: bytes) -> bool:
    if b"\0" in line or b"\r" in line or b"\1" in line or b"\2" in line:
        return True
    if line.isascii():
        return False
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _write_others(
    connection: DuckDBPyConnection,
    piece: Piece,
    source: int,
    path: str,
    gaps: Sequence[Gap],
    rows: Rows,
    habits: Habits,
) -> None:
    """Write the rows of the lines in these gaps."""
    descriptor = memory_file()
    count = 0
    try:
        with os.fdopen(os.dup(descriptor), "w", encoding="ascii") as file:
            for start, number, stop in gaps:
                for line in piece.read(start, stop).removesuffix(b"\n").split(b"\n"):
                    number += 1
                    for found in meanings(line, number, not piece.unfinished):
                        if isinstance(found, str):
                            rows.faults.append((number, found))
                        else:
                            count += 1
                            if count % _EACH == 0 and len(habits.others) < _MOST:
                                habits.others.append(line)
                            json.dump(row_of(found, source, number, start, len(line)), file)
                            file.write("\n")
                    start += len(line) + 1
        if count:
            query = f"""
                COPY (SELECT {", ".join(COLUMNS)} FROM read_json($path, format = 'newline_delimited',
                    columns = {json_columns()}, maximum_object_size = {1 << 24})) TO $file {FORMAT}
            """
            connection.execute(query, {"path": f"/dev/fd/{descriptor}", "file": path})
            rows.parts.append(part_of(connection, path, count))
    finally:
        os.close(descriptor)
