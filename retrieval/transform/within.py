"""Whitening by what differs between images that show the same, not by all that differs.

Directions in which a class spreads say little of what an image shows. To divide by them loses
nothing, while plain whitening also divides by what tells classes apart. Images that show the same
are those of a class (Hatch, Kajarekar and Stolcke 2006, "Within-class covariance normalization for
SVM-based speaker recognition"), or, without labels, an image and its nearest neighbour, as a
chunklet of two (Bar-Hillel, Hertz, Shental and Weinshall 2003, "Learning distance functions using
equivalence relations": relevant component analysis).

Few images say little of a covariance, so it is shrunk towards a multiple of the identity, and the
mean towards zero. With no images that leaves embeddings as they are, and each further image changes
little, so the scale of scores makes no step.
"""

from __future__ import annotations

import numpy as np

from retrieval.draw import evenly_drawn

IMAGES_LIKE_GROUND = 1000  # that weigh as much as the identity does
MEAN_SHARE, IMAGES_LIKE_ZERO = 0.8, 10  # of the mean that is taken away, with many images
ANCHORS, AMONG = 4096, 20_000  # images whose neighbours are looked for, and where
ASKED = 1024  # images whose neighbours tell whether labels say something
SAME = 1e-5  # of a score below 1: a copy, which tells nothing
LONGEST_ROW = 10.0  # times the median length of a row
ROWS_AT_ONCE = 4096  # in memory beside those that are fitted to
SURE_OF_LABELS = 4.0  # standard errors above chance
LEAST_WITHIN = 1e-6  # of the largest; below it a direction is rounding noise in float32


