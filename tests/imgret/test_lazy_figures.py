"""Reports draw with matplotlib; it is imported only where one is made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.imgret.test_start_and_end import imported
from tests.samples import save_pictures


@pytest.mark.long
def test_evaluate_imports_matplotlib_for_a_report_alone(tmp_path: Path, cache: Path) -> None:
    save_pictures(tmp_path / "pictures")
    assert "matplotlib" not in imported(tmp_path, cache, "index", "pictures")
    assert "matplotlib" not in imported(tmp_path, cache, "evaluate")
    assert "matplotlib" in imported(tmp_path, cache, "evaluate", "--report", "e.html")


@pytest.mark.long
def test_the_pages_of_classifiers_are_there_without_matplotlib() -> None:
    code = "import classify.report, sys; print('matplotlib' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
