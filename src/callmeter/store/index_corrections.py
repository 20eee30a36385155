"""Corrections and the calls that they correct, in files of their own: few rows, which every question needs.

A correction may come long after its call, or, from another host's log, before it. So each new row is looked for among
the targets of all corrections, and each new target in those files whose ranks reach it.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from callmeter.store.index_manifest import Part, part_of
from callmeter.store.index_rows import FORMAT

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_RANK = "((target::UHUGEINT >> 80) << 16 | (target::UHUGEINT & 65535))::UBIGINT"
_READ = "read_parquet({}, hive_partitioning = false)"
# What is asked of a correction beside its row: few columns, because all others would be read for all rows.
_CHANGE = "source, line, ident, rank, id, ms, recorded, target, corrects, cost, sized, cost_source"


def find_corrections(
    connection: DuckDBPyConnection,
    files: Mapping[str, str],
    added: Sequence[Part],
    every: Sequence[Part],
    before: Sequence[Part],
    name: Callable[[], str],
) -> tuple[list[Part], list[Part]]:
    """Files of what corrections in the `added` parts change, and of the rows that are corrected by these, or are
    themselves added and corrected by those in `before`. `files` says where parts are."""
    paths = [files[part.file] for part in added]
    corrections = _copy(
        connection,
        f"SELECT {_CHANGE} FROM {_READ.format('$paths')} WHERE target IS NOT NULL AND cost IS NOT NULL",
        {"paths": paths},
        name,
    )
    corrected: list[Part] = []
    if corrections:
        written = f"{os.path.dirname(name())}/{corrections[0].file}"
        ranks = [
            rank
            for (rank,) in connection.execute(
                f"SELECT DISTINCT {_RANK} AS rank FROM {_READ.format('[$file]')} ORDER BY rank", {"file": written}
            ).fetchall()
        ]
        reached = [files[part.file] for part in every if _reaches(part, ranks)]
        corrected += _corrected(connection, reached, [written], name)
    if before:
        corrected += _corrected(connection, paths, [files[part.file] for part in before], name)
    return corrections, corrected


def _corrected(
    connection: DuckDBPyConnection, paths: Sequence[str], corrections: Sequence[str], name: Callable[[], str]
) -> list[Part]:
    if not paths:
        return []
    query = f"""
        SELECT * FROM {_READ.format("$paths")} AS every
        SEMI JOIN (SELECT DISTINCT target, {_RANK} AS wanted FROM {_READ.format("$corrections")}) AS targets
            ON every.rank = targets.wanted AND every.ident = targets.target
    """
    return _copy(connection, query, {"paths": list(paths), "corrections": list(corrections)}, name)


def _reaches(part: Part, ranks: Sequence[int]) -> bool:
    place = bisect_left(ranks, part.low)
    return place < len(ranks) and ranks[place] <= part.high


def _copy(
    connection: DuckDBPyConnection, query: str, given: Mapping[str, object], name: Callable[[], str]
) -> list[Part]:
    path = f"{name()}.parquet"
    (rows,) = connection.execute(f"COPY ({query}) TO $file {FORMAT}", {**given, "file": path}).fetchall()[0]
    if rows:
        return [part_of(connection, path, rows)]
    os.unlink(path)
    return []
