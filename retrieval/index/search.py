"""One search of a FAISS index on the CPU, with parameters and threads of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np

from retrieval.index.selection import Selection


def search_index(
    index: Any, x: np.ndarray, k: int, nprobe: int | None, among: Selection | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Search on the CPU, with parameters of its own, so that threads do not disturb each other.

    x: (q, d) float32. nprobe: cells, None for an exact index. Returns (q, k) scores and ids as
    FAISS gives them.
    """
    own: dict[str, Any] = {} if among is None else {"sel": among.selector}
    if nprobe is None:
        inner = faiss.SearchParameters(**own)
    else:
        inner = faiss.SearchParametersIVF(nprobe=nprobe, **own)
    # faiss.contrib.torch_utils, once anything imports it, puts a search without params in front
    search = getattr(index, "search_numpy", index.search)
    with threads_for(len(x)):
        scores, ids = search(x, k, params=inner)
    return scores, ids


@contextmanager
def threads_for(queries: int) -> Iterator[None]:
    """Give one query one thread; OpenMP's number of threads is that of the thread that sets it.

    Two threads wait for each other at the start and the end: on shared cores a query took 50 to
    238 ms with two, and 2.4 ms with one.
    """
    before = faiss.omp_get_max_threads()
    if queries > 1 or before == 1:
        yield
        return
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
