"""The cells of an IVF index, trained on vectors of the gallery, and their true neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import faiss
import numpy as np

from retrieval.draw import evenly_drawn
from retrieval.index.steps import apply, float32

Batches = Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]

NEIGHBOURS_KNOWN = 100  # of a query
SAME_SCORE = 1e-4  # what float16 changes in a score; neighbours nearer than this are equal
ROWS_PER_CELL = 40  # that k-means is trained on


def trained_ivf(chain: list[Any], batches: Batches, n: int, d: int, seed: int) -> Any:
    """Train cells by k-means on some vectors."""
    cells = cells_for(n)
    _, x = sample(batches, n, cells * ROWS_PER_CELL, seed, chain)
    quantizer = faiss.IndexFlatIP(d)
    ivf = faiss.IndexIVFScalarQuantizer(
        quantizer, d, cells, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    ivf.cp.seed, ivf.cp.min_points_per_centroid = seed + 1, 1
    ivf.train(x)
    centres = _centres(quantizer)
    quantizer.reset()
    quantizer.add(float32(centres.astype(np.float16)))  # see shrink_centres()
    return ivf


def shrink_centres(ivf: Any) -> None:
    """Hold the centres in float16, as which they were rounded, so that nothing else changes.

    A query that compares with all of them takes two thirds of the time, and the file has half of
    their bytes. Many queries take longer, so this comes after the vectors were added.
    """
    before = faiss.downcast_index(ivf.quantizer)
    halves = faiss.IndexScalarQuantizer(
        ivf.d, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    centres = _centres(before)
    halves.train(centres)
    halves.add(centres)
    halves.this.disown()
    ivf.quantizer, ivf.own_fields = halves, True


def _centres(quantizer: Any) -> np.ndarray:
    # into an array of ours: others' imports make FAISS return torch's by default
    into = np.empty((quantizer.ntotal, quantizer.d), np.float32)
    return np.asarray(quantizer.reconstruct_n(0, quantizer.ntotal, into))


def cells_for(n: int) -> int:
    """Return the number of cells for n vectors, which grows with the root of n."""
    cells = int(2 ** np.round(np.log2(4 * np.sqrt(max(n, 64)))))
    return max(1, min(cells, n // ROWS_PER_CELL))


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
    (q, k) ids and scores, best first; k is at most NEIGHBOURS_KNOWN. A query that
    is one of them leaves its last place at -1 and -inf.
    """
    best = np.empty((len(x), 0), np.float32)
    best_ids = np.empty((len(x), 0), np.int64)
    for batch_ids, vectors in batches:
        scores = x @ vectors.T
        scores[ids[:, None] == batch_ids] = -np.inf
        best = np.hstack([best, scores])
        best_ids = np.hstack([best_ids, np.broadcast_to(batch_ids, scores.shape)])
        keep = min(NEIGHBOURS_KNOWN, best.shape[1])
        order = np.argpartition(-best, keep - 1, axis=1)[:, :keep]
        best, best_ids = np.take_along_axis(best, order, 1), np.take_along_axis(best_ids, order, 1)
    best_ids[np.isneginf(best)] = -1  # the query itself, where the gallery is that small
    order = np.argsort(-best, axis=1, kind="stable")
    return np.take_along_axis(best_ids, order, 1), np.take_along_axis(best, order, 1)


def recalls(
    scores: np.ndarray, found: np.ndarray, ids: np.ndarray, exact: np.ndarray, of: np.ndarray
) -> np.ndarray:
    """Return the share of each query's true neighbours that a search found: (q,) float64.

    scores, found: of the search, (q, m). exact, of: the (q, k) true neighbours of (q,) ids and
    their scores, as exact_neighbours() gives them. What scores as high as the last of them is as
    good as it: of equal images any will do.
    """
    least = np.where(np.isneginf(of), np.inf, of).min(axis=1, keepdims=True)
    other = (found != ids[:, None]) & (found >= 0)
    good = (found[:, :, None] == exact[:, None, :]).any(axis=2) | (scores >= least - SAME_SCORE)
    wanted = (exact >= 0).sum(axis=1)
    return np.minimum((good & other).sum(axis=1), wanted) / np.maximum(wanted, 1)
