"""imgret's own encoder, `mini`, known from its files alone: neither torch nor timm is imported.

retrieval/mini/ is a folder as timm writes it, so that load("mini") is timm's network of the same
weights, with the graph as ONNX beside it; docs/mini.md says how they were trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.backbones.names import MINI, folder_of, read_config, reason, resolve_name
from retrieval.backbones.network import preprocessing_from
from retrieval.backbones.spec import BackboneSpec, Fit
from retrieval.errors import BackboneError
from retrieval.files import sha256_of

if TYPE_CHECKING:
    from retrieval.pool import Pool, Views

NETWORK = "model.onnx"
LAST = "conv_head.weight"  # (dim, channels, 1, 1)


def packaged_spec(
    name: str,
    *,
    size: int | None = None,
    fit: Fit = "squash",
    pool: Pool = "own",
    views: Views = "none",
) -> BackboneSpec | None:
    """The spec that load() gives with the same arguments, without loading anything.

    None where the network is needed for it: for other backbones, and other pools and views.
    Raises BackboneError when the package's files are damaged.
    """
    if resolve_name(name) != MINI or (pool, views) != ("own", "none"):
        return None
    folder = _folder()
    config = read_config(folder)
    preprocessing = preprocessing_from(MINI, config.get("pretrained_cfg", {}), size, fit)
    weights = folder / "model.safetensors"
    dim = _width(weights)
    return BackboneSpec(MINI, config["architecture"], sha256_of(weights), dim, preprocessing)


def packaged_network(spec: BackboneSpec) -> Path | None:
    """The ONNX file of the package's own network, where spec is of it and its weights; else None.

    It holds the graph alone and takes its tensors from model.safetensors beside it.
    """
    if spec.name != MINI or (spec.pool, spec.views) != ("own", "none"):
        return None
    weights = _folder() / "model.safetensors"
    return weights.with_name(NETWORK) if sha256_of(weights) == spec.weights_sha256 else None


def _folder() -> Path:
    folder = folder_of(MINI)
    names = ("model.safetensors", NETWORK)
    if folder is None or not all((folder / name).is_file() for name in names):
        raise BackboneError(
            f"This installation of imgret lacks its own encoder, {MINI}. Install imgret again."
        )
    return folder


def _width(weights: Path) -> int:
    """Return the width of an embedding."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, "np") as file:
            return int(file.get_slice(LAST).get_shape()[0])
    except (OSError, SafetensorError, LookupError) as error:
        raise BackboneError(
            f"{weights} cannot be read ({reason(error)}). Install imgret again."
        ) from error
