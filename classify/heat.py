"""Grad-CAM: how much each place of a picture speaks for a class.

Convolutional networks end in a map, (n, c, h, w), Swin and the like in (n, h, w, c). Other
transformers end in tokens, (n, tokens, c), of which the first few stand for the whole picture.

In a convolutional network the last map is explained. In the others it is the input of the last
block, close to where the authors of pytorch-grad-cam advise. Behind the attention of that block the
places are mixed, and where only the class token is read, no class depends on the others. The input
is taken before the block's norm, since normalised tokens lose what makes an object stand out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from retrieval.errors import RunError

BEFORE_ATTENTION = ".norm1"  # timm's name for the first layer of a block


@dataclass(frozen=True)
class _Layer:
    """A module whose output has places, and how to read those as a map.

    kind: "map" (1, c, h, w), "last" (1, h, w, c) or "tokens" (1, prefix + h * w, c).
    """

    module: nn.Module
    output: torch.Tensor
    kind: str
    prefix: int = 0

    @property
    def channels(self) -> int:
        return int(self.output.shape[1 if self.kind == "map" else -1])

    def to_map(self, x: torch.Tensor) -> torch.Tensor:
        """The output -> (1, c, h, w)."""
        if self.kind == "tokens":
            side = math.isqrt(x.shape[1] - self.prefix)
            return x[:, self.prefix :].transpose(1, 2).reshape(1, -1, side, side)
        return x.movedim(3, 1) if self.kind == "last" else x

    def from_map(self, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Map (1, c, h, w) to the output, with the tokens of the whole picture as they were."""
        if self.kind == "tokens":
            return torch.cat([output[:, : self.prefix], x.flatten(2).transpose(1, 2)], dim=1)
        return x.movedim(1, 3) if self.kind == "last" else x


def grad_cam(network: nn.Module, x: torch.Tensor, target: int) -> np.ndarray:
    """Compute how much each place of a picture speaks for a class: (size, size), in [0, 1].

    network: (1, 3, size, size) -> (1, classes), in evaluation mode; frozen or not. x: float32,
    normalised. Source: Selvaraju et al. 2017, "Grad-CAM", by the Captum package. Raises RunError
    for a network that ends neither in a map nor in tokens of the picture, and IndexError for a
    class that it does not have.
    """
    from captum.attr import LayerAttribution, LayerGradCam

    # frozen weights pass no gradient on, so the picture has to ask for one
    asking = x.detach().clone().requires_grad_()
    layer, places = _last_that_counts(network, asking, target), nn.Identity()
    hook = layer.module.register_forward_hook(
        lambda _, __, output: layer.from_map(places(layer.to_map(output)), output)
    )
    try:
        heat = LayerGradCam(network, places).attribute(asking, target, relu_attributions=True)
    finally:
        hook.remove()
    grown = LayerAttribution.interpolate(heat, tuple(x.shape[2:]), "bilinear")[0, 0].detach()
    grown = np.asarray((grown - grown.min()).float().cpu(), np.float32)
    return grown / (grown.max() or 1.0)


def _last_that_counts(network: nn.Module, x: torch.Tensor, target: int) -> _Layer:
    """Find the last layer with places that the score of the class depends on. Raises RunError."""
    features, layers = _layers(network, x)
    head: Callable[[torch.Tensor], torch.Tensor] = getattr(network, "forward_head", nn.Identity())
    score = head(features)[0, target]
    if not layers:
        raise RunError(
            "This network does not end in a map or in tokens of the picture, so Grad-CAM cannot "
            "explain it. Choose another run."
        )
    last = layers[-1]
    if last.kind == "map":
        return last
    # attention makes maps too, of other channels: those are not of the picture
    like = [x for x in layers if (x.kind, x.channels) == (last.kind, last.channels)]
    gradients = torch.autograd.grad(score, [x.output for x in like], allow_unused=True)
    count = [
        layer
        for layer, gradient in zip(like, gradients, strict=True)
        if gradient is not None and layer.to_map(gradient).any()
    ]
    names = {module: name for name, module in network.named_modules()}
    attention = [n for n, x in enumerate(count) if names[x.module].endswith(BEFORE_ATTENTION)]
    return count[max(attention[-1] - 1, 0)] if attention else (count or [last])[-1]


def _layers(network: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, list[_Layer]]:
    """The network's features, and its layers with several places, in order; none of the head.

    A last layer that has no square map, as that of some transformers, is the end of the list:
    whatever lies before it is not what the network ends in.
    """
    found: list[tuple[nn.Module, torch.Tensor]] = []
    forward: Callable[[torch.Tensor], torch.Tensor] = getattr(network, "forward_features", network)
    with torch.enable_grad(), _noting(network, found):
        features = forward(x)
    calls = Counter(module for module, _ in found)
    prefixes = int(getattr(network, "num_prefix_tokens", 0)), 0, 1, 2
    read = [_read(module, out, prefixes) for module, out in found if calls[module] == 1]
    if not read or read[-1] is None:
        return features, []
    return features, [layer for layer in read if layer is not None]


@contextmanager
def _noting(network: nn.Module, found: list[tuple[nn.Module, torch.Tensor]]) -> Iterator[None]:
    """Put each module and its output into a list, where that has several places."""

    def note(module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.shape[2:].numel() > 1:
            found.append((module, output))

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _read(module: nn.Module, output: torch.Tensor, prefixes: tuple[int, ...]) -> _Layer | None:
    """How to read an output as a map; a square picture has a square one."""
    shape = output.shape
    if len(shape) == 4 and shape[2] == shape[3] > 1:
        return _Layer(module, output, "map")
    if len(shape) == 4 and shape[1] == shape[2] > 1:
        return _Layer(module, output, "last")
    if len(shape) == 3:
        for prefix in prefixes:
            side = math.isqrt(max(shape[1] - prefix, 0))
            if side > 1 and side**2 == shape[1] - prefix:
                return _Layer(module, output, "tokens", prefix)
    return None
