"""The service under load for twenty minutes: whether its memory stays what it is."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from benchmarks.photographs import CACHE, cifar_part
from benchmarks.serving import (
    QUICK_SECONDS,
    made_script,
    running_service,
    sent_by_wrk,
    sent_pictures,
)
from benchmarks.table import Table
from retrieval.retriever import Retriever

CLIENTS, PAUSE_MS = 64, 4000  # each waits so long between its requests
MINUTES, QUICK_MINUTES, ROWS = 20, 0.1, 10
DELAY = "\nfunction delay() return %d end\n"


def measure(*, quick: bool) -> list[Table]:
    """One row each two minutes."""
    minutes = QUICK_MINUTES if quick else MINUTES
    table = Table(
        "Serving for a while",
        f"`imgret serve` with {CLIENTS} clients that send a picture of 0.1 MB each and wait "
        f"{PAUSE_MS / 1000:g} s between requests (`wrk`), for {minutes:g} minutes. `memory` is "
        "resident at the end of the row, `threads` how many there are, `files` how many are open.",
        ["minutes", "requests", "refused", "broken", "memory", "threads", "files"],
    )
    if shutil.which("wrk") is None:
        table.prose += " Not measured: `wrk` is not installed (`apt-get install wrk`)."
        return [table]
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        folder = Path(name)
        gallery = folder / "searched.imgret"
        Retriever(gallery).index(cifar_part(quick=quick) / "train")
        script = made_script(sent_pictures("0.1 MB"), folder / "sent")
        script.write_text(script.read_text() + DELAY % PAUSE_MS)
        with running_service("imgret serve", gallery) as (process, address):
            began, total = time.monotonic(), [0, 0, 0]
            rows = 2 if quick else ROWS
            for _ in range(rows):
                seconds = max(QUICK_SECONDS, round(60 * minutes / rows))
                found = sent_by_wrk(script, address, CLIENTS, seconds)
                for place, key in enumerate(("requests", "status", "broken")):
                    total[place] += found[key]
                passed = (time.monotonic() - began) / 60
                table.add(f"{passed:.1f}", *(f"{n:,}" for n in total), *_held(process.pid))
    return [table]


def _held(process: int) -> tuple[str, str, str]:
    """Memory, threads and open files of a process."""
    status = Path(f"/proc/{process}/status").read_text()
    told = {key: value.split()[0] for key, _, value in
            (line.partition(":") for line in status.splitlines()) if value.split()}  # fmt: skip
    files = len(list(Path(f"/proc/{process}/fd").iterdir()))
    return f"{1024 * int(told['VmRSS']) / 1e6:.0f} MB", told["Threads"], str(files)
