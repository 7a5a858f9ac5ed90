"""A copy of a FAISS index on the first GPU, where there is one."""

from __future__ import annotations

import threading
from typing import Any

import faiss
import numpy as np

MOST_ON_GPU = 2048  # that FAISS finds on a GPU


class GpuCopy:
    """A copy made at the first search, and given up when it fails; any thread may search it."""

    def __init__(self) -> None:
        self._copy: Any = None  # with the resources that it needs
        self._is_tried = False
        self._turn = threading.Lock()  # FAISS searches on a GPU for one thread at a time

    def search(self, index: Any, x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Search for vectors (n, d): scores and ids, (n, k) each; None without a working GPU."""
        if k > MOST_ON_GPU:
            return None
        with self._turn:
            try:
                if not self._is_tried:
                    self._is_tried = True
                    if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0:
                        resources = faiss.StandardGpuResources()
                        self._copy = resources, faiss.index_cpu_to_gpu(resources, 0, index)
                return None if self._copy is None else self._copy[1].search(x, k)
            except RuntimeError:  # does not fit
                self._copy = None
                return None
