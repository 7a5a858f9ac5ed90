"""The usable rows of a gallery as images to evaluate."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from retrieval.evaluation.protocols import Images
from retrieval.gallery import Gallery, ImageTable
from retrieval.gallery.filter import INDEXED
from retrieval.gallery.rows import as_matrix


def read_images(gallery: Gallery, table: ImageTable) -> Images:
    """Read all usable rows of a gallery with their raw embeddings, float16."""
    table.check_finite()
    n = table.count(INDEXED)
    embeddings = np.empty((n, table.dim), np.float16)
    labels: list[str] = []
    contents: list[str] = []
    paths: list[Path] = []
    for batch in table.batches(["embedding", "label", "sha256", "path"]):
        start = len(labels)
        embeddings[start : start + batch.num_rows] = as_matrix(batch["embedding"])
        labels += [label or "" for label in batch["label"].to_pylist()]
        contents += batch["sha256"].to_pylist()
        paths += [gallery.full(path) for path in batch["path"].to_pylist()]
    return Images(embeddings, labels, contents, paths)
