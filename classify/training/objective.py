"""What a network is trained for: its pictures, and the loss of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from classify.augmentation import Augmenter, Mixer, timm_seeded
from classify.data import LabelledImages
from classify.losses import ArcFace, ClassificationLoss, ProxyAnchor, class_weights, metric_loss
from classify.models import embed_features
from classify.models.classifier import RecipeClassifier
from classify.ranks import are_right
from classify.recipe import Recipe
from classify.training.precision import autocast


@dataclass(frozen=True)
class Batch:
    """What one step sees.

    pictures: (n, 3, s, s) float32, once for each side at which they are needed, the network's
    first. labels: (n,) int64. target: the labels, or (n, classes) shares of mixed pictures.
    """

    pictures: tuple[torch.Tensor, ...]
    labels: torch.Tensor
    target: torch.Tensor


@dataclass(frozen=True)
class StepLoss:
    """The loss of a step, (), and how many of its pictures were classified right, if any were."""

    value: torch.Tensor
    correct: float | None = None


class Objective(Protocol):
    """What a network is trained for. A batch follows from its seed, a loss from network and batch.

    Randomness of the network itself, such as dropout, is torch's, and the caller seeds it.
    """

    def pictures(self, pixels: np.ndarray, labels: np.ndarray, seed: int) -> Batch:
        """Augment (n, s, s, 3) uint8 pictures of (n,) labels."""
        ...

    def loss(self, network: nn.Module, batch: Batch) -> StepLoss:
        """Return the loss of a network in training mode on a batch that pictures() made."""
        ...


class LabelLoss:
    """The loss on labels: of the scores, of the embedding (metric), of the head's weights (l2)."""

    def __init__(
        self,
        scores: ClassificationLoss,
        metric: ArcFace | ProxyAnchor | None,
        metric_weight: float,
        l2: float,
    ) -> None:
        self.of_scores = scores
        self.metric = metric
        self.metric_weight = metric_weight
        self.l2 = l2

    def with_rest(
        self, loss: torch.Tensor, network: nn.Module, embeddings: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss with what embeddings and weights add to it."""
        if self.metric is not None:
            loss = loss + self.metric_weight * self.metric(embeddings.float(), labels)
        if self.l2:
            loss = loss + self.l2 * _squared_dense_weights(network)
        return loss


def make_label_loss(
    recipe: Recipe, network: nn.Module, size: int, images: LabelledImages
) -> LabelLoss:
    """The loss on labels of a recipe, on the network's device.

    size: side of its pictures, by which the width of an embedding is found. images: to train on.
    Raises RecipeError for weights of classes that they do not have.
    """
    device, classes = next(network.parameters()).device, images.classes
    scores = ClassificationLoss(recipe.loss, class_weights(recipe.loss, images.labels, classes))
    metric, weight = None, 0.0
    if recipe.loss.metric is not None:
        metric = metric_loss(recipe.loss, _width(network, size, device), len(classes))
        weight = recipe.loss.metric.weight
    moved = metric.to(device) if metric is not None else None
    return LabelLoss(scores.to(device), moved, weight, recipe.model.head.l2)


class Supervised:
    """Learn the labels of the pictures, which may be mixed. mix: None where they are not."""

    def __init__(
        self, augmenter: Augmenter, mix: Mixer | None, on_labels: LabelLoss, device: torch.device
    ) -> None:
        self.augmenter = augmenter
        self.mix = mix
        self.on_labels = on_labels
        self.device = device

    def pictures(self, pixels: np.ndarray, labels: np.ndarray, seed: int) -> Batch:
        """Augment (n, s, s, 3) uint8 pictures of (n,) labels."""
        x = self.augmenter(pixels, seed, self.device)
        true = torch.from_numpy(labels).to(self.device)
        if self.mix is None:
            return Batch((x,), true, true)
        with timm_seeded(seed):
            x, shares = self.mix(x, true)
        return Batch((x,), true, shares)

    def loss(self, network: nn.Module, batch: Batch) -> StepLoss:
        """Return the loss on the labels."""
        with autocast(network, self.device):
            embeddings, scores = embed_features(network, batch.pictures[0])
        loss = self.on_labels.of_scores(scores.float(), batch.target)
        loss = self.on_labels.with_rest(loss, network, embeddings, batch.labels)
        return StepLoss(loss, float(are_right(scores, batch.labels).sum()))


def _width(network: nn.Module, size: int, device: torch.device) -> int:
    """Width of an embedding, which a metric loss is about."""
    with torch.no_grad():
        x = torch.zeros(1, 3, size, size, device=device)
        return int(embed_features(network.eval(), x)[0].shape[1])


def _squared_dense_weights(network: nn.Module) -> torch.Tensor:
    steps = list(network.head.steps) if isinstance(network, RecipeClassifier) else []
    dense = [step.weight for step in steps if isinstance(step, nn.Linear)]
    return torch.stack([(weight**2).sum() for weight in dense]).sum()
