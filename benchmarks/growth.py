"""What each command takes as a gallery grows, in figures that a busy machine does not change."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks.cost import Cost, cost_of, forget_pages
from benchmarks.galleries import gallery_of, photograph
from benchmarks.photographs import unpacked
from benchmarks.table import Table

SIZES, QUICK = (10_000, 100_000, 1_000_000), (2_000, 20_000)
NEW = 100
IMGRET = [sys.executable, "-W", "ignore", "-m", "imgret"]


def measure(*, quick: bool) -> list[Table]:
    """One row a command and a size."""
    table = Table(
        "Growth",
        "MobileNetV2's embeddings (1280-d float16) of CIFAR-10's images with noise, 100 a class, "
        "transformed to 512; files of zeros, but for one photograph and 100 new ones. CPU: seconds "
        "of all threads. Read and written: MB of the disk, no file of the gallery being in the "
        "page cache before. Peak: MB of resident memory, mapped files included.",
        ["command", "rows", "CPU", "MB read", "MB written", "peak MB"],
    )
    for n in QUICK if quick else SIZES:
        folder = gallery_of(n, quick=quick)
        for name, cost in costs_of(folder).items():
            table.add(f"`{name}`", f"{n:,}", *cost.cells)
    return [table]


def costs_of(folder: Path) -> dict[str, Cost]:
    """Run each command on a gallery, and undo what it changed."""
    picture, new = str(photograph(folder)), folder / "new"
    costs: dict[str, Cost] = {}

    def run(name: str, *arguments: str) -> None:
        print(f"  {name}", file=sys.stderr, flush=True)
        forget_pages(folder / ".imgret")
        costs[name] = cost_of([*IMGRET, *arguments, "--gallery", str(folder / ".imgret")])

    run("info", "info")
    run("query", "query", picture)
    run("query --where", "query", picture, "--where", "label = 'class-000012'")
    run("query --exclude-self", "query", picture, "--exclude-self")
    run("index, nothing new", "index", str(folder))
    copy_pictures(new)
    run(f"index, {NEW} new", "index", str(new))
    shutil.rmtree(new)
    run(f"remove of {NEW}", "remove", str(new))
    run("verify", "verify")
    run("evaluate", "evaluate")
    run("duplicates --tier bytes", "duplicates", "--tier", "bytes")
    run("duplicates --tier similar", "duplicates", "--tier", "similar")
    for file in (folder / ".imgret").glob("index-*"):
        file.unlink()
    run("verify --repair, no index", "verify", "--repair")
    return costs


def copy_pictures(new: Path) -> None:
    """Make a folder of NEW real pictures."""
    new.mkdir()
    for file in sorted((unpacked("cifar10") / "test").rglob("*.webp"))[1 : NEW + 1]:
        shutil.copy(file, new / f"{file.parent.name}-{file.name}")
