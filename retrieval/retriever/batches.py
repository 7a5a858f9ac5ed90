"""Loaded images -> embeddings, batch by batch; what a search and a run of index have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np

from retrieval.encoder import Encoder
from retrieval.loader import Loaded
from retrieval.threads import Background

MOST_WAITING = 2048


def encode_batches(
    loaded: Iterable[Loaded], encoder: Encoder, batch_size: int, *, most: int = MOST_WAITING
) -> Iterator[list[tuple[Loaded, np.ndarray | None]]]:
    """Encode what has pixels, batch by batch; other items keep their place, with None.

    most: items of a batch, those without pixels included.
    """
    size = encoder.spec.preprocessing.size
    pixels = np.empty((batch_size, size, size, 3), np.uint8)
    waiting: list[Loaded] = []
    filled = 0
    background = Background("imgret-encode")  # on Ctrl-C nobody waits for a slow backbone

    def encoded() -> list[tuple[Loaded, np.ndarray | None]]:
        batch = background.call(partial(encoder.encode, pixels[:filled])) if filled else ()
        embeddings = iter(batch)
        return [(item, next(embeddings) if item.pixels is not None else None) for item in waiting]

    try:
        for item in loaded:
            waiting.append(item)
            if item.pixels is not None:
                pixels[filled] = item.pixels
                filled += 1
            if filled == batch_size or len(waiting) >= most:
                yield encoded()
                waiting, filled = [], 0
        if waiting:
            yield encoded()
    finally:
        background.end()
