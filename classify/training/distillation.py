"""Learn to give what a teacher gives: its embeddings, and the maps on the way there.

Embeddings: Hinton et al. 2015, "Distilling the knowledge in a neural network", on cosines instead
of classes. Maps: Romero et al. 2015, "FitNets". Layers apart, each given the teacher's input: Wang
et al. 2018, "Progressive blockwise knowledge distillation for neural network acceleration", but all
at once. The teacher sees every augmented picture that the network sees: Beyer et al. 2022,
"Knowledge distillation: a good teacher is patient and consistent". Embeddings can also be compared
as retrieval compares them, whitened: rare directions count then, which a plain cosine hardly sees.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from classify.augmentation import Augmenter
from classify.data import Pixels
from classify.models import embed_features
from classify.ranks import are_right
from classify.training.objective import Batch, LabelLoss, StepLoss
from classify.training.precision import autocast
from classify.training.teacher import Maps, Teacher, Whitening, cosine_distances, shrunk, watching
from classify.training.validation import Validation, device, loss_and_accuracy, score_all

FLOOR = 0.05  # of the mean variance of a map's channels, below which a channel counts as dead
TINY = 1e-12


class Distilled:
    """Agree with a teacher, and learn the labels as much as the recipe says.

    augmenter: makes the pictures at the larger of both sides. size: the network's. whitening: where
    embeddings are compared whitened too.
    """

    def __init__(
        self,
        teacher: Teacher,
        whitening: Whitening | None,
        augmenter: Augmenter,
        size: int,
        on_labels: LabelLoss,
        device: torch.device,
    ) -> None:
        self.spec = teacher.spec
        self.teacher = teacher
        self.whitening = whitening
        self.augmenter = augmenter
        self.size = size
        self.on_labels = on_labels
        self.device = device

    def pictures(self, pixels: np.ndarray, labels: np.ndarray, seed: int) -> Batch:
        """Augment (n, s, s, 3) uint8 pictures for the network, and in the same way for the teacher.

        The smaller ones are made from the larger.
        """
        found = self.augmenter(pixels, seed, self.device)
        true = torch.from_numpy(labels).to(self.device)
        return Batch((shrunk(found, self.size), shrunk(found, self.teacher.size)), true, true)

    def loss(self, network: nn.Module, batch: Batch) -> StepLoss:
        """How far embeddings and maps are from the teacher's, and the loss on the labels."""
        ours, theirs = batch.pictures
        if self.spec.apart:
            with autocast(network, self.device):
                return StepLoss(self._distance_of_layers(network, ours))
        layers = self.teacher.layers
        with autocast(network, self.device), watching(network, layers) as maps:
            embeddings, scores = embed_features(network, ours)
        on_labels = self.on_labels.of_scores(scores.float(), batch.target)
        with autocast(network, self.device):
            distance = self.distance(embeddings, maps, theirs)
        loss = distance + self.spec.labels * on_labels
        loss = self.on_labels.with_rest(loss, network, embeddings, batch.labels)
        return StepLoss(loss, float(are_right(scores, batch.labels).sum()))

    def distance(
        self, embeddings: torch.Tensor, maps: Maps, pictures: torch.Tensor
    ) -> torch.Tensor:
        """Measure how far (n, d) embeddings and maps are from the teacher's."""
        target, right = self.teacher.teach(pictures)
        target, ours = target.float(), embeddings.float()
        found = self.spec.embedding * cosine_distances(ours, target).mean()
        if self.whitening is not None:
            distances = cosine_distances(self.whitening(ours), self.whitening(target))
            found = found + self.spec.whitened * distances.mean()
        if self.spec.maps:
            errors = [
                _error(maps[chain[-1]][1], right[chain[0]][0], right[chain[-1]][1])
                for chain in self.teacher.chains
            ]
            errors.append(_error(embeddings, target, target))
            found = found + self.spec.maps * torch.stack(errors).mean()
        return found

    def _distance_of_layers(self, network: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
        """How far each layer is from the teacher's when it is given what the teacher's is given."""
        _, right = self.teacher.teach(pictures)
        modules, errors = dict(network.named_modules()), []
        for chain in self.teacher.chains:
            given = right[chain[0]][0]
            ours = nn.Sequential(*(modules[name] for name in chain))(given)
            errors.append(_error(ours, given, right[chain[-1]][1]))
        return torch.stack(errors).mean()


def validate_agreement(
    network: nn.Module,
    images: Pixels,
    augmenter: Augmenter,
    targets: np.ndarray,
    whitening: Whitening | None,
) -> Validation | None:
    """Measure how far embeddings are from the teacher's, and accuracy; None without images.

    targets: the teacher's embeddings of the images, (n, d) float32.
    """
    if not len(images.images):
        return None
    found = score_all(EmbeddingAndScores(network), images.pixels, augmenter, device())
    dim = targets.shape[1]
    _, accuracy = loss_and_accuracy(found[:, dim:], images.images.labels)
    return Validation(disagreement(found[:, :dim], targets, whitening), accuracy)


def disagreement(ours: np.ndarray, theirs: np.ndarray, whitening: Whitening | None) -> float:
    """Return the mean of 1 - cosine of (n, d) embeddings to the teacher's, or whitened ones."""
    a, b = (torch.from_numpy(x).to(device()) for x in (ours, theirs))
    if whitening is not None:
        a, b = whitening(a), whitening(b)
    return float(cosine_distances(a, b).mean())


class EmbeddingAndScores(nn.Module):
    """A network's embedding and its class scores, side by side."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, 3, s, s) to (n, d + classes)."""
        return torch.cat(embed_features(self.network, x), dim=1)


def _error(ours: torch.Tensor, given: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Mean squared error of (n, c, ...) outputs, each channel in units of its variance.

    given: the input of the teacher's layer; of a layer that adds to its input, the variance is that
    of what it adds. Channels that hardly vary count little.
    """
    adds = given is not theirs  # asked first: a conversion makes two of one
    ours, given, theirs = ours.float(), given.float(), theirs.float()
    if ours.shape[2:] != theirs.shape[2:]:
        sides = (ours.shape[2], ours.shape[3])
        given, theirs = (functional.adaptive_avg_pool2d(x, sides) for x in (given, theirs))
    added = theirs - given if adds and given.shape == theirs.shape else theirs
    over = [0, *range(2, theirs.ndim)]
    variance = added.var(dim=over, keepdim=True)
    return ((ours - theirs) ** 2 / (variance + FLOOR * variance.mean() + TINY)).mean()
