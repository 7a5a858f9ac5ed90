"""P@1 and P@5 by input size and transform, beside the reference figures."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.photographs import WEIGHTS, unpacked
from benchmarks.table import Table

REFERENCE = {
    (128, "none"): "0.241, 0.139",
    (224, "none"): "0.303, 0.194",
    (224, "standard"): "0.340, 0.207",
    (224, "standard+pca:512"): "0.331, 0.206",
    (224, "whiten:512"): "0.407, 0.258",
    (224, "lda"): "0.523, 0.482",
}


def measure(*, quick: bool) -> list[Table]:
    """One row a transform; each size is embedded once an engine."""
    from retrieval.metrics import precision_at_k
    from retrieval.retriever import Retriever

    table = Table(
        "Quality",
        "MobileNetV2, gallery cars/train (4,858 images), queries cars/test (1,632), labels are "
        "the 196 models of car. reference: the figures that came with the data.",
        ["input", "transform", "engine", "P@1", "P@5", "reference P@1, P@5"],
    )
    cars = unpacked("cars")
    queries = sorted((cars / "test").rglob("*.jpg"))[:: 40 if quick else 1]
    labels = np.array([path.parent.name for path in queries])
    for engine in ("openvino-fp32", None):
        with tempfile.TemporaryDirectory() as folder:
            for (size, spec), reference in REFERENCE.items():
                retriever = Retriever(
                    Path(folder) / str(size), backbone=str(WEIGHTS), size=size, transform=spec,
                    engine=engine,  # type: ignore[arg-type]
                )  # fmt: skip
                used = retriever.index(cars / "train").engine
                found = retriever.search(queries, k=5)
                neighbours = np.array([[match.label for match in matches] for matches in found])
                p1, p5 = (precision_at_k(labels, neighbours, k).mean() for k in (1, 5))
                table.add(f"{size} px", spec, used, f"{p1:.3f}", f"{p5:.3f}", reference)
    return [table]
