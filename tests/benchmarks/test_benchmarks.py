from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import PARTS, _others
from tests.samples import command_environment


@pytest.mark.slow
def test_the_benchmarks_run_and_write_their_tables(
    shared: Path, tmp_path: Path, cache: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--out", str(tmp_path)],
        env=command_environment(cache), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results) == list(PARTS)
    assert "### Searching" in (tmp_path / "benchmarks.md").read_text()


def test_a_page_keeps_what_other_commands_have_written() -> None:
    other = "## `python -m benchmarks.throughput TREE 5`\n\nA table."
    page = f"# Benchmarks\n\n## `python -m benchmarks indexing`\n\nOurs.\n\n{other}\n"
    assert _others(page + "\n## `python -m benchmarks searching`\n") == f"\n{other}\n"
    assert _others("") == ""
