"""A network -> OpenVINO's files in a cache folder, which need neither torch nor timm."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from retrieval.backbones import Backbone, BackboneSpec
from retrieval.encoder.openvino_cpu import converter, openvino
from retrieval.encoder.torch_runners import normalised
from retrieval.files import put_in_place, read_bounded, scratch_folder, sync, sync_tree

if TYPE_CHECKING:
    import torch

    Conversion = Callable[[torch.nn.Module, torch.Tensor], Any]

NETWORK, EXPORTED_WEIGHTS, FACTS = "model.xml", "model.bin", "encoder.json"
MAX_FACTS_BYTES = 1 << 16


@dataclass(frozen=True)
class Export:
    """What an export says of itself: name, width of an embedding and side of the input, pixels."""

    name: str
    dim: int
    size: int


def cache_folder() -> Path:
    """Return the folder of exports: IMGRET_CACHE, or imgret's folder in the user's cache."""
    return Path(os.environ.get("IMGRET_CACHE") or platformdirs.user_cache_path("imgret"))


def export_folder(spec: BackboneSpec, precision: str, cache: Path) -> Path:
    """Return the folder of a backbone's export, whether it exists or not."""
    size = spec.preprocessing.size
    return cache / "encoders" / f"{spec.fingerprint[:32]}-{size}-{precision}"


def is_whole(folder: Path) -> bool:
    """Tell whether an export is there and complete."""
    try:
        sizes = json.loads(read_bounded(folder / FACTS, MAX_FACTS_BYTES))["bytes"]
        return all(
            (folder / name).stat().st_size == sizes[name] for name in (NETWORK, EXPORTED_WEIGHTS)
        )
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False


def find_exports(cache: Path) -> dict[str, Export]:
    """Return the complete exports below a cache folder, by the names of their backbones."""
    found = {}
    for file in sorted((cache / "encoders").glob(f"*/{FACTS}")):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
            facts = json.loads(read_bounded(file, MAX_FACTS_BYTES))
            export = Export(str(facts["name"]), int(facts["dim"]), int(facts["size"]))
            if is_whole(file.parent):
                found[export.name] = export
    return found


def check_writable(folder: Path) -> None:
    """Raise OSError if nothing can be written."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def traced(network: torch.nn.Module, example: torch.Tensor) -> Any:
    """Trace a network of one input and one output to OpenVINO's model, for batches of any size.

    example: an input of more than one row. A trace follows what the network does with it. A path
    that depends on the pixels is refused. One that depends on the size of the batch comes out
    wrong, so compare it with torch on a batch of another size. Raises what torch and OpenVINO
    raise.
    """
    import torch

    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    weightless = {name: tensor.detach().to("meta") for name, tensor in tensors.items()}
    with torch.no_grad():  # raises where values are asked for, since there are none
        torch.func.functional_call(network, weightless, (example.to("meta"),))
    shape = openvino().PartialShape([-1, *example.shape[1:]])
    with _root_logger_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; exported() does without
        return converter()(network, example_input=example, input=[shape])


def exported(network: torch.nn.Module, example: torch.Tensor) -> Any:
    """Convert a network as traced() does, by torch.export, in one to three times the time.

    Raises what torch.export and OpenVINO raise.
    """
    import torch

    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.export.export(network, (example,), dynamic_shapes=({0: batch},), strict=False)
    with _root_logger_kept():
        model = converter()(program)
    model.reshape([-1, *example.shape[1:]])
    return model


@contextlib.contextmanager
def _root_logger_kept() -> Iterator[None]:
    """Undo what OpenVINO does to the root logger; after a failure it leaves all warnings off."""
    root = logging.getLogger()
    before = root.level, [*root.filters], [*root.handlers]
    try:
        yield
    finally:
        root.setLevel(before[0])
        root.filters[:], root.handlers[:] = before[1:]


CONVERSIONS: tuple[Conversion, ...] = (traced, exported)  # in the order to be tried


def export_encoder(backbone: Backbone, folder: Path, convert: Conversion) -> None:
    """Write the network, its normalisation included, as OpenVINO reads it; atomically."""
    import torch

    if is_whole(folder):
        return
    spec, size = backbone.spec, backbone.spec.preprocessing.size
    model = convert(normalised(backbone), torch.zeros(2, size, size, 3, dtype=torch.uint8))
    with scratch_folder(folder.parent) as made:
        openvino().save_model(model, made / NETWORK, compress_to_fp16=False)
        sizes = {name: (made / name).stat().st_size for name in (NETWORK, EXPORTED_WEIGHTS)}
        facts = {
            "name": spec.name,
            "fingerprint": spec.fingerprint,
            "dim": spec.dim,
            "size": size,
            "bytes": sizes,
        }
        (made / FACTS).write_text(json.dumps(facts, indent=1))
        try:
            if not is_whole(folder):
                shutil.rmtree(folder, ignore_errors=True)
            sync_tree(made)
            put_in_place(made, folder)
            sync(folder.parent)
        except OSError:  # another process made it meanwhile
            if not is_whole(folder):
                raise
