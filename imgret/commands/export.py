"""imgret export: a gallery for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from imgret.command import Command
from imgret.galleries import existing_gallery
from imgret.options import gallery_option
from imgret.path_types import FileToWrite
from imgret.streams import tell
from retrieval.text import counted


@click.command(
    "export",
    cls=Command,
    epilog="""\b
Examples:
  imgret export --out cars.parquet
  imgret export --out cars.npz --gallery cars.imgret
""",
)
@click.option(
    "--out",
    required=True,
    type=FileToWrite(".parquet", ".npz"),
    metavar="FILE",
    help="File to write: .parquet or .npz.",
)
@gallery_option
def export_command(out: Path, gallery: Path | None) -> int:
    """Write ids, paths, labels, embeddings and transformed embeddings to .parquet or .npz."""
    from retrieval.retriever import Retriever

    rows = Retriever(existing_gallery(gallery)).export(out)
    tell(f"exported  {counted(rows, 'image')} to {out}")
    return 0
