"""A name -> a network, its preprocessing, its fingerprint.

A name is one of the short names below, any timm model name, ``hf-hub:user/model``, or a folder
that holds ``config.json`` and ``model.safetensors`` as timm writes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from retrieval.errors import BackboneError
from retrieval.images import Preprocessing

if TYPE_CHECKING:
    import torch

SHORT_NAMES = {
    "mobilenetv2": "mobilenetv2_100.ra_in1k",
    "resnet50": "resnet50.a1_in1k",
    "efficientnet-b7": "tf_efficientnet_b7.ns_jft_in1k",
}
MAX_CONFIG_BYTES = 1 << 20
CONFIG_KEYS = {  # what a stranger's config may say of preprocessing and layout; never where to load
    "input_size", "fixed_input_size", "min_input_size", "interpolation", "crop_pct", "crop_mode",
    "mean", "std", "num_classes", "pool_size", "first_conv", "classifier",
}  # fmt: skip

Fit = Literal["squash", "crop", "pad"]


@dataclass(frozen=True)
class BackboneSpec:
    """All that must be the same for two embeddings to be comparable.

    name: as the user gave it, folders as absolute paths. architecture: timm's name.
    weights_sha256: of the weight file of a folder, else of the loaded tensors. dim: the width of
    an embedding. preprocessing: how pixels are prepared.
    """

    name: str
    architecture: str
    weights_sha256: str
    dim: int
    preprocessing: Preprocessing

    @property
    def fingerprint(self) -> str:
        """SHA-256 over everything but the name and the fit, which the network does not see."""
        p = self.preprocessing
        parts = [self.architecture, self.weights_sha256, self.dim, p.size, *p.mean, *p.std]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Backbone:
    """A network in evaluation mode, (n, 3, size, size) float32 normalised -> (n, dim)."""

    spec: BackboneSpec
    network: torch.nn.Module


def resolve(name: str) -> str:
    """The name in the one form that is stored: short names and folders spelled out.

    >>> resolve("resnet50")
    'resnet50.a1_in1k'
    """
    if name in SHORT_NAMES:
        return SHORT_NAMES[name]
    if name.startswith("hf-hub:"):
        return name
    folder = Path(name.removeprefix("local-dir:")).expanduser()
    if name.startswith("local-dir:") or folder.is_dir() or "/" in name:
        return str(folder.resolve())
    return name


def folder_fingerprint(name: str) -> str | None:
    """SHA-256 of a folder's weights, which needs no torch; None where name is not a folder."""
    weights = Path(resolve(name)) / "model.safetensors"
    return _sha256_of_file(weights) if Path(resolve(name)).is_dir() and weights.is_file() else None


def load(name: str, *, size: int | None = None, fit: Fit = "squash") -> Backbone:
    """Load a backbone with its pretrained weights, its classifier removed.

    size: side of the input in pixels, by default the model's own. fit: how a picture becomes
    a square. Raises BackboneError when the name, its weights or the size cannot be used.
    """
    name = resolve(name)
    if "/" in name and not name.startswith("hf-hub:"):
        network, sha256 = _load_folder(Path(name), size)
    else:
        network = _load_named(name, size)
        sha256 = _sha256_of_tensors(network.state_dict())
    return _backbone(name, network, sha256, size, fit)


def with_random_weights(
    architecture: str, *, size: int | None = None, fit: Fit = "squash", seed: int = 0
) -> Backbone:
    """A timm architecture with random weights: for its shape and cost, never for matches."""
    import torch

    torch.manual_seed(seed)
    network = _create(architecture, size)
    sha256 = _sha256_of_tensors(network.state_dict())
    return _backbone(f"random:{architecture}", network, sha256, size, fit)


