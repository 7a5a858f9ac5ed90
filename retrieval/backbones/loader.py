"""A name -> a network with its weights, checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from retrieval.backbones.configuration import (
    FITS_OF_TIMM,
    check_architecture,
    defaults,
    model_arguments,
    needs_image_size,
    read_config,
    reason,
    weights_digest,
)
from retrieval.backbones.hub import from_hub
from retrieval.backbones.known import alike
from retrieval.backbones.names import (
    MINI,
    RANDOM,
    SHORT_NAMES,
    BackboneName,
    parse_name,
    unknown,
)
from retrieval.backbones.network import (
    MAX_SIDE,
    create_backbone,
    preprocessing_of,
    sha256_of_tensors,
    sized,
)
from retrieval.backbones.spec import Backbone, BackboneSpec, Classifier
from retrieval.errors import BackboneError, first_fault
from retrieval.files import sha256_of
from retrieval.libraries import how_to_install, is_installed
from retrieval.suggestion import nearest
from retrieval.words import (
    DEFAULT_POOL,
    DEFAULT_VIEWS,
    EmbeddingOptions,
    is_own,
)

if TYPE_CHECKING:
    import torch

    from retrieval.settings import EmbeddingSettings

CONFIG_KEYS = {  # what a stranger's config may say of preprocessing and layout; never where to load
    "input_size", "fixed_input_size", "min_input_size", "interpolation", "crop_pct", "crop_mode",
    "mean", "std", "num_classes", "pool_size", "first_conv", "classifier",
}  # fmt: skip


def load_backbone(name: str | BackboneName, **options: Unpack[EmbeddingOptions]) -> Backbone:
    """Load a backbone with its pretrained weights, its classifier removed.

    name: as retrieval/backbones/names.py reads it. options: size, the side of the input in pixels,
    by default the model's own; fit, pool and views, see EmbeddingSettings. Raises BackboneError
    when the name, its weights or the size cannot be used, or where there is no torch.
    """
    name = parse_name(name)
    own = is_own(options.get("pool", DEFAULT_POOL), options.get("views", DEFAULT_VIEWS))
    _check_installed(str(name), is_own=own)
    if name.source == "random":
        return with_random_weights(name.id, **options)
    asked = _checked(name, options)
    if name.source == "timm":
        network, sha256 = _load_named(name, asked.size)
    else:
        network, sha256 = _load_folder(_folder_with_weights(name), asked.size)
    return _backbone(asked, network, sha256)


def with_random_weights(
    architecture: str, *, seed: int = 0, **options: Unpack[EmbeddingOptions]
) -> Backbone:
    """Make a timm architecture with random weights: for its shape and cost, never for matches."""
    import torch

    near = ", ".join(f"{RANDOM}{name}" for name in alike(architecture))
    check_architecture(
        architecture, f"Did you mean {near}?" if near else "`imgret backbones` lists some."
    )
    torch.manual_seed(seed)
    asked = _checked(BackboneName("random", architecture), options)
    network = create_backbone(architecture, asked.size)
    return _backbone(asked, network, sha256_of_tensors(network.state_dict()))


def _checked(name: BackboneName, options: EmbeddingOptions) -> EmbeddingSettings:
    """Check how a backbone is to be loaded. Raises BackboneError for a wrong value."""
    from pydantic import ValidationError

    from retrieval.settings import EmbeddingSettings

    try:
        return EmbeddingSettings(backbone=str(name), **options)
    except ValidationError as error:
        key, fault = first_fault(error)
        raise BackboneError(
            f"{name} cannot be loaded: {key}: {fault}. Correct this setting."
        ) from error


def arguments_of(name: BackboneName, size: int) -> dict[str, Any]:
    """Return the arguments with which timm makes a backbone's network for inputs of side `size`.

    Those that a folder's config.json names, and img_size for a network that is built for one
    size. Raises BackboneError.
    """
    if name.source in ("timm", "random"):
        return sized(name.id, size)
    folder = name.folder or from_hub(str(name), name.id, "config.json").parent
    config = read_config(folder)
    return sized(config["architecture"], size, arguments=_arguments_in(folder, config))


def load_classifier(folder: Path) -> Classifier:
    """Load a folder's network with its classifier, whose classes config.json names.

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
    fit = FITS_OF_TIMM.get(mode, "crop") if isinstance(mode, str) else "crop"
    return Classifier(network, preprocessing_of(str(folder), network, None, fit), tuple(classes))


