"""Bringing a log's usage index up to date in steps that last, each in seconds: whoever is killed, by the deadline of a
cron job perhaps, leaves to the next one what is done."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from callmeter.store.files import Lock, file_problem, make_directory, remove_file
from callmeter.store.index_build import Builder, LogFile, log_files, matched
from callmeter.store.index_manifest import Manifest, Source, read_manifest, version, write_manifest
from callmeter.store.log_size import PACKED
from callmeter.store.memory import is_scarce

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Indexed = tuple[Source, LogFile]
_STEP = 512 << 20
# Somebody else's build goes faster than anything that could be done in its place.
_PATIENCE = 300.0
_MEMORY = "350MB"
_LITTLE_MEMORY = "200MB"


def unread(path: str, directory: str) -> int:
    """How many bytes of the log's text its index lacks, about. Raises FileProblem."""
    return _unread(read_manifest(directory), log_files([path]))


def brought_up(
    path: str, directory: str, scratch: str, *, little: int, fresh: bool, tell: Callable[[str], None]
) -> tuple[Manifest, list[Indexed]]:
    """The manifest of an index of the log at `path` that lacks no more than `little` bytes of it, and the log's files
    in their order; made anew with `fresh`. `tell` hears how far it is. Raises FileProblem, Busy, duckdb.Error,
    OSError."""
    import duckdb

    files = log_files([path])
    if not fresh:
        manifest = read_manifest(directory)
        found = _indexed(manifest, files, little)
        if found is not None:
            return manifest, found
    make_directory(directory)
    with Lock(os.path.join(directory, "lock"), _PATIENCE):
        # Somebody else may have built it meanwhile.
        manifest, files = Manifest(version()) if fresh else read_manifest(directory), log_files([path])
        found = _indexed(manifest, files, little)
        if found is None:
            try:
                manifest = _built(directory, scratch, manifest, files, tell)
            except duckdb.Error:
                if not manifest.sources:
                    raise
                manifest = _built(directory, scratch, Manifest(version()), files, tell)
            found = list(zip(manifest.sources, files, strict=True))
        return manifest, found


def connected(scratch: str, threads: int | None = None) -> DuckDBPyConnection:
    """A connection to DuckDB that takes no more memory than the index may; the directory `scratch` takes the rest.
    Raises FileProblem, duckdb.Error."""
    import duckdb

    try:
        os.close(os.open(os.devnull, os.O_RDONLY))  # DuckDB ends the process if it cannot open anything
    except OSError as error:
        raise file_problem("open", "the usage index", error) from None

    config: dict[str, str | bool | int | float | list[str]] = {
        # Whatever a log holds, nothing is fetched from anywhere.
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "memory_limit": _LITTLE_MEMORY if is_scarce() else _MEMORY,
        "temp_directory": os.path.join(scratch, "spill"),
    }
    if threads is not None:
        config["threads"] = threads
    connection = duckdb.connect(config=config)
    connection.execute("SET parquet_metadata_cache = true")
    connection.execute("SET enable_progress_bar = false")  # it would go to stdout
    return connection


def _clear_away(directory: str, before: Collection[str]) -> None:
    """Remove what a build made that came to nothing: the next one may come to nothing for the same reason."""
    named = {part.file for part in read_manifest(directory).files()}
    with suppress(OSError):
        for name in set(os.listdir(directory)) - named.union(before):
            if name.endswith(".parquet"):
                remove_file(os.path.join(directory, name))


def _indexed(manifest: Manifest, files: Sequence[LogFile], little: int) -> list[Indexed] | None:
    """The files with what the index has of them, if nothing is lacking that is worth a build."""
    pairs = [(source, file) for source, file in zip(matched(manifest, files), files, strict=True) if source is not None]
    whole = len(pairs) == len(files) == len(manifest.sources)
    return pairs if whole and _unread(manifest, files) <= little else None


def _unread(manifest: Manifest, files: Sequence[LogFile]) -> int:
    size = 0
    for source, file in zip(matched(manifest, files), files, strict=True):
        if not file.packed:
            size += file.size - (0 if source is None else source.read)
        elif source is None:
            size += file.size * PACKED
    return size


def _built(
    directory: str, scratch: str, manifest: Manifest, files: Sequence[LogFile], tell: Callable[[str], None]
) -> Manifest:
    sizes = [file.size for file in files]
    every, step = _unread(manifest, files), _STEP
    left = every
    while True:
        tell(f"{100 * (every - left) // max(every, 1)}% of {every / 1e6:,.0f} MB")
        taken = _taken(manifest, files, step)
        manifest = updated(directory, scratch, manifest, taken)
        whole = len(taken) == len(files) and sizes == [file.size for file in files]
        for file, size in zip(files, sizes, strict=True):
            file.size = size
        if whole:
            return manifest
        before, left = left, _unread(manifest, files)
        if left >= before:
            step *= 2  # a line longer than a step


def _taken(manifest: Manifest, files: Sequence[LogFile], step: int) -> list[LogFile]:
    """The files for one step, of which the last may be cut. What the index has already stays in it."""
    taken = []
    for source, file in zip(matched(manifest, files), files, strict=True):
        if source is None and step <= 0:
            continue
        if file.packed:
            step -= file.size * PACKED if source is None else 0
        else:
            read = 0 if source is None else source.read
            file.size = min(file.size, read + max(step, _STEP // 8))
            step -= file.size - read
        taken.append(file)
    return taken


def updated(
    directory: str,
    scratch: str,
    manifest: Manifest,
    files: Sequence[LogFile],
    tell: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """The manifest of these files, written with all that it names; a failure leaves what was there. Who calls this has
    the index's lock. Raises FileProblem, OSError, duckdb.Error."""
    now = int(time.time())
    before = set(os.listdir(directory))
    mask = os.umask(0o077)  # DuckDB makes the files
    try:
        manifest = Builder(directory, lambda: connected(scratch, 1), tell).update(manifest, files, now)
        write_manifest(directory, manifest, now)
    except BaseException:
        _clear_away(directory, before)
        raise
    finally:
        os.umask(mask)
    return manifest
