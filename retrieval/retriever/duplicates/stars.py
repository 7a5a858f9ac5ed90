"""Who is like whom -> groups, each around the image to keep.

Groups are stars: a member is near its representative, whatever else it is near to. Connected
components would chain images that differ (a like b like c). Complete linkage needs all pairs of a
group, a million for a thousand copies. A star needs only the neighbours of its centre.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence

import numpy as np

NeighboursOf = Callable[[np.ndarray], Iterator[tuple[int, np.ndarray, np.ndarray]]]
"""Places -> for each its row among them, the places near it, and their scores."""

BLOCK = 128


def first_with(keys: Sequence[Hashable]) -> np.ndarray:
    """Return (n,) int64: for each key, the place where it is first.

    >>> first_with(["a", "b", "a"])
    array([0, 1, 0])
    """
    firsts: dict[Hashable, int] = {}
    return np.array([firsts.setdefault(key, i) for i, key in enumerate(keys)], np.int64)


def stars(n: int, places: np.ndarray, neighbours: NeighboursOf) -> tuple[np.ndarray, np.ndarray]:
    """Return the representative of each of n images and the score to it.

    places: (m,) int64, ascending, the images that may be near another one. An image that no earlier
    representative is near becomes one; each other belongs to the nearest one of those before it.
    Returns (n,) int64 places and (n,) float32 scores; an image alone is its own, with 1.
    """
    centre, score = np.arange(n), np.full(n, -np.inf, np.float32)
    for start in range(0, len(places), BLOCK):
        block = places[start : start + BLOCK]
        block = block[centre[block] == block]  # the others have a representative already
        if not len(block):
            continue
        found = {row: (ids, near) for row, ids, near in neighbours(block)}
        for row, place in enumerate(block):
            if centre[place] != place:
                continue
            ids, near = found[row]
            nearer = (ids > place) & (near > score[ids])
            centre[ids[nearer]], score[ids[nearer]] = place, near[nearer]
    score[centre == np.arange(n)] = 1
    return centre, score
