"""StandardScaler and PCA as one affine map, with optional whitening.

Jégou and Chum 2012, "Negative evidences and co-occurrences in image retrieval: the benefit of PCA
and whitening".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from retrieval.transform.lda import LEAST_VARIANCE
from retrieval.transform.spec import Spec


def fit_chain(asked: Spec, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit StandardScaler and PCA, as the name says, as one matrix and bias in float64."""
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
