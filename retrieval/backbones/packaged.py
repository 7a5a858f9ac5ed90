"""imgret's own encoder, `mini`, known from its files alone: neither torch nor timm is imported.

retrieval/mini/ is a folder as timm writes it, so that load_backbone("mini") is timm's network
of the same weights, with the graph as ONNX beside it; docs/mini.md says how they were trained.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.backbones.configuration import read_config, reason, weights_digest
from retrieval.backbones.names import MINI, parse_name
from retrieval.backbones.network import preprocessing_from
from retrieval.backbones.spec import BackboneSpec
from retrieval.errors import BackboneError
from retrieval.words import is_own

if TYPE_CHECKING:
    from retrieval.settings import EmbeddingSettings

PACKAGED_NETWORK = "model.onnx"
LAST_LAYER = "conv_head.weight"  # (dim, channels, 1, 1)


def packaged_spec(asked: EmbeddingSettings) -> BackboneSpec | None:
    """Return the spec that loading a backbone would give, without loading anything.

    None where the network is needed for it: for other backbones, and other pools and views.
    Raises BackboneError when the package's files are damaged.
    """
    if parse_name(asked.backbone).source != "mini" or not is_own(asked.pool, asked.views):
        return None
    folder = _folder()
    config = read_config(folder)
    preprocessing = preprocessing_from(
        MINI, config.get("pretrained_cfg", {}), asked.size, asked.fit
    )
    sha256, dim = weights_digest(folder, config), _width(folder / "model.safetensors")
    return BackboneSpec(MINI, config["architecture"], sha256, dim, preprocessing)


def packaged_network(spec: BackboneSpec) -> Path | None:
    """Return the ONNX file of the package's own network; None where spec is of another one.

    It holds the graph alone and takes its tensors from model.safetensors beside it.
    """
    if spec.name != MINI or not is_own(spec.pool, spec.views):
        return None
    folder = _folder()
    is_it = weights_digest(folder, read_config(folder)) == spec.weights_sha256
    return folder / PACKAGED_NETWORK if is_it else None


def packaged_parameters() -> int:
    """Count the parameters of imgret's own encoder. Raises BackboneError."""
    from safetensors import SafetensorError, safe_open

    weights = _folder() / "model.safetensors"
    try:
        with safe_open(weights, "np") as file:
            names = [name for name in file.keys() if ".running_" not in name]  # noqa: SIM118
            return sum(math.prod(file.get_slice(name).get_shape()) for name in names)
    except (OSError, SafetensorError) as error:
        raise BackboneError(
            f"{weights} cannot be read ({reason(error)}). Install imgret again."
        ) from error


def _folder() -> Path:
    folder = parse_name(MINI).folder
    names = ("model.safetensors", PACKAGED_NETWORK)
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
            return int(file.get_slice(LAST_LAYER).get_shape()[0])
    except (OSError, SafetensorError, LookupError) as error:
        raise BackboneError(
            f"{weights} cannot be read ({reason(error)}). Install imgret again."
        ) from error
