"""Losses of classifiers: scores and labels, or mixed labels, in, a number out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from classify.recipe import Loss
from retrieval.errors import RecipeError
from retrieval.text import composed

EDGE = 1e-7  # from a cosine or a probability of 1


class ClassificationLoss(nn.Module):
    """Cross-entropy or focal loss: (n, classes) scores and a target -> ().

    The target is (n,) labels or (n, classes) shares, before smoothing. weights: (classes,). An
    image has the weight of its true class, or the mean of the classes it is mixed of, whatever the
    smoothing. torch weights each smoothed share by its own class instead, which teaches a rare
    class for every image of a common one.
    Focal loss: Lin et al. 2017, "Focal loss for dense object detection", for one right class
    among several, as Keras' CategoricalFocalCrossentropy has it.
    """

    def __init__(self, spec: Loss, weights: torch.Tensor | None) -> None:
        super().__init__()
        self.spec = spec
        self.weights: torch.Tensor | None
        self.register_buffer("weights", weights)

    def forward(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of the batch; weighted by class, the weighted mean."""
        spec, classes = self.spec, scores.shape[1]
        shares = target if target.ndim == 2 else functional.one_hot(target, classes).float()
        logs = scores.log_softmax(dim=1)
        if spec.name == "focal":
            # 1 - p, whose power has an infinite slope at 0 where gamma is below 1
            left = (-logs.expm1()).clamp(min=EDGE)
            logs = spec.alpha * left**spec.gamma * logs
        losses = -(_smoothed(shares, spec.smoothing) * logs).sum(dim=1)
        if self.weights is None:
            return losses.mean()
        of_each = shares @ self.weights
        return (losses * of_each).sum() / of_each.sum()


def class_weights(spec: Loss, labels: np.ndarray, classes: Sequence[str]) -> torch.Tensor | None:
    """Return the weight of each class, (classes,) float32; None if all count alike.

    "balanced": inversely proportional to the number of images, as scikit-learn has it. Raises
    RecipeError for a class that the data does not have.
    """
    if spec.class_weights == "none":
        return None
    if spec.class_weights == "balanced":
        counts = np.bincount(labels, minlength=len(classes)).clip(min=1)
        return torch.tensor(len(labels) / (len(classes) * counts), dtype=torch.float32)
    weights = {composed(name): weight for name, weight in spec.class_weights.items()}
    unknown = sorted(set(weights) - set(classes))
    if unknown:
        raise RecipeError(
            f"loss.class_weights: the data has no class {unknown[0]!r}, only "
            f"{', '.join(classes[:10])}. Correct this key."
        )
    return torch.tensor([weights.get(name, 1.0) for name in classes])


class ArcFace(nn.Module):
    """Cross-entropy of cosines to a proxy of each class, where the true one is turned by a margin.

    (n, dim) embeddings and (n,) labels -> (). Deng et al. 2019, "ArcFace". The margin is in
    radians. Where an angle and the margin exceed 180 degrees, the cosine falls on in a line.
    """

    def __init__(
        self, dim: int, classes: int, margin: float = math.radians(28.6), scale: float = 64
    ) -> None:
        super().__init__()
        self.margin = margin
        self.scale = scale
        self.W = nn.Parameter(nn.init.normal_(torch.empty(dim, classes)))

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of the batch."""
        cosines = functional.normalize(embeddings) @ functional.normalize(self.W, dim=0)
        true = cosines.gather(1, labels[:, None])
        angles = true.clamp(EDGE - 1, 1 - EDGE).arccos()  # the slope of arccos is infinite at 1
        turned = torch.where(
            angles <= math.pi - self.margin,
            (angles + self.margin).cos(),
            true - self.margin * math.sin(self.margin),
        )
        return functional.cross_entropy(
            self.scale * cosines.scatter(1, labels[:, None], turned), labels
        )


class ProxyAnchor(nn.Module):
    """Each proxy of a class pulls that class's embeddings, most the farthest, and pushes others'.

    (n, dim) embeddings and (n,) labels -> (). Kim et al. 2020, "Proxy anchor loss for deep metric
    learning". The pull is the mean over the classes of the batch, the push over all.
    """

    def __init__(self, dim: int, classes: int, margin: float = 0.1, alpha: float = 32) -> None:
        super().__init__()
        self.margin = margin
        self.alpha = alpha
        self.proxies = nn.Parameter(torch.empty(classes, dim))
        nn.init.kaiming_normal_(self.proxies, mode="fan_out")

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the sum of how proxies pull and how they push."""
        cosines = functional.normalize(embeddings) @ functional.normalize(self.proxies).T
        alike = functional.one_hot(labels, len(self.proxies)).bool()
        pull = _log_of_1_and(self.alpha * (self.margin - cosines), alike)
        push = _log_of_1_and(self.alpha * (self.margin + cosines), ~alike)
        return pull.sum() / alike.any(dim=0).sum() + push.mean()


def metric_loss(spec: Loss, dim: int, num_classes: int) -> ArcFace | ProxyAnchor | None:
    """Make the metric loss of a recipe on (n, dim) embeddings; proxies are learnt, not kept.

    None where the recipe has none.
    """
    if spec.metric is None:
        return None
    return METRIC_LOSSES[spec.metric.name](dim, num_classes)


METRIC_LOSSES: dict[str, type[ArcFace] | type[ProxyAnchor]] = {
    "arcface": ArcFace,
    "proxy-anchor": ProxyAnchor,
}


def _log_of_1_and(powers: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """log(1 + the sum of the counted exp(powers) over the batch): (n, classes) -> (classes,)."""
    powers = powers.masked_fill(~counted, -torch.inf)
    return torch.cat([powers, torch.zeros_like(powers[:1])]).logsumexp(dim=0)


def _smoothed(shares: torch.Tensor, smoothing: float) -> torch.Tensor:
    return shares * (1 - smoothing) + smoothing / shares.shape[1]
