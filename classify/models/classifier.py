"""A backbone with a declared head, under timm's interface, registered with timm by a name.

Once this module is imported, ``timm.create_model("local-dir:RUN")`` reads the runs whose heads
timm itself has no words for; retrieval finds it through the entry point "imgret.architectures".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pydantic import ValidationError
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from classify.models.cnn import ConvNet
from classify.recipe import Head, ModelSpec
from retrieval import backbones
from retrieval.errors import RecipeError, first_fault
from retrieval.text import one_sentence

NAME = "imgret_classifier"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TORCHVISION = "torchvision:"
PROBE = 64  # pixels, enough to see which parts of a network its map comes from
default_cfgs = generate_default_cfgs(
    {
        NAME: {
            "input_size": (3, 224, 224),
            "num_classes": 1000,
            "mean": IMAGENET_MEAN,
            "std": IMAGENET_STD,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "pool_size": None,
            "fixed_input_size": False,
            "first_conv": "",
            "classifier": "head.fc",
        }
    }
)


class RecipeClassifier(nn.Module):
    """Backbone and head: (n, 3, size, size) -> (n, num_classes).

    layout: a recipe's [model], checked again, since it may come from a stranger's config.json.
    size: side of the input, pixels; the width of a flattened map depends on it. Raises RecipeError.
    """

    def __init__(
        self,
        layout: Mapping[str, Any],
        size: int = 224,
        num_classes: int = 1000,
        in_chans: int = 3,
    ) -> None:
        super().__init__()
        if in_chans != 3 or not 16 <= size <= 1024 or not 0 <= num_classes <= 1_000_000:
            raise RecipeError(
                "An imgret classifier takes 3 channels and 16 to 1024 px. Correct config.json."
            )
        try:
            spec = ModelSpec.model_validate(layout)
        except ValidationError as error:
            raise RecipeError(f"model: {first_fault(error)[1]}. Correct the layout.") from error
        self.num_classes = num_classes
        self.backbone = make_backbone(spec, size)
        self.num_features, side = _map_shape(self.backbone, spec, size)
        self.head = ClassifierHead(spec.head, self.num_features, side, num_classes)
        self.head_hidden_size = self.head.width

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """The last map: (n, c, h, w)."""
        forward: Callable[[torch.Tensor], torch.Tensor] = self.backbone.forward_features  # type: ignore[assignment]
        return forward(x)

    def forward_head(self, x: torch.Tensor, *, pre_logits: bool = False) -> torch.Tensor:
        """The last map -> class scores, or with pre_logits what the last layer sees."""
        x = self.head.embed(x)
        return x if pre_logits else self.head.fc(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, 3, size, size) to (n, num_classes), or to embeddings without classes."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer, or drop it for 0 classes."""
        del global_pool  # the layout says it
        self.num_classes = num_classes
        self.head.reset(num_classes)


class ClassifierHead(nn.Module):
    """A map -> pooled or flattened -> [batch norm] -> dense layers -> classes."""

    def __init__(self, spec: Head, channels: int, side: int, num_classes: int) -> None:
        super().__init__()
        self.pool = "avg" if spec.pool == "own" else spec.pool
        width = channels * (side**2 if spec.pool == "flatten" else 2 if "+" in spec.pool else 1)
        steps: list[nn.Module] = [nn.BatchNorm1d(width)] if spec.norm_input else []
        steps += _dropout(spec.dropouts[0])
        for dense, dropout in zip(spec.dense, spec.dropouts[1:], strict=True):
            steps += [nn.Linear(width, dense), *([nn.BatchNorm1d(dense)] if spec.norm else [])]
            steps += [nn.ReLU(), *_dropout(dropout)]
            width = dense
        self.steps = nn.Sequential(*steps)
        self.width = width
        self.fc: nn.Module = nn.Identity()
        self.reset(num_classes)

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """A map (n, c, h, w) -> (n, width), what the last layer sees."""
        if self.pool == "flatten":
            x = x.flatten(1)
        else:
            parts = {"avg": lambda: x.mean((2, 3)), "max": lambda: x.amax((2, 3))}
            x = torch.cat([parts[name]() for name in self.pool.split("+")], dim=1)
        embedding: torch.Tensor = self.steps(x)
        return embedding

    def reset(self, num_classes: int) -> None:
        """A fresh last layer."""
        self.fc = nn.Linear(self.width, num_classes) if num_classes else nn.Identity()


