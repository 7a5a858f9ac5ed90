"""The cells of an IVF index: trained on vectors of the gallery, their search held against exact."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import faiss
import numpy as np

from retrieval.draw import evenly_drawn
from retrieval.index.steps import apply, float32

Batches = Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]

RECALL_AT = 10
SAME_SCORE = 1e-4  # what float16 changes in a score; neighbours nearer than this are equal
RECALL_WANTED = 0.99
ROWS_PER_CELL = 40  # that k-means is trained on
FEW = 0.05  # share of all vectors


def trained_ivf(chain: list[Any], batches: Batches, n: int, d: int, seed: int) -> Any:
    """Train cells by k-means on some vectors; their number grows with the root of n."""
    cells = int(2 ** np.round(np.log2(4 * np.sqrt(max(n, 64)))))
    cells = max(1, min(cells, n // ROWS_PER_CELL))
    _, x = sample(batches, n, cells * ROWS_PER_CELL, seed, chain)
    quantizer = faiss.IndexFlatIP(d)
    ivf = faiss.IndexIVFScalarQuantizer(
        quantizer, d, cells, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    ivf.cp.seed, ivf.cp.min_points_per_centroid = seed + 1, 1
    ivf.train(x)
    return ivf


def sample(
    batches: Batches, n: int, m: int, seed: int, chain: Sequence[Any] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Draw m of the n embeddings evenly; return their ids and transformed vectors."""
    chosen = evenly_drawn(n, m, seed=seed)
    ids, rows, first = [], [], 0
    for batch_ids, embeddings in batches():
        low, high = np.searchsorted(chosen, [first, first + len(batch_ids)])
        if high > low:
            ids.append(batch_ids[chosen[low:high] - first])
            rows.append(apply(chain, float32(embeddings[chosen[low:high] - first])))
        first += len(batch_ids)
    return np.concatenate(ids), np.concatenate(rows)


def exact_neighbours(
    x: np.ndarray, ids: np.ndarray, batches: Iterable[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Find the true nearest neighbours of vectors of the gallery, themselves left out.

    x: (q, d_out) float32 under (q,) ids. batches: of all ids and their vectors. Returns their
    (q, k) ids and the (q, 1) score of the last of them; k is RECALL_AT, or less where fewer exist.
    """
    best = np.empty((len(x), 0), np.float32)
    best_ids = np.empty((len(x), 0), np.int64)
    for batch_ids, vectors in batches:
        scores = x @ vectors.T
        scores[ids[:, None] == batch_ids] = -np.inf
        best = np.hstack([best, scores])
        best_ids = np.hstack([best_ids, np.broadcast_to(batch_ids, scores.shape)])
        keep = min(RECALL_AT, best.shape[1])
        order = np.argpartition(-best, keep - 1, axis=1)[:, :keep]
        best, best_ids = np.take_along_axis(best, order, 1), np.take_along_axis(best_ids, order, 1)
    best_ids[np.isneginf(best)] = -1  # the query itself, where the gallery is that small
    return best_ids, np.where(np.isneginf(best), np.inf, best).min(axis=1, keepdims=True)


def recalls(
    scores: np.ndarray, found: np.ndarray, ids: np.ndarray, exact: np.ndarray, least: np.ndarray
) -> np.ndarray:
    """Return the share of each query's true neighbours that a search found: (q,) float64.

    What scores as high as the last true neighbour is as good as it: of equal images any will do.
    """
    other = (found != ids[:, None]) & (found >= 0)
    good = (found[:, :, None] == exact[:, None, :]).any(axis=2) | (scores >= least - SAME_SCORE)
    wanted = (exact >= 0).sum(axis=1)
    return np.minimum((good & other).sum(axis=1), wanted) / np.maximum(wanted, 1)


def cells_for(k: int, share: float, tuned: int, nlist: int) -> int:
    """Return how many cells a search for k neighbours visits, among a share of the vectors.

    tuned: for 10 neighbours among all. More neighbours, or fewer vectors to find them among, lie in
    proportionally more cells. Where a filter leaves few, all cells are searched, which is exact.

    >>> cells_for(10, 1.0, 8, 100), cells_for(20, 0.5, 8, 100), cells_for(5, 0.04, 8, 999)
    (8, 32, 999)
    """
    if share < FEW:
        return nlist
    return min(nlist, math.ceil(tuned * max(1.0, k / RECALL_AT) / min(1.0, share)))


def effort_for(
    search: Callable[[int], tuple[np.ndarray, np.ndarray]],
    nprobe: int,
    nlist: int,
    known: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[int, float]:
    """Return how many cells give the recall wanted, at least nprobe, and the mean recall then.

    search: of some vectors, in so many cells. known: their ids, and what exact_neighbours() says of
    them. The mean has to lie two standard errors above what is wanted, so that other queries get
    it as well.
    """
    while True:
        found_of = recalls(*search(nprobe), *known)
        margin = 2 * found_of.std() / math.sqrt(len(found_of))
        if nprobe == nlist or found_of.mean() - margin >= RECALL_WANTED:
            return nprobe, round(float(found_of.mean()), 5)
        nprobe = min(nlist, nprobe * 3 // 2)
