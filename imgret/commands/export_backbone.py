"""imgret export-backbone: a network for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from imgret.command import Command
from imgret.options import POOLS, VIEWS, NamedPath


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
    type=NamedPath(path_type=Path),
    metavar="FILE.onnx|DIR",
    help="A file .onnx, which needs the extra onnx, or a new folder for OpenVINO's files.",
)
@click.option("--size", type=click.IntRange(16, 4096), help="Side of the input in pixels.")
@click.option(
    "--pool",
    type=click.Choice(POOLS),
    default="own",
    show_default=True,
    help="How the backbone's last map becomes an embedding.",
)
@click.option(
    "--views",
    type=click.Choice(VIEWS),
    default="none",
    show_default=True,
    help="Embed the mean of several views of a picture.",
)
def command(name: str, out: Path, size: int | None, pool: str, views: str) -> int:
    """Write a backbone as ONNX, or as OpenVINO's files: pixels in, embeddings out.

    NAME is what --backbone of `imgret index` takes. The input is `pixels`, n x size x size x 3,
    uint8, RGB, a picture squashed to the square; normalisation is inside. The output has the
    backbone's width, float32; scale each row to unit length. What was written is run by OpenVINO
    and held against torch before it takes its place.
    """
    from imgret.output import print_facts
    from retrieval.backbones import load_backbone
    from retrieval.encoder import export_backbone

    backbone = load_backbone(name, size=size, pool=pool, views=views)  # type: ignore[arg-type]
    cosine = export_backbone(backbone, out)
    side = backbone.spec.preprocessing.size
    print_facts(
        [
            ("written", str(out)),
            ("input", f"pixels, n x {side} x {side} x 3, uint8, RGB"),
            ("output", f"n x {backbone.spec.dim}, float32"),
            ("cosine to torch", f"{cosine:.6f}"),
        ]
    )
    return 0
