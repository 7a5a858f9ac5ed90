"""Where the right class stands among the scores: one rule for ties, wherever one counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Count the classes before the right one, (n,) int64; 0 where it is the prediction.

    scores: (n, classes) float, or probabilities. labels: (n,). Of equal scores the class that is
    listed first stands first, as in NumPy's argmax and in a stable sort.

    >>> ranks(np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]), np.array([1, 2]))
    array([1, 2])
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    return np.asarray(((scores > own) | ((scores == own) & earlier)).sum(axis=1))


def are_right(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Tell whether the right class is the prediction, (n,) bool; ties as in ranks()."""
    own = scores.gather(1, labels[:, None])
    places = labels.new_tensor(range(scores.shape[1]))
    before = (scores > own) | ((scores == own) & (places < labels[:, None]))
    return ~before.any(dim=1)
