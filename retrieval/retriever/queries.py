"""What a search is given: one picture or several, in any of the ways that a picture is given."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np

from retrieval.arguments import box
from retrieval.encoder import Encoder
from retrieval.errors import ImageError
from retrieval.images import Source, is_tensor
from retrieval.loader import decode_in_time

Query: TypeAlias = Source
Box: TypeAlias = tuple[int, int, int, int]


def is_one_query(query: Query | Sequence[Query]) -> bool:
    """Tell whether a query is one object, a picture or not, and not several."""
    one = isinstance(query, str | bytes | bytearray | memoryview | np.ndarray)
    return one or is_tensor(query) or hasattr(query, "read") or not isinstance(query, Iterable)


def as_queries(query: Query | Sequence[Query]) -> list[Query]:
    """Return one query or several as a list."""
    return [query] if is_one_query(query) else list(query)  # type: ignore[arg-type,list-item]


def decode_query(query: Query, encoder: Encoder, crop: Box | None, max_pixels: int) -> np.ndarray:
    """Decode a query to the pixels that its encoder takes. Raises ImageError, naming a file."""
    preprocessing = encoder.spec.preprocessing
    try:
        return decode_in_time(query, preprocessing, crop=crop, max_pixels=max_pixels).pixels
    except ImageError as error:
        name = os.fspath(query) if isinstance(query, str | os.PathLike) else "The query image"
        raise ImageError(f"{name}: {error}") from error


def region_of(crop: Box | None) -> Box | None:
    """Check the region that a query is searched by. Raises ArgumentError."""
    return None if crop is None else box("crop", crop)
