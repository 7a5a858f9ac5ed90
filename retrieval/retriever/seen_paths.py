"""Which paths came before, at 24 to 48 bytes each however long, and 72 while the table grows.

A set would hold the paths themselves. Here two hashes of 64 bits stand for a path. One alone would
make two of 10^9 paths equal in one run of forty, and an image would be left out.
"""

from __future__ import annotations

from array import array

LEAST_SLOTS = 1 << 10


class SeenPaths:
    """An open hash table of paths: two columns of their hashes, a first one of 0 is a free slot."""

    def __init__(self) -> None:
        self._firsts, self._seconds = _zeros(LEAST_SLOTS), _zeros(LEAST_SLOTS)
        self._count = 0

    def add(self, path: str) -> bool:
        """Take in a path. Tells whether it is new."""
        is_new = self._put(hash(path) or 1, hash(f"/{path}"))
        self._count += is_new
        if 3 * self._count > 2 * len(self._firsts):
            self._grow()
        return is_new

    def _put(self, first: int, second: int) -> bool:
        firsts, most = self._firsts, len(self._firsts) - 1
        slot = first & most
        while there := firsts[slot]:
            if there == first and self._seconds[slot] == second:
                return False
            slot = (slot + 1) & most
        firsts[slot], self._seconds[slot] = first, second
        return True

    def _grow(self) -> None:
        firsts, seconds = self._firsts, self._seconds
        self._firsts, self._seconds = _zeros(2 * len(firsts)), _zeros(2 * len(firsts))
        for first, second in zip(firsts, seconds, strict=True):
            if first:
                self._put(first, second)


def _zeros(slots: int) -> array[int]:
    return array("q", bytes(8)) * slots
