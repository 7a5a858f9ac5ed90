"""Whether a first index run is as quick as that of an older tree, at several sizes of the input.

    python -m benchmarks.throughput OLDER_TREE [ROUNDS]

Real JPEGs of 1 megapixel, each run in a process of its own, the trees in turns. Prints images/s,
from the first image read to the last row stored, and the CPU time of an image, starting the
encoder included, as medians.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.photographs import ROOT, WEIGHTS, photographs

SIZES = {32: 400, 224: 400, 600: 100}  # pixels of the input: images
RUN = f"{Path(__file__).stem}.run"


def main() -> None:
    """Measure both trees in turns, and print a table."""
    older, rounds = Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 3
    print("| input | tree | images/s | CPU ms an image |\n| --- | --- | --- | --- |")
    for size, count in SIZES.items():
        folder = photographs("1 MP", count)
        found: dict[str, list[dict[str, float]]] = {"older": [], "this": []}
        for tree in (older, ROOT):
            _run(tree, folder, size)  # the first run of all exports the encoder
        for _ in range(rounds):
            for name, tree in (("older", older), ("this", ROOT)):
                found[name].append(_run(tree, folder, size))
        for name, runs in found.items():
            rate, cpu = (median(run[key] for run in runs) for key in ("rate", "cpu"))
            print(f"| {size} px | {name} | {rate:.0f} | {1000 * cpu:.1f} |", flush=True)


def _run(tree: Path, folder: Path, size: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, RUN, str(folder), str(size), str(WEIGHTS)],
        env=os.environ | {"PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=True,
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _index(folder: Path, size: int, weights: str) -> dict[str, float]:
    """Index once, as a command does."""
    from retrieval.retriever import Retriever

    before = _cpu()
    with tempfile.TemporaryDirectory() as made:
        gallery = Retriever(Path(made) / "gallery", backbone=weights, size=size)
        report = gallery.index(folder)
    return {"rate": report.images_per_second, "cpu": (_cpu() - before) / report.encoded}


def _cpu() -> float:
    """Seconds of this process and of those that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


if __name__ == "__main__":
    if sys.argv[1] == RUN:
        print(json.dumps(_index(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])))
    else:
        main()
