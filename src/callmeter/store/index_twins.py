"""Lines whose id is there more than once: in one file, in two hosts' logs, in a segment and the log it came from.

All of them are kept, with their places, so that the first one counts whichever files come and go. Ranks sort by time
where ids do, so a new file's ids are compared only with those files whose ranks overlap with its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from callmeter.store.index_manifest import Part, part_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Ranks that are compared at once, so that the memory for it is bounded.
_AT_ONCE = 2_000_000
_READ = "read_parquet({}, hive_partitioning = false)"


def find_twins(
    connection: DuckDBPyConnection,
    files: Mapping[str, str],
    added: Sequence[Part],
    every: Sequence[Part],
    name: Callable[[], str],
) -> list[Part]:
    """Files of the rows whose id is in one of the `added` parts and again in that or another of all parts; `files`
    says where the parts are."""
    found: list[Part] = []
    for low, high, parts in _stretches(added, every):
        paths = [files[part.file] for part in parts]
        path = f"{name()}.parquet"
        given = {"paths": paths, "low": low, "high": high}
        (twins,) = connection.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE twins AS
                SELECT rank FROM {_READ.format("$paths")} WHERE rank BETWEEN $low AND $high
                GROUP BY rank HAVING count(*) > 1
            """,
            given,
        ).fetchall()[0]
        if not twins:
            continue
        (rows,) = connection.execute(
            f"""
            COPY (
                SELECT ident, source, line, rank FROM {_READ.format("$paths")}
                WHERE rank BETWEEN $low AND $high AND rank IN (FROM twins)
                QUALIFY count(*) OVER (PARTITION BY ident) > 1
            ) TO $file (FORMAT parquet)
            """,
            {**given, "file": path},
        ).fetchall()[0]
        if rows:
            found.append(part_of(connection, path, rows))
        else:
            os.unlink(path)
    return found


def _stretches(added: Sequence[Part], every: Sequence[Part]) -> list[tuple[int, int, list[Part]]]:
    """Ranges of ranks, and the parts that reach into them, in which a new id can be there twice; as few as there can be
    of so many rows."""
    edges = sorted({edge for part in added for edge in (part.low, part.high + 1)})
    found: list[tuple[int, int, list[Part]]] = []
    together: set[str] = set()  # the last one's parts, and how many rows they have
    size = 0
    for low, stop in pairwise(edges):
        parts = [part for part in every if part.low < stop and part.high >= low]
        if not any(part.low < stop and part.high >= low for part in added):
            continue
        fresh = [part for part in parts if part.file not in together]
        size += sum(part.rows for part in fresh)
        if found and size <= _AT_ONCE:
            first, _, before = found[-1]
            found[-1] = first, stop - 1, before + fresh
            together.update(part.file for part in fresh)
            continue
        rows = size = sum(part.rows for part in parts)
        together = {part.file for part in parts}
        pieces = max(1, -(-rows // _AT_ONCE)) if rows else 1
        step = -(-(stop - low) // pieces)
        while low < stop:
            found.append((low, min(low + step, stop) - 1, parts))
            low += step
    return found
