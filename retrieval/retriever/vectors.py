"""Embeddings that a user gives, checked before they are searched by."""

from __future__ import annotations

from typing import Any

import numpy as np

from retrieval.encoder import normalise
from retrieval.errors import QueryError


def as_embeddings(embeddings: Any) -> np.ndarray:
    """Return embeddings as an array, (n, d) numbers. Raises QueryError."""
    try:
        raw = np.atleast_2d(np.asarray(embeddings))
    except (TypeError, ValueError) as error:
        raise QueryError("The embeddings are not numbers. Give (n, d) float32.") from error
    if raw.dtype.kind not in "fiu":
        raise QueryError("The embeddings are not numbers. Give (n, d) float32.")
    if raw.ndim != 2 or raw.shape[1] == 0:
        raise QueryError(f"The embeddings have the shape {raw.shape}. Give (n, d) float32.")
    return raw


def fitting(raw: np.ndarray, dim: int) -> np.ndarray:
    """Return (n, d) embeddings if they have a gallery's width. Raises QueryError."""
    if raw.shape[1] != dim:
        raise QueryError(
            f"The embeddings have a width of {raw.shape[1]}, but those of the gallery have {dim}. "
            "Use the gallery's own backbone."
        )
    return raw


def unit_embeddings(raw: np.ndarray) -> np.ndarray:
    """Normalise embeddings, (n, d): float32 of unit length. Raises QueryError."""
    if not np.isfinite(raw).all():
        raise QueryError("The embeddings hold NaN or infinite numbers. Encode the images again.")
    if not raw.any(axis=1).all():
        raise QueryError("An embedding is all zeros, which resembles nothing. Leave it out.")
    wide = raw.astype(np.float64)  # whatever its length, its square is to be a number
    return normalise(wide / np.abs(wide).max(axis=1, keepdims=True))
