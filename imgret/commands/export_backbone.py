"""imgret export-backbone: a network for other programs."""

from __future__ import annotations

from typing import Any

import click

from imgret.command import Command
from imgret.options import settings_options
from imgret.path_types import NamedPath


@click.command(
    "export-backbone",
    cls=Command,
    epilog="""\b
Examples:
  imgret export-backbone mini --out mini.onnx
  imgret export-backbone mobilenetv2 --out mobilenetv2/
  imgret export-backbone runs/cars --size 192 --out cars.onnx
""",
)
@click.argument("name")
@click.option(
    "--out",
    required=True,
    type=NamedPath(),
    metavar="FILE.onnx|FOLDER",
    help="New file .onnx, which needs the extra onnx, or new folder for OpenVINO's files.",
)
@settings_options("size", "pool", "views")
def export_backbone_command(name: str, out: str, **asked: Any) -> int:
    """Write a backbone as ONNX or as OpenVINO's files: pixels in, embeddings out.

    NAME is what --backbone of `imgret index` takes. The input `pixels` is n x size x size x 3,
    uint8, RGB: pictures squashed to the square. The files hold the normalisation. The output has
    the backbone's width and is float32; scale each row to unit length. OpenVINO runs the result,
    and imgret compares it with torch before it takes its place.
    """
    from imgret.output import print_facts
    from retrieval.backbones import load_backbone
    from retrieval.encoder import check_export, export_backbone

    place = check_export(out)
    options: Any = {option: value for option, value in asked.items() if value is not None}
    backbone = load_backbone(name, **options)
    cosine = export_backbone(backbone, out)
    side = backbone.spec.preprocessing.size
    print_facts(
        [
            ("written", str(place)),
            ("input", f"pixels, n x {side} x {side} x 3, uint8, RGB"),
            ("output", f"n x {backbone.spec.dim}, float32"),
            ("cosine to torch", f"{cosine:.6f}"),
        ]
    )
    return 0
