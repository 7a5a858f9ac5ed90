"""A network -> an ONNX file, which other runtimes read too: uint8 RGB in, embeddings out.

The input is `pixels`, (n, size, size, 3) uint8; the output `embedding`, (n, dim) float32, not yet
of unit length. Normalisation is part of the file, as it is in an export for OpenVINO.
"""

from __future__ import annotations

import json
import struct
import warnings
from pathlib import Path
from typing import Any

from retrieval.backbones import Backbone
from retrieval.encoder.torch_runners import normalised
from retrieval.errors import BackboneError
from retrieval.libraries import how_to_install, is_installed

OPSET = 17  # of 2022, with layer norms; any runtime in use reads it
PART = "network."  # what normalised() puts before a network's tensors
DYNAMIC_AXES = {0: "n", 1: "height", 2: "width"}


def write_onnx(backbone: Backbone, file: Path, *, any_size: bool = False) -> None:
    """Write a backbone to one file, its weights in it.

    any_size: for pictures of any side, which a network without sizes of its own can take. Norms
    are left apart from the convolutions before them then, so that tensors keep their names. Raises
    BackboneError where onnx is not installed, and what torch raises for what it cannot export.
    """
    if not is_installed("onnx"):
        raise BackboneError(how_to_install("onnx", by="An ONNX file"))
    import torch

    size = backbone.spec.preprocessing.size
    training = torch.onnx.TrainingMode
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dynamo=True wants onnxscript, and no other network works
        torch.onnx.export(
            normalised(backbone),
            (torch.zeros(2, size, size, 3, dtype=torch.uint8),),
            str(file),
            dynamo=False,
            input_names=["pixels"],
            output_names=["embedding"],
            dynamic_axes={"pixels": DYNAMIC_AXES if any_size else {0: "n"}, "embedding": {0: "n"}},
            opset_version=OPSET,
            training=training.PRESERVE if any_size else training.EVAL,
            do_constant_folding=not any_size,
        )


def share_weights(file: Path, weights: Path) -> None:
    """Have an ONNX file of any_size take its tensors from a safetensors file in its folder.

    weights: in float16. ONNX names a place in another file by offset and length, and safetensors
    keeps each tensor whole: so both formats have the same bytes. Raises OSError.
    """
    import onnx

    with weights.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        tensors = json.loads(stream.read(length))
    model = onnx.load(str(file))
    graph, casts, initializers = model.graph, [], []
    for tensor in graph.initializer:
        known = tensors.get(tensor.name.removeprefix(PART))
        if known is None:
            initializers.append(tensor)
            continue
        half = _placed(f"{tensor.name}.half", known, weights.name, 8 + length)
        initializers.append(half)
        casts.append(
            onnx.helper.make_node("Cast", [half.name], [tensor.name], to=onnx.TensorProto.FLOAT)
        )
    nodes = [*casts, *graph.node]
    for node in nodes:
        node.ClearField("doc_string")
    for field, items in (("initializer", initializers), ("node", nodes)):
        graph.ClearField(field)
        getattr(graph, field).extend(items)
    file.write_bytes(model.SerializeToString())


def _placed(name: str, known: dict[str, Any], location: str, start: int) -> Any:
    """A tensor that lies in another file. known: what safetensors tells of it."""
    import onnx

    if known["dtype"] != "F16":
        raise BackboneError(
            f"{location} is not in float16. Run `python -m classify.slim` to halve it."
        )
    tensor = onnx.TensorProto(
        name=name,
        dims=known["shape"],
        data_type=onnx.TensorProto.FLOAT16,
        data_location=onnx.TensorProto.EXTERNAL,
    )
    first, end = known["data_offsets"]
    place = {"location": location, "offset": start + first, "length": end - first}
    for key, value in place.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor
