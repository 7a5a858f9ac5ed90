"""What a process takes: `python -m benchmarks.cost COMMAND...` runs one and prints it as JSON.

It runs below a process of its own, since Linux counts the memory of the one that starts it as its.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median

SECTOR = 512  # bytes, in which the kernel counts what is read and written


@dataclass(frozen=True)
class Cost:
    """CPU seconds, MB read from and written to the disk, and the peak of memory in MB."""

    cpu: float
    read: float
    written: float
    peak: float

    @property
    def cells(self) -> list[str]:
        """The figures as a row of a table has them."""
        return [f"{self.cpu:.2f} s", *(f"{v:,.0f}" for v in (self.read, self.written, self.peak))]


def median_of(costs: Sequence[Cost]) -> Cost:
    """Return the median of each figure."""
    return Cost(*(median(getattr(cost, each.name) for cost in costs) for each in fields(Cost)))


def cost_of(command: Sequence[str]) -> Cost:
    """Run a command, and measure it and all its processes. Raises RuntimeError if it fails."""
    measuring = [sys.executable, "-m", "benchmarks.cost", *command]
    done = subprocess.run(measuring, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def forget_pages(folder: Path) -> None:
    """Have the kernel forget what it holds of the files of a folder."""
    os.sync()
    for file in (f for f in folder.rglob("*") if f.is_file()):
        with file.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> int:
    """Run the command of the arguments; grep's 1 is no failure."""
    process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        return 1
    cost = Cost(
        usage.ru_utime + usage.ru_stime,
        usage.ru_inblock * SECTOR / 1e6,
        usage.ru_oublock * SECTOR / 1e6,
        usage.ru_maxrss / 1e3,
    )
    print(json.dumps(asdict(cost)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
