"""A backbone -> an encoder on the requested engine, or on the best that runs it here."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

from retrieval.backbones import Backbone, BackboneSpec, packaged_network
from retrieval.encoder.compilation import open_compiled
from retrieval.encoder.encoder import Encoder
from retrieval.encoder.exports import (
    CONVERSIONS,
    EXPORTED_WEIGHTS,
    NETWORK,
    check_writable,
    export_encoder,
    export_folder,
    is_whole,
)
from retrieval.encoder.openvino_cpu import compiled, precision_of, read_network
from retrieval.encoder.torch_runners import agreement, cuda_runner, torch_runner
from retrieval.errors import BackboneError
from retrieval.libraries import is_installed
from retrieval.text import one_sentence
from retrieval.words import Engine

AGREEMENT = {"bf16": 0.99, "fp32": 0.9999}  # least cosine with torch on noise; photos agree better
_EXPORTING = threading.Lock()  # neither torch.jit nor torch.export is made for several threads


def open_encoder(
    spec: BackboneSpec,
    load: Callable[[], Backbone],
    *,
    engine: Engine | None = None,
    cache: Path,
    insist: bool = True,
) -> Encoder:
    """Open the encoder of a backbone on the given engine, or on the best that runs it here.

    load: gives the network; called only where OpenVINO can have it neither from imgret's own
    weights nor from an export in cache. insist: whether
    another engine will not do. Raises BackboneError when the engine insisted on cannot run the
    network, or when load gives another network than spec.
    """
    if engine is not None and not insist and not _runs_here(engine):
        engine = None
    if engine in (None, "openvino-bf16", "openvino-fp32"):
        exported = _opened(spec, precision_of(engine), cache)
        if exported is not None:
            return exported
    backbone = load()
    if backbone.spec.fingerprint != spec.fingerprint:
        raise _is_another(backbone.spec, spec)
    import torch

    if engine == "torch-cuda-bf16" or (engine is None and torch.cuda.is_available()):
        return Encoder(spec, "torch-cuda-bf16", cuda_runner(backbone))
    if engine == "torch-fp32":
        return Encoder(spec, "torch-fp32", torch_runner(backbone))
    with _EXPORTING:
        return _exported_encoder(backbone, engine, cache, insist=insist)


def _is_another(found: BackboneSpec, spec: BackboneSpec) -> BackboneError:
    """Say what of a backbone is not what it was."""
    if found.weights_sha256 != spec.weights_sha256:
        return BackboneError(
            f"The weights of {spec.name} are not the ones used before "
            f"({found.weights_sha256[:12]} instead of {spec.weights_sha256[:12]}). Bring the old "
            "weights back, or index again with --reembed."
        )
    return BackboneError(
        f"{spec.name} has the weights used before, but its config.json now gives another size, "
        "mean, std or architecture. Bring the old config.json back, or index again with --reembed."
    )


def exported_encoder(spec: BackboneSpec, engine: Engine, cache: Path) -> Encoder | None:
    """Open an encoder without torch, of imgret's own weights or an export in cache; else None."""
    is_openvino = engine.startswith("openvino") and _runs_here(engine)
    return _opened(spec, precision_of(engine if is_openvino else None), cache)


def _opened(spec: BackboneSpec, precision: str, cache: Path) -> Encoder | None:
    """The encoder of imgret's own weights, or from an export; None where OpenVINO reads neither."""
    network = packaged_network(spec)
    if network is not None:
        return _packaged_encoder(spec, network, precision, cache)
    folder = export_folder(spec, precision, cache)
    if not is_whole(folder):
        return None
    try:
        return _kept_encoder(spec, folder, precision)
    except RuntimeError:  # what OpenVINO raises on a damaged file
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _runs_here(engine: Engine) -> bool:
    if engine == "torch-cuda-bf16":
        if not is_installed("torch"):
            return False
        import torch

        return torch.cuda.is_available()
    return engine != "openvino-bf16" or precision_of(None) == "bf16"


def _exported_encoder(
    backbone: Backbone, engine: Engine | None, cache: Path, *, insist: bool
) -> Encoder:
    """Export with OpenVINO, in the first way that agrees with torch; else run torch."""
    spec, first = backbone.spec, precision_of(engine)
    try:
        check_writable(cache / "encoders")
    except OSError as error:
        with tempfile.TemporaryDirectory(prefix="imgret-") as folder:
            encoder = _exported_encoder(backbone, engine, Path(folder), insist=insist)
        encoder.notice = encoder.notice or (
            f"{cache} cannot be written ({error.strerror}), so that {spec.name} is exported again "
            "in each run. Name a folder that can be with IMGRET_CACHE."
        )
        return encoder
    reason = ""
    precisions = [first] if engine and insist else dict.fromkeys([first, "fp32"])
    for convert, precision in product(CONVERSIONS, precisions):
        place = export_folder(spec, precision, cache)
        try:
            export_encoder(backbone, place, convert)
            encoder = _exported(spec, place, precision)
            cosine = agreement(encoder, backbone)
        except Exception as error:  # noqa: BLE001  torch and OpenVINO raise all kinds
            reason = one_sentence(error)
            shutil.rmtree(place, ignore_errors=True)
            continue
        if cosine >= AGREEMENT[precision]:
            return encoder
        reason = f"{precision} embeddings agree with torch to cosine {cosine:.4f} only"
        shutil.rmtree(place, ignore_errors=True)
    if engine and insist:
        raise BackboneError(
            f"{engine} cannot run {spec.name} ({reason}). Use --engine torch-fp32, or leave "
            "--engine out."
        )
    notice = f"OpenVINO cannot run {spec.name} ({reason}); torch runs it, more slowly."
    return Encoder(spec, "torch-fp32", torch_runner(backbone), notice)


def _packaged_encoder(spec: BackboneSpec, network: Path, precision: str, cache: Path) -> Encoder:
    """The encoder of imgret's own network, whose ONNX file takes longer to compile than exports."""
    size, kept = spec.preprocessing.size, _place_of_kept(export_folder(spec, precision, cache))
    read = partial(read_network, network, size)
    run = open_compiled(read, precision, [network], kept, f"{spec.weights_sha256} {size}")
    return Encoder(spec, _engine(precision), run)


def _kept_encoder(spec: BackboneSpec, folder: Path, precision: str) -> Encoder:
    """The encoder of an export, which the first one to open it compiles for all that follow."""
    network = folder / NETWORK
    files, kept = [network, folder / EXPORTED_WEIGHTS], _place_of_kept(folder)
    run = open_compiled(lambda: network, precision, files, kept, by_time=True)
    return Encoder(spec, _engine(precision), run)


def _place_of_kept(folder: Path) -> Path:
    return folder.parent.with_name("compiled") / folder.name


def _exported(spec: BackboneSpec, folder: Path, precision: str) -> Encoder:
    return Encoder(spec, _engine(precision), compiled(folder / NETWORK, precision))


def _engine(precision: str) -> Engine:
    return "openvino-bf16" if precision == "bf16" else "openvino-fp32"
