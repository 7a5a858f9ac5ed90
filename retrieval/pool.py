"""Around a network: how its last map becomes an embedding, and which views of a picture it sees.

pool    own       the network's own head without the classifier
        avg, max  mean or maximum over the places of the map
        gem       generalised mean, p = 3 (Radenović et al. 2019, "Fine-tuning CNN image retrieval
                  with no human annotation")
        avg+max, avg+gem   both, each of unit length, side by side: twice as wide
views   none      the picture
        flip      the mean of the unit embeddings of the picture and its mirror image
        multiscale   the mean at sides s, s / sqrt(2) and s * sqrt(2) (Gordo et al. 2017,
                  "End-to-end learning of deep visual representations for image retrieval")
        flip+multiscale   all six

All of it is part of the network that is exported, so an engine sees one network.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from retrieval.errors import BackboneError
from retrieval.words import Pool, Views

GEM_POWER, LEAST_ACTIVATION = 3.0, 1e-6
STRIDE = 32  # of most networks; sides are its multiples, unless patches are larger


def arranged(
    network: nn.Module, pool: Pool, views: Views, size: int, *, name: str, fixed_size: bool
) -> nn.Module:
    """The network with pooling and views: (n, 3, size, size) float32 in, (n, dim) out.

    fixed_size: whether it takes no other input size. Raises BackboneError when it has no map to
    pool, or takes one size only and several are wanted.
    """
    if pool != "own":
        network = _Pooled(network, pool, name)
    if views == "none":
        return network
    sides = [size]
    if "multiscale" in views:
        if fixed_size:
            raise BackboneError(
                f"{name} takes images of one size only, so it cannot see several sizes. Choose "
                "--views none or flip."
            )
        sides += [_near(size / math.sqrt(2)), _near(size * math.sqrt(2))]
    return _Viewed(network, sides, flip="flip" in views)


class _Pooled(nn.Module):
    def __init__(self, network: nn.Module, pool: Pool, name: str) -> None:
        super().__init__()
        self.network = network
        self.kinds = pool.split("+")
        self.name = name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        forward: Callable[[torch.Tensor], torch.Tensor] = self.network.forward_features  # type: ignore[assignment]
        activations = forward(x)
        places = self._places(activations)
        if activations.ndim == 3:
            activations = activations[:, int(getattr(self.network, "num_prefix_tokens", 0)) :]
        parts = [_pooled(activations.float(), places, kind) for kind in self.kinds]
        if len(parts) == 1:
            return parts[0]
        return torch.cat([functional.normalize(part, dim=1) for part in parts], dim=1)

    def _places(self, activations: torch.Tensor) -> tuple[int, ...]:
        """The axes of the places: of a map in either layout, or of tokens."""
        if isinstance(activations, torch.Tensor) and activations.ndim == 4:
            channels_last = str(getattr(self.network, "output_fmt", "NCHW")).endswith("NHWC")
            return (1, 2) if channels_last else (2, 3)
        if isinstance(activations, torch.Tensor) and activations.ndim == 3:
            return (1,)
        raise BackboneError(f"{self.name} has no map to pool. Use --pool own.")


class _Viewed(nn.Module):
    def __init__(self, network: nn.Module, sides: list[int], *, flip: bool) -> None:
        super().__init__()
        self.network = network
        self.sides = sides
        self.flip = flip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        views = []
        for side in self.sides:
            same = side == x.shape[-1]
            view = x if same else functional.interpolate(x, (side, side), mode="bilinear")
            views += [view, view.flip(3)] if self.flip else [view]
        embeddings = [functional.normalize(self.network(view).float(), dim=1) for view in views]
        return functional.normalize(torch.stack(embeddings).mean(dim=0), dim=1)


def _pooled(activations: torch.Tensor, places: tuple[int, ...], kind: str) -> torch.Tensor:
    if kind == "avg":
        return activations.mean(dim=places)
    if kind == "max":
        return activations.amax(dim=places)
    cubes = activations.clamp(min=LEAST_ACTIVATION) ** GEM_POWER
    return cubes.mean(dim=places) ** (1 / GEM_POWER)


def _near(side: float) -> int:
    return max(STRIDE, STRIDE * round(side / STRIDE))
