"""What is known of a backbone: all that decides its embeddings."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrieval.images import Preprocessing
from retrieval.words import DEFAULT_POOL, DEFAULT_VIEWS, Pool, Views, is_own

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class BackboneSpec:
    """All that must be the same for two embeddings to be comparable.

    name: as the user gave it, folders as absolute paths. architecture: timm's name.
    weights_sha256: of the weight file of a folder, and of its config.json's model_args where there
    are any; else of the loaded tensors. dim: the width of an embedding. preprocessing: how pixels
    are prepared. pool, views: see retrieval/pool.py.
    """

    name: str
    architecture: str
    weights_sha256: str
    dim: int
    preprocessing: Preprocessing
    pool: Pool = DEFAULT_POOL
    views: Views = DEFAULT_VIEWS

    @property
    def fingerprint(self) -> str:
        """SHA-256 over everything but the name and the fit, which the network does not see."""
        p = self.preprocessing
        parts = [self.architecture, self.weights_sha256, self.dim, p.size, *p.mean, *p.std]
        parts += [] if is_own(self.pool, self.views) else [self.pool, self.views]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Backbone:
    """A network in evaluation mode, (n, 3, size, size) float32 normalised -> (n, dim)."""

    spec: BackboneSpec
    network: torch.nn.Module


@dataclass(frozen=True)
class Classifier:
    """A network with its classifier: (n, 3, size, size) float32 normalised -> (n, classes)."""

    network: torch.nn.Module
    preprocessing: Preprocessing
    classes: tuple[str, ...]
