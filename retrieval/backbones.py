"""A name -> a network, its preprocessing, its fingerprint.

A name is one of the short names below, any timm model name, ``hf-hub:user/model``, a folder that
holds ``config.json`` and ``model.safetensors`` as timm writes it, or ``random:`` and a timm name
for random weights, whose embeddings show shape and cost and are a floor to compare with.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from retrieval.errors import BackboneError
from retrieval.images import Preprocessing

if TYPE_CHECKING:
    import torch

    from retrieval.pooling import Pool, Views

SHORT_NAMES = {
    "mobilenetv2": "mobilenetv2_100.ra_in1k",
    "resnet50": "resnet50.a1_in1k",
    "efficientnet-b7": "tf_efficientnet_b7.ns_jft_in1k",
}
RANDOM = "random:"
ARCHITECTURES = "imgret.architectures"  # entry points: modules that register networks with timm
MAX_CONFIG_BYTES = 1 << 20
MAX_SIDE, LEAST_STD = 4096, 1e-6
CONFIG_KEYS = {  # what a stranger's config may say of preprocessing and layout; never where to load
    "input_size", "fixed_input_size", "min_input_size", "interpolation", "crop_pct", "crop_mode",
    "mean", "std", "num_classes", "pool_size", "first_conv", "classifier",
}  # fmt: skip

Fit = Literal["squash", "crop", "pad"]
FITS: dict[str, Fit] = {"squash": "squash", "center": "crop", "border": "pad"}  # timm's crop_mode


@dataclass(frozen=True)
class BackboneSpec:
    """All that must be the same for two embeddings to be comparable.

    name: as the user gave it, folders as absolute paths. architecture: timm's name.
    weights_sha256: of the weight file of a folder, else of the loaded tensors. dim: the width of
    an embedding. preprocessing: how pixels are prepared. pool, views: see retrieval/pooling.py.
    """

    name: str
    architecture: str
    weights_sha256: str
    dim: int
    preprocessing: Preprocessing
    pool: Pool = "own"
    views: Views = "none"

    @property
    def fingerprint(self) -> str:
        """SHA-256 over everything but the name and the fit, which the network does not see."""
        p = self.preprocessing
        parts = [self.architecture, self.weights_sha256, self.dim, p.size, *p.mean, *p.std]
        parts += [self.pool, self.views] if (self.pool, self.views) != ("own", "none") else []
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
    if name.startswith(RANDOM):
        return RANDOM + resolve(name.removeprefix(RANDOM)).partition(".")[0]
    folder = Path(name.removeprefix("local-dir:")).expanduser()
    if name.startswith("local-dir:") or folder.is_dir() or "/" in name:
        return str(folder.resolve())
    return name


def folder_fingerprint(name: str) -> str | None:
    """SHA-256 of a folder's weights, which needs no torch; None where name is not a folder."""
    weights = Path(resolve(name)) / "model.safetensors"
    return _sha256_of_file(weights) if Path(resolve(name)).is_dir() and weights.is_file() else None


def architecture_of(folder: Path) -> str:
    """timm's name of the network whose weights a folder holds. Raises BackboneError."""
    return str(_read_config(folder)["architecture"])


def input_size(name: str) -> int | None:
    """The side of a backbone's own input in pixels; None where that is not known without it."""
    name = resolve(name).removeprefix(RANDOM)
    if name.startswith("hf-hub:"):
        return None
    architecture = architecture_of(Path(name)) if "/" in name else name
    config = _read_config(Path(name)) if "/" in name else {}
    said = config.get("pretrained_cfg", config).get("input_size")
    side = (said or _defaults(architecture).get("input_size") or [None])[-1]
    return int(side) if isinstance(side, int) else None


def load(
    name: str,
    *,
    size: int | None = None,
    fit: Fit = "squash",
    pool: Pool = "own",
    views: Views = "none",
) -> Backbone:
    """Load a backbone with its pretrained weights, its classifier removed.

    size: side of the input in pixels, by default the model's own. fit: how a picture becomes
    a square. pool, views: see retrieval/pooling.py. Raises BackboneError when the name,
    its weights or the size cannot be used.
    """
    name = resolve(name)
    if name.startswith(RANDOM):
        return with_random_weights(
            name.removeprefix(RANDOM), size=size, fit=fit, pool=pool, views=views
        )
    if name.startswith("hf-hub:"):
        folder = _from_hub(name, name.removeprefix("hf-hub:"), "config.json").parent
        _from_hub(name, name.removeprefix("hf-hub:"), "model.safetensors")
        network, sha256 = _load_folder(folder, size)
    elif "/" in name:
        network, sha256 = _load_folder(Path(name), size)
    else:
        network, sha256 = _load_named(name, size)
    return _backbone(name, network, sha256, size, fit, pool, views)


