"""Transforms of embeddings: fitted in scikit-learn, applied as one affine map and an L2 norm.

none              the L2 norm alone
standard          StandardScaler
standard+pca:N    StandardScaler, then PCA to N components
pca:N             PCA to N components
whiten:N          PCA to N components of unit variance (Jégou and Chum 2012, "Negative
                  evidences and co-occurrences in image retrieval: the benefit of PCA and
                  whitening")
lda, lda:N        linear discriminant analysis with the labels, at most classes - 1 components
auto              whiten:min(512, d, n / 4) from 256 embeddings on, none below
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrieval.errors import ImgretError

SPEC = re.compile(r"none|auto|standard|(standard\+pca|pca|whiten|lda)(:[1-9]\d{0,4})?")
NAMES = "none, standard, standard+pca:N, pca:N, whiten:N, lda or auto"
AUTO_FROM, AUTO_COMPONENTS = 256, 512
FIT_ROWS = 100_000
LEAST_VARIANCE = 1e-7  # of the largest; below it a direction is rounding noise


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
        """(n, d_in) embeddings -> (n, d_out) float32 of unit length; zeros stay zeros."""
        x = np.asarray(embeddings, np.float32)
        if self.matrix is not None and self.bias is not None:
            x = x @ self.matrix.T + self.bias
        lengths = np.linalg.norm(x, axis=1, keepdims=True)
        return np.asarray(x / np.where(lengths == 0, 1, lengths), np.float32)


def parse(spec: str) -> tuple[str, int | None]:
    """A spec's name and its N, if any. Raises ImgretError for what is no spec.

    >>> parse("standard+pca:512")
    ('standard+pca', 512)
    """
    if not SPEC.fullmatch(spec):
        raise ImgretError(f"There is no transform {spec!r}. Give {NAMES}.")
    name, _, components = spec.partition(":")
    return name, int(components) if components else None


def resolve(spec: str, n: int, d: int) -> str:
    """The spec that is fitted to n embeddings of width d.

    >>> resolve("auto", 2000, 1280), resolve("auto", 100, 1280), resolve("whiten:512", 300, 1280)
    ('whiten:500', 'none', 'whiten:299')
    """
    name, components = parse(spec)
    if name == "auto":
        if n < AUTO_FROM:
            return "none"
        name, components = "whiten", min(AUTO_COMPONENTS, n // 4)
    if name in {"none", "standard", "lda"}:
        return spec
    if n < 2:
        return "none"
    return f"{name}:{min(components or AUTO_COMPONENTS, d, n - 1)}"


def fit(
    spec: str,
    embeddings: np.ndarray,
    labels: Sequence[str | None] | None = None,
    *,
    max_rows: int = FIT_ROWS,
    seed: int = 0,
) -> Transform:
    """Fit a transform to (n, d) raw embeddings, on at most max_rows of them, evenly drawn.

    labels: one an embedding, for lda; those that are None are left out.
    Raises ImgretError when the spec is wrong or the labels do not do for lda, and ValueError when
    an embedding is not finite.
    """
    x = np.asarray(embeddings)
    if not np.isfinite(x).all():
        raise ValueError("the embeddings to fit a transform to are not all finite")
    name, components = parse(resolve(spec, *x.shape))
    if name == "none" or (x == x[:1]).all():  # no rows, or equal ones: nothing to learn
        return Transform("none", x.shape[1])
    y = None if labels is None else np.array([label or "" for label in labels])
    if name == "lda":
        x, y = _labelled(x, y)
    if len(x) > max_rows:
        chosen = np.sort(np.random.default_rng(seed).choice(len(x), max_rows, replace=False))
        x, y = x[chosen], None if y is None else y[chosen]
    x = np.asarray(x, np.float32)
    if name == "lda":
        matrix, bias = _fit_lda(x, y, components)
    else:
        matrix, bias = _fit_chain(name, x, components)
    spec = name if name == "standard" else f"{name}:{len(matrix)}"
    return Transform(
        spec, x.shape[1], matrix.astype(np.float32), bias.astype(np.float32), fitted_on=len(x)
    )


def _labelled(x: np.ndarray, y: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    has_label = np.zeros(len(x), bool) if y is None else y != ""
    if y is None or len(np.unique(y[has_label])) < 2:
        raise ImgretError(
            "The transform lda needs labelled images of at least two classes. Index with "
            "--labels, or choose --transform auto."
        )
    return x[has_label], y[has_label]


def _fit_chain(name: str, x: np.ndarray, components: int | None) -> tuple[np.ndarray, np.ndarray]:
    """StandardScaler and PCA, each where the name says so, as one matrix and bias in float64."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    scale, shift = np.ones(x.shape[1]), np.zeros(x.shape[1])
    if name.startswith("standard"):
        scaler = StandardScaler().fit(x)
        x = scaler.transform(x)
        scale, shift = 1 / scaler.scale_, -scaler.mean_ / scaler.scale_
    if name == "standard":
        return np.diag(scale), shift
    # centred here: scikit-learn takes the mean out of the covariance, where float32 cancels
    centre = x.mean(axis=0, dtype=np.float64)
    x = x - centre.astype(x.dtype)
    # the covariance is exact enough in float32 and much faster, but needs more rows than columns
    solver = "covariance_eigh" if len(x) > x.shape[1] else "full"
    pca = PCA(components, whiten=name == "whiten", svd_solver=solver).fit(x)
    matrix, bias = _fold_pca(pca)
    return matrix * scale, bias + matrix @ (shift - centre)


def _fold_pca(pca: Any) -> tuple[np.ndarray, np.ndarray]:
    """Directions without variance are dropped: whitening would divide by nothing."""
    variance = np.asarray(pca.explained_variance_, np.float64)
    kept = variance > LEAST_VARIANCE * max(variance[0], np.finfo(np.float64).tiny)
    kept[0] = True
    matrix = np.asarray(pca.components_, np.float64)[kept]
    if pca.whiten:
        matrix = matrix / np.sqrt(np.where(variance[kept] > 0, variance[kept], 1))[:, None]
    return matrix, -matrix @ np.asarray(pca.mean_, np.float64)


def _fit_lda(
    x: np.ndarray, y: np.ndarray | None, components: int | None
) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    classes = 0 if y is None else len(np.unique(y))
    if len(x) <= classes:
        raise ImgretError(
            f"The transform lda needs more images than classes, but of {classes} classes there is "
            "one image each. Choose --transform auto."
        )
    with np.errstate(divide="ignore", invalid="ignore"):  # no direction found: told below
        lda = LinearDiscriminantAnalysis(solver="svd").fit(x.astype(np.float64), y)
    directions = lda.scalings_[:, : min(components or classes, classes - 1)]
    if directions.shape[1] == 0:
        raise ImgretError(
            "The transform lda finds nothing that tells the classes apart. Choose --transform auto."
        )
    matrix = np.asarray(directions.T)
    return matrix, -matrix @ lda.xbar_
