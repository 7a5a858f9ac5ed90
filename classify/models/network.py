"""The network of a recipe: its weights, its parts, its number of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from classify.models.classifier import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    NAME,
    TORCHVISION,
    RecipeClassifier,
    create_timm,
)
from classify.models.heads import embed_features, head_keys, head_modules
from classify.recipe import Input, ModelSpec
from retrieval import backbones
from retrieval.backbones import Backbone, BackboneName, parse_name
from retrieval.errors import BackboneError, RecipeError
from retrieval.images import Preprocessing
from retrieval.text import counted, one_sentence

DEFAULT_SIZE = 224
RANDOM_WEIGHTS, PRETRAINED = "random", "pretrained"


@dataclass(frozen=True)
class Created:
    """A network and how its pixels are prepared. is_random: whether its weights are random.

    arguments: those that timm makes it with again; newer versions of timm remember them.
    """

    network: nn.Module
    preprocessing: Preprocessing
    is_random: bool
    arguments: Mapping[str, Any]


def create_network(spec: ModelSpec, pixels: Input, num_classes: int) -> Created:
    """Create the network of a recipe with its weights: (n, 3, size, size) -> (n, num_classes).

    Raises RecipeError for a network that does not exist or fit, BackboneError for weights that
    cannot be had or do not fit.
    """
    source = _source_of_timm(spec, pixels.size)
    preprocessing = _preprocessing(spec, pixels, source)
    size = preprocessing.size
    arguments: dict[str, Any]
    if spec.is_timm and spec.head.pool == "own":
        arguments = _timm_arguments(spec, size)
        network = _timm_network(spec, size, num_classes, arguments)
    else:
        layout = spec.model_dump(mode="json", exclude={"weights"}, exclude_none=True)
        arguments = {"layout": layout, "size": size}
        network = timm.create_model("imgret_classifier", **arguments, num_classes=num_classes)
    if spec.weights != RANDOM_WEIGHTS:
        _load(network, spec, source.network.state_dict() if source else _plain_weights(spec))
    _check_scores(network, spec.backbone, size, num_classes)
    return Created(network, preprocessing, spec.weights == RANDOM_WEIGHTS, arguments)


def layers_of(network: nn.Module) -> list[nn.Module]:
    """Return the backbone's layers, first to last: convolutions, norms, activations, poolings."""
    passed_over = {module for head in head_modules(network) for module in head.modules()}
    return [
        module for module in network.modules() if module not in passed_over and _is_layer(module)
    ]


def _is_layer(module: nn.Module) -> bool:
    """Whether a module has own weights (timm's norms hold their activation) or nothing inside."""
    if next(module.parameters(recurse=False), None) is not None:
        return True
    return not list(module.children()) and not isinstance(module, (nn.Identity, nn.Dropout))


def parameters(network: nn.Module) -> int:
    """Count as Keras does: parameters, and the running statistics of every batch norm."""
    running = (
        b.numel() for name, b in network.named_buffers() if name.rpartition(".")[2] in RUNNING
    )
    return sum(p.numel() for p in network.parameters()) + sum(running)


RUNNING = ("running_mean", "running_var")


def _preprocessing(spec: ModelSpec, pixels: Input, source: Backbone | None) -> Preprocessing:
    own = source.spec.preprocessing if source else None
    return Preprocessing(
        size=pixels.size or (own.size if own else _default_size(spec)),
        mean=pixels.mean or (own.mean if own else IMAGENET_MEAN),
        std=pixels.std or (own.std if own else IMAGENET_STD),
        interpolation=own.interpolation if own else "bicubic",
        fit=pixels.fit,
    )


def _default_size(spec: ModelSpec) -> int:
    """Return the input's size for random weights: the architecture's, if timm knows one."""
    return (_is_known(spec) and backbones.input_size(spec.architecture)) or DEFAULT_SIZE


def _is_known(spec: ModelSpec) -> bool:
    name = spec.architecture.id if spec.is_timm else NAME
    return name != NAME and bool(timm.is_model(name))


def _timm_arguments(spec: ModelSpec, size: int) -> dict[str, Any]:
    """What timm's own network is made with for a size, as its weights' folder has it.

    Raises RecipeError for a name that timm does not know.
    """
    name = spec.architecture
    if not _is_known(spec):
        raise RecipeError(
            f"model.backbone: timm has no network {name.id[:80]!r}. Give another name."
        )
    tag = parse_name(spec.backbone).id.partition(".")[2]
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name.id}.*")]
    if tag and tag not in tags:
        raise RecipeError(
            f"model.backbone: {name.id} has no weights {tag[:80]!r}, only "
            f"{', '.join(tags) or 'random ones'}. Correct the name, or leave out what follows the "
            "full stop."
        )
    return backbones.arguments_of(name if spec.weights == RANDOM_WEIGHTS else _source(spec), size)


