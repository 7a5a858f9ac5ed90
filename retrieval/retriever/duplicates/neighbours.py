"""Unit embeddings -> for each the others above a score, in bounded memory.

Raw embeddings are compared, not the gallery's transformed ones (docs/decisions.md says why):
exactly for up to 100,000 different contents, beyond with the index's recall of about 0.99.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from retrieval.index import Index
from retrieval.transform import Transform

FIRST_K = 8
GROWTH = 4
SCORES_AT_ONCE = 1 << 22
ROWS_A_BLOCK = 4096


def index_of(embeddings: np.ndarray, places: np.ndarray) -> Index:
    """Build an index of some rows of (n, d) raw embeddings; their places are the ids."""

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(places), ROWS_A_BLOCK):
            part = places[start : start + ROWS_A_BLOCK]
            yield part, embeddings[part]

    return Index.build(Transform("none", embeddings.shape[1]), batches, len(places))


def neighbours_down_to(
    index: Index, embeddings: np.ndarray, least: float | np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Find all vectors that score `least` or more with each of (q, d) raw embeddings.

    least: one for all, or (q,).

    Yields, in no order, each query's row, the (m,) int64 ids and their (m,) float32 scores, best
    first; the last of them may score less, so that the nearest is always among them. Searches for
    ever more neighbours where all that were found score enough, so memory is that of one query's
    answer, or of SCORES_AT_ONCE scores.
    """
    rows, k = np.arange(len(embeddings)), FIRST_K
    down_to = np.broadcast_to(least, len(embeddings))
    while len(rows):
        k = min(k, max(index.ntotal, 1))
        step = max(1, SCORES_AT_ONCE // k)
        unfinished = []
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            scores, ids = index.search(embeddings[part], k)
            more = (scores[:, -1] >= down_to[part]) & (k < index.ntotal)
            for row, found, near in zip(part[~more], ids[~more], scores[~more], strict=True):
                yield int(row), found[found >= 0], near[found >= 0]
            unfinished.append(part[more])
        rows, k = np.concatenate(unfinished), k * GROWTH
