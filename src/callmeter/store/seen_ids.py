"""Which ids of usage lines were seen already, in a sixth of the memory of a set."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left

_HALF = (1 << 64) - 1


class SeenIds:
    """A set of ids: 16 bytes for each, exact for UUIDs (other ids count as their 128-bit hash).

    The newest ids lie in a set; when it is full they become a sorted run. Ids begin with their time, so a new one
    is nearly always beyond all runs and costs one comparison with each of them.
    """

    def __init__(self, newest: int = 1 << 18) -> None:
        self._limit = newest
        self._newest: set[int] = set()
        self._runs: list[tuple[int, int, array[int], array[int]]] = []

    def add(self, id: str) -> bool:
        """Whether the id is new; from now on it is not."""
        key = key_of(id)
        if key in self._newest or self._in_runs(key):
            return False
        self._newest.add(key)
        if len(self._newest) >= self._limit:
            self._settle()
        return True

    def __contains__(self, id: str) -> bool:
        key = key_of(id)
        return key in self._newest or self._in_runs(key)

    def __len__(self) -> int:
        return len(self._newest) + sum(len(high) for _, _, high, _ in self._runs)

    def _in_runs(self, key: int) -> bool:
        for first, last, high, low in self._runs:
            if first <= key <= last:
                wanted, rest = key >> 64, key & _HALF
                place = bisect_left(high, wanted)
                while place < len(high) and high[place] == wanted:
                    if low[place] == rest:
                        return True
                    place += 1
        return False

    def _settle(self) -> None:
        keys = sorted(self._newest)
        high = array("Q", [key >> 64 for key in keys])
        low = array("Q", [key & _HALF for key in keys])
        self._runs.append((keys[0], keys[-1], high, low))
        self._newest = set()


def key_of(id: str) -> int:
    """An id as 128 bits: a UUID is itself, others are hashed."""
    if len(id) == 36:
        try:
            key = int(id.replace("-", ""), 16)
        except ValueError:
            key = -1
        if 0 <= key < 1 << 128:  # 36 digits without a hyphen are more
            return key
    return int.from_bytes(hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=16).digest(), "big")
