"""StandardScaler and PCA as one affine map, with optional whitening.

Jégou and Chum 2012, "Negative evidences and co-occurrences in image retrieval: the benefit of PCA
and whitening".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from retrieval.transform.lda import LEAST_VARIANCE


def fit_standard(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit StandardScaler to (n, d) rows: a (d, d) matrix and a (d,) bias, float64."""
    scale, shift, _ = _scaled(x)
    return np.diag(scale), shift


def fit_standard_pca(x: np.ndarray, components: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Fit StandardScaler and then PCA: a (components, d) matrix and a bias, float64."""
    scale, shift, x = _scaled(x)
    matrix, bias = fit_pca(x, components)
    return matrix * scale, bias + matrix @ shift


def fit_pca(
    x: np.ndarray, components: int | None, power: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Fit PCA: a (components, d) matrix, divided by deviations to a power, and a bias, float64."""
    from sklearn.decomposition import PCA

    # centred here: scikit-learn takes the mean out of the covariance, where float32 cancels
    centre = x.mean(axis=0, dtype=np.float64)
    x = x - centre.astype(x.dtype)
    # the covariance is exact enough in float32 and much faster, but needs more rows than columns
    solver = "covariance_eigh" if len(x) > x.shape[1] else "full"
    matrix, bias = _fold_pca(PCA(components, svd_solver=solver).fit(x), power)
    return matrix, bias - matrix @ centre


def _scaled(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what StandardScaler multiplies by and adds, (d,) float64, and the rows scaled."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(x)
    return 1 / scaler.scale_, -scaler.mean_ / scaler.scale_, scaler.transform(x)


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
