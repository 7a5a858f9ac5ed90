"""Small convolutional networks from a list of layers, as classify/recipe/schema.py describes it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from retrieval.errors import RecipeError


class ConvNet(nn.Sequential):
    """A small network: (n, 3, h, w) -> (n, c, h', w'). Raises RecipeError for a wrong layer."""

    def __init__(self, layers: Sequence[int | str], *, norm: bool) -> None:
        super().__init__()
        channels = 3
        for place, layer in enumerate(layers):
            for name, module in _layer(layer, channels, norm=norm):
                self.add_module(f"{place}_{name}", module)
                channels = _width(module, channels)
        self.channels = channels

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """The last map, by timm's name for it."""
        return self(x)


class Residual(nn.Module):
    """Two convolutions and a shortcut, projected where the shape changes (He et al. 2016)."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != filters:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters)
            )
        self.filters = filters

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, c, h, w) to (n, filters, h / stride, w / stride)."""
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def _layer(layer: int | str, channels: int, *, norm: bool) -> list[tuple[str, nn.Module]]:
    if isinstance(layer, int):
        made: list[tuple[str, nn.Module]] = [("conv", nn.Conv2d(channels, layer, 3, padding=1))]
        return [*made, *([("norm", nn.BatchNorm2d(layer))] if norm else []), ("act", nn.ReLU())]
    kind, *said = layer.split(":")
    try:
        if kind == "pool" and not said:
            return [("pool", nn.MaxPool2d(2))]
        if kind == "avgpool" and not said:
            return [("pool", nn.AvgPool2d(2))]
        if kind == "dropout":
            (p,) = map(float, said)
            if not 0 <= p < 1:
                raise ValueError
            return [("dropout", nn.Dropout(p))]
        if kind == "residual":
            filters, blocks, stride = map(int, said)
            if not (1 <= filters <= 4096 and 1 <= blocks <= 64 and 1 <= stride <= 4):
                raise ValueError
            first = Residual(channels, filters, stride)
            rest = [Residual(filters, filters, 1) for _ in range(blocks - 1)]
            return [(f"block{n}", block) for n, block in enumerate([first, *rest])]
    except ValueError:
        pass
    raise RecipeError(
        f"model.layers: {layer!r} is not a layer. Use a number of filters, pool, avgpool, "
        "dropout:P or residual:FILTERS:BLOCKS:STRIDE."
    )


def _width(module: nn.Module, channels: int) -> int:
    if isinstance(module, nn.Conv2d):
        return module.out_channels
    return module.filters if isinstance(module, Residual) else channels
