"""What the usage index holds: which sources were read how far, and the files with their rows. Replaced as a whole."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from callmeter.store.files import read_file, remove_file, replace_file
from callmeter.store.index_columns import COLUMNS
from callmeter.words.digest import hex_digest
from callmeter.words.errors import CallmeterError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

NAME = "manifest.json"
BLOCK = 4096
LISTED = 1000
# So long (seconds) what is no longer named stays for readers of the manifest that named it. What this manifest never
# named goes as late: a killed build left it, or callmeter of another version, which may take turns with this one.
_KEPT = 600


class Part(msgspec.Struct):
    """A Parquet file; `size` and `mtime` tell whether it is the one that was written. Its ids rank `low` to `high`, and
    all differently if they are known to be `distinct`."""

    file: str
    rows: int
    size: int
    mtime: int
    low: int
    high: int
    distinct: bool = False


class Source(msgspec.Struct):
    """A log's file, known by its inode, its first block and the last one that was read: names change.

    `read` is how much of its text was read, `lines` so many lines; of a packed file the size is that of the file.
    `faults` lists the first of `faulty` (line, reason), and always where the file is damaged.
    """

    number: int
    path: str
    packed: bool
    device: int
    inode: int
    mtime: int
    size: int
    head: str
    tail: str
    ctime: int = 0
    read: int = 0
    lines: int = 0
    faulty: int = 0
    faults: list[tuple[int, str]] = []
    parts: list[Part] = []


class Manifest(msgspec.Struct):
    """`twins` are files of rows whose id is there more than once, `corrections` and `corrected` of what corrections say
    and of the rows they correct; all three may tell of sources that are gone. `retired` names files with the time of
    that."""

    version: str
    sources: list[Source] = []
    twins: list[Part] = []
    corrections: list[Part] = []
    corrected: list[Part] = []
    next: int = 1
    retired: dict[str, int] = {}

    def parts(self) -> list[Part]:
        """The files of all rows."""
        return [part for source in self.sources for part in source.parts]

    def files(self) -> list[Part]:
        """Every file."""
        return [*self.parts(), *self.twins, *self.corrections, *self.corrected]


def version() -> str:
    """Changes with the shape of the index."""
    return "7-" + hex_digest(repr(sorted(COLUMNS.items())).encode("ascii"))[:12]


def read_manifest(directory: str) -> Manifest:
    """The manifest of an index; an empty one if there is none, if it is of another version or damaged, or if one of
    its files is missing or not the one that was written."""
    empty = Manifest(version())
    try:
        data = read_file(os.path.join(directory, NAME))
        if data is None:
            return empty
        manifest = msgspec.json.decode(data, type=Manifest)
    except (CallmeterError, msgspec.MsgspecError, ValueError):
        return empty
    if manifest.version != empty.version:
        return empty
    for part in manifest.files():
        try:
            found = os.stat(os.path.join(directory, part.file))
        except OSError:
            return empty
        if (found.st_size, found.st_mtime_ns) != (part.size, part.mtime):
            return empty
    return manifest


def write_manifest(directory: str, manifest: Manifest, now: int) -> None:
    """Put it in place, and clear away what nobody reads any more (`now` in seconds). Raises FileProblem."""
    manifest.retired = {file: at for file, at in manifest.retired.items() if now - at < _KEPT}
    replace_file(os.path.join(directory, NAME), msgspec.json.encode(manifest), sync=False)
    named = {part.file for part in manifest.files()} | set(manifest.retired)
    for entry in os.scandir(directory):
        if entry.name.endswith((".parquet", ".tmp")) and entry.name not in named:
            at = entry.stat().st_mtime
            if now - at > _KEPT or at > now:
                remove_file(entry.path)


def part_of(connection: DuckDBPyConnection, path: str, rows: int) -> Part:
    """A file of rows as the manifest names it."""
    low, high = connection.execute(
        "SELECT coalesce(min(rank), 0), coalesce(max(rank), 0) FROM read_parquet([$path], hive_partitioning = false)",
        {"path": path},
    ).fetchall()[0]
    return part_at(path, rows, low, high)


def part_at(path: str, rows: int, low: int, high: int, *, distinct: bool = False) -> Part:
    """A file of rows whose ids rank so, as the manifest names it."""
    found = os.stat(path)
    return Part(os.path.basename(path), rows, found.st_size, found.st_mtime_ns, low, high, distinct)


def block_digest(file: BinaryIO, start: int, stop: int) -> str:
    """What tells one block of a file from another."""
    return hex_digest(os.pread(file.fileno(), stop - start, start))[:32]
