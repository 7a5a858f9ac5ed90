"""Wall time of the command, process start included."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.photographs import WEIGHTS, photographs
from benchmarks.table import Table, spread


def measure(*, quick: bool) -> list[Table]:
    """Interleaved runs of each command."""
    table = Table(
        "Starting",
        "Seconds from start to end of a process, medians (least to most). query: one image "
        "through a cached OpenVINO export, in a gallery of the images above it.",
        ["command", "seconds"],
    )
    images = photographs("1 MP", 16 if quick else 400)
    with tempfile.TemporaryDirectory() as folder:
        gallery = Path(folder) / "g"
        imgret = [sys.executable, "-m", "imgret"]
        _time(
            [*imgret, "index", str(images), "--backbone", str(WEIGHTS), "--gallery", str(gallery)]
        )
        query = str(next(iter(sorted(images.iterdir()))))
        commands = {
            "imgret --help": [*imgret, "--help"],
            "imgret query photo.jpg": [*imgret, "query", query, "--gallery", str(gallery)],
            "imgret index, nothing new": [*imgret, "index", str(images), "--gallery", str(gallery)],
            "for scale: import torch, timm": [sys.executable, "-c", "import torch, timm"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(2 if quick else 15):
            for name, command in commands.items():
                times[name].append(_time(command))
    for name, seconds in times.items():
        table.add(f"`{name}`", spread(seconds, digits=2))
    return [table]


def _time(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"COLUMNS": "200"})
    return time.perf_counter() - start
