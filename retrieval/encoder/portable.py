"""A backbone as files for other programs: ONNX, or OpenVINO's folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.backbones import Backbone
from retrieval.encoder.encoder import Encoder
from retrieval.encoder.engines import AGREEMENT
from retrieval.encoder.exports import CONVERSIONS, NETWORK, export_encoder
from retrieval.encoder.onnx_files import write_onnx
from retrieval.encoder.openvino_cpu import compiled
from retrieval.encoder.torch_runners import agreement
from retrieval.errors import ArgumentError, BackboneError
from retrieval.files import check_folder, is_there, put_in_place, replaced, scratch_folder
from retrieval.text import one_sentence, unwritable

if TYPE_CHECKING:
    from retrieval.encoder.exports import Conversion

ONNX = ".onnx"


def export_backbone(backbone: Backbone, out: Path | str) -> float:
    """Write a backbone to a new file .onnx, or to a new folder as OpenVINO has it.

    Pixels go in as they are, (n, size, size, 3) uint8 RGB; embeddings come out, (n, dim) float32,
    not yet of unit length. Gives the least cosine to torch on noise. Raises BackboneError when the
    backbone cannot be exported, or its embeddings are others then, and as check_export() does.
    """
    place = check_export(out)
    try:
        if place.suffix.lower() == ONNX:
            with replaced(place.absolute()) as made:
                return _checked(backbone, made, partial(write_onnx, backbone, made))
        return _as_folder(backbone, place.absolute())
    except OSError as error:
        raise unwritable(place, error) from error


def check_export(out: Path | str) -> Path:
    """Check a place for export_backbone(): a file .onnx, or a folder.

    A folder's name has no suffix, or ends in a slash. Raises ArgumentError for another suffix and
    for what already exists, WriteError when the folder around it is not there.
    """
    place, is_folder = Path(out), str(out).endswith(("/", os.sep))
    if place.suffix and place.suffix.lower() != ONNX and not is_folder:
        raise ArgumentError(
            f"{place} has an unknown suffix. Use {ONNX}, or end the name of a folder with a slash."
        )
    if is_there(place):
        raise ArgumentError(f"{place} already exists. Name a new file {ONNX}, or a new folder.")
    try:
        check_folder(place)
    except OSError as error:
        raise unwritable(place, error) from error
    return place


def _as_folder(backbone: Backbone, out: Path) -> float:
    *earlier, last = CONVERSIONS
    for convert in earlier:
        with contextlib.suppress(BackboneError):
            return _converted(backbone, out, convert)
    return _converted(backbone, out, last)


def _converted(backbone: Backbone, out: Path, convert: Conversion) -> float:
    with scratch_folder(out.parent) as scratch:
        made = scratch / "made"
        cosine = _checked(
            backbone, made / NETWORK, partial(export_encoder, backbone, made, convert)
        )
        put_in_place(made, out)
        return cosine


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