class _TorchvisionFeatures(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        import torchvision

        if name not in torchvision.models.list_models(torchvision.models):
            raise RecipeError(
                f"model.backbone: torchvision has no network {name!r}. Give another name."
            )
        network = torchvision.models.get_model(name, weights=None)
        if not isinstance(getattr(network, "features", None), nn.Module):
            raise RecipeError(
                f"model.backbone: {name} of torchvision has no .features. Use the one of timm."
            )
        self.features = network.features

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.features(x)
        return features


def make_backbone(spec: ModelSpec, size: int) -> nn.Module:
    """Make the network up to its last map, with random weights. Raises RecipeError.

    size: side of the input, pixels, for networks that are built for one."""
    if spec.backbone == "cnn":
        return ConvNet(spec.layers, norm=spec.norm)
    if spec.backbone.startswith(TORCHVISION):
        backbone: nn.Module = _TorchvisionFeatures(spec.backbone.removeprefix(TORCHVISION))
    else:
        backbone = _timm_backbone(spec, size)
    if spec.conv_bias:
        _give_bias(backbone)
    return backbone


def _timm_backbone(spec: ModelSpec, size: int) -> nn.Module:
    import timm

    known = spec.architecture
    name = known.id
    if name == NAME or not timm.is_model(name):
        raise RecipeError(f"model.backbone: timm has no network {name[:80]!r}. Give another name.")
    regularised = {"drop_path_rate": spec.drop_path} if spec.drop_path else {}
    arguments = backbones.arguments_of(known, size)
    backbone = create_timm(name, size, {**arguments, **regularised, "num_classes": 0})
    _drop_what_follows_the_map(backbone, size if arguments else PROBE)
    return backbone


def create_timm(name: str, size: int, arguments: Mapping[str, Any]) -> nn.Module:
    """Make timm's network of a name. size: of the input, pixels. Raises RecipeError."""
    import timm

    try:
        network: nn.Module = timm.create_model(name, **arguments)
    except Exception as error:  # whatever a network raises on arguments that it cannot take
        raise RecipeError(
            f"model.backbone: {name} cannot be made for {size} px with this recipe's rates "
            f"({one_sentence(error)}). Set {_instead(error)}, or another backbone."
        ) from error
    return network


def _instead(error: Exception) -> str:
    """Say which setting of a recipe timm's error is about."""
    return "model.drop_path = 0" if "drop_path" in str(error) else "another input.size"


def _drop_what_follows_the_map(backbone: nn.Module, size: int) -> None:
    """Parts of timm's own head, which a declared head takes the place of, become identities."""
    was, names = backbone.training, [name for name, _ in backbone.named_children()]
    used: set[str] = set()
    hooks = [
        module.register_forward_hook(lambda *_, name=name: used.add(name.partition(".")[0]))
        for name, module in backbone.named_modules()
        if name
    ]
    try:
        with torch.inference_mode():
            backbone.eval().forward_features(torch.zeros(1, 3, size, size))  # type: ignore[operator]
    except (RuntimeError, AssertionError) as error:
        raise RecipeError(
            f"model.head: this backbone takes no declared head ({one_sentence(error)}). Set pool = "
            "own, or use another backbone."
        ) from error
    for hook in hooks:
        hook.remove()
    for name in names:
        if name not in used:
            setattr(backbone, name, nn.Identity())
    backbone.train(was)


def _give_bias(backbone: nn.Module) -> None:
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d) and module.bias is None:
            module.bias = nn.Parameter(torch.zeros(module.out_channels))


def _map_shape(backbone: nn.Module, spec: ModelSpec, size: int) -> tuple[int, int]:
    was = backbone.training
    try:
        with torch.inference_mode():
            found = backbone.eval().forward_features(torch.zeros(1, 3, size, size))  # type: ignore[operator]
    except RuntimeError as error:
        raise RecipeError(
            f"model: {size} px are too few for this network ({one_sentence(error)}). Set a larger "
            "input.size."
        ) from error
    backbone.train(was)
    if not isinstance(found, torch.Tensor) or found.ndim != 4 or found.shape[2] != found.shape[3]:
        raise _no_map(spec)
    return int(found.shape[1]), int(found.shape[2])


def _no_map(spec: ModelSpec) -> RecipeError:
    if spec.is_timm:
        return RecipeError(
            "model.head: this backbone gives no square map to pool. Set pool = own, or use another "
            "backbone."
        )
    return RecipeError(
        f"model.backbone: {spec.backbone} gives no square map of channels first, which each head "
        "here pools, since only timm's networks keep their own. Use a network of timm, or another "
        "one of torchvision."
    )


def _dropout(p: float) -> list[nn.Module]:
    return [nn.Dropout(p)] if p else []


@register_model  # type: ignore[untyped-decorator]
def imgret_classifier(pretrained: bool = False, **kwargs: Any) -> RecipeClassifier:  # noqa: FBT001, FBT002  timm's
    """Make a RecipeClassifier; timm finds this function by its name."""
    kwargs.pop("pretrained_cfg_overlay", None)
    model: RecipeClassifier = build_model_with_cfg(RecipeClassifier, NAME, pretrained, **kwargs)
    return model
