"""What the default transform gains and loses beside none, over sets of images of different kinds.

    python -m benchmarks.transforms BACKBONE [SIZE] SET ...

Sets are class folders that the user names; they are not part of the project. Each is embedded once,
split by a seed into galleries of several sizes and queries, and judged by precision@5.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from benchmarks.table import Table
from retrieval import transform as transforms
from retrieval.comparison.embeddings import embed_folder
from retrieval.encoder import cache_folder
from retrieval.settings import EmbeddingSettings

SIZES = (50, 100, 300, 1000, 5000)
SEEDS = {50: 6, 100: 4, 300: 3}  # small galleries differ most
MOST_QUERIES, K = 1500, 5


def precision(apply, gallery, queries) -> float:  # type: ignore[no-untyped-def]
    """Mean precision@5 of (embeddings, labels) of queries in those of a gallery."""
    x, labels = apply(gallery[0]), gallery[1]
    scores = apply(queries[0]) @ x.T
    top = np.argpartition(-scores, K - 1, axis=1)[:, :K]
    return float((labels[top] == queries[1][:, None]).mean())


def before(n: int, d: int) -> str:
    """The default as it was."""
    return f"whiten:{min(512, d, n // 4)}:0.75" if n >= 256 else "none"


def gains(x: np.ndarray, labels: np.ndarray, n: int, seed: int) -> list[float]:
    """P@5 without a transform; the gain of the default before, of auto without and with labels, and
    of auto for classes that it was not fitted to.
    """
    order = np.random.default_rng(seed).permutation(len(x))
    inside, asking = order[:n], order[n : n + MOST_QUERIES]
    asking = asking[np.isin(labels[asking], labels[inside])]
    gallery, queries = (x[inside], labels[inside]), (x[asking], labels[asking])
    known = labels[inside].tolist()
    base = precision(transforms.fit("none", gallery[0]).apply, gallery, queries)
    made = [
        transforms.fit(before(n, x.shape[1]), gallery[0]),
        transforms.fit("auto", gallery[0]),
        transforms.fit("auto", gallery[0], known),
    ]
    found = [base, *(precision(t.apply, gallery, queries) - base for t in made)]
    classes = np.random.default_rng(seed + 1).permutation(np.unique(labels))
    new = ~np.isin(labels, classes[: len(classes) // 2])
    rows, asked, seen = inside[new[inside]], asking[new[asking]], inside[~new[inside]]
    if min(len(rows), len(asked), len(seen)) < 2 * K:
        return [*found, float("nan")]
    there, others = (x[rows], labels[rows]), (x[asked], labels[asked])
    fitted = transforms.fit("auto", x[seen], labels[seen].tolist()).apply
    plain = transforms.fit("none", x[seen]).apply
    return [*found, precision(fitted, there, others) - precision(plain, there, others)]


def measure(folders: list[Path], backbone: str, size: int | None) -> Table:
    """The table of all sets and sizes."""
    found = Table(
        f"Transforms, {Path(backbone).name}",
        "Precision@5 without a transform, and what is gained by the default as it was before "
        "(whitened PCA), by `auto` without and with labels, and by `auto` fitted to half of the "
        "classes on the other half. Mean of 6, 4, 3, 1 and 1 splits.",
        ["set", "gallery", "none", "before", "auto, no labels", "auto, labels", "new classes"],
    )
    for folder in folders:
        made = embed_folder(
            folder, EmbeddingSettings(backbone=backbone, size=size), cache_folder() / "experiments"
        )
        x = np.asarray(made.images.embeddings, np.float32)
        labels = np.array(made.images.labels)
        for n in SIZES:
            if n > 0.9 * len(x):
                continue
            tried = [gains(x, labels, n, seed) for seed in range(SEEDS.get(n, 1))]
            base, *others = np.nanmean(tried, axis=0)
            found.add(folder.name, f"{n:,}", f"{base:.3f}", *(f"{v:+.3f}" for v in others))
            print(*found.rows[-1], file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    backbone, *given = sys.argv[1:]
    size = int(given.pop(0)) if given and given[0].isdecimal() else None
    print(measure([Path(folder) for folder in given], backbone, size).markdown())