def _timm_network(
    spec: ModelSpec, size: int, num_classes: int, arguments: Mapping[str, Any]
) -> nn.Module:
    """timm's own network with the recipe's rates. Raises RecipeError."""
    rates = {"drop_rate": spec.head.dropouts[0], "drop_path_rate": spec.drop_path}
    given = {key: rate for key, rate in rates.items() if rate}
    return create_timm(
        spec.architecture.id, size, {**arguments, **given, "num_classes": num_classes}
    )


def _check_scores(network: nn.Module, name: str, size: int, num_classes: int) -> None:
    """Raise RecipeError unless a network gives one score per class for pictures of this size."""
    own = getattr(network, "pretrained_cfg", {}).get("input_size", (3, size, size))[1]
    patch = backbones.patch_size(network)
    if size % patch and size != own:
        raise RecipeError(
            f"input.size: {name} looks at patches of {patch} px, and {size} px is not a multiple "
            "of that. Set another input.size."
        )
    was, scores = network.training, None
    try:
        with torch.no_grad():  # some keep what they compute, and train with it
            _, scores = embed_features(network.eval(), torch.zeros(1, 3, size, size))
    except Exception as error:  # whatever a network raises on pixels that it cannot take
        raise RecipeError(
            f"model.backbone: {name} gives no scores for {size} px images "
            f"({one_sentence(error)}). Set another input.size, or another backbone."
        ) from error
    network.train(was)
    if not isinstance(scores, torch.Tensor) or scores.shape != (1, num_classes):
        raise RecipeError(
            f"model.backbone: {name} does not give one score per class. Use another backbone."
        )


def _source(spec: ModelSpec) -> BackboneName:
    return parse_name(spec.backbone if spec.weights == PRETRAINED else spec.weights)


def _source_of_timm(spec: ModelSpec, size: int | None) -> Backbone | None:
    """The backbone that a timm network starts from, made for a size; None for random weights."""
    if not spec.is_timm or spec.weights == RANDOM_WEIGHTS:
        return None
    source, wanted = _source(spec), spec.architecture.id
    loaded = backbones.load_backbone(source, size=size)
    found = loaded.spec.architecture.partition(".")[0]
    if found == NAME:
        raise BackboneError(
            f"{source} holds a run with a head of its own, which no training can start from. Give "
            f"weights of {wanted}."
        )
    if found != wanted:
        raise BackboneError(
            f"{source} holds weights of {found}, but the recipe's backbone is {wanted}. Give "
            f"weights of {wanted}, or --set model.backbone={found}."
        )
    return loaded


def _load(network: nn.Module, spec: ModelSpec, state: Mapping[str, torch.Tensor]) -> None:
    """Weights of the backbone, all of them or an error."""
    has_own_head = not isinstance(network, RecipeClassifier)
    target = network if has_own_head else network.backbone
    heads = head_keys(network) if has_own_head else set()
    try:
        found = target.load_state_dict(state, strict=False)  # type: ignore[union-attr]
    except RuntimeError as error:  # of other shapes
        raise BackboneError(
            f"{spec.weights} does not fit {spec.backbone} ({one_sentence(error)}). Give the "
            "weights of the same architecture."
        ) from error
    lacking = [
        key
        for key in found.missing_keys
        if key not in heads
        and not key.endswith("num_batches_tracked")
        and not (spec.conv_bias and key.endswith(".bias"))
    ]
    if lacking:
        raise BackboneError(
            f"{spec.weights} lacks {counted(len(lacking), 'weight')} of {spec.backbone}, such as "
            f"{lacking[0]}. Give the weights of the same architecture."
        )


def _plain_weights(spec: ModelSpec) -> dict[str, torch.Tensor]:
    """A state dict of torchvision's, as safetensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from timm.models import clean_state_dict

    if spec.backbone == "cnn":
        raise BackboneError(
            "A cnn is trained from random weights alone. Set model.weights to random, or leave out "
            "--weights."
        )
    if not spec.backbone.startswith(TORCHVISION) or spec.weights == PRETRAINED:
        raise BackboneError(
            f"{spec.backbone} has no weights on a hub. Give --weights a folder with "
            "model.safetensors, or set model.weights to random."
        )
    file = Path(spec.weights).expanduser() / "model.safetensors"
    try:
        return dict(clean_state_dict(load_file(file)))
    except (OSError, SafetensorError) as error:
        raise BackboneError(
            f"{file} cannot be read ({one_sentence(error)}). Give another folder."
        ) from error
