"""What it costs that all which is committed is on the disk: index runs with and without."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.photographs import photographs
from benchmarks.table import Table, spread

COUNTS = {"small": 4000, "1 MP": 400}
QUICK = {"small": 32}
SIDES = ("not synced", "synced")


def measure(*, quick: bool) -> list[Table]:
    """Whole runs in turns, each a process that indexes a folder into a new gallery."""
    rounds = 1 if quick else 7
    table = Table(
        "Durability",
        f"`Retriever.index` with mini into a new gallery, seconds from the call to its return, "
        f"medians of {rounds} rounds in turns (least to most). not synced: the same code with its "
        "fsyncs left out. CPU: seconds of the whole process.",
        ["photographs", *SIDES, "ratio", *(f"CPU, {side}" for side in SIDES), "ratio of CPU"],
    )
    for size, count in (QUICK if quick else COUNTS).items():
        folder = photographs(size, count)
        wall: dict[str, list[float]] = {side: [] for side in SIDES}
        cpu: dict[str, list[float]] = {side: [] for side in SIDES}
        for n in range(rounds):
            for side in SIDES if n % 2 else SIDES[::-1]:
                seconds = _run(side, folder)
                wall[side].append(seconds["wall"])
                cpu[side].append(seconds["cpu"])
        table.add(
            f"{count} of {size}",
            *(spread(wall[side], 2) for side in SIDES),
            f"{median(wall['synced']) / median(wall['not synced']):.3f}",
            *(spread(cpu[side], 2) for side in SIDES),
            f"{median(cpu['synced']) / median(cpu['not synced']):.3f}",
        )
    return [table]


def _run(side: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.durability", side, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds: dict[str, float] = json.loads(done.stdout)
    return seconds


def _index(side: str, folder: Path) -> None:
    import os

    from retrieval.retriever import Retriever

    if side == "not synced":
        os.fsync = lambda _: None  # type: ignore[assignment]
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:
        start = time.perf_counter()
        Retriever(Path(place) / "g").index(folder)
        wall = time.perf_counter() - start
    print(json.dumps({"wall": wall, "cpu": time.process_time()}))


if __name__ == "__main__":
    _index(sys.argv[1], Path(sys.argv[2]))