def _load_folder(folder: Path, size: int | None) -> tuple[torch.nn.Module, str]:
    weights, config = folder / "model.safetensors", _read_config(folder)
    if not weights.is_file():
        raise BackboneError(
            f"{folder} has no model.safetensors. Give a folder with config.json and "
            "model.safetensors as timm writes it, or the name of a timm model."
        )
    architecture = config["architecture"]
    said = {"num_classes": config.get("num_classes", 1000)} | config.get("pretrained_cfg", {})
    cfg = {k: v for k, v in (_defaults(architecture) | said).items() if k in CONFIG_KEYS}
    arguments = {
        key: value
        for key, value in config.get("model_args", {}).items()
        if key not in {"num_classes", "pretrained", "pretrained_cfg", "in_chans", "img_size"}
        and not key.startswith(("checkpoint", "cache", "features"))
    }
    sha256 = _sha256_of_file(weights)
    cfg |= {"file": str(weights), "custom_load": False}
    return _create(architecture, size, weights=str(folder), cfg=cfg, **arguments), sha256


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    try:
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError("it is larger than a configuration can be")
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        what = "does not exist" if not folder.is_dir() else "has no config.json"
        raise BackboneError(
            f"The backbone folder {folder} {what}. Give a folder with config.json and "
            "model.safetensors as timm writes it, or the name of a timm model."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise BackboneError(f"{file} cannot be read ({error}). Mend or replace it.") from error
    parts = [config] if isinstance(config, dict) else []
    parts += [config.get(key, {}) for key in ("model_args", "pretrained_cfg")] if parts else []
    if not parts or not all(isinstance(part, dict) for part in parts):
        raise BackboneError(f"{file} is not a timm configuration. Mend or replace it.")
    if not isinstance(config.get("architecture"), str):
        raise BackboneError(f"{file} names no architecture. Mend or replace it.")
    return config


def _load_named(name: str, size: int | None) -> torch.nn.Module:
    import timm

    if not name.startswith("hf-hub:"):
        architecture, _, tag = name.partition(".")
        if not timm.is_model(architecture):
            near = ", ".join(timm.list_models(f"*{architecture}*")[:5])
            raise BackboneError(
                f"There is no backbone named {name!r}. "
                + (f"Did you mean {near}?" if near else "Give a timm name or a folder.")
            )
        tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
        if tag and tag not in tags:
            raise BackboneError(f"{architecture} has no weights {tag!r}, only {', '.join(tags)}.")
    return _create(name, size, weights=name)


def _create(
    name: str,
    size: int | None,
    *,
    weights: str | None = None,
    cfg: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> torch.nn.Module:
    """timm.create_model without its classifier, its many errors told apart.

    weights: where the weights come from, for the message; None for random ones.
    """
    import timm
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    _check_architecture(name)
    if size and _needs_image_size(name, cfg):
        arguments["img_size"] = size
    try:
        with _one_try_at_the_hub() if weights and not cfg else nullcontext():
            network = timm.create_model(
                name,
                pretrained=weights is not None,
                pretrained_cfg=dict(cfg) if cfg else None,
                num_classes=0,
                **arguments,
            )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        if cfg is None:
            raise BackboneError(_without_network(weights or name)) from error
        raise BackboneError(f"The backbone {weights} cannot be read ({error}).") from error
    except Exception as error:  # timm and safetensors raise all kinds on a bad file
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise BackboneError(
            f"The backbone {weights or name} cannot be loaded ({reason}). "
            "Its weights and its config.json must be of the same timm architecture."
        ) from error
    return network.eval().requires_grad_(requires_grad=False)


def _check_architecture(name: str) -> None:
    import timm

    if not name.startswith("hf-hub:") and not timm.is_model(name.partition(".")[0]):
        raise BackboneError(f"timm knows no architecture {name!r}. Mend config.json.")


def _defaults(architecture: str) -> dict[str, Any]:
    """What timm knows of an architecture, for what a config does not say."""
    from timm.models import get_pretrained_cfg

    _check_architecture(architecture)
    known = get_pretrained_cfg(architecture, allow_unregistered=True)
    return dict(known.to_dict()) if known else {}


def _needs_image_size(name: str, cfg: Mapping[str, Any] | None) -> bool:
    """Whether the network is built for one input size, as most transformers are."""
    from timm.models import get_pretrained_cfg

    if name.startswith("hf-hub:"):
        return False
    known = get_pretrained_cfg(name, allow_unregistered=True)
    return bool((cfg or {}).get("fixed_input_size", known and known.fixed_input_size))


def _without_network(name: str) -> str:
    return (
        f"The weights of {name} are not on this machine and no hub could be reached for them. "
        "Give --backbone a folder with config.json and model.safetensors, or fill the hub cache "
        "where there is a network (HF_HOME says where it is) and set HF_HUB_OFFLINE=1 here."
    )


def _backbone(
    name: str, network: torch.nn.Module, sha256: str, size: int | None, fit: Fit
) -> Backbone:
    import torch
    from timm.data import resolve_model_data_config

    cfg = resolve_model_data_config(network)
    channels, height, width = cfg["input_size"]
    if channels != 3 or (size is None and height != width):
        raise BackboneError(
            f"{name} takes {channels} x {height} x {width} inputs; imgret needs 3 channels and a "
            "square. Choose another backbone, or give --size."
        )
    preprocessing = Preprocessing(
        size=size or height,
        mean=_three(cfg["mean"]),
        std=_three(cfg["std"]),
        interpolation=cfg["interpolation"],
        fit=fit,
        crop_pct=float(cfg["crop_pct"]),
    )
    probe = torch.zeros(1, 3, preprocessing.size, preprocessing.size)
    try:
        with torch.inference_mode():
            shape = tuple(network(probe).shape)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BackboneError(
            f"{name} cannot take {preprocessing.size} px images ({reason[:200]}). "
            "Choose another --size."
        ) from error
    if len(shape) != 2:
        raise BackboneError(f"{name} gives no embedding but {shape[1:]}. Choose another backbone.")
    architecture = getattr(network, "pretrained_cfg", {}).get("architecture") or name
    return Backbone(BackboneSpec(name, architecture, sha256, shape[1], preprocessing), network)


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)


def _sha256_of_file(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sha256_of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    import torch

    digest = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key].detach().contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def _one_try_at_the_hub() -> Iterator[None]:
    """Let the hub library use its cache alone where no hub answers.

    By itself it tries five times and waits in between, 45 seconds in all, before it looks into
    its cache or gives up.
    """
    from huggingface_hub import constants, get_session

    was = constants.HF_HUB_OFFLINE
    if not was:
        try:
            get_session().head(constants.ENDPOINT, timeout=5)
        except Exception:  # noqa: BLE001  whatever the transport says, it did not answer
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = was
