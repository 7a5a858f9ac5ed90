"""What a FAISS index holds, and its search: flat with ids, or in cells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np


def ids_of(flat: Any, cells: Any) -> np.ndarray:
    """Return the ids, (n,) int64, in the order in which vectors are stored.

    flat: an exact index with an id map, or None. cells: an IVF index, where there is no flat one.
    """
    if flat is not None:
        return np.array(faiss.vector_to_array(flat.id_map))
    lists = cells.invlists
    sizes = [lists.list_size(cell) for cell in range(lists.nlist)]
    parts = [
        np.array(faiss.rev_swig_ptr(lists.get_ids(cell), size))
        for cell, size in enumerate(sizes)
        if size
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def vectors_at(flat: Any, cells: Any, places: np.ndarray) -> np.ndarray:
    """Return (m, d) float32 vectors by their (m,) places in ids_of()."""
    if flat is not None:
        n, d = int(flat.ntotal), int(flat.d)
        codes = faiss.rev_swig_ptr(faiss.downcast_index(flat.index).get_xb(), n * d)
        return np.array(codes.reshape(n, d)[places])
    lists, centres, d = cells.invlists, faiss.downcast_index(cells.quantizer), int(cells.d)
    ends = np.cumsum([lists.list_size(cell) for cell in range(lists.nlist)])
    cell_of = np.searchsorted(ends, places, side="right")
    vectors = np.empty((len(places), d), np.float32)
    for cell in np.unique(cell_of):
        size, mine = lists.list_size(int(cell)), cell_of == cell
        codes = faiss.rev_swig_ptr(lists.get_codes(int(cell)), size * 2 * d)
        halves = codes.view(np.float16).reshape(size, d)
        vectors[mine] = halves[places[mine] - (ends[cell] - size)]
        if cells.by_residual:
            # into an array of ours: others' imports make FAISS return torch's by default
            vectors[mine] += centres.reconstruct(int(cell), np.empty(d, np.float32))
    return vectors


def row_size(flat: Any, cells: Any) -> int:
    """Return the bytes of a stored vector and its id."""
    return 8 + int(cells.code_size if flat is None else flat.index.sa_code_size())


def search_index(
    index: Any, x: np.ndarray, k: int, nprobe: int | None, allowed: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Search on the CPU, with parameters of its own, so that threads do not disturb each other.

    x: (q, d) float32. nprobe: cells, None for an exact index. allowed: ids to search among, or
    None. Returns (q, k) scores and ids as FAISS gives them.
    """
    own: dict[str, Any] = {}
    if allowed is not None:
        own["sel"] = faiss.IDSelectorBatch(np.ascontiguousarray(allowed, np.int64))
    if nprobe is None:
        inner = faiss.SearchParameters(**own)
    else:
        inner = faiss.SearchParametersIVF(nprobe=nprobe, **own)
    # faiss.contrib.torch_utils, once anything imports it, puts a search without params in front
    search = getattr(index, "search_numpy", index.search)
    with _threads_for(len(x)):
        scores, ids = search(x, k, params=inner)
    return scores, ids


@contextmanager
def _threads_for(queries: int) -> Iterator[None]:
    """One thread for one query; OpenMP's number of threads is that of the thread that sets it.

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
