"""Whether an encoder finds the neighbours that another one finds, on pictures without classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.photographs import CACHE
from benchmarks.table import Table

NEIGHBOURS = 10
TRANSFORMS = ("none", "auto")


def agreement(folder: Path, encoders: dict[str, dict[str, object]], judge: str) -> Table:
    """Neighbours that each encoder shares with the judge, and cosines between their embeddings."""
    theirs = _embeddings(folder, encoders[judge])
    table = Table(
        "mini: agreement",
        f"{len(theirs):,} photographs, one of each class of ImageNet, that mini "
        f"was not trained on. `shared` is the share of the {NEIGHBOURS} nearest neighbours of each "
        f"that {judge} finds too. The cosine is that between the two embeddings of a photograph, "
        f"on average. With auto, the transform was fitted to the embeddings of {judge}.",
        ["encoder", *(f"{name}, {t}" for t in TRANSFORMS for name in ("shared", "cosine"))],
    )
    for kind, setting in encoders.items():
        ours, cells = _embeddings(folder, setting), []
        for transform in TRANSFORMS:
            shared, cosine = _shared(ours, theirs, transform)
            cells += [f"{shared:.3f}", f"{cosine:.3f}"]
        table.add(kind, *cells)
    return table


def _embeddings(folder: Path, setting: dict[str, object]) -> np.ndarray:
    from retrieval.comparison.embeddings import embed_folder
    from retrieval.settings import EmbeddingSettings

    found = embed_folder(folder, EmbeddingSettings(**setting), CACHE / "experiments").images  # type: ignore[arg-type]
    return np.asarray(found.embeddings, np.float32)


def _shared(ours: np.ndarray, theirs: np.ndarray, spec: str) -> tuple[float, float]:
    from retrieval import transform

    judge = transform.fit(spec, theirs)
    cosine = (judge.apply(ours) * judge.apply(theirs)).sum(axis=1).mean()
    sets = [_nearest(transform.fit(spec, x).apply(x)) for x in (ours, theirs)]
    common = [len(set(a) & set(b)) for a, b in zip(*sets, strict=True)]
    return float(np.mean(common)) / NEIGHBOURS, float(cosine)


def _nearest(x: np.ndarray) -> list[list[int]]:
    scores = x @ x.T
    np.fill_diagonal(scores, -np.inf)
    nearest: list[list[int]] = np.argsort(-scores, axis=1)[:, :NEIGHBOURS].tolist()
    return nearest