def fit_within(
    x: np.ndarray,
    labels: np.ndarray | None,
    components: int | None,
    shrinkage: float | None,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a (components, d) matrix and a (components,) bias, float64.

    x: (n, d) float32, which is centred in place. labels: (n,), "" for none; None for nearest
    neighbours in their place. shrinkage: weight of the identity, by default 1000 / (1000 + n).
    """
    mean = x.mean(axis=0, dtype=np.float64)
    mean *= MEAN_SHARE * len(x) / (len(x) + IMAGES_LIKE_ZERO)
    x -= mean.astype(x.dtype)
    if labels is None:
        differences, free = _between_neighbours(x, seed)
    else:
        differences, free = _within_classes(x, labels)
    if shrinkage is None:
        shrinkage = IMAGES_LIKE_GROUND / (IMAGES_LIKE_GROUND + free)
    matrix = _inverse_root(differences, free, shrinkage)
    del differences  # as large as x
    if components is not None and components < len(matrix):
        matrix = _widest(x, matrix, components)
    return matrix, -matrix @ mean


def usual_lengths(x: np.ndarray, labels: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Leave out rows, and their labels, that are many times longer than most."""
    lengths = np.linalg.norm(x, axis=1)
    kept = lengths <= LONGEST_ROW * np.median(lengths)
    if kept.all():
        return x, labels
    return x[kept], None if labels is None else labels[kept]


def tell_something(x: np.ndarray, labels: np.ndarray | None, seed: int) -> bool:
    """Tell whether nearest neighbours have the same label more often than by chance.

    x: (n, d) float32. Labels may be names of folders that say nothing of what images show.
    """
    if labels is None:
        return False
    names, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    several = (names != "") & (counts > 1)
    rows = np.flatnonzero(several[codes])
    if several.sum() < 2 or 2 * len(rows) < len(x):
        return False
    rows = rows[evenly_drawn(len(rows), AMONG, seed=seed)]
    asked = evenly_drawn(len(rows), ASKED, seed=seed)
    centred = _unit(x[rows] - x[rows].mean(axis=0))
    nearest = _nearest(centred[asked], centred, asked, copies=True)
    agree = codes[rows][nearest] == codes[rows][asked]
    shares = np.bincount(codes[rows]) / len(rows)
    chance = float((shares**2).sum())
    return bool(
        agree.mean() > chance + SURE_OF_LABELS * np.sqrt(chance * (1 - chance) / len(agree))
    )


def _within_classes(x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, int]:
    """What each image differs from the mean of its class by, and how many of these are free."""
    names, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    means = (_sums_of_classes(x, codes, counts) / counts[:, None]).astype(x.dtype)
    kept = np.flatnonzero(((names != "") & (counts > 1))[codes])
    differences = np.empty((len(kept), x.shape[1]), x.dtype)
    for start in range(0, len(kept), ROWS_AT_ONCE):
        rows = kept[start : start + ROWS_AT_ONCE]
        differences[start : start + ROWS_AT_ONCE] = x[rows] - means[codes[rows]]
    return differences, int(len(kept) - len(np.unique(codes[kept])))


def _sums_of_classes(x: np.ndarray, codes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The (c, d) sums of the rows of each class, some classes at a time."""
    order, ends = np.argsort(codes, kind="stable"), np.cumsum(counts)
    sums = np.empty((len(counts), x.shape[1]), x.dtype)
    first = 0
    while first < len(counts):
        begin = int(ends[first] - counts[first])
        last = max(first + 1, int(ends.searchsorted(begin + ROWS_AT_ONCE, "right")))
        starts = ends[first:last] - counts[first:last] - begin
        sums[first:last] = np.add.reduceat(x[order[begin : ends[last - 1]]], starts, axis=0)
        first = last
    return sums


def _between_neighbours(x: np.ndarray, seed: int) -> tuple[np.ndarray, int]:
    """What images differ from their nearest neighbours by, of unit weight a pair."""
    among = x[evenly_drawn(len(x), AMONG, seed=seed)]
    asked = evenly_drawn(len(among), ANCHORS, seed=seed)
    unit = _unit(among)
    nearest = _nearest(unit[asked], unit, asked, copies=False)
    found = nearest >= 0
    differences = (among[asked[found]] - among[nearest[found]]) / np.sqrt(2).astype(x.dtype)
    return differences, len(differences)


def _nearest(
    queries: np.ndarray, x: np.ndarray, own: np.ndarray, *, copies: bool, rows: int = 1024
) -> np.ndarray:
    """Places of the nearest of x to each query, itself left out, and -1 where there is none."""
    nearest = np.empty(len(queries), np.int64)
    for start in range(0, len(queries), rows):
        part = slice(start, start + rows)
        scores = queries[part] @ x.T
        scores[np.arange(len(scores)), own[part]] = -np.inf
        if not copies:
            scores[scores > 1 - SAME] = -np.inf
        best = scores.argmax(axis=1)
        there = np.isfinite(scores[np.arange(len(scores)), best])
        nearest[part] = np.where(there, best, -1)
    return nearest


def _inverse_root(differences: np.ndarray, free: int, shrinkage: float) -> np.ndarray:
    """The (d, d) inverse square root of the shrunk covariance, of unit size where none is known."""
    d = differences.shape[1]
    if not free or not differences.any():
        return np.eye(d)
    variances, axes = _spread(differences, free)
    ground = variances.sum() / d
    scale = 1 / np.sqrt((1 - shrinkage) * variances / ground + shrinkage)
    outside = 1 / np.sqrt(shrinkage)  # of directions in which nothing differs
    return np.asarray(outside * np.eye(d) + (axes * (scale - outside)) @ axes.T)


def _spread(x: np.ndarray, free: int) -> tuple[np.ndarray, np.ndarray]:
    """Variances along axes, (m,) and (d, m) float64, of (n, d) differences; m is n or d.

    Products in float32 are exact enough, and twice as fast. Fewer rows than columns have no more
    axes than rows, which the smaller matrix tells.
    """
    n, d = x.shape
    if n >= d:
        variances, axes = np.linalg.eigh((x.T @ x).astype(np.float64) / free)
        return np.maximum(variances, 0), axes
    variances, rows = np.linalg.eigh((x @ x.T).astype(np.float64))
    kept = variances > LEAST_WITHIN * variances[-1]
    axes = x.T.astype(np.float64) @ (rows[:, kept] / np.sqrt(variances[kept]))
    return variances[kept] / free, axes


def _widest(x: np.ndarray, matrix: np.ndarray, components: int) -> np.ndarray:
    """A matrix that keeps the directions in which what it makes of x varies most."""
    from scipy.linalg import eigh

    x, d = x - x.mean(axis=0), len(matrix)
    covariance = matrix @ (x.T @ x).astype(np.float64) @ matrix.T
    _, axes = eigh(covariance, subset_by_index=(d - components, d - 1))
    return np.asarray(axes[:, ::-1].T @ matrix)


def _unit(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))
