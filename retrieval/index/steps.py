"""The transform as FAISS applies it, in front of an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import faiss
import numpy as np

from retrieval.index.search import threads_for


class AffineMap(Protocol):
    """What the index needs of a transform: y = matrix @ x + bias, then the norm."""

    @property
    def d_in(self) -> int:
        """Width of a raw embedding."""

    @property
    def matrix(self) -> np.ndarray | None:
        """The (d_out, d_in) float32, or None for the norm alone."""

    @property
    def bias(self) -> np.ndarray | None:
        """The shift, (d_out,) float32."""


@dataclass(frozen=True)
class NormAlone:
    """The map that only gives unit length."""

    d_in: int
    matrix: np.ndarray | None = None
    bias: np.ndarray | None = None


def chain_of(transform: AffineMap) -> tuple[list[Any], int]:
    """Return the steps of a transform as FAISS has them, and their output's width."""
    steps: list[Any] = []
    d_out = transform.d_in
    if transform.matrix is not None and transform.bias is not None:
        d_out = len(transform.matrix)
        linear = faiss.LinearTransform(transform.d_in, d_out, True)  # noqa: FBT003
        faiss.copy_array_to_vector(float32(transform.matrix).ravel(), linear.A)
        faiss.copy_array_to_vector(float32(transform.bias), linear.b)
        linear.is_trained = True
        steps.append(linear)
    return [*steps, faiss.NormalizationTransform(d_out, 2.0)], d_out


def apply(steps: Sequence[Any], x: np.ndarray) -> np.ndarray:
    """Apply all steps to (n, d_in) float32."""
    with threads_for(len(x)):
        for step in steps:
            x = step.apply(x)
    return np.asarray(x)


def float32(embeddings: np.ndarray) -> np.ndarray:
    """Convert an array to what FAISS takes."""
    return np.ascontiguousarray(embeddings, dtype=np.float32)


def affine_of(steps: Sequence[Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the (d_out, d_in) matrix and the (d_out,) bias of steps; None for the norm alone."""
    for step in steps:
        if isinstance(step, faiss.LinearTransform):
            matrix = faiss.vector_to_array(step.A).reshape(step.d_out, step.d_in)
            return matrix, faiss.vector_to_array(step.b)
    return None
