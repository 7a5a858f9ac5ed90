"""A network whose embeddings, and maps on the way there, another one learns to give."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from classify.augmentation import Augmenter
from classify.data import batches
from classify.models import embed_features
from classify.recipe import Distillation
from retrieval import backbones, transform
from retrieval.encoder import AGREEMENT, CONVERSIONS, Runner, compiled, normalise, precision_of
from retrieval.errors import RecipeError
from retrieval.images import Preprocessing
from retrieval.progress import Progress

WHITENED_ON, WHITENED_AT_ONCE = 4096, 64  # training pictures that whitening is fitted to
WHITENED = "whiten:512:0.75"  # where the teacher's embeddings say most

Maps = dict[str, tuple[torch.Tensor, torch.Tensor]]  # what goes in, what comes out


@dataclass(frozen=True)
class Teacher:
    """A network to learn from, in evaluation mode.

    spec: what is learnt of it. dim: width of its embeddings. size: side at which it sees a picture,
    pixels. chains: names of the modules whose outputs are its maps, each chain counting as one.
    run: the network in OpenVINO, (n, 3, size, size) float32 -> (n, d) float32, where that is faster
    and no map is needed.
    """

    spec: Distillation
    network: nn.Module
    dim: int
    size: int
    chains: tuple[tuple[str, ...], ...]
    run: Runner | None

    @classmethod
    def load(
        cls,
        spec: Distillation,
        network: nn.Module,
        preprocessing: Preprocessing,
        device: torch.device,
    ) -> Teacher:
        """Load the teacher of a recipe for a network with such pixels.

        Raises RecipeError when it does not fit the network, BackboneError when its weights cannot
        be had.
        """
        size = spec.size or preprocessing.size
        loaded = backbones.load_backbone(spec.teacher, size=size)
        _check_pixels(spec.teacher, loaded.spec.preprocessing, preprocessing)
        theirs = loaded.network.to(device).to(memory_format=torch.channels_last)
        chains = _chains(theirs, spec.layers)
        teacher = cls(spec, theirs, loaded.spec.dim, size, chains, None)
        _check_layers(teacher, network)
        _check_widths(teacher, network.to(device), preprocessing.size)
        is_plain = not chains and device.type == "cpu"
        return replace(teacher, run=_in_openvino(theirs, size)) if is_plain else teacher

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the modules that are watched, each once."""
        return tuple(sorted({name for chain in self.chains for name in chain}))

    def teach(self, pictures: torch.Tensor) -> tuple[torch.Tensor, Maps]:
        """Map (n, 3, size, size) float32 to embeddings, (n, d), and the maps."""
        if self.run is not None:
            return torch.from_numpy(self.run(pictures.contiguous().numpy())), {}
        with torch.no_grad(), watching(self.network, self.layers) as maps:
            return self.network(pictures), maps

    def fit_whitening(
        self,
        pixels: np.ndarray,
        augmenter: Augmenter,
        device: torch.device,
        progress: Progress | None = None,
    ) -> Whitening:
        """Fit `whiten:512:0.75` of retrieval to the embeddings of augmented training pictures.

        pixels: (n, s, s, 3) uint8, of which 4,096 are drawn.
        """
        random = np.random.default_rng(0)
        chosen = np.sort(random.permutation(len(pixels))[:WHITENED_ON])  # as when mini was made
        found = []
        for places in batches(len(chosen), WHITENED_AT_ONCE):
            seed = int(random.integers(2**31))
            pictures = shrunk(augmenter(pixels[chosen[places]], seed, device), self.size)
            found.append(self.teach(pictures)[0].float().cpu().numpy())
            if progress:
                progress("asking the teacher", int(places[-1]) + 1, len(chosen))
        return Whitening.of(transform.fit(WHITENED, normalise(np.concatenate(found))), device)


class Whitening:
    """A fitted transform in torch, without its last norm: (n, d) -> (n, d_out) float32."""

    def __init__(self, matrix: torch.Tensor, bias: torch.Tensor) -> None:
        self._matrix, self._bias = matrix, bias

    @classmethod
    def of(cls, fitted: transform.Transform, device: torch.device) -> Whitening:
        """The whitening of a transform, on a device."""
        matrix = np.eye(fitted.d_in) if fitted.matrix is None else fitted.matrix
        bias = np.zeros(fitted.d_out) if fitted.bias is None else fitted.bias
        return cls(*(torch.from_numpy(x).float().to(device) for x in (matrix, bias)))

    def __call__(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Map (n, d) to (n, d_out), float32."""
        with torch.autocast(embeddings.device.type, enabled=False):
            return functional.linear(functional.normalize(embeddings), self._matrix, self._bias)


@contextmanager
def watching(network: nn.Module, layers: tuple[str, ...]) -> Iterator[Maps]:
    """What goes into each layer and what comes out, by name, of what runs inside."""
    maps: Maps = {}
    modules = dict(network.named_modules())
    hooks = [
        modules[name].register_forward_hook(
            lambda _module, given, out, name=name: maps.__setitem__(name, (given[0], out))
        )
        for name in layers
    ]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()


def shrunk(pictures: torch.Tensor, size: int) -> torch.Tensor:
    """Return the pictures at a side of size, each pixel the mean of those it stands for.

    That is how retrieval shrinks photographs.
    """
    if pictures.shape[-1] == size:
        return pictures
    found = functional.interpolate(pictures, (size, size), mode="bicubic", antialias=True)
    return found.contiguous(memory_format=torch.channels_last)


def _check_pixels(name: str, theirs: Preprocessing, ours: Preprocessing) -> None:
    if (theirs.mean, theirs.std) != (ours.mean, ours.std):
        raise RecipeError(
            f"distillation.teacher: {name} normalises pixels otherwise (mean {theirs.mean}, std "
            f"{theirs.std}) than the network. Set input.mean and input.std to the teacher's."
        )


def _check_layers(teacher: Teacher, network: nn.Module) -> None:
    named = dict(network.named_modules())
    missing = [name for name in teacher.layers if name not in named]
    if missing or (teacher.spec.layers and not teacher.chains):
        lacking = missing[0] if missing else ", ".join(teacher.spec.layers)
        raise RecipeError(
            f"distillation.layers: the teacher and the network do not both have {lacking}. Name "
            "layers that both have, such as blocks.*.*, or none."
        )


def _check_widths(teacher: Teacher, network: nn.Module, size: int) -> None:
    was = network.training
    device = next(network.parameters()).device
    found: list[Maps] = []
    with torch.inference_mode():
        for module, side in ((network.eval(), size), (teacher.network, teacher.size)):
            with watching(module, teacher.layers) as maps:
                out = embed_features(module, torch.zeros(1, 3, side, side, device=device))[0]
            found.append(maps | {"": (out, out)})
    network.train(was)
    for name, (_, ours) in found[0].items():
        theirs = found[1][name][1]
        if ours.ndim not in (2, 4) or ours.shape[1] != theirs.shape[1]:
            what = f"the layer {name}" if name else "its embedding"
            raise RecipeError(
                f"distillation.teacher: {what} is {tuple(theirs.shape[1:])} in the teacher, "
                f"whose embedding has {teacher.dim} numbers, but {tuple(ours.shape[1:])} in the "
                "network. Give networks of the same widths, or other layers."
            )


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
            worst = cosine_distances(torch.from_numpy(run(noise.numpy())), wanted).max()
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


def cosine_distances(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Return 1 - cosine of each of (n, d) and (n, d): (n,)."""
    return 1 - functional.cosine_similarity(ours, theirs)