def _check_installed(name: str, *, is_own: bool = True) -> None:
    """Raise BackboneError if torch is not installed, as in imgret-light.

    is_own: whether its embedding is asked for as the network gives it, of one view.
    """
    by = f"The backbone {name}"
    if name == MINI:  # itself it runs without
        by += " on an engine of torch, or exported," if is_own else " with other --pool or --views"
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
            "model.safetensors as timm writes them, or the name of a timm model."
        )
    architecture = config["architecture"]
    check_architecture(architecture, f"Correct {folder / 'config.json'}.")
    arguments = _arguments_in(folder, config) | {"num_classes": num_classes}
    said = config.get("pretrained_cfg", config) | {"num_classes": config.get("num_classes", 1000)}
    cfg = {k: v for k, v in (defaults(architecture) | said).items() if k in CONFIG_KEYS}
    network = create_backbone(architecture, size, weights=weights, cfg=cfg, arguments=arguments)
    return network, weights_digest(folder, config)


def _arguments_in(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return model_arguments(), checked. Raises BackboneError."""
    arguments = model_arguments(config)
    if (said := arguments.get("img_size")) is not None:
        sides = said if isinstance(said, list) else [said, said]
        if len(sides) != 2 or not all(type(n) is int and 1 <= n <= MAX_SIDE for n in sides):
            raise BackboneError(
                f"{folder / 'config.json'} has a model_args.img_size of {str(said)[:80]}, but a "
                f"side has 1 to {MAX_SIDE} px. Correct config.json."
            )
    return arguments


def _folder_with_weights(name: BackboneName) -> Path:
    """Return the folder of a folder's, the package's or the hub's weights; download the hub's."""
    if name.folder is not None:
        return name.folder
    from_hub(str(name), name.id, "model.safetensors")
    return from_hub(str(name), name.id, "config.json").parent


def _load_named(name: BackboneName, size: int | None) -> tuple[torch.nn.Module, str]:
    import timm

    architecture, _, tag = name.id.partition(".")
    if not timm.is_model(architecture):
        raise unknown(name.id)
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        near = nearest(tag, tags)
        meant = f"Did you mean {architecture}.{near}? " if near else ""
        raise BackboneError(
            f"{architecture} has no weights {tag!r}. {meant}Use one of {', '.join(tags)}."
        )
    cfg = defaults(name.id)
    if not cfg.get("hf_hub_id"):
        near = ", ".join(each for each in alike(name.id, *SHORT_NAMES) if each != name.architecture)
        instead = f"Did you mean {near}?" if near else "Choose another backbone."
        raise BackboneError(f"{name.id} has no weights in safetensors. {instead}")
    weights = from_hub(name.id, cfg["hf_hub_id"], "model.safetensors")
    return create_backbone(name.id, size, weights=weights, cfg=cfg), sha256_of(weights)


def _backbone(asked: EmbeddingSettings, network: torch.nn.Module, sha256: str) -> Backbone:
    import torch

    from retrieval.pool import arranged

    name, pool, views = asked.backbone, asked.pool, asked.views
    preprocessing = preprocessing_of(name, network, asked.size, asked.fit)
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
        raise BackboneError(
            f"{name} gives numbers of shape {shape[1:]}, not an embedding. Use another backbone."
        )
    spec = BackboneSpec(name, architecture, sha256, shape[1], preprocessing, pool, views)
    return Backbone(spec, network)
