"""A run -> its backbone alone, in half the bytes, and its graph: the package's `mini`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from classify.run import apart, data_config
from retrieval.backbones import load_backbone
from retrieval.encoder import share_weights, write_onnx
from retrieval.errors import BackboneError
from retrieval.files import make_folder, replaced, write_atomically
from retrieval.text import unwritable

if TYPE_CHECKING:
    import torch


def slim(run: Path, out: Path) -> None:
    """Write a run's backbone without its classifier, in float16, to a folder that timm reads.

    model.onnx beside it is the graph, for pictures of any size, with the same file of weights.
    Raises BackboneError when the run cannot be read, its weights do not fit float16 or onnx is not
    installed, WriteError when out cannot be written.
    """
    from safetensors.torch import save

    backbone = load_backbone(str(run))
    spec = backbone.spec
    config = {
        "architecture": spec.architecture.partition(".")[0],
        "num_classes": 0,
        "num_features": spec.dim,
        "pretrained_cfg": data_config(spec.preprocessing) | {"num_classes": 0},
    }
    tensors = {
        name: _halved(name, tensor)
        for name, tensor in apart(backbone.network.state_dict()).items()
        if tensor.is_floating_point()
    }
    try:
        make_folder(out)
        write_atomically(out / "model.safetensors", save(tensors, {"format": "pt"}))
        with replaced(out / "model.onnx") as made:
            write_onnx(backbone, made, any_size=True)
            share_weights(made, out / "model.safetensors")
        write_atomically(out / "config.json", (json.dumps(config, indent=2) + "\n").encode())
    except OSError as error:
        raise unwritable(out, error) from error


def _halved(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Float16, contiguous."""
    import torch

    half = tensor.detach().to(torch.float16).contiguous()
    if not torch.isfinite(half).all():
        raise BackboneError(f"{name} has numbers that float16 cannot hold. Leave the run as it is.")
    return half
