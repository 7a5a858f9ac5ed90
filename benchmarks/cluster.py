"""How fast a run of index is that worker processes do, beside one that a single process does."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.photographs import WEIGHTS, photographs
from benchmarks.table import Table, spread

COUNTS = {("mini", "small"): 6_000, ("mini", "1 MP"): 3_000, (str(WEIGHTS), "1 MP"): 2_400}
QUICK = {("mini", "small"): 64}
SIDES = {"one process": None, "2 workers": "processes"}


def measure(*, quick: bool) -> list[Table]:
    """Whole runs in turns, each a process that indexes a folder into a new gallery."""
    rounds = 1 if quick else 3
    table = Table(
        "Workers",
        "`Retriever.index` into a new gallery with and without `cluster='processes'` and two "
        f"workers, images/s of the whole call, medians of {rounds} rounds in turns (least to "
        "most). Starting the workers and the encoder, committing and building the index are "
        "included. equal: whether both galleries hold the same embeddings, to the bit.",
        ["backbone", "photographs", *SIDES, "ratio", "equal"],
    )
    for (backbone, size), count in (QUICK if quick else COUNTS).items():
        folder = photographs(size, count)
        rates: dict[str, list[float]] = {side: [] for side in SIDES}
        sums: set[str] = set()
        _run("one process", folder, backbone)  # exports the encoder, and warms the disk's cache
        for n in range(rounds):
            for side in list(SIDES) if n % 2 else list(SIDES)[::-1]:
                found = _run(side, folder, backbone)
                rates[side].append(count / float(found["seconds"]))
                sums.add(str(found["sum"]))
        alone, shared = (median(rates[side]) for side in SIDES)
        table.add(
            Path(backbone).name,
            f"{count} of {size}",
            *(spread(rates[side]) for side in SIDES),
            f"{shared / alone:.2f}",
            "yes" if len(sums) == 1 else "no",
        )
    return [table]


def _run(side: str, folder: Path, backbone: str) -> dict[str, float | str]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.cluster"]
    command += [side, str(folder), backbone]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float | str] = json.loads(done.stdout)
    return found


def _index(side: str, folder: Path, backbone: str) -> None:
    import hashlib

    from retrieval.retriever import Retriever

    cluster = SIDES[side]
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:
        retriever = Retriever(Path(place) / "g", backbone=backbone)
        start = time.perf_counter()
        retriever.index(folder, cluster=cluster, cluster_workers=2 if cluster else None)
        seconds = time.perf_counter() - start
        table = retriever.gallery.open_table()
        paths = dict(zip(table.ids().tolist(), table.paths(), strict=True))
        held = [
            (paths[row], vector.tobytes())
            for ids, vectors in table.embeddings()
            for row, vector in zip(ids.tolist(), vectors, strict=True)
        ]
    total = hashlib.sha256(b"".join(vector for _, vector in sorted(held))).hexdigest()
    print(json.dumps({"seconds": seconds, "sum": total}))


if __name__ == "__main__":
    _index(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
