"""Transforms of embeddings: fitted in scikit-learn, applied as one affine map and an L2 norm.

none              the L2 norm alone
standard          StandardScaler
standard+pca:N    StandardScaler, then PCA to N components
pca:N             PCA to N components
whiten:N[:P]      PCA to N components, each divided by its deviation to the power P: of unit
                  variance with P = 1.0, the default; less shrinks what whitening does to rare
                  directions (Jégou and Chum 2012, "Negative evidences and co-occurrences in image
                  retrieval: the benefit of PCA and whitening")
lda[:N][:P]       linear discriminant analysis with the labels, at most classes - 1 components; the
                  covariance within classes shrunk by P towards a multiple of the identity
                  (Friedman 1989, "Regularized discriminant analysis")
auto              whiten:min(512, d, n / 4):0.75 from 256 embeddings on, none below

N is a whole number, P has a decimal point and lies above 0 and at most at 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from retrieval.errors import ImgretError

SPEC = re.compile(
    r"(none|auto|standard)|(standard\+pca|pca|whiten|lda)(?::([1-9]\d{0,4}))?(?::(\d\.\d{1,6}))?"
)
NAMES = "none, standard, standard+pca:N, pca:N, whiten:N[:P], lda[:N][:P] or auto"
AUTO_FROM, AUTO_COMPONENTS, AUTO_POWER = 256, 512, 0.75
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


@dataclass(frozen=True)
class Spec:
    """A spec's name, its N and its P; None where it has none."""

    name: str
    components: int | None = None
    power: float | None = None

    def __str__(self) -> str:
        parts = [self.name, self.components, self.power]
        return ":".join(str(part) for part in parts if part is not None)


def parse(spec: str) -> Spec:
    """Read a spec. Raises ImgretError for what is none.

    >>> parse("whiten:512:0.75")
    Spec(name='whiten', components=512, power=0.75)
    """
    found = SPEC.fullmatch(spec)
    name = found and (found[1] or found[2])
    power = float(found[4]) if found and found[4] else None
    shrinks = name in {"whiten", "lda"}
    if not found or not name or (power is not None and not (shrinks and 0 < power <= 1)):
        raise ImgretError(
            f"There is no transform {spec!r}. Give {NAMES}: N is a whole number, P one like 0.75, "
            "above 0 and at most 1."
        )
    return Spec(name, int(found[3]) if found[3] else None, power)


def resolve(spec: str, n: int, d: int) -> str:
    """The spec that is fitted to n embeddings of width d.

    >>> resolve("auto", 2000, 1280), resolve("auto", 100, 1280), resolve("whiten:512", 300, 1280)
    ('whiten:500:0.75', 'none', 'whiten:299')
    """
    asked = parse(spec)
    if asked.name == "auto":
        if n < AUTO_FROM:
            return "none"
        asked = Spec("whiten", min(AUTO_COMPONENTS, n // 4), AUTO_POWER)
    if asked.name in {"none", "standard", "lda"}:
        return spec
    if n < 2:
        return "none"
    return str(replace(asked, components=min(asked.components or AUTO_COMPONENTS, d, n - 1)))


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
    asked = parse(resolve(spec, *x.shape))
    name = asked.name
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
        matrix, bias = _fit_lda(x, y, asked)
    else:
        matrix, bias = _fit_chain(asked, x)
    fitted = asked if name == "standard" else replace(asked, components=len(matrix))
    return Transform(
        str(fitted),
        x.shape[1],
        matrix.astype(np.float32),
        bias.astype(np.float32),
        fitted_on=len(x),
    )


def _labelled(x: np.ndarray, y: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    has_label = np.zeros(len(x), bool) if y is None else y != ""
    if y is None or len(np.unique(y[has_label])) < 2:
        raise ImgretError(
            "The transform lda needs labelled images of at least two classes. Index with "
            "--labels, or choose --transform auto."
        )
    return x[has_label], y[has_label]


def _fit_chain(asked: Spec, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """StandardScaler and PCA, each where the name says so, as one matrix and bias in float64."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    name = asked.name
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
    pca = PCA(asked.components, svd_solver=solver).fit(x)
    matrix, bias = _fold_pca(pca, power=(asked.power or 1.0) if name == "whiten" else 0.0)
    return matrix * scale, bias + matrix @ (shift - centre)


def _fold_pca(pca: Any, power: float) -> tuple[np.ndarray, np.ndarray]:
    """Components divided by their deviation to a power.

    Directions without variance are dropped: whitening would divide by nothing."""
    variance = np.asarray(pca.explained_variance_, np.float64)
    kept = variance > LEAST_VARIANCE * max(variance[0], np.finfo(np.float64).tiny)
    kept[0] = True
    matrix = np.asarray(pca.components_, np.float64)[kept]
    deviation = np.sqrt(np.where(variance[kept] > 0, variance[kept], 1))
    matrix = matrix / deviation[:, None] ** power
    return matrix, -matrix @ np.asarray(pca.mean_, np.float64)


def _fit_lda(x: np.ndarray, y: np.ndarray | None, asked: Spec) -> tuple[np.ndarray, np.ndarray]:
    classes = 0 if y is None else len(np.unique(y))
    if len(x) <= classes:
        raise ImgretError(
            f"The transform lda needs more images than classes, but of {classes} classes there is "
            "one image each. Choose --transform auto."
        )
    x = x.astype(np.float64)
    directions = _shrunk_directions(x, y, asked.power) if asked.power else _directions(x, y)
    directions = directions[:, : min(asked.components or classes, classes - 1)]
    if directions.shape[1] == 0:
        raise ImgretError(
            "The transform lda finds nothing that tells the classes apart. Choose --transform auto."
        )
    matrix = np.asarray(directions.T)
    return matrix, -matrix @ x.mean(axis=0)


def _directions(x: np.ndarray, y: np.ndarray | None) -> np.ndarray:
    """(d, m) discriminants, the best first, of unit variance within classes."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    with np.errstate(divide="ignore", invalid="ignore"):  # no direction found: told above
        return np.asarray(LinearDiscriminantAnalysis(solver="svd").fit(x, y).scalings_)


def _shrunk_directions(x: np.ndarray, y: np.ndarray | None, shrinkage: float) -> np.ndarray:
    """The same with the covariance within classes shrunk.

    What scikit-learn's solver "eigen" finds, without its eigenvectors of a (d, d) matrix: the means
    of the classes span all that can tell them apart, and are far fewer (docs/decisions.md).
    """
    from scipy.linalg import cholesky, solve_triangular

    _, codes, counts = np.unique(np.asarray(y), return_inverse=True, return_counts=True)
    means = np.zeros((len(counts), x.shape[1]))
    np.add.at(means, codes, x)
    means /= counts[:, None]
    within = x - means[codes]
    covariance = within.T @ within / len(x)
    ground = np.trace(covariance) / len(covariance)
    if ground <= 0:
        return np.empty((x.shape[1], 0))
    covariance *= 1 - shrinkage
    covariance[np.diag_indices_from(covariance)] += shrinkage * ground
    root = cholesky(covariance, lower=True)
    between = (means - x.mean(axis=0)) * np.sqrt(counts / len(x))[:, None]
    whitened = solve_triangular(root, between.T, lower=True).T
    _, strength, axes = np.linalg.svd(whitened, full_matrices=False)
    found = strength > LEAST_VARIANCE * strength[0] if strength[0] > 0 else strength > 0
    return np.asarray(solve_triangular(root, axes[found].T, lower=True, trans="T"))
