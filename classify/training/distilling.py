"""A teacher: a network whose embeddings, and maps on the way there, another one learns to give.

Embeddings: Hinton et al. 2015, "Distilling the knowledge in a neural network", on cosines instead
of classes. Maps: Romero et al. 2015, "FitNets". The teacher sees every augmented picture that the
network sees: Beyer et al. 2022, "Knowledge distillation: a good teacher is patient and consistent".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from classify.augmentation import Augmenter
from classify.data import Progress
from classify.models import embed
from classify.recipe import Augmentation, Distillation
from classify.training.scoring import score_all
from retrieval import backbones
from retrieval.errors import RecipeError
from retrieval.images import Preprocessing

FLOOR = 0.05  # of the mean variance of a map's channels, below which a channel counts as dead
EPSILON = 1e-12

Maps = dict[str, torch.Tensor]


class Distilling:
    """What a network is held against. size: the side at which the teacher sees a picture, pixels.

    Raises RecipeError when the teacher does not fit the network, BackboneError when its weights
    cannot be had.
    """

    def __init__(
        self,
        spec: Distillation,
        network: nn.Module,
        augmentation: Augmentation,
        preprocessing: Preprocessing,
        device: torch.device,
    ) -> None:
        self.spec = spec
        self.device = device
        self.size = spec.size or preprocessing.size
        loaded = backbones.load(spec.teacher, size=self.size)
        teacher = loaded.spec.preprocessing
        if (teacher.mean, teacher.std) != (preprocessing.mean, preprocessing.std):
            raise RecipeError(
                f"distillation.teacher: {spec.teacher} has other pixels (mean {teacher.mean}, std "
                f"{teacher.std}) than the network. Set input.mean and input.std to the teacher's."
            )
        self.teacher = loaded.network.to(device).to(memory_format=torch.channels_last)
        self.augmenter = Augmenter(augmentation, replace(preprocessing, size=self.size))
        self.names = _named(self.teacher, spec.layers)
        missing = [name for name in self.names if name not in dict(network.named_modules())]
        if missing or (spec.layers and not self.names):
            lacking = missing[0] if missing else ", ".join(spec.layers)
            raise RecipeError(
                f"distillation.layers: teacher and network do not both have {lacking}. Name "
                "layers that both have, such as blocks.*.*, or none."
            )
        self._check_widths(network, loaded.spec.dim, preprocessing.size, device)
        self._targets = np.empty((0, loaded.spec.dim), np.float32)

    @contextmanager
    def watching(self, network: nn.Module) -> Iterator[Maps]:
        """The outputs of the watched layers, by name, of what runs inside."""
        maps: Maps = {}
        modules = dict(network.named_modules())
        hooks = [
            modules[name].register_forward_hook(
                lambda _module, _given, out, name=name: maps.__setitem__(name, out)
            )
            for name in self.names
        ]
        try:
            yield maps
        finally:
            for hook in hooks:
                hook.remove()

    def loss(self, embeddings: torch.Tensor, maps: Maps, pictures: torch.Tensor) -> torch.Tensor:
        """How far (n, d) embeddings and maps are from the teacher's of (n, 3, size, size)."""
        with torch.no_grad(), self.watching(self.teacher) as right:
            target = self.teacher(pictures)
        found = self.spec.embedding * _distances(embeddings.float(), target.float()).mean()
        if self.spec.maps:
            pairs = [(maps[name], right[name]) for name in self.names]
            pairs.append((embeddings[:, :, None, None], target[:, :, None, None]))
            errors = [_error(ours.float(), theirs.float()) for ours, theirs in pairs]
            found = found + self.spec.maps * torch.stack(errors).mean()
        return found

    def learn_targets(self, pixels: np.ndarray, progress: Progress | None = None) -> None:
        """Keep the teacher's embeddings of validation pictures, (n, size, size, 3) uint8."""
        self._targets = score_all(self.teacher, pixels, self.augmenter, self.device, progress)

    def disagreement(self, embeddings: np.ndarray) -> float:
        """Mean of 1 - cosine between (n, d) embeddings of those pictures and the teacher's."""
        ours, theirs = torch.from_numpy(embeddings), torch.from_numpy(self._targets)
        return float(_distances(ours, theirs).mean())

    def _check_widths(self, network: nn.Module, dim: int, size: int, device: torch.device) -> None:
        was = network.training
        sides = ((network.to(device).eval(), size), (self.teacher, self.size))
        found: list[Maps] = []
        with torch.inference_mode():
            for module, side in sides:
                with self.watching(module) as maps:
                    out = embed(module, torch.zeros(1, 3, side, side, device=device))[0]
                found.append(maps | {"": out})
        network.train(was)
        for name, ours in found[0].items():
            theirs = found[1][name]
            if ours.ndim not in (2, 4) or ours.shape[1] != theirs.shape[1]:
                what = f"the layer {name}" if name else "its embedding"
                raise RecipeError(
                    f"distillation.teacher: {what} is {tuple(theirs.shape[1:])} in the teacher, "
                    f"whose embedding has {dim} numbers, and {tuple(ours.shape[1:])} in the "
                    "network. Give networks of the same widths, or other layers."
                )


class Embedding(nn.Module):
    """A network without its classes: (n, 3, s, s) -> (n, d)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, s, s) -> (n, d)."""
        return embed(self.network, x)[0]


def _named(network: nn.Module, patterns: tuple[str, ...]) -> tuple[str, ...]:
    """The modules that a pattern names, its stars standing for one part of a name each."""
    return tuple(
        name
        for name, _ in network.named_modules()
        if name
        and any(
            name.count(".") == pattern.count(".")
            and all(map(fnmatchcase, name.split("."), pattern.split(".")))
            for pattern in patterns
        )
    )


def _distances(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    return 1 - functional.cosine_similarity(ours, theirs)


def _error(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """1 - correlation with the teacher's map, mean over channels: (n, c, h, w) twice -> ().

    It asks for no scale: a layer's own starts far from the teacher's and would be most of an error.
    Channels that are dead in the teacher count little.
    """
    if ours.shape[2:] != theirs.shape[2:]:
        theirs = functional.adaptive_avg_pool2d(theirs, (ours.shape[2], ours.shape[3]))
    ours = ours - ours.mean(dim=(0, 2, 3), keepdim=True)
    theirs = theirs - theirs.mean(dim=(0, 2, 3), keepdim=True)
    power = (theirs**2).mean(dim=(0, 2, 3))
    scale = ((ours**2).mean(dim=(0, 2, 3)) * (power + FLOOR * power.mean()) + EPSILON).sqrt()
    return 1 - ((ours * theirs).mean(dim=(0, 2, 3)) / scale).mean()
