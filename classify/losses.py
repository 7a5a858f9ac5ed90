"""Losses of classifiers: scores and labels, or mixed labels, in, a number out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from classify.recipe import Loss
from retrieval.errors import RecipeError


class ClassificationLoss(nn.Module):
    """Cross-entropy or focal loss: (n, classes) scores and a target -> ().

    The target is (n,) labels or (n, classes) shares, before smoothing. weights: (classes,); an
    image has that of its true class, or the mean of those it is mixed of, whatever the smoothing:
    torch weights each smoothed share by its own class instead, which teaches a rare class for every
    image of a common one.
    Focal loss: Lin et al. 2017, "Focal loss for dense object detection", for one right class
    among several, as Keras' CategoricalFocalCrossentropy has it.
    """

    def __init__(self, spec: Loss, weights: torch.Tensor | None) -> None:
        super().__init__()
        self.spec = spec
        self.weights: torch.Tensor | None
        self.register_buffer("weights", weights)

    def forward(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The mean over the batch; weighted by class, the weighted mean."""
        spec, classes = self.spec, scores.shape[1]
        shares = target if target.ndim == 2 else functional.one_hot(target, classes).float()
        logs = scores.log_softmax(dim=1)
        if spec.name == "focal":
            logs = spec.alpha * (1 - logs.exp()) ** spec.gamma * logs
        losses = -(_smoothed(shares, spec.smoothing) * logs).sum(dim=1)
        if self.weights is None:
            return losses.mean()
        of_each = shares @ self.weights
        return (losses * of_each).sum() / of_each.sum()


def class_weights(spec: Loss, labels: np.ndarray, classes: Sequence[str]) -> torch.Tensor | None:
    """The weight of each class, (classes,) float32; None where all count alike.

    "balanced": inversely proportional to the number of images, as scikit-learn has it. Raises
    RecipeError for a class that the data does not have.
    """
    if spec.class_weights == "none":
        return None
    if spec.class_weights == "balanced":
        counts = np.bincount(labels, minlength=len(classes)).clip(min=1)
        return torch.tensor(len(labels) / (len(classes) * counts), dtype=torch.float32)
    unknown = sorted(set(spec.class_weights) - set(classes))
    if unknown:
        raise RecipeError(
            f"loss.class_weights: the data has no class {unknown[0]!r}, only "
            f"{', '.join(classes[:10])}. Mend that key."
        )
    return torch.tensor([spec.class_weights.get(name, 1.0) for name in classes])


def metric_loss(spec: Loss, dim: int, num_classes: int) -> Any:
    """ArcFace (Deng et al. 2019) or proxy-anchor (Kim et al. 2020) on (n, dim) embeddings.

    From pytorch-metric-learning, with proxies of its own that are learnt and not kept; None where
    the recipe has none.
    """
    if spec.metric is None:
        return None
    from pytorch_metric_learning import losses

    kinds = {"arcface": losses.ArcFaceLoss, "proxy-anchor": losses.ProxyAnchorLoss}
    return kinds[spec.metric.name](num_classes=num_classes, embedding_size=dim)


def _smoothed(shares: torch.Tensor, smoothing: float) -> torch.Tensor:
    return shares * (1 - smoothing) + smoothing / shares.shape[1]
