"""Which layers of a network are its head, and what they are given.

timm's classifiers are one layer (linear, a 1x1 convolution, with a norm of its own) or several
whose scores are averaged (two in a distilled network, one per branch in CrossViT). VOLO adds those
of every token. Training and judging both use the scores that the network itself gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from classify.models.classifier import RecipeClassifier

NORM_LAYERS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm)


def embed_features(network: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute embeddings (n, d) and class scores (n, num_classes) of (n, 3, size, size).

    The scores are those of the network itself. The embedding is what timm's network without
    classes gives: what the last layer sees, of several the mean, or side by side where their
    widths differ. A network without classes gives its embedding twice.
    """
    with _given_to(last_layers(network)) as given:
        scores: torch.Tensor = network(x)
    parts = [part.flatten(1) for part in given] or [scores]
    if len({part.shape[1] for part in parts}) > 1:
        return torch.cat(parts, dim=1), scores
    return torch.stack(parts).mean(dim=0), scores


def last_layers(network: nn.Module) -> list[nn.Module]:
    """Return the layers that give class scores; none of a network without classes."""
    found = network.get_classifier()  # type: ignore[operator]
    several = isinstance(found, (tuple, list, nn.ModuleList))
    layers = [getattr(layer, "fc", layer) for layer in (found if several else [found])]
    learning = [layer for layer in layers if isinstance(layer, nn.Module) and _learns(layer)]
    return [_with_its_norm(network, layer) for layer in learning]


def head_modules(network: nn.Module) -> list[nn.Module]:
    """Return the layers that are new with every set of classes: the last, and timm's additions."""
    if isinstance(network, RecipeClassifier):
        return [network.head]
    named = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    modules = dict(network.named_modules())
    names = [named] if isinstance(named, str) else named
    added = [modules[name] for name in names if name in modules]
    return list(dict.fromkeys([*last_layers(network), *added]))


def head_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of the head, which every phase trains."""
    found = [p for module in head_modules(network) for p in module.parameters()]
    return list(dict.fromkeys(found))


def head_keys(network: nn.Module) -> set[str]:
    """Name the head's parameters and buffers in the network's state."""
    heads = set(head_modules(network))
    return {
        f"{name}.{key}"
        for name, module in network.named_modules()
        if module in heads
        for key in module.state_dict()
    }


def _with_its_norm(network: nn.Module, layer: nn.Module) -> nn.Module:
    """The layer, or the module of it, a norm and dropout alone: those go with the classes."""
    for module in network.modules():
        children = list(module.children())
        if layer in children and all(
            child is layer or isinstance(child, (*NORM_LAYERS, nn.Dropout)) for child in children
        ):
            return module
    return layer


def _learns(layer: nn.Module) -> bool:
    return next(layer.parameters(), None) is not None


@contextmanager
def _given_to(layers: list[nn.Module]) -> Iterator[list[torch.Tensor]]:
    given: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
        for layer in layers
    ]
    try:
        yield given
    finally:
        for hook in hooks:
            hook.remove()
