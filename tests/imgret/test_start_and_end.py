"""What a process of the command imports, and how it ends: counted, for times are too noisy."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.samples import command_environment, save_pictures

NOT_TO_SEARCH = {
    "annotated_types", "argparse", "classify", "filelock", "imgret.calibrated",
    "importlib.metadata", "matplotlib", "numpy.ma", "openvino.frontend.tensorflow",
    "openvino.tools.ovc.convert", "pyarrow.parquet", "pydantic", "pydantic_core",
    "retrieval.comparison", "retrieval.evaluation", "retrieval.metrics", "retrieval.projection",
    "retrieval.report", "retrieval.retriever.altered",
    "retrieval.retriever.confidence", "retrieval.retriever.duplicates",
    "retrieval.retriever.export", "retrieval.retriever.info", "retrieval.retriever.labelled",
    "retrieval.retriever.map", "retrieval.retriever.plan",
    "retrieval.retriever.reembed", "retrieval.retriever.removal", "retrieval.retriever.reports",
    "retrieval.retriever.request", "retrieval.retriever.update", "retrieval.retriever.usable",
    "retrieval.retriever.verification", "retrieval.retriever.writer", "retrieval.settings", "rich",
    "scipy", "sklearn", "timm", "torch",
}  # fmt: skip
ENDING = """
import atexit, sys, threading, time
from imgret.process import run_command

class Held:
    def __del__(self):
        print("freed")

def work():
    time.sleep(1)
    atexit.register(print, "called at the end")
    print("thread done")

held = Held()
sys.argv = ["imgret", *sys.argv[1:]]
threading.Thread(target=work).start()
run_command()
"""


def imported(folder: Path, cache: Path, *arguments: object) -> set[str]:
    """The modules that a command imports, and the packages they are in."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "imgret", *map(str, arguments)], cwd=folder,
        env=command_environment(cache) | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.mark.long
def test_a_query_imports_nothing_that_other_commands_need(tmp_path: Path, cache: Path) -> None:
    save_pictures(tmp_path / "pictures")
    indexed = imported(tmp_path, cache, "index", "pictures")
    assert {"filelock", "retrieval.retriever.update", "retrieval.retriever.reports"} <= indexed
    query = next((tmp_path / "pictures").rglob("*.jpg"))
    found = imported(tmp_path, cache, "query", query)
    assert "retrieval.retriever.searcher" in found
    of_pandas = {"numpy.ma"} if find_spec("pandas") else set()  # which Arrow imports if it is there
    assert found & NOT_TO_SEARCH <= of_pandas


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_imports_no_library_but_click(tmp_path: Path, cache: Path, argument: str) -> None:
    found = imported(tmp_path, cache, argument)
    assert "click" in found
    assert found & {"importlib.metadata", "lance", "numpy", "pyarrow", "pydantic"} == set()


def ended(*arguments: str, python: tuple[str, ...] = ()) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, *python, "-c", ENDING, *arguments], cwd=ROOT, capture_output=True,
        text=True,
    )  # fmt: skip
    return done.returncode, done.stdout.splitlines()[-3:]


@pytest.mark.parametrize(("argument", "code"), [("--version", 0), ("nonsense", 2)])
def test_threads_and_handlers_end_before_the_process(argument: str, code: int) -> None:
    given, lines = ended(argument)
    assert given == code
    assert lines[-2:] == ["thread done", "called at the end"]  # and nothing was freed


def test_in_development_mode_all_is_freed() -> None:
    assert ended("--version", python=("-X", "dev")) == (
        0,
        ["thread done", "called at the end", "freed"],
    )


@pytest.mark.parametrize(("there", "then"), [(None, "16"), ("20", "20")])
def test_a_command_keeps_the_threads_of_blas_from_spinning(
    there: str | None, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENBLAS_THREAD_TIMEOUT", raising=False)
    if there:
        monkeypatch.setenv("OPENBLAS_THREAD_TIMEOUT", there)
    code = (
        "import os, sys, imgret.process\n"
        "def told(): print(os.environ.get('OPENBLAS_THREAD_TIMEOUT'), LEFT_OUT in sys.modules)\n"
        "from imgret.process import LEFT_OUT\n"
        "told(); sys.argv = ['imgret', '--version']\n"
        "try: imgret.process.run_command()\n"
        "except SystemExit: told()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    before, _, after = done.stdout.splitlines()
    assert (before, after) == (f"{there} False", f"{then} True")  # an import alone does neither
