"""What the configurations of backbones say, in folders and in timm; no network is made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retrieval.backbones.names import BackboneName, hub_name
from retrieval.errors import BackboneError
from retrieval.files import read_bounded, sha256_of
from retrieval.text import one_sentence
from retrieval.words import Fit

ARCHITECTURES = "imgret.architectures"  # entry points: modules that register networks with timm
MAX_CONFIG_BYTES = 1 << 20
FITS_OF_TIMM: dict[str, Fit] = {"squash": "squash", "center": "crop", "border": "pad"}  # crop_mode


def folder_fingerprint(name: BackboneName) -> str | None:
    """Return weights_digest() of a folder, without torch; None if name has none with weights.

    Raises BackboneError where its config.json cannot be read.
    """
    folder = name.folder
    if folder is None or not (folder / "model.safetensors").is_file():
        return None
    return weights_digest(folder, read_config(folder))


def weights_digest(folder: Path, config: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a folder's weights, and of model_arguments() where there are any."""
    digest, arguments = sha256_of(folder / "model.safetensors"), model_arguments(config)
    if not arguments:
        return digest
    return hashlib.sha256(json.dumps([digest, arguments], sort_keys=True).encode()).hexdigest()


def model_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a config may say of how the network is made; never where to load from."""
    return {
        key: value
        for key, value in config.get("model_args", {}).items()
        if key not in {"num_classes", "pretrained", "in_chans"}
        and not key.startswith(("checkpoint", "cache", "features", "pretrained_cfg"))
    }


def folder_content(name: BackboneName) -> str | None:
    """Return the SHA-256 of weights and config.json, which decide what a folder's backbone gives.

    None where name has no such folder. Needs no torch.
    """
    folder = name.folder
    files = [folder / "model.safetensors", folder / "config.json"] if folder else []
    if not files or not all(file.is_file() for file in files):
        return None
    return " ".join(map(sha256_of, files))


def architecture_of(folder: Path) -> str:
    """Return timm's name of the network whose weights a folder holds. Raises BackboneError."""
    return str(read_config(folder)["architecture"])


def input_size(name: BackboneName) -> int | None:
    """Return the side of a backbone's own input in pixels; None if only loading it tells."""
    if name.source == "hub":
        return None
    folder = name.folder
    config = read_config(folder) if folder else {}
    said = config.get("pretrained_cfg", config).get("input_size")
    if not said:
        said = defaults(config["architecture"] if folder else name.id).get("input_size")
    side = (said or [None])[-1]
    return int(side) if isinstance(side, int) else None


def read_config(folder: Path) -> dict[str, Any]:
    """Read a folder's config.json and check its parts. Raises BackboneError."""
    file = folder / "config.json"
    if folder.is_file():
        raise BackboneError(f"{folder} is a file. Give its folder.")
    try:
        config = json.loads(read_bounded(file, MAX_CONFIG_BYTES, is_named=True))
    except FileNotFoundError:
        what = "does not exist" if not folder.is_dir() else "has no config.json"
        meant = "" if folder.parent.is_dir() else hub_name(f"{folder.parent.name}/{folder.name}")
        raise BackboneError(
            f"The backbone folder {folder} {what}. "
            + (
                f"Give a folder as timm writes it, or {meant} for weights of the hub."
                if meant
                else "Give a folder with config.json and model.safetensors as timm writes them, or "
                "the name of a timm model."
            )
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise BackboneError(
            f"{file} cannot be read ({one_sentence(error)}). Correct or replace it."
        ) from error
    parts = [config] if isinstance(config, dict) else []
    parts += [config.get(key, {}) for key in ("model_args", "pretrained_cfg")] if parts else []
    if not parts or not all(isinstance(part, dict) for part in parts):
        raise BackboneError(f"{file} is not a timm configuration. Correct or replace it.")
    if not isinstance(config.get("architecture"), str):
        raise BackboneError(f"{file} names no architecture. Correct or replace it.")
    return config


def check_architecture(name: str, instead: str = "Correct config.json.") -> None:
    """Raise BackboneError unless timm or an installed package has the architecture.

    instead: what to do about it.
    """
    from importlib import metadata  # which takes a while, and a query needs no timm

    import timm

    name = name.partition(".")[0]
    if not timm.is_model(name):
        for entry in metadata.entry_points(group=ARCHITECTURES):
            entry.load()
    if not timm.is_model(name):
        raise BackboneError(f"timm has no architecture {name[:80]!r}. {instead}")


def defaults(architecture: str) -> dict[str, Any]:
    """Return what timm knows of an architecture, for what a config does not say."""
    from timm.models import get_pretrained_cfg

    check_architecture(architecture)
    try:
        known = get_pretrained_cfg(architecture, allow_unregistered=True)
    except RuntimeError as error:
        raise BackboneError(
            f"timm does not know {architecture} ({reason(error)}). Choose another backbone."
        ) from error
    return dict(known.to_dict()) if known else {}


def needs_image_size(name: str, cfg: Mapping[str, Any] | None) -> bool:
    """Tell whether a network is built for one input size, as most transformers are."""
    from timm.models import get_pretrained_cfg

    known = get_pretrained_cfg(name, allow_unregistered=True)
    return bool((cfg or {}).get("fixed_input_size", known and known.fixed_input_size))


def reason(error: BaseException) -> str:
    """Return what an error says, on one line."""
    is_key = isinstance(error, KeyError) and bool(error.args)  # which says nothing else
    return (
        "nothing is known as " * is_key + " ".join(str(error).split())[:300] or type(error).__name__
    )
