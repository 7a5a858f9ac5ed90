"""An Encoder: batches of pixels in, embeddings of unit length out."""

from __future__ import annotations

import threading
from typing import Protocol

import numpy as np

from retrieval.backbones import BackboneSpec
from retrieval.errors import BackboneError
from retrieval.words import Engine


class Runner(Protocol):
    """What runs the network: uint8 pixels in, float32 embeddings out."""

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """(n, size, size, 3) uint8 -> (n, dim) float32."""
        ...


class Encoder:
    """Encodes batches of pixels with one backbone on one engine.

    spec: the backbone. engine: the engine in use. notice: why it is not the first choice, or
    None. Several threads may share an encoder; they take turns.
    """

    def __init__(
        self, spec: BackboneSpec, engine: Engine, run: Runner, notice: str | None = None
    ) -> None:
        self.spec = spec
        self.engine = engine
        self.notice = notice
        self._run = run
        self._turn = threading.Lock()

    @property
    def batch_size(self) -> int:
        """Images a batch that keep this engine busy without filling the memory."""
        at_224 = 256 if self.engine == "torch-cuda-bf16" else 32
        scale = (224 / self.spec.preprocessing.size) ** 2
        return max(1, min(at_224, int(at_224 * scale)))

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """(n, size, size, 3) uint8 -> (n, dim) float32 of unit length."""
        with self._turn:
            embeddings = self._run(np.ascontiguousarray(pixels))
        if embeddings.shape[1:] != (self.spec.dim,):
            raise BackboneError(
                f"{self.spec.name} gives embeddings of width {embeddings.shape[-1]}, but those of "
                f"the gallery have {self.spec.dim}. Index the images into a new gallery."
            )
        return normalise(embeddings)


def normalise(embeddings: np.ndarray) -> np.ndarray:
    """Rows of (n, d) scaled to unit length, float32; zeros stay zeros.

    Transforms fitted to unit embeddings find slightly better neighbours than those fitted to raw
    ones, and float16 holds them whatever the backbone's scale (docs/decisions.md).
    """
    x = np.asarray(embeddings, np.float32)
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(lengths == 0, 1, lengths))
