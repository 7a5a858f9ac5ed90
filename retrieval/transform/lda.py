"""Linear discriminant analysis, with an optional shrinkage of its covariance.

Friedman 1989, "Regularized discriminant analysis".
"""

from __future__ import annotations

import numpy as np

from retrieval.errors import DataError
from retrieval.transform.spec import Spec

LEAST_VARIANCE = 1e-7  # of the largest; below it a direction is rounding noise


def fit_lda(x: np.ndarray, y: np.ndarray | None, asked: Spec) -> tuple[np.ndarray, np.ndarray]:
    """Fit (components, d) discriminants, the best first, and their bias. Raises DataError.

    x: (n, d) float32. y: (n,) labels. asked: components, and its power as the shrinkage.
    """
    classes = 0 if y is None else len(np.unique(y))
    if len(x) <= classes:
        raise DataError(
            f"The transform lda needs more images than classes, but each of {classes} classes has "
            "only one image. Choose --transform auto."
        )
    x = x.astype(np.float64)
    directions = _shrunk_directions(x, y, asked.power) if asked.power else _directions(x, y)
    directions = directions[:, : min(asked.components or classes, classes - 1)]
    if directions.shape[1] == 0:
        raise DataError(
            "The transform lda finds nothing that tells the classes apart. Choose --transform auto."
        )
    matrix = np.asarray(directions.T)
    return matrix, -matrix @ x.mean(axis=0)


def _directions(x: np.ndarray, y: np.ndarray | None) -> np.ndarray:
    """The (d, m) discriminants, the best first, of unit variance within classes."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    with np.errstate(divide="ignore", invalid="ignore"):  # no direction found: told above
        return np.asarray(LinearDiscriminantAnalysis(solver="svd").fit(x, y).scalings_)


def _shrunk_directions(x: np.ndarray, y: np.ndarray | None, shrinkage: float) -> np.ndarray:
    """Fit LDA with the covariance within classes shrunk.

    Solves the generalised eigenproblem of the covariances between and within classes, of which only
    the latter is shrunk. It needs no eigenvectors of a (d, d) matrix: the means of the classes span
    all that can tell them apart, and are far fewer (docs/decisions.md).
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
