"""What each command takes as a gallery grows, in figures that a busy machine does not change."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks.cost import Cost, cost_of, forget_pages, median_of
from benchmarks.galleries import gallery_of, photograph
from benchmarks.photographs import unpacked
from benchmarks.table import Table

SIZES, QUICK = (10_000, 100_000, 1_000_000), (2_000, 20_000)
NEW = 100
OFTEN = 5  # what takes a second, which other work on the machine changes by half
IMGRET = [sys.executable, "-W", "ignore", "-m", "imgret"]


def measure(*, quick: bool) -> list[Table]:
    """One row a command and a size."""
    table = Table(
        "Growth",
        "MobileNetV2's embeddings (1280-d float16) of CIFAR-10's images with noise, 100 a class, "
        "transformed to 512; files of zeros, but for one photograph and 100 new ones. CPU: seconds "
        "of all threads. Read and written: MB of the disk, no file of the gallery being in the "
        "page cache before. Peak: MB of resident memory, mapped files included. info and query: "
        f"medians of {OFTEN} times.",
        ["command", "rows", "CPU", "MB read", "MB written", "peak MB"],
    )
    for n in QUICK if quick else SIZES:
        folder = gallery_of(n, quick=quick)
        for name, cost in costs_of(folder).items():
            table.add(f"`{name}`", f"{n:,}", *cost.cells)
    return [table]


def costs_of(folder: Path) -> dict[str, Cost]:
    """Run each command on a gallery, and undo what it changed."""
    commands = CommandCosts(folder)
    commands.look()
    commands.run("index, nothing new", "index", str(folder))
    commands.add()
    commands.remove()
    commands.run("verify", "verify")
    commands.run("evaluate", "evaluate")
    commands.run("duplicates --tier bytes", "duplicates", "--tier", "bytes")
    commands.run("duplicates --tier similar", "duplicates", "--tier", "similar")
    for file in (folder / ".imgret").glob("index-*"):
        file.unlink()
    commands.run("verify --repair, no index", "verify", "--repair")
    return commands.costs


class CommandCosts:
    """Commands on the gallery of a folder, and what each took with none of it in memory."""

    def __init__(self, folder: Path) -> None:
        self.costs: dict[str, Cost] = {}
        self._gallery, self._new = folder / ".imgret", folder / "new"
        self._picture = str(photograph(folder))

    def run(self, name: str, *arguments: str, times: int = 1) -> None:
        """Run one command and keep its cost under a name, the median of so many times."""
        print(f"  {name}", file=sys.stderr, flush=True)
        costs = []
        for _ in range(times):
            forget_pages(self._gallery)
            costs.append(cost_of([*IMGRET, *arguments, "--gallery", str(self._gallery)]))
        self.costs[name] = median_of(costs)

    def look(self) -> None:
        """Run what changes nothing and is asked most."""
        self.run("info", "info", times=OFTEN)
        self.query("query")
        self.query("query --where", "--where", "label = 'class-000012'")
        self.query("query --exclude-self", "--exclude-self")

    def query(self, name: str, *options: str) -> None:
        """Search by the photograph."""
        self.run(name, "query", self._picture, *options, times=OFTEN)

    def add(self) -> None:
        """Index NEW real pictures."""
        self._new.mkdir()
        for file in sorted((unpacked("cifar10") / "test").rglob("*.webp"))[1 : NEW + 1]:
            shutil.copy(file, self._new / f"{file.parent.name}-{file.name}")
        self.run(f"index, {NEW} new", "index", str(self._new))

    def remove(self) -> None:
        """Delete and remove what add() added."""
        shutil.rmtree(self._new)
        self.run(f"remove of {NEW}", "remove", str(self._new))
