"""What the commands take at ten million rows; their files do not exist."""

from __future__ import annotations

import json

from benchmarks.cost import Cost
from benchmarks.galleries import COSTS, gallery_without_files
from benchmarks.growth import CommandCosts
from benchmarks.table import Table
from retrieval.files import disk_use

ROWS, QUICK = 10_000_000, 20_000


def measure(*, quick: bool) -> list[Table]:
    """One row a command."""
    n = QUICK if quick else ROWS
    folder = gallery_without_files(n)
    gallery = folder / ".imgret"
    table = Table(
        "Ten million rows",
        f"{n:,} rows of 512-d float16, which are MobileNetV2's embeddings of CIFAR-10's images on "
        "their principal components with noise, 100 a class, transformed to 512. They name files "
        "that do not exist. The gallery takes "
        f"{disk_use(gallery / 'images.lance') / 1e9:.1f} GB, its index "
        f"{sum(map(disk_use, gallery.glob('index-*'))) / 1e9:.1f} GB. CPU: seconds of all threads. "
        "Read and written: MB of the disk, no file of the gallery being in the page cache before. "
        "Peak: MB of resident memory, mapped files included. What breaks first beyond this is the "
        "memory in which the index is built.",
        ["command", "CPU", "MB read", "MB written", "peak MB"],
    )
    table.add("the index, built", *Cost(**json.loads((folder / COSTS).read_text())).cells)
    commands = CommandCosts(folder)
    commands.look()
    commands.add()
    commands.query("query after it")
    commands.remove()
    for name, cost in commands.costs.items():
        table.add(f"`{name}`", *cost.cells)
    return [table]
