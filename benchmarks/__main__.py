"""`python -m benchmarks [NAME...] [--quick] [--out FOLDER]`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks import (
    augmentation,
    cluster,
    duplicates,
    durability,
    exporting,
    filters,
    growth,
    indexing,
    kinds,
    largest,
    matching,
    mini,
    objects,
    page,
    published,
    quality,
    scale,
    searching,
    serving,
    starting,
    steady,
    training,
)
from benchmarks.photographs import ROOT, SHARED
from benchmarks.table import Table, machine

PARTS = {
    "indexing": indexing,
    "objects": objects,
    "durability": durability,
    "cluster": cluster,
    "searching": searching,
    "serving": serving,
    "steady": steady,
    "page": page,
    "growth": growth,
    "largest": largest,
    "filters": filters,
    "published": published,
    "kinds": kinds,
    "starting": starting,
    "scale": scale,
    "exporting": exporting,
    "quality": quality,
    "matching": matching,
    "duplicates": duplicates,
    "training": training,
    "augmentation": augmentation,
    "mini": mini,
}


def main() -> int:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", choices=[*PARTS, []], help="all by default")
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    parser.add_argument("--out", type=Path, help="a folder for both files")
    arguments = parser.parse_args()
    if not (SHARED / "data").is_dir():
        print(
            f"The benchmarks need real images and weights, and {SHARED} has none.", file=sys.stderr
        )
        return 2
    written = Path(arguments.out or ROOT / "docs") / "benchmarks.md"
    data = Path(arguments.out or ROOT / "benchmarks") / "results.json"
    data.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(data.read_text()) if data.is_file() else {}
    for name in arguments.names or PARTS:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        tables = PARTS[name].measure(quick=arguments.quick)
        results[name] = {"when": machine(), "tables": [dataclasses.asdict(t) for t in tables]}
        data.write_text(json.dumps(results, indent=1) + "\n")
    page = _page(results) + _others(written.read_text() if written.is_file() else "")
    written.write_text(page)
    print(page)
    return 0


def _others(page: str) -> str:
    """The sections of a page that are of other commands, such as `benchmarks.throughput`."""
    ours = tuple(f"## `python -m benchmarks {name}`" for name in PARTS)
    sections = re.split(r"^(?=## )", page, flags=re.MULTILINE)[1:]
    others = [section.strip() for section in sections if not section.startswith(ours)]
    return "".join(f"\n{section}\n" for section in others)


def _page(results: dict[str, Any]) -> str:
    text = "# Benchmarks\n\nMade by `make bench`; one part of it by the command at its head.\n"
    for name in (name for name in PARTS if name in results):
        text += f"\n## `python -m benchmarks {name}`\n\n{results[name]['when']}.\n"
        for table in results[name]["tables"]:
            text += "\n" + Table(**table).markdown()
    return text


if __name__ == "__main__":
    sys.exit(main())
