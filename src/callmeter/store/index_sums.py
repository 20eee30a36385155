"""Sums by day, kept beside the rows of the usage index: most questions are answered from a tenth or a hundredth of it.

They are sums over the rows that count, by all names together that have few values. They can be made anew from the rows
at any time: whoever finds some missing writes them under names of their own, and then the list of them as a whole; of
two at once, one does it in vain.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from callmeter.reports.grouping import FIELDS
from callmeter.store.files import read_file, remove_file, replace_file
from callmeter.store.index_query import SLOT, SUMMED, make_buckets, slots_of
from callmeter.words.errors import CallmeterError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Names of which a log has few values, so that there are few combinations of them on a day.
FEW = frozenset((
    "agent", "purpose", "priority", "environment", "cost_center", "workflow", "model", "served_model", "provider",
    "status", "key", "host", "finish_reason", "error", "cost_source", "pool",
))  # fmt: skip
BY = ", ".join(f'rows."{name}"' if name in FIELDS else f"rows.tag_{name}" for name in sorted(FEW))
NAME = "sums.json"
_ENDING = ".sums"
# What nobody names any more was left by somebody who was killed, or is still being read.
_LEFT_OVER = 3600
# So many rows, in so many files, are read as fast as their sums; so many are summed at once, for the memory; so many
# small files are one.
_FRESH = 50_000
_FRESH_FILES = 100
_AT_ONCE = 1_000_000
_MANY = 8
# Groups of rows so small that several threads write them.
_FORMAT = """(FORMAT parquet, COMPRESSION lz4_raw, PARQUET_VERSION v2, WRITE_BLOOM_FILTER false,
    DICTIONARY_SIZE_LIMIT 1000, ROW_GROUP_SIZE 20480)"""


class RowFile(NamedTuple):
    """A file of rows, all of one source."""

    path: str
    source: int
    rows: int

    @property
    def name(self) -> str:
        return os.path.basename(self.path)


class _Batch(msgspec.Struct):
    """A file of sums over some files of rows, without those of their rows that `dropped` stands for."""

    file: str
    size: int
    mtime: int
    rows: int
    parts: list[str]
    dropped: str


class _Listed(msgspec.Struct):
    version: str
    zone: str
    batches: list[_Batch] = []


class Summed(NamedTuple):
    """Files of sums, those of the rows that are in them, and those of all other rows."""

    sums: list[str]
    old: list[str]
    fresh: list[str]


def up_to_date(
    connection: DuckDBPyConnection, files: Sequence[RowFile], zone: tzinfo, directory: str, version: str
) -> Summed:
    """Sums of these rows by the days of `zone`, made where they are missing. `connection` has the table `dropped`.

    Rows whose sums cannot be written, or are out of range, stay without.
    """
    marks = {
        source: f"{source}:{count}:{mark}"
        for source, count, mark in connection.execute(
            "SELECT source, count(*), bit_xor(hash(line)) FROM dropped GROUP BY source"
        ).fetchall()
    }
    batches = [batch for batch in _listed(directory, version, zone) if _holds(batch, directory, files, marks)]
    if sum(batch.rows < _AT_ONCE // 2 for batch in batches) > _MANY:
        batches = [batch for batch in batches if batch.rows >= _AT_ONCE // 2]
    missing = _without(files, batches)
    if sum(file.rows for file in missing) > _FRESH or len(missing) > _FRESH_FILES:
        made = _made(connection, missing, zone, directory, marks)
        if made:
            batches += made
            _write_list(directory, _Listed(version, str(zone), batches))
    fresh = dict.fromkeys(file.path for file in _without(files, batches))
    return Summed(
        [os.path.join(directory, batch.file) for batch in batches],
        [file.path for file in files if file.path not in fresh],
        list(fresh),
    )


def _without(files: Sequence[RowFile], batches: Sequence[_Batch]) -> list[RowFile]:
    summed = {part for batch in batches for part in batch.parts}
    return [file for file in files if file.name not in summed]


def _listed(directory: str, version: str, zone: tzinfo) -> list[_Batch]:
    try:
        data = read_file(os.path.join(directory, NAME))
        listed = None if data is None else msgspec.json.decode(data, type=_Listed)
    except (CallmeterError, msgspec.MsgspecError, ValueError):
        return []
    return [] if listed is None or (listed.version, listed.zone) != (version, str(zone)) else listed.batches


def _holds(batch: _Batch, directory: str, files: Sequence[RowFile], marks: Mapping[int, str]) -> bool:
    """Whether these are the sums of rows that are all there, and of which the same do not count."""
    named = set(batch.parts)
    parts = [file for file in files if file.name in named]
    if len(parts) != len(batch.parts) or _dropped(parts, marks) != batch.dropped:
        return False
    try:
        found = os.stat(os.path.join(directory, batch.file))
    except OSError:
        return False
    return (found.st_size, found.st_mtime_ns) == (batch.size, batch.mtime)


def _dropped(files: Sequence[RowFile], marks: Mapping[int, str]) -> str:
    return " ".join(marks[source] for source in sorted({file.source for file in files}) if source in marks)


def _made(
    connection: DuckDBPyConnection,
    files: Sequence[RowFile],
    zone: tzinfo,
    directory: str,
    marks: Mapping[int, str],
) -> list[_Batch]:
    import duckdb

    together: list[list[RowFile]] = []
    size = _AT_ONCE
    for file in files:
        if size + file.rows > _AT_ONCE:
            together.append([])
            size = 0
        together[-1].append(file)
        size += file.rows
    given = {"paths": [file.path for file in files]}
    found: list[_Batch] = []
    mask = os.umask(0o077)  # DuckDB makes the files
    try:
        make_buckets(connection, "time_summed", "day", zone, slots_of(connection, read("$paths"), given))
        for each in together:
            found.append(_batch(connection, each, directory, marks))
    except (OSError, duckdb.Error):
        return found
    finally:
        os.umask(mask)
    return found


def _batch(
    connection: DuckDBPyConnection, files: Sequence[RowFile], directory: str, marks: Mapping[int, str]
) -> _Batch:
    name = os.urandom(8).hex() + _ENDING
    path = os.path.join(directory, name)
    sums = ", ".join(f"sum({each})::BIGINT AS {each}" for each in SUMMED)
    query = f"""
        SELECT time_summed.start AS day, {BY}, kind, count(*) AS lines, {sums}, min(ms) AS first, max(ms) AS last
        FROM {read("$paths")} AS rows {days("time_summed")} {COUNTED}
        GROUP BY time_summed.start, {BY}, kind
    """
    given = {"paths": [file.path for file in files], "file": path}
    connection.execute(f"COPY ({query}) TO $file {_FORMAT}", given)
    stat = os.stat(path)
    rows = sum(file.rows for file in files)
    return _Batch(name, stat.st_size, stat.st_mtime_ns, rows, [file.name for file in files], _dropped(files, marks))


def _write_list(directory: str, listed: _Listed) -> None:
    try:
        replace_file(os.path.join(directory, NAME), msgspec.json.encode(listed), sync=False)
        named = {batch.file for batch in listed.batches}
        for entry in os.scandir(directory):
            is_left = entry.name.endswith(_ENDING) and entry.name not in named
            if is_left and time.time() - entry.stat().st_mtime > _LEFT_OVER:
                remove_file(entry.path)
    except (CallmeterError, OSError):
        return  # the sums serve this run


def read(paths: str) -> str:
    """The rows or sums in files, of which a parameter tells."""
    return f"read_parquet({paths}, hive_partitioning = false)"


def days(table: str) -> str:
    """A join that adds the columns of a table of days."""
    return f"JOIN {table} ON {table}.slot = {SLOT} AND ms >= {table}.begins AND ms < {table}.ends"


# A condition for rows that are not dropped; after all joins.
COUNTED = "ANTI JOIN dropped ON rows.source = dropped.source AND rows.line = dropped.line"
