"""`python -m benchmarks [NAME...] [--quick] [--out FOLDER]`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from benchmarks import indexing, searching, starting
from benchmarks.photographs import ROOT, SHARED
from benchmarks.table import machine

PARTS = {"indexing": indexing, "searching": searching, "starting": starting}


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
    tables = []
    for name in arguments.names or PARTS:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        tables += PARTS[name].measure(quick=arguments.quick)
    page = Path(arguments.out or ROOT / "docs") / "benchmarks.md"
    data = Path(arguments.out or ROOT / "benchmarks") / "results.json"
    text = f"# Benchmarks\n\nMade by `make bench` (`python -m benchmarks`). {machine()}.\n\n"
    text += "\n".join(table.markdown() for table in tables)
    if arguments.names and not arguments.out:  # a part alone does not replace the whole page
        print(text)
        return 0
    page.write_text(text)
    data.write_text(json.dumps([dataclasses.asdict(t) for t in tables], indent=1) + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
