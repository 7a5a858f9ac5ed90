"""A name -> a network with its weights, checked."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.backbones.hub import from_hub
from retrieval.backbones.names import (
    MINI,
    RANDOM,
    defaults,
    folder_of,
    needs_image_size,
    read_config,
    reason,
    resolve_name,
)
from retrieval.backbones.network import (
    MAX_SIDE,
    create_backbone,
    preprocessing_of,
    sha256_of_tensors,
    sized,
)
from retrieval.backbones.spec import Backbone, BackboneSpec, Classifier, Fit
from retrieval.errors import BackboneError
from retrieval.files import sha256_of
from retrieval.libraries import how_to_install, is_installed

if TYPE_CHECKING:
    import torch

    from retrieval.pool import Pool, Views

CONFIG_KEYS = {  # what a stranger's config may say of preprocessing and layout; never where to load
    "input_size", "fixed_input_size", "min_input_size", "interpolation", "crop_pct", "crop_mode",
    "mean", "std", "num_classes", "pool_size", "first_conv", "classifier",
}  # fmt: skip
FITS: dict[str, Fit] = {"squash": "squash", "center": "crop", "border": "pad"}  # timm's crop_mode


def load_backbone(
    name: str,
    *,
    size: int | None = None,
    fit: Fit = "squash",
    pool: Pool = "own",
    views: Views = "none",
) -> Backbone:
    """Load a backbone with its pretrained weights, its classifier removed.

    size: side of the input in pixels, by default the model's own. fit: how a picture becomes
    a square. pool, views: see retrieval/pool.py. Raises BackboneError when the name,
    its weights or the size cannot be used, or where there is no torch.
    """
    name = resolve_name(name)
    _check_installed(name)
    if name.startswith(RANDOM):
        return with_random_weights(
            name.removeprefix(RANDOM), size=size, fit=fit, pool=pool, views=views
        )
    if name.startswith("hf-hub:"):
        folder = from_hub(name, name.removeprefix("hf-hub:"), "config.json").parent
        from_hub(name, name.removeprefix("hf-hub:"), "model.safetensors")
        network, sha256 = _load_folder(folder, size)
    elif (known := folder_of(name)) is not None:
        network, sha256 = _load_folder(known, size)
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
    network = create_backbone(architecture, size)
    sha256 = sha256_of_tensors(network.state_dict())
    return _backbone(RANDOM + architecture, network, sha256, size, fit, pool, views)


def arguments_of(name: str, size: int) -> dict[str, Any]:
    """The arguments with which timm makes a backbone's network for inputs of a side of `size`.

    Those that a folder's config.json names, and img_size for a network that is built for one
    size. Raises BackboneError.
    """
    name = resolve_name(name)
    if name.startswith("hf-hub:"):
        folder = from_hub(name, name.removeprefix("hf-hub:"), "config.json").parent
    elif (known := folder_of(name)) is not None:
        folder = known
    else:
        return sized(name.removeprefix(RANDOM), size)
    config = read_config(folder)
    return sized(config["architecture"], size, arguments=_arguments_in(folder, config))


def load_classifier(folder: Path) -> Classifier:
    """A folder's network with its classifier, whose classes config.json names, as timm has it.

    Raises BackboneError when the folder cannot be used or names no classes.
    """
    _check_installed(str(folder))
    config = read_config(folder)
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
    return Classifier(network, preprocessing_of(str(folder), network, None, fit), tuple(classes))


def _check_installed(name: str) -> None:
    """Raise BackboneError where there is no torch, as in imgret-light."""
    by = f"The backbone {name}"
    if name == MINI:  # itself it runs without
        by = f"{MINI} on an engine of torch, exported, or with another --pool or --views,"
    for library in ("torch", "timm"):
        if not is_installed(library):
            raise BackboneError(how_to_install(library, by=by))


def _load_folder(
    folder: Path, size: int | None, *, num_classes: int = 0
) -> tuple[torch.nn.Module, str]:
    weights, config = folder / "model.safetensors", read_config(folder)
    if not weights.is_file():
        raise BackboneError(
            f"{folder} has no model.safetensors. Give a folder with config.json and "
            "model.safetensors as timm writes it, or the name of a timm model."
        )
    architecture = config["architecture"]
    arguments = _arguments_in(folder, config) | {"num_classes": num_classes}
    said = config.get("pretrained_cfg", config) | {"num_classes": config.get("num_classes", 1000)}
    cfg = {k: v for k, v in (defaults(architecture) | said).items() if k in CONFIG_KEYS}
    network = create_backbone(architecture, size, weights=weights, cfg=cfg, arguments=arguments)
    return network, sha256_of(weights)


def _arguments_in(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """What a stranger's config may say of how the network is made; never where to load from."""
    arguments = {
        key: value
        for key, value in config.get("model_args", {}).items()
        if key not in {"num_classes", "pretrained", "in_chans"}
        and not key.startswith(("checkpoint", "cache", "features", "pretrained_cfg"))
    }
    if (said := arguments.get("img_size")) is not None:
        sides = said if isinstance(said, list) else [said, said]
        if len(sides) != 2 or not all(type(n) is int and 1 <= n <= MAX_SIDE for n in sides):
            raise BackboneError(
                f"{folder / 'config.json'} has a model_args.img_size of {str(said)[:80]}, which is "
                f"no side of 1 to {MAX_SIDE} px. Correct config.json."
            )
    return arguments


def _alike(architecture: str) -> list[str]:
    """Names of timm's that hold a name, or else are spelled like it."""
    import timm

    known = timm.list_models()
    return timm.list_models(f"*{architecture}*")[:5] or get_close_matches(architecture, known, n=3)


def _load_named(name: str, size: int | None) -> tuple[torch.nn.Module, str]:
    import timm

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = ", ".join(_alike(architecture))
        raise BackboneError(
            f"There is no backbone named {name!r}. "
            + (f"Did you mean {near}?" if near else "Give a timm name or a folder.")
        )
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise BackboneError(f"{architecture} has no weights {tag!r}, only {', '.join(tags)}.")
    cfg = defaults(name)
    if not cfg.get("hf_hub_id"):
        raise BackboneError(f"{name} has no weights in safetensors. Choose another backbone.")
    weights = from_hub(name, cfg["hf_hub_id"], "model.safetensors")
    return create_backbone(name, size, weights=weights, cfg=cfg), sha256_of(weights)


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

    from retrieval.pool import arranged

    preprocessing = preprocessing_of(name, network, size, fit)
    architecture = getattr(network, "pretrained_cfg", {}).get("architecture") or name
    fixed_size = needs_image_size(architecture, getattr(network, "pretrained_cfg", None))
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
            f"{name} cannot take {preprocessing.size} px images ({reason(error)}). "
            "Choose another size (--size, or input.size in a recipe)."
        ) from error
    if not torch.isfinite(embedding).all():
        raise BackboneError(f"{name} gives embeddings that are not finite. Replace its weights.")
    if len(shape) != 2:
        raise BackboneError(f"{name} gives no embedding but {shape[1:]}. Choose another backbone.")
    spec = BackboneSpec(name, architecture, sha256, shape[1], preprocessing, pool, views)
    return Backbone(spec, network)
