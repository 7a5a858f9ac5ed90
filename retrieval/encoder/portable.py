"""A backbone as files for other programs: ONNX, or OpenVINO's folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from retrieval.backbones import Backbone
from retrieval.encoder.encoder import Encoder
from retrieval.encoder.engines import AGREEMENT
from retrieval.encoder.exports import CONVERSIONS, NETWORK, export_encoder
from retrieval.encoder.onnx_files import write_onnx
from retrieval.encoder.openvino_cpu import compiled
from retrieval.encoder.torch_runners import agreement
from retrieval.errors import ArgumentError, BackboneError
from retrieval.files import is_there, make_folder, put_in_place, replaced, scratch_folder
from retrieval.text import one_sentence, unwritable

ONNX = ".onnx"


def export_backbone(backbone: Backbone, out: Path) -> float:
    """Write a backbone to a file .onnx, or to a new folder as OpenVINO has it.

    Pixels go in as they are, (n, size, size, 3) uint8 RGB; embeddings come out, (n, dim) float32,
    not yet of unit length. Gives the least cosine to torch on noise. Raises BackboneError when the
    backbone cannot be exported, or its embeddings are others then, ArgumentError when out is there
    as a folder, WriteError when it cannot be written.
    """
    if out.suffix in (".xml", ".bin"):
        raise ArgumentError(f"{out} is one of OpenVINO's files. Name a folder, or a file .onnx.")
    if out.is_dir() or (is_there(out) and out.suffix != ONNX):
        raise ArgumentError(f"{out} already exists. Name a new folder, or a file .onnx.")
    try:
        make_folder(out.absolute().parent)
        if out.suffix == ONNX:
            with replaced(out.absolute()) as made:
                return _checked(backbone, made, partial(write_onnx, backbone, made))
        return _as_folder(backbone, out.absolute())
    except OSError as error:
        raise unwritable(out, error) from error


def _as_folder(backbone: Backbone, out: Path) -> float:
    with scratch_folder(out.parent) as scratch:
        for number, convert in enumerate(CONVERSIONS):
            made = scratch / str(number)
            try:
                write = partial(export_encoder, backbone, made, convert)
                cosine = _checked(backbone, made / NETWORK, write)
            except BackboneError:
                if convert is CONVERSIONS[-1]:
                    raise
                continue
            put_in_place(made, out)
            return cosine
    raise AssertionError("there is a way to convert")  # so that the types are right


def _checked(backbone: Backbone, network: Path, write: Callable[[], None]) -> float:
    """Write, read what was written, and hold it against torch."""
    name, least = backbone.spec.name, AGREEMENT["fp32"]
    try:
        write()
        encoder = Encoder(backbone.spec, "openvino-fp32", compiled(network, "fp32"))
        cosine = agreement(encoder, backbone)
    except (OSError, BackboneError):
        raise
    except Exception as error:  # torch and OpenVINO raise all kinds
        raise BackboneError(
            f"{name} cannot be exported ({one_sentence(error)}). Choose another backbone."
        ) from error
    if cosine < least:
        raise BackboneError(
            f"{name} cannot be exported: the result agrees with torch only to a cosine of "
            f"{cosine:.4f}. Choose another backbone."
        )
    return cosine
