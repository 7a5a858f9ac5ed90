"""The settings of embeddings and of searches as records, which are checked when they are made.

A query needs none of them, and so does not import pydantic; what a gallery stores is in
retrieval/gallery/settings.py.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from retrieval.refinement import Refinement
from retrieval.words import (
    DEFAULT_BACKBONE,
    DEFAULT_FIT,
    DEFAULT_POOL,
    DEFAULT_TRANSFORM,
    DEFAULT_VIEWS,
    LEAST_SIZE,
    MOST_SIZE,
    Fit,
    Pool,
    Views,
)

Side = Annotated[int, Field(ge=LEAST_SIZE, le=MOST_SIZE)]


class Frozen(BaseModel):
    """Values from files of others: every key is known, and nothing changes afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EmbeddingSettings(Frozen):
    """What decides an embedding. size: side of the input in pixels; None: the backbone's own."""

    backbone: str = DEFAULT_BACKBONE
    size: Side | None = None
    fit: Fit = DEFAULT_FIT
    pool: Pool = DEFAULT_POOL
    views: Views = DEFAULT_VIEWS


class SearchSettings(Frozen):
    """What decides the matches, given the embeddings.

    transform: a spec as retrieval/transform/ reads it. expand, augment, rerank: as
    retrieval/refinement.py does.
    """

    transform: str = DEFAULT_TRANSFORM
    expand: str = "none"
    augment: str = "none"
    rerank: str = "none"

    @property
    def refinement(self) -> Refinement:
        """What follows the first search. Raises ArgumentError for a wrong spec."""
        return Refinement.of(self.expand, self.augment, self.rerank)
