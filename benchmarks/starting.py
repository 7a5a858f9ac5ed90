"""Processor and wall time of the command, process start included."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.photographs import WEIGHTS, photographs
from benchmarks.table import Table, spread

SCALE = "for scale: import torch, timm"


def measure(*, quick: bool) -> list[Table]:
    """Interleaved runs of each command."""
    table = Table(
        "Starting",
        "From start to end of a process, medians (least to most). CPU: seconds of user and system, "
        "of all threads. ratio: of the CPU medians, to that of `import torch, timm` in this run. "
        "Modules are compiled before, as in an installation. query: one image through a cached "
        "OpenVINO export, in a gallery of the images above it.",
        ["command", "CPU s", "ratio", "wall s"],
    )
    images = photographs("1 MP", 16 if quick else 400)
    with tempfile.TemporaryDirectory() as folder:
        gallery = Path(folder) / "g"
        environment = _environment(Path(folder) / "compiled")
        imgret = [sys.executable, "-m", "imgret"]
        _time(
            [*imgret, "index", str(images), "--backbone", str(WEIGHTS), "--gallery", str(gallery)],
            environment,
        )
        query = str(next(iter(sorted(images.iterdir()))))
        commands = {
            "imgret --help": [*imgret, "--help"],
            "imgret query photo.jpg": [*imgret, "query", query, "--gallery", str(gallery)],
            "imgret index, nothing new": [*imgret, "index", str(images), "--gallery", str(gallery)],
            SCALE: [sys.executable, "-c", "import torch, timm"],
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for command in commands.values():
            _time(command, environment)  # compiles what it imports
        for _ in range(2 if quick else 15):
            for name, command in commands.items():
                times[name].append(_time(command, environment))
    scale = median(cpu for cpu, _ in times[SCALE])
    for name, measured in times.items():
        cpu, wall = zip(*measured, strict=True)
        ratio = f"{median(cpu) / scale:.3f}"
        table.add(f"`{name}`", spread(cpu, digits=2), ratio, spread(wall, digits=2))
    return [table]


def _environment(compiled: Path) -> dict[str, str]:
    """This process's, with a folder for compiled modules, which a test may have switched off."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"COLUMNS": "200", "PYTHONPYCACHEPREFIX": str(compiled)}


def _time(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds of processor and of wall that a command takes."""
    before, start = os.times(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    wall, after = time.perf_counter() - start, os.times()
    used = after.children_user - before.children_user
    return used + after.children_system - before.children_system, wall
