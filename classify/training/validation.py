"""How good a network is on the pictures that are held out, which are not augmented."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from classify.augmentation import Augmenter
from classify.data import Pixels, batches
from classify.ranks import ranks
from classify.training.precision import autocast
from retrieval.progress import Progress

EVALUATED = 256  # images a batch of evaluation, at 64 px; fewer when larger


@dataclass(frozen=True)
class Validation:
    """Loss and accuracy on the pictures that are held out."""

    loss: float
    accuracy: float


Validate = Callable[[nn.Module], Validation | None]  # None where no pictures are held out


def device() -> torch.device:
    """Return the device that networks are trained on here."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def validate_labels(network: nn.Module, images: Pixels, augmenter: Augmenter) -> Validation | None:
    """Return the mean cross-entropy and accuracy; None without images."""
    if not len(images.images):
        return None
    scores = score_all(network, images.pixels, augmenter, device())
    return Validation(*loss_and_accuracy(scores, images.images.labels))


def score_all(
    network: nn.Module,
    pixels: np.ndarray,
    augmenter: Augmenter,
    device: torch.device,
    progress: Progress | None = None,
) -> np.ndarray:
    """Score (n, size, size, 3) uint8 pixels: (n, classes) float32."""
    found = []
    size = max(1, min(EVALUATED, EVALUATED * 64**2 // pixels.shape[1] ** 2))
    network.eval()
    with torch.inference_mode():
        for places in batches(len(pixels), size):
            with autocast(network, device):
                scores = network(augmenter.plain(pixels[places], device))
            found.append(scores.float().cpu().numpy())
            if progress:
                progress("scoring", int(places[-1]) + 1, len(pixels))
    return np.concatenate(found)


def loss_and_accuracy(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Return the mean cross-entropy and accuracy."""
    x = torch.from_numpy(scores)
    y = torch.from_numpy(labels)
    loss = nn.functional.cross_entropy(x, y)
    return float(loss), float((ranks(scores, labels) == 0).mean())
