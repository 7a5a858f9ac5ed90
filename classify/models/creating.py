"""What a recipe asks for: the network, its weights, its parts, its number of parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from classify.models.classifier import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    TORCHVISION,
    Classifier,
)
from classify.recipe import Input, ModelSpec
from retrieval import backbones
from retrieval.errors import BackboneError, RecipeError
from retrieval.images import Preprocessing
from retrieval.text import one_sentence

DEFAULT_SIZE = 224
RANDOM, PRETRAINED = "random", "pretrained"


@dataclass(frozen=True)
class Created:
    """A network and how its pixels are prepared. is_random: whether it was given no weights."""

    network: nn.Module
    preprocessing: Preprocessing
    is_random: bool


def create(spec: ModelSpec, pixels: Input, num_classes: int) -> Created:
    """The network of a recipe with its weights, (n, 3, size, size) -> (n, num_classes).

    Raises RecipeError for a network that does not exist or fit, BackboneError for weights that
    cannot be had or do not fit.
    """
    import timm

    preprocessing = _preprocessing(spec, pixels)
    if spec.is_timm and spec.head.pool == "own":
        name = spec.backbone.partition(".")[0]
        if not timm.is_model(name):
            raise RecipeError(f"model.backbone: timm has no {name[:80]!r}. Give another name.")
        regularised = {"drop_rate": spec.head.dropouts[0], "drop_path_rate": spec.drop_path}
        regularised = {key: rate for key, rate in regularised.items() if rate}
        network: nn.Module = timm.create_model(name, num_classes=num_classes, **regularised)
    else:
        layout = spec.model_dump(mode="json", exclude={"weights"}, exclude_none=True)
        network = timm.create_model(
            "imgret_classifier",
            layout=layout,
            size=preprocessing.size,
            num_classes=num_classes,
        )
    if spec.weights != RANDOM:
        _load(network, spec)
    return Created(network, preprocessing, spec.weights == RANDOM)


def embed(network: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, 3, size, size) -> the embeddings (n, d) and class scores (n, num_classes)."""
    embeddings = network.forward_head(network.forward_features(x), pre_logits=True)  # type: ignore[operator]
    return embeddings, network.get_classifier()(embeddings)  # type: ignore[operator]


def head_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Those of the head, which every phase trains."""
    if isinstance(network, Classifier):
        return list(network.head.parameters())
    return list(network.get_classifier().parameters())  # type: ignore[operator]


def layers_of(network: nn.Module) -> list[nn.Module]:
    """The backbone's layers, first to last: convolutions, norms, activations, poolings."""
    head = network.head if isinstance(network, Classifier) else network.get_classifier()  # type: ignore[operator]
    passed_over = set(map(id, head.modules()))
    return [
        module
        for module in network.modules()
        if id(module) not in passed_over and _is_layer(module)
    ]


def _is_layer(module: nn.Module) -> bool:
    """Has weights of its own (timm's norms hold their activation), or nothing inside."""
    if next(module.parameters(recurse=False), None) is not None:
        return True
    return not list(module.children()) and not isinstance(module, (nn.Identity, nn.Dropout))


def parameters(network: nn.Module) -> int:
    """Keras' total: parameters, and the running mean and variance of every batch norm."""
    running = (
        b.numel() for name, b in network.named_buffers() if name.rpartition(".")[2] in RUNNING
    )
    return sum(p.numel() for p in network.parameters()) + sum(running)


RUNNING = ("running_mean", "running_var")


def _preprocessing(spec: ModelSpec, pixels: Input) -> Preprocessing:
    own = _own_preprocessing(spec)
    return Preprocessing(
        size=pixels.size or (own.size if own else DEFAULT_SIZE),
        mean=pixels.mean or (own.mean if own else IMAGENET_MEAN),
        std=pixels.std or (own.std if own else IMAGENET_STD),
        interpolation=own.interpolation if own else "bicubic",
        fit=pixels.fit,
    )


def _own_preprocessing(spec: ModelSpec) -> Preprocessing | None:
    """Of the weights that a timm backbone starts from."""
    if not spec.is_timm or spec.weights == RANDOM:
        return None
    return backbones.load(_source(spec)).spec.preprocessing


def _source(spec: ModelSpec) -> str:
    return spec.backbone if spec.weights == PRETRAINED else spec.weights


def _load(network: nn.Module, spec: ModelSpec) -> None:
    """Weights of the backbone, all of them or an error."""
    target = network.backbone if isinstance(network, Classifier) else network
    read = _timm_weights if spec.is_timm else _plain_weights
    state = read(spec)
    found = target.load_state_dict(state, strict=False)
    allowed = _left_random(network, spec)
    lacking = [key for key in found.missing_keys if not allowed(key)]
    if lacking:
        raise BackboneError(
            f"{spec.weights} lacks {len(lacking)} weights of {spec.backbone}, such as "
            f"{lacking[0]}. Give the weights of the same architecture."
        )


def _left_random(network: nn.Module, spec: ModelSpec) -> Callable[[str], bool]:
    heads = {id(p) for p in head_parameters(network)}
    target = network.backbone if isinstance(network, Classifier) else network
    own = {name for name, p in target.named_parameters() if id(p) in heads}
    return lambda key: (
        key in own
        or key.endswith("num_batches_tracked")
        or bool(spec.conv_bias and key.endswith(".bias"))
    )


def _timm_weights(spec: ModelSpec) -> dict[str, torch.Tensor]:
    source, wanted = _source(spec), spec.backbone.partition(".")[0]
    loaded = backbones.load(source)
    if loaded.spec.architecture.partition(".")[0] != wanted:
        raise BackboneError(
            f"{source} holds weights of {loaded.spec.architecture}, and the recipe's backbone is "
            f"{wanted}. Give weights of that, or --set model.backbone={loaded.spec.architecture}."
        )
    return loaded.network.state_dict()


def _plain_weights(spec: ModelSpec) -> dict[str, torch.Tensor]:
    """A state dict of torchvision's, as safetensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not spec.backbone.startswith(TORCHVISION) or spec.weights == PRETRAINED:
        raise BackboneError(
            f"{spec.backbone} has no weights at a hub. Give --weights a folder with "
            "model.safetensors, or set model.weights to random."
        )
    file = Path(spec.weights).expanduser() / "model.safetensors"
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise BackboneError(
            f"{file} cannot be read ({one_sentence(error)}). Give another folder."
        ) from error
