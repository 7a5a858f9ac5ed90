"""A teacher: a network whose embeddings, and maps on the way there, another one learns to give.

Embeddings: Hinton et al. 2015, "Distilling the knowledge in a neural network", on cosines instead
of classes. Maps: Romero et al. 2015, "FitNets". Layers apart, each given the teacher's input: Wang
et al. 2018, "Progressive blockwise knowledge distillation for neural network acceleration", but all
at once. The teacher sees every augmented picture that the network sees: Beyer et al. 2022,
"Knowledge distillation: a good teacher is patient and consistent". Embeddings can also be compared
as retrieval compares them, whitened: rare directions count then, which a plain cosine hardly sees.
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
from classify.data import (
    batches,
)
from classify.models import embed_features
from classify.recipe import Augmentation, Distillation
from classify.training.device import score_all
from retrieval import backbones, transform
from retrieval.encoder import AGREEMENT, CONVERSIONS, Runner, compiled, normalise, precision_of
from retrieval.errors import RecipeError
from retrieval.images import Preprocessing
from retrieval.progress import Progress

WHITENED_ON, WHITENED_AT_ONCE = 4096, 64  # training pictures that whitening is fitted to
FLOOR = 0.05  # of the mean variance of a map's channels, below which a channel counts as dead
EPSILON = 1e-12
WHITENED = "whiten:512:0.75"  # where the teacher's embeddings say most

Maps = dict[str, tuple[torch.Tensor, torch.Tensor]]  # what goes in, what comes out


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
        loaded = backbones.load_backbone(spec.teacher, size=self.size)
        teacher = loaded.spec.preprocessing
        if (teacher.mean, teacher.std) != (preprocessing.mean, preprocessing.std):
            raise RecipeError(
                f"distillation.teacher: {spec.teacher} has other pixels (mean {teacher.mean}, std "
                f"{teacher.std}) than the network. Set input.mean and input.std to the teacher's."
            )
        self.teacher = loaded.network.to(device).to(memory_format=torch.channels_last)
        largest = max(self.size, preprocessing.size)
        self.augmenter = Augmenter(augmentation, replace(preprocessing, size=largest))
        self.chains = _chains(self.teacher, spec.layers)
        self.names = tuple(sorted({name for chain in self.chains for name in chain}))
        missing = [name for name in self.names if name not in dict(network.named_modules())]
        if missing or (spec.layers and not self.chains):
            lacking = missing[0] if missing else ", ".join(spec.layers)
            raise RecipeError(
                f"distillation.layers: teacher and network do not both have {lacking}. Name "
                "layers that both have, such as blocks.*.*, or none."
            )
        self._check_widths(network, loaded.spec.dim, preprocessing.size, device)
        self._targets = np.empty((0, loaded.spec.dim), np.float32)
        self._whitening: _Whitening | None = None
        is_plain = not self.names and device.type == "cpu"
        self._run = _in_openvino(self.teacher, self.size) if is_plain else None

    def pictures(
        self, pixels: np.ndarray, seed: int, size: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, s, s, 3) uint8 -> augmented pictures of a side of size, and the same for the teacher.

        The smaller ones are made from the larger as retrieval shrinks photographs, each pixel the
        mean of those it stands for.
        """
        found = self.augmenter(pixels, seed, self.device)
        return _shrunk(found, size), _shrunk(found, self.size)

    @contextmanager
    def watching(self, network: nn.Module) -> Iterator[Maps]:
        """What goes into each watched layer and what comes out, by name, of what runs inside."""
        maps: Maps = {}
        modules = dict(network.named_modules())
        hooks = [
            modules[name].register_forward_hook(
                lambda _module, given, out, name=name: maps.__setitem__(name, (given[0], out))
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
        target, right = self._teach(pictures)
        target, ours = target.float(), embeddings.float()
        found = self.spec.embedding * _distances(ours, target).mean()
        if self._whitening is not None:
            distances = _distances(self._whitening(ours), self._whitening(target))
            found = found + self.spec.whitened * distances.mean()
        if self.spec.maps:
            errors = [
                _error(maps[chain[-1]][1], right[chain[0]][0], right[chain[-1]][1])
                for chain in self.chains
            ]
            errors.append(_error(embeddings, target, target))
            found = found + self.spec.maps * torch.stack(errors).mean()
        return found

    def loss_of_layers(self, network: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
        """How far each layer is from the teacher's when it is given what the teacher's is given."""
        _, right = self._teach(pictures)
        modules, errors = dict(network.named_modules()), []
        for chain in self.chains:
            given = right[chain[0]][0]
            ours = nn.Sequential(*(modules[name] for name in chain))(given)
            errors.append(_error(ours, given, right[chain[-1]][1]))
        return torch.stack(errors).mean()

    def _teach(self, pictures: torch.Tensor) -> tuple[torch.Tensor, Maps]:
        if self._run is not None:
            return torch.from_numpy(self._run(pictures.contiguous().numpy())), {}
        with torch.no_grad(), self.watching(self.teacher) as right:
            return self.teacher(pictures), right

    def learn_targets(self, pixels: np.ndarray, progress: Progress | None = None) -> None:
        """Keep the teacher's embeddings of validation pictures, (n, size, size, 3) uint8."""
        self._targets = score_all(self.teacher, pixels, self.augmenter, self.device, progress)

    def learn_whitening(self, pixels: np.ndarray, progress: Progress | None = None) -> None:
        """Fit retrieval's transform `auto` to the teacher's embeddings of training pictures.

        pixels: (n, s, s, 3) uint8, of which 4,096 are drawn and augmented.
        """
        random = np.random.default_rng(0)
        chosen = np.sort(random.permutation(len(pixels))[:WHITENED_ON])
        found = []
        for places in batches(len(chosen), WHITENED_AT_ONCE):
            seed = int(random.integers(2**31))
            pictures = _shrunk(self.augmenter(pixels[chosen[places]], seed, self.device), self.size)
            found.append(self._teach(pictures)[0].float().cpu().numpy())
            if progress:
                progress("asking the teacher", int(places[-1]) + 1, len(chosen))
        self._whitening = _Whitening(
            transform.fit(WHITENED, normalise(np.concatenate(found))), self.device
        )

    def disagreement(self, embeddings: np.ndarray) -> float:
        """Mean of 1 - cosine between (n, d) embeddings of those pictures and the teacher's.

        Of whitened ones where it is those that are learnt.
        """
        ours, theirs = (torch.from_numpy(x).to(self.device) for x in (embeddings, self._targets))
        if self._whitening is not None:
            ours, theirs = self._whitening(ours), self._whitening(theirs)
        return float(_distances(ours, theirs).mean())

    def _check_widths(self, network: nn.Module, dim: int, size: int, device: torch.device) -> None:
        was = network.training
        sides = ((network.to(device).eval(), size), (self.teacher, self.size))
        found: list[Maps] = []
        with torch.inference_mode():
            for module, side in sides:
                with self.watching(module) as maps:
                    out = embed_features(module, torch.zeros(1, 3, side, side, device=device))[0]
                found.append(maps | {"": (out, out)})
        network.train(was)
        for name, (_, ours) in found[0].items():
            theirs = found[1][name][1]
            if ours.ndim not in (2, 4) or ours.shape[1] != theirs.shape[1]:
                what = f"the layer {name}" if name else "its embedding"
                raise RecipeError(
                    f"distillation.teacher: {what} is {tuple(theirs.shape[1:])} in the teacher, "
                    f"whose embedding has {dim} numbers, and {tuple(ours.shape[1:])} in the "
                    "network. Give networks of the same widths, or other layers."
                )


class _Whitening:
    """A fitted transform in torch, without its last norm: (n, d) -> (n, d_out) float32."""

    def __init__(self, fitted: transform.Transform, device: torch.device) -> None:
        matrix = np.eye(fitted.d_in) if fitted.matrix is None else fitted.matrix
        bias = np.zeros(fitted.d_out) if fitted.bias is None else fitted.bias
        self._matrix, self._bias = (torch.from_numpy(x).float().to(device) for x in (matrix, bias))

    def __call__(self, embeddings: torch.Tensor) -> torch.Tensor:
        with torch.autocast(embeddings.device.type, enabled=False):
            return functional.linear(functional.normalize(embeddings), self._matrix, self._bias)


class EmbeddingAndScores(nn.Module):
    """A network's embedding and its class scores, side by side."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, s, s) -> (n, d + classes)."""
        return torch.cat(embed_features(self.network, x), dim=1)


def _in_openvino(network: nn.Module, size: int) -> Runner | None:
    """The network as OpenVINO runs it on a CPU, in half the time; None where it cannot.

    (n, 3, size, size) float32 -> (n, d) float32.
    """
    noise = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = network(noise)
    for convert in CONVERSIONS:
        try:
            precision = precision_of(None)
            run = compiled(convert(network, noise[:2]), precision)
            worst = _distances(torch.from_numpy(run(noise.numpy())), wanted).max()
        except Exception:  # noqa: BLE001, S112  torch and OpenVINO raise all kinds
            continue
        if 1 - worst >= AGREEMENT[precision]:
            return run
    return None


def _chains(network: nn.Module, patterns: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """The modules that each pattern names: a star stands for one part of a name, and "a>b" for
    two that follow one another and count as one."""
    names = [name for name, _ in network.named_modules() if name]
    found: list[tuple[str, ...]] = []
    for pattern in patterns:
        if ">" in pattern:
            chain = tuple(pattern.split(">"))
            found += [chain] if set(chain) <= set(names) else []
        else:
            found += [(name,) for name in names if _fits(name, pattern)]
    return tuple(found)


def _fits(name: str, pattern: str) -> bool:
    parts, wanted = name.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def _shrunk(pictures: torch.Tensor, size: int) -> torch.Tensor:
    if pictures.shape[-1] == size:
        return pictures
    found = functional.interpolate(pictures, (size, size), mode="bicubic", antialias=True)
    return found.contiguous(memory_format=torch.channels_last)


def _distances(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    return 1 - functional.cosine_similarity(ours, theirs)


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
    return ((ours - theirs) ** 2 / (variance + FLOOR * variance.mean() + EPSILON)).mean()
