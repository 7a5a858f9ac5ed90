"""How large an index will be is known before it is built, and exactly before it is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retrieval import transform as transforms
from retrieval.index import Index, Kind, size_of_new


@pytest.mark.parametrize("kind", ["exact", "ivf"])
@pytest.mark.parametrize("spec", ["none", "pca:8"])
def test_the_size_of_an_index_is_known_before_it_is_written(
    spec: str, kind: Kind, tmp_path: Path
) -> None:
    n, d = 2000, 64
    x = np.random.default_rng(0).normal(size=(n, d)).astype(np.float16)
    index = Index.build(
        transforms.fit(spec, x.astype(np.float32)), lambda: iter([(np.arange(n), x)]), n, kind=kind
    )
    index.save(tmp_path / "i.faiss")
    written = (tmp_path / "i.faiss").stat().st_size
    assert index.size == written
    width = transforms.fitted_width(spec, n, d)
    assert width == index.d_out
    estimated = size_of_new(n, d, width, kind=kind, maps=spec != "none")
    assert written <= estimated <= written + 2000


@pytest.mark.parametrize(
    "spec", sorted({*transforms.KINDS, "lda:3", "whiten:9", "wccn:7", "rca:5"})
)
def test_the_width_of_a_transform_is_known_unless_the_fit_finds_it(spec: str) -> None:
    n, d = 60, 24
    x = np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)
    labels = [f"c{row % 4}" for row in range(n)]
    told = transforms.fitted_width(spec, n, d)
    fitted = transforms.fit(transforms.resolve_spec(spec, n, d), x, labels)
    matrix = fitted.matrix
    assert (told is None) == spec.startswith("lda")
    assert told in (None, d if matrix is None else len(matrix))
