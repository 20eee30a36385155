"""Percentiles of every level of a tree of groups, by nearest rank, from counts: first of paces, then of durations.

A pace is a class of durations; a longer duration never has a smaller pace.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

Path = tuple[str, ...]


class Paces:
    """Count all paces, then add the durations of the `paces` that are asked for, then ask for the ranks."""

    def __init__(self, percentiles: Sequence[int], depths: Sequence[int]) -> None:
        self._percentiles = percentiles
        self._depths = depths
        self._counts: defaultdict[Path, Counter[int]] = defaultdict(Counter)
        # Only of the paces in which a path has a percentile.
        self._durations: dict[tuple[Path, int], Counter[int]] = {}
        # Path -> percentile -> pace, and the rank among the durations of that pace.
        self._places: dict[Path, dict[int, tuple[int, int]]] = {}

    def count(self, path: Path, pace: int, count: int) -> None:
        """So many answers of an innermost group have this pace."""
        for depth in self._depths:
            self._counts[path[:depth]][pace] += count

    def paces(self) -> list[int]:
        """Those in which a percentile lies."""
        for path, counts in self._counts.items():
            self._places[path] = {rank: _place(counts, rank) for rank in self._percentiles}
            self._durations.update({(path, pace): Counter() for pace, _ in self._places[path].values()})
        return sorted({pace for places in self._places.values() for pace, _ in places.values()})

    def add(self, path: Path, pace: int, duration: int, count: int) -> None:
        """So many answers of an innermost group, of this pace, have this duration."""
        for depth in self._depths:
            durations = self._durations.get((path[:depth], pace))
            if durations is not None:
                durations[duration] += count

    def ranks(self) -> Iterator[tuple[Path, dict[int, int]]]:
        """The percentiles of each group that has answers."""
        for path, places in self._places.items():
            yield path, {rank: _nth(self._durations[path, pace], left)[0] for rank, (pace, left) in places.items()}


def _place(counts: Counter[int], percentile: int) -> tuple[int, int]:
    return _nth(counts, max(1, -(-percentile * counts.total() // 100)))


def _nth(counts: Counter[int], rank: int) -> tuple[int, int]:
    """The value of a rank (from 1), and its rank among its equals."""
    for value in sorted(counts):
        if rank <= counts[value]:
            return value, rank
        rank -= counts[value]
    raise ValueError(rank)
