"""A copy of a FAISS index on the first GPU, where there is one."""

from __future__ import annotations

import threading
from typing import Any

import faiss
import numpy as np

MOST_ON_GPU = 2048  # that FAISS finds on a GPU


class GpuCopy:
    """Made at the first search, and given up for good when it fails; any thread may search it."""

    def __init__(self) -> None:
        self._copy: Any = None  # with the resources that it needs
        self._is_tried = False
        self._turn = threading.Lock()  # FAISS searches on a GPU for one thread at a time

    def search(self, index: Any, x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Scores and ids, (n, k) each, of vectors (n, d); None without a GPU, or when it fails."""
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
