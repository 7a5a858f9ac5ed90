"""Tables of results, as Markdown and as JSON."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

LIBRARIES = (
    "torch",
    "timm",
    "openvino",
    "faiss-gpu",
    "faiss-cpu",
    "pillow",
    "pylance",
    "kornia",
    "torchvision",
)


@dataclass
class Table:
    """A title, how it was measured, and rows of text."""

    title: str
    prose: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """Append a row."""
        self.rows.append(list(cells))

    def markdown(self) -> str:
        """The table with its title and prose."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"### {self.title}\n\n{self.prose}\n\n{body}\n"


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median, least and most."""
    m, low, high = (f"{v:.{digits}f}" for v in (median(values), min(values), max(values)))
    return f"{m} ({low} to {high})"


def machine() -> str:
    """Date, processor, memory and libraries."""
    cpu, cores, memory = platform.processor(), 0, ""
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
        flags = next(line for line in lines if line.startswith("flags"))
        cpu, cores = names[0] + (", AVX512-BF16" if "avx512_bf16" in flags else ""), len(names)
        kb = int(Path("/proc/meminfo").read_text().split()[1])
        memory = f", {kb / 2**20:.0f} GiB"
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except ImportError:
            continue
    date = datetime.now(UTC).date().isoformat()
    return f"{date}, {cpu}, {cores} cores{memory}, shared; Python {platform.python_version()}, " + (
        ", ".join(found)
    )
