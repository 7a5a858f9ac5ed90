"""A random sample: the same one for the same numbers."""

from __future__ import annotations

import numpy as np


def evenly_drawn(n: int, most: int, *, seed: int | np.random.Generator = 0) -> np.ndarray:
    """Draw at most so many of n places, each as likely, sorted: (min(n, most),) int64.

    seed: a number gives the same sample each time, a generator another one.

    >>> evenly_drawn(3, 5)
    array([0, 1, 2])
    >>> len(set(evenly_drawn(100, 5).tolist()))
    5
    """
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))