def with_random_weights(
    architecture: str,
    *,
    size: int | None = None,
    fit: Fit = "squash",
    pool: Pool = "own",
    views: Views = "none",
    seed: int = 0,
) -> Backbone:
    """A timm architecture with random weights: for its shape and cost, never for matches."""
    import torch

    torch.manual_seed(seed)
    network = _create(architecture, size)
    sha256 = _sha256_of_tensors(network.state_dict())
    return _backbone(RANDOM + architecture, network, sha256, size, fit, pool, views)


@dataclass(frozen=True)
class Classifier:
    """A network with its classifier: (n, 3, size, size) float32 normalised -> (n, classes)."""

    network: torch.nn.Module
    preprocessing: Preprocessing
    classes: tuple[str, ...]


def load_classifier(folder: Path) -> Classifier:
    """A folder's network with its classifier, whose classes config.json names, as timm has it.

    Raises BackboneError when the folder cannot be used or names no classes.
    """
    config = _read_config(folder)
    classes = config.get("label_names")
    if (
        not isinstance(classes, list)
        or not all(isinstance(name, str) for name in classes)
        or len(set(classes)) != len(classes)
        or not 2 <= len(classes) == config.get("num_classes")
    ):
        raise BackboneError(
            f"{folder / 'config.json'} does not name the classes. Give a run of `imgret train`."
        )
    network, _ = _load_folder(folder, None, num_classes=len(classes))
    mode = config.get("pretrained_cfg", config).get("crop_mode")
    fit = FITS.get(mode, "crop") if isinstance(mode, str) else "crop"
    return Classifier(network, _preprocessing(str(folder), network, None, fit), tuple(classes))


def _load_folder(
    folder: Path, size: int | None, *, num_classes: int = 0
) -> tuple[torch.nn.Module, str]:
    weights, config = folder / "model.safetensors", _read_config(folder)
    if not weights.is_file():
        raise BackboneError(
            f"{folder} has no model.safetensors. Give a folder with config.json and "
            "model.safetensors as timm writes it, or the name of a timm model."
        )
    architecture = config["architecture"]
    said = config.get("pretrained_cfg", config) | {"num_classes": config.get("num_classes", 1000)}
    cfg = {k: v for k, v in (_defaults(architecture) | said).items() if k in CONFIG_KEYS}
    arguments = {
        key: value
        for key, value in config.get("model_args", {}).items()
        if key not in {"num_classes", "pretrained", "in_chans", "img_size"}
        and not key.startswith(("checkpoint", "cache", "features", "pretrained_cfg"))
    }
    arguments |= {"num_classes": num_classes}
    network = _create(architecture, size, weights=weights, cfg=cfg, arguments=arguments)
    _check_complete(network, weights)
    return network, _sha256_of_file(weights)


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


def _load_named(name: str, size: int | None) -> tuple[torch.nn.Module, str]:
    import timm

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
    cfg = _defaults(name)
    if not cfg.get("hf_hub_id"):
        raise BackboneError(f"{name} has no weights in safetensors. Choose another backbone.")
    weights = _from_hub(name, cfg["hf_hub_id"], "model.safetensors")
    return _create(name, size, weights=weights, cfg=cfg), _sha256_of_file(weights)


