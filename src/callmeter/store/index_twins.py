"""Lines whose id is there more than once: in one file, in two hosts' logs, in a segment and the log it came from.

All of them are kept, with their places, so that the first one counts whichever files come and go. Ranks sort by time
where ids do, so a new file's ids are compared only with those files whose ranks overlap with its own.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from callmeter.store.index_manifest import Part, part_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Ranks that are compared at once, so that the memory for it is bounded.
_AT_ONCE = 2_000_000
_WITHIN = """
    FROM read_parquet(list_distinct($paths), hive_partitioning = false, filename = true) AS rows
    JOIN (SELECT unnest($paths) AS path, unnest($lows::UBIGINT[]) AS low, unnest($highs::UBIGINT[]) AS high) AS cuts
    ON rows.filename = cuts.path WHERE rank BETWEEN cuts.low AND cuts.high
"""


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
    for cuts in _cuts(added, every):
        given = {
            "paths": [files[cut.file] for cut in cuts],
            "lows": [cut.low for cut in cuts],
            "highs": [cut.high for cut in cuts],
        }
        (twins,) = connection.execute(
            f"CREATE OR REPLACE TEMP TABLE twins AS SELECT rank {_WITHIN} GROUP BY rank HAVING count(*) > 1", given
        ).fetchall()[0]
        if not twins:
            continue
        path = f"{name()}.parquet"
        (rows,) = connection.execute(
            f"""
            COPY (
                SELECT ident, source, line, rank {_WITHIN} AND rank IN (FROM twins)
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


class _Cut(NamedTuple):
    """The rows of a file whose rank is between two, both included."""

    file: str
    low: int
    high: int


def _cuts(added: Sequence[Part], every: Sequence[Part]) -> Iterator[list[_Cut]]:
    """The rows among which a new id can be there twice, as many at once as memory is for, as far as one can tell: ranks
    are taken to lie evenly in a file."""
    edges = sorted({edge for part in added for edge in (part.low, part.high + 1)})
    cuts: list[_Cut] = []
    places: dict[str, int] = {}  # of a file's last cut
    size = 0.0
    for low, stop in pairwise(edges):
        parts = [part for part in every if part.low < stop and part.high >= low]
        is_new = any(part.low < stop and part.high >= low for part in added)
        if not is_new or (len(parts) == 1 and parts[0].distinct):
            continue
        rows = sum(_rows_between(part, low, stop) for part in parts)
        pieces = max(1, math.ceil(rows / _AT_ONCE))
        step = -(-(stop - low) // pieces)
        while low < stop:
            end = min(low + step, stop)
            if cuts and size + rows / pieces > _AT_ONCE:
                yield cuts
                cuts, places, size = [], {}, 0.0
            for part in parts:
                place = places.get(part.file)
                if place is not None and cuts[place].high + 1 == low:
                    cuts[place] = cuts[place]._replace(high=end - 1)
                else:
                    places[part.file] = len(cuts)
                    cuts.append(_Cut(part.file, low, end - 1))
            size += rows / pieces
            low = end
    if cuts:
        yield cuts


def _rows_between(part: Part, low: int, stop: int) -> float:
    """How many rows of a part rank so, about."""
    return part.rows * (min(stop, part.high + 1) - max(low, part.low)) / (part.high + 1 - part.low)
