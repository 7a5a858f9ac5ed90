"""Embeddings for searches of any size: real ones, and points between them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.photographs import CACHE, WEIGHTS, unpacked
from retrieval.transform import Transform, fit


def real_embeddings(*, quick: bool) -> np.ndarray:
    """(n, 1280) float16 embeddings of CIFAR-10's training images, kept in the cache folder."""
    file = CACHE / f"cifar10-96{'-quick' if quick else ''}.npy"
    if not file.is_file():
        from retrieval.backbones import load_backbone
        from retrieval.encoder import cache_folder, open_encoder
        from retrieval.images import find_images
        from retrieval.loader import load_images
        from retrieval.retriever.writer import encode_batches

        backbone = load_backbone(str(WEIGHTS), size=96)
        encoder = open_encoder(backbone.spec, lambda: backbone, cache=cache_folder())
        files = list(find_images([unpacked("cifar10") / "train"]))[:: 25 if quick else 1]
        rows = [
            embedding
            for batch in encode_batches(load_images(files, encoder.spec.preprocessing), encoder, 32)
            for _, embedding in batch
            if embedding is not None
        ]
        np.save(file, np.stack(rows).astype(np.float16))
    return np.asarray(np.load(file))


def expanded(real: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """n embeddings, (n, d) float16: the real ones, then points between neighbours, with noise."""
    import faiss

    random = np.random.default_rng(seed)
    flat = faiss.IndexFlatIP(real.shape[1])
    flat.add(real[:10_000].astype(np.float32))
    neighbours = flat.search(real[:10_000].astype(np.float32), 11)[1]
    order = random.permutation(len(real))[:n]
    x = np.empty((n, real.shape[1]), np.float16)
    x[: len(order)] = real[order]
    for at in range(len(order), n, 10_000):
        rows = slice(at, min(n, at + 10_000))
        i = random.integers(0, len(neighbours), rows.stop - rows.start)
        other = neighbours[i, random.integers(1, 11, len(i))]
        share = random.uniform(0, 0.5, (len(i), 1)).astype(np.float32)
        mixed = (1 - share) * real[i] + share * real[other]
        noise = random.standard_normal(mixed.shape, np.float32) * (0.15 / mixed.shape[1] ** 0.5)
        x[rows] = mixed + noise
    return x


def held_out(x: np.ndarray, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Some of (n, d) vectors to ask for, (queries, d) float32, and the others as they are."""
    held = np.random.default_rng(1).choice(len(x), queries, replace=False)
    return x[held].astype(np.float32), np.delete(x, held, axis=0)


def fitted(x: np.ndarray) -> Transform:
    """The transform of the tables, fitted to some 20,000 of (n, d) embeddings."""
    return fit("whiten:512", x[:: max(1, len(x) // 20_000)])


def batches(x: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give (n, d) embeddings under their places, as Index.build takes them."""
    for at in range(0, len(x), 4096):
        yield np.arange(at, min(len(x), at + 4096)), x[at : at + 4096]


def nearest(
    vectors: np.ndarray, queries: np.ndarray, k: int, passes: np.ndarray | None = None
) -> np.ndarray:
    """(q, k) places of the nearest of (n, d) vectors by comparing with all, or all that pass."""
    scores, places = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for at in range(0, len(vectors), 20_000):
        part = np.arange(at, min(len(vectors), at + 20_000))
        some = part if passes is None else part[passes[part]]
        scores = np.hstack([scores, queries @ vectors[some].astype(np.float32).T])
        places = np.hstack([places, np.broadcast_to(some, (len(queries), len(some)))])
        best = np.argsort(-scores, axis=1)[:, :k]
        scores, places = (np.take_along_axis(a, best, 1) for a in (scores, places))
    return places