def _from_hub(name: str, repository: str, file: str) -> Path:
    """A file of a hub repository, from the hub's cache where it lies there.

    Weights are safetensors, whatever else a repository holds: nothing is ever unpickled.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repository, _, revision = repository.partition("@")
    try:
        with _one_try_at_the_hub():
            return Path(hf_hub_download(repository, file, revision=revision or None))
    except LocalEntryNotFoundError as error:
        raise BackboneError(_without_network(name)) from error
    except EntryNotFoundError as error:
        raise BackboneError(f"{name} has no {file} at the hub. Choose another backbone.") from error
    except (OSError, ValueError) as error:  # no such repository, no right to it, a wrong name
        reason = " ".join(str(error).split())[:300]
        raise BackboneError(f"{_without_network(name)} ({reason})") from error


def _create(
    name: str,
    size: int | None,
    *,
    weights: Path | None = None,
    cfg: Mapping[str, Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> torch.nn.Module:
    """timm.create_model, without its classifier by default, its many errors told apart.

    weights: a safetensors file; None for random ones. arguments: of the architecture.
    """
    import timm

    _check_architecture(name)
    arguments = dict(arguments or {})
    if size and _needs_image_size(name, cfg):
        arguments["img_size"] = size
    if weights:
        cfg = dict(cfg or {}) | {"file": str(weights), "custom_load": False}
    try:
        network = timm.create_model(
            name,
            pretrained=weights is not None,
            pretrained_cfg=cfg,
            **{"num_classes": 0} | arguments,
        )
    except Exception as error:  # timm and safetensors raise all kinds on a bad file
        raise BackboneError(
            f"The backbone {weights.parent if weights else name} cannot be loaded "
            f"({_reason(error)}). Its weights and its config.json must be of the same timm "
            "architecture."
        ) from error
    return network.eval().requires_grad_(requires_grad=False)


def _check_complete(network: torch.nn.Module, weights: Path) -> None:
    """Raise BackboneError where timm left random what a file has no weights for."""
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        stored = set(file.keys())
    lacking = [
        key
        for key in network.state_dict()
        if key not in stored and not key.endswith("num_batches_tracked")
    ]
    if lacking:
        raise BackboneError(
            f"{weights} lacks {len(lacking)} of the network's weights, such as {lacking[0]}. "
            "It and config.json must be of the same timm architecture."
        )


def _check_architecture(name: str) -> None:
    """Raise BackboneError unless timm knows it, by itself or from an installed package."""
    import timm

    name = name.partition(".")[0]
    if not timm.is_model(name):
        for entry in metadata.entry_points(group=ARCHITECTURES):
            entry.load()
    if not timm.is_model(name):
        raise BackboneError(f"timm knows no architecture {name[:80]!r}. Mend config.json.")


def _defaults(architecture: str) -> dict[str, Any]:
    """What timm knows of an architecture, for what a config does not say."""
    from timm.models import get_pretrained_cfg

    _check_architecture(architecture)
    try:
        known = get_pretrained_cfg(architecture, allow_unregistered=True)
    except RuntimeError as error:
        raise BackboneError(f"timm does not know {architecture} ({_reason(error)}).") from error
    return dict(known.to_dict()) if known else {}


def _needs_image_size(name: str, cfg: Mapping[str, Any] | None) -> bool:
    """Whether the network is built for one input size, as most transformers are."""
    from timm.models import get_pretrained_cfg

    known = get_pretrained_cfg(name, allow_unregistered=True)
    return bool((cfg or {}).get("fixed_input_size", known and known.fixed_input_size))


def _without_network(name: str) -> str:
    return (
        f"The weights of {name} are not on this machine and no hub could be reached for them. "
        "Give a folder with config.json and model.safetensors in its place, or fill the hub cache "
        "where there is a network (HF_HOME says where it is) and set HF_HUB_OFFLINE=1 here."
    )


def _backbone(
    name: str,
    network: torch.nn.Module,
    sha256: str,
    size: int | None,
    fit: Fit,
    pool: Pool,
    views: Views,
) -> Backbone:
    import torch

    from retrieval.pooling import arranged

    preprocessing = _preprocessing(name, network, size, fit)
    architecture = getattr(network, "pretrained_cfg", {}).get("architecture") or name
    fixed_size = _needs_image_size(architecture, getattr(network, "pretrained_cfg", None))
    network = arranged(network, pool, views, preprocessing.size, name=name, fixed_size=fixed_size)
    network = network.eval()
    probe = torch.zeros(1, 3, preprocessing.size, preprocessing.size)
    try:
        with torch.inference_mode():
            embedding = network(probe)
            shape = tuple(embedding.shape)
    except BackboneError:
        raise
    except Exception as error:  # whatever a network raises on pixels that it cannot take
        raise BackboneError(
            f"{name} cannot take {preprocessing.size} px images ({_reason(error)}). "
            "Choose another --size."
        ) from error
    if not torch.isfinite(embedding).all():
        raise BackboneError(f"{name} gives embeddings that are not finite. Replace its weights.")
    if len(shape) != 2:
        raise BackboneError(f"{name} gives no embedding but {shape[1:]}. Choose another backbone.")
    spec = BackboneSpec(name, architecture, sha256, shape[1], preprocessing, pool, views)
    return Backbone(spec, network)


def _preprocessing(
    name: str, network: torch.nn.Module, size: int | None, fit: Fit
) -> Preprocessing:
    """What the network's configuration says of its pixels, checked."""
    from timm.data import resolve_model_data_config

    try:
        cfg = resolve_model_data_config(network)
        channels, height, width = map(int, cfg["input_size"])
        if channels != 3 or (size is None and height != width):
            raise BackboneError(
                f"{name} takes {channels} x {height} x {width} inputs; imgret needs 3 channels and "
                "a square. Choose another backbone, or give --size."
            )
        mean, std = _three(cfg["mean"]), _three(cfg["std"])
        if not 1 <= height <= MAX_SIDE or min(std) < LEAST_STD:
            raise ValueError(f"an input of {height} px, a standard deviation of {min(std)}")
        preprocessing = Preprocessing(
            size=size or height,
            mean=mean,
            std=std,
            interpolation=cfg["interpolation"],
            fit=fit,
            crop_pct=float(cfg["crop_pct"]),
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise BackboneError(
            f"{name} has a configuration that cannot be used ({_reason(error)}). Mend config.json."
        ) from error
    patch, _ = getattr(getattr(network, "patch_embed", None), "patch_size", (1, 1))
    if preprocessing.size % patch and preprocessing.size != height:
        raise BackboneError(
            f"{name} looks at patches of {patch} px, and {preprocessing.size} px are no multiple "
            "of that. Choose another --size."
        )
    return preprocessing


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    if not all(map(math.isfinite, (red, green, blue))):
        raise ValueError(f"{values} are not three numbers")
    return red, green, blue


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


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
