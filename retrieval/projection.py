"""Embeddings -> points of a map: near ones stay near.

tsne    van der Maaten and Hinton 2008, "Visualizing data using t-SNE", by scikit-learn
umap    McInnes et al. 2018, "UMAP: uniform manifold approximation and projection", by umap-learn,
        which `pip install "imgret[map]"` brings
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence

import numpy as np

from retrieval.errors import ArgumentError
from retrieval.libraries import distribution, is_installed
from retrieval.words import ProjectionMethod

FEWEST_TO_DRAW = 5  # below it points lie on a circle: there is no neighbourhood to keep
PERPLEXITY, NEIGHBOURS = 30, 15
PILOT = 1000  # images by which the time of a large map is estimated


def has_umap() -> bool:
    """Tell whether umap-learn is installed, without importing it, which takes seconds."""
    return is_installed("umap")


def project(vectors: np.ndarray, method: ProjectionMethod, seed: int = 0) -> np.ndarray:
    """Project (n, d) float32 unit vectors to (n, 2) float32 points in [0, 1].

    The same seed gives the same points. Raises ArgumentError for umap without umap-learn.
    """
    if method == "umap" and not has_umap():
        raise ArgumentError(
            f"UMAP needs umap-learn. Run `pip install '{distribution()}[map]'`, or use "
            "--method tsne."
        )
    n = len(vectors)
    if n < FEWEST_TO_DRAW or (vectors == vectors[:1]).all():
        angles = 2 * np.pi * np.arange(n) / max(n, 1)
        return (0.5 + 0.4 * np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both warn of what a map need not care about
        points = _tsne(vectors, seed) if method == "tsne" else _umap(vectors, seed)
    points = np.nan_to_num(points - points.mean(axis=0))
    half = np.abs(points).max() or 1.0
    return np.asarray(0.5 + points / (2 * half), np.float32)


def seconds_to_project(vectors: np.ndarray, method: ProjectionMethod) -> float:
    """Estimate how long project() takes, by a part of the vectors: both methods are O(n log n)."""
    n, part = len(vectors), vectors[:: max(1, len(vectors) // PILOT)][:PILOT]
    project(part[:FEWEST_TO_DRAW], method)  # with its imports, and what is compiled at first
    start = time.monotonic()
    project(part, method)
    taken = time.monotonic() - start
    return taken * n * math.log(max(n, 2)) / (len(part) * math.log(max(len(part), 2)))


def fair_sample(labels: Sequence[str], most: int, seed: int = 0) -> np.ndarray:
    """Draw rows of at most `most` images, each label in proportion and with at least one.

    Where there are more labels than places, the most frequent have one. Returns sorted int64.
    """
    names, codes, counts = np.unique(
        np.asarray(labels, object).astype(str), return_inverse=True, return_counts=True
    )
    if len(codes) <= most:
        return np.arange(len(codes))
    random = np.random.default_rng(seed)
    places = np.zeros(len(names), np.int64)
    places[np.argsort(-counts, kind="stable")[:most]] = 1
    spare = most - int(places.sum())
    share = spare * (counts - places) / max(1, int((counts - places).sum()))
    places += np.floor(share).astype(np.int64)
    for code in np.argsort(-(share % 1), kind="stable")[: most - int(places.sum())]:
        places[code] += 1
    order = np.argsort(codes, kind="stable")
    rows_of = np.split(order, np.cumsum(counts)[:-1])
    chosen = [
        random.choice(rows_of[code], min(count, counts[code]), replace=False)
        for code, count in enumerate(places)
        if count
    ]
    return np.sort(np.concatenate(chosen))


def _tsne(vectors: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    model = TSNE(perplexity=perplexity, init="pca", random_state=seed)
    return np.asarray(model.fit_transform(vectors))


def _umap(vectors: np.ndarray, seed: int) -> np.ndarray:
    import umap

    neighbours = min(NEIGHBOURS, len(vectors) - 1)
    init = "spectral" if len(vectors) > 2 * NEIGHBOURS else "random"
    model = umap.UMAP(
        n_neighbors=neighbours, metric="cosine", init=init, random_state=seed, n_jobs=1
    )
    return np.asarray(model.fit_transform(vectors))
