"""imgret export: a gallery for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from imgret.command import Command
from imgret.options import FileToWrite, existing_gallery, gallery_option
from imgret.streams import tell
from retrieval.text import counted


@click.command(
    "export",
    cls=Command,
    epilog="""\b
Examples:
  imgret export cars.parquet
  imgret export cars.npz --gallery cars.imgret
""",
)
@click.argument("file", type=FileToWrite(".parquet", ".npz"))
@gallery_option
def command(file: Path, gallery: Path | None) -> int:
    """Write ids, paths, labels, embeddings and transformed embeddings to .parquet or .npz."""
    from retrieval.retriever import Retriever

    rows = Retriever(existing_gallery(gallery)).export(file)
    tell(f"exported  {counted(rows, 'image')} to {file}")
    return 0
