"""The vectors of a gallery: held in memory where they are few, else read and transformed anew.

A gallery of a million images has no more of its vectors in memory than a block at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Apply = Callable[[np.ndarray], np.ndarray]

ROWS_TRANSFORMED = 16_384  # at a time
FLOAT32 = 4  # bytes


class Embeddings(Protocol):
    """Raw embeddings, (n, d): an array, or what reads the rows that are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of rows, and their width."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Bounds:
    """What is held in memory at a time.

    cells: scores. rows: vectors of a gallery that is not held whole. pairs: queries with their
    relevant images, while such a gallery is read. held: bytes of vectors that are held whole.
    """

    cells: int = 1 << 23
    rows: int = 1 << 15
    pairs: int = 1 << 24
    held: int = 1 << 28


class Transformed:
    """Some rows of raw embeddings as unit vectors, transformed whenever they are asked for.

    rows: (n,) ascending.
    """

    def __init__(self, embeddings: Embeddings, rows: np.ndarray, apply: Apply) -> None:
        self._embeddings = embeddings
        self._rows = rows
        self._apply = apply

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return (..., d) float32 vectors of (...) rows, in any order."""
        places = self._rows[rows]
        if isinstance(rows, slice):
            return applied(self._apply, self._embeddings, places)
        different, which = np.unique(places, return_inverse=True)
        found = applied(self._apply, self._embeddings, different)
        return np.asarray(found[which.reshape(places.shape)])


Vectors = np.ndarray | Transformed


@dataclass(frozen=True)
class Labelled:
    """n images: (n, d) float32 unit vectors, (n,) int64 labels and (n,) int64 contents.

    labels: codes, -1 for an image without a label. contents: equal where the files are.
    """

    vectors: Vectors
    labels: np.ndarray
    contents: np.ndarray

    def __len__(self) -> int:
        return len(self.vectors)

    def rows(self, rows: np.ndarray) -> Labelled:
        """Take some of the images, with their vectors in memory."""
        return Labelled(self.vectors[rows], self.labels[rows], self.contents[rows])


def applied(apply: Apply, embeddings: Embeddings, rows: np.ndarray) -> np.ndarray:
    """Transform rows of embeddings, some at a time: (n, d) float32."""
    first = apply(embeddings[rows[:ROWS_TRANSFORMED]])
    if len(first) == len(rows):
        return first
    vectors = np.empty((len(rows), first.shape[1]), np.float32)
    vectors[: len(first)] = first
    for start in range(len(first), len(rows), ROWS_TRANSFORMED):
        part = slice(start, start + ROWS_TRANSFORMED)
        vectors[part] = apply(embeddings[rows[part]])
    return vectors


def vectors_of(
    embeddings: Embeddings, rows: np.ndarray, apply: Apply, bounds: Bounds | None = None
) -> Vectors:
    """Transform rows of embeddings at once where the vectors are few, else when they are needed."""
    width = apply(embeddings[rows[:1]]).shape[1]
    if len(rows) * width * FLOAT32 <= (bounds or Bounds()).held:
        return applied(apply, embeddings, rows)
    return Transformed(embeddings, rows, apply)


def vector_blocks(vectors: Vectors, rows: int) -> Iterator[tuple[int, np.ndarray]]:
    """Give the first row and the vectors of each block; an array is one block."""
    if isinstance(vectors, np.ndarray):
        yield 0, vectors
        return
    for start in range(0, len(vectors), rows):
        yield start, vectors[start : start + rows]
