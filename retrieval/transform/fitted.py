"""Transforms of embeddings: fitted in scikit-learn, applied as one affine map and an L2 norm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from retrieval.draw import evenly_drawn
from retrieval.errors import DataError
from retrieval.transform.table import KINDS, parse_spec, resolve_spec
from retrieval.transform.within import usual_lengths

FIT_ROWS = 100_000


@dataclass(frozen=True)
class Transform:
    """A fitted transform, y = normalise(matrix @ x + bias).

    spec: as it was fitted, such as "whiten:512" or "lda:195". matrix: (d_out, d_in) float32, bias:
    (d_out,) float32; both None where there is only the norm. fitted_on: rows it was fitted on.
    """

    spec: str
    d_in: int
    matrix: np.ndarray | None = None
    bias: np.ndarray | None = None
    fitted_on: int = 0

    @property
    def d_out(self) -> int:
        """Width of a transformed embedding."""
        return self.d_in if self.matrix is None else len(self.matrix)

    def apply(self, embeddings: np.ndarray) -> np.ndarray:
        """Transform (n, d_in) embeddings to (n, d_out) float32 of unit length; zeros stay zeros."""
        x = np.asarray(embeddings, np.float32)
        if self.matrix is not None and self.bias is not None:
            x = x @ self.matrix.T + self.bias
        lengths = np.linalg.norm(x, axis=1, keepdims=True)
        return np.asarray(x / np.where(lengths == 0, 1, lengths), np.float32)


def fit(
    spec: str,
    embeddings: np.ndarray,
    labels: Sequence[str | None] | None = None,
    *,
    max_rows: int = FIT_ROWS,
    seed: int = 0,
) -> Transform:
    """Fit a transform to (n, d) raw embeddings, on at most max_rows of them, evenly drawn.

    labels: one an embedding, for lda, wccn and auto; those that are None are left out.
    Raises ArgumentError for a wrong spec, DataError for labels that do not serve lda or wccn, and
    ValueError when an embedding is not finite.
    """
    x = np.asarray(embeddings)
    if not np.isfinite(x).all():
        raise ValueError("the embeddings to fit a transform to are not all finite")
    asked = parse_spec(resolve_spec(spec, *x.shape))
    kind = KINDS[asked.name]
    if kind.fit is None or (x == x[:1]).all():  # no rows, or equal ones: nothing to learn
        return Transform("none", x.shape[1])
    y = None if labels is None else np.array([label or "" for label in labels])
    if kind.labels == "needed":
        x, y = _labelled(x, y, kind.name)
    chosen = rows_to_fit(spec, len(x), y, max_rows=max_rows, seed=seed)
    if len(chosen) < len(x):
        x, y = x[chosen], None if y is None else y[chosen]
    x = np.array(x, np.float32)  # a fit may change them
    if kind.usual_lengths:
        x, y = usual_lengths(x, y)
    fitted, matrix, bias = kind.fit(asked, x, y, seed)
    if KINDS[fitted.name].takes:
        fitted = replace(fitted, components=len(matrix))
    return Transform(
        str(fitted),
        x.shape[1],
        matrix.astype(np.float32),
        bias.astype(np.float32),
        fitted_on=len(x),
    )


def rows_to_fit(
    spec: str,
    n: int,
    labels: np.ndarray | None,
    *,
    max_rows: int = FIT_ROWS,
    seed: int = 0,
) -> np.ndarray:
    """Return which of n rows fit() looks at, (m,) int64 ascending: the others need not be read.

    labels: (n,), "" for none. Where a transform needs labels, only rows that have one are drawn.
    """
    rows = np.arange(n)
    if labels is not None and KINDS[parse_spec(spec).name].labels == "needed":
        labelled = np.flatnonzero(labels != "")
        rows = labelled if len(labelled) else rows  # fit() tells that there are none
    return rows[evenly_drawn(len(rows), max_rows, seed=seed)]


def _labelled(x: np.ndarray, y: np.ndarray | None, name: str) -> tuple[np.ndarray, np.ndarray]:
    has_label = np.zeros(len(x), bool) if y is None else y != ""
    if y is None or len(np.unique(y[has_label])) < 2:
        raise DataError(
            f"The transform {name} needs labelled images of at least two classes. Index with "
            "--labels, or choose --transform auto."
        )
    return (x, y) if has_label.all() else (x[has_label], y[has_label])
