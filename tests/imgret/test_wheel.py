"""The wheel as users get it: built, installed alone in a new environment, run without a network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.samples import picture

pytestmark = pytest.mark.slow

PACKAGED = ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "imgret", "classify", "retrieval")
MOST_BYTES = 5_000_000
NO_PROXY_IS_HERE = "http://127.0.0.1:9"  # where nothing listens


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the checkout, so that nothing is left in it."""
    pytest.importorskip("hatchling")
    copy = tmp_path_factory.mktemp("checkout")
    for name in PACKAGED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist"],
        cwd=copy, check=True, capture_output=True,
    )  # fmt: skip
    (built,) = (copy / "dist").iterdir()
    return Path(built)


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment with the wheel, and what it depends on from the environment of the tests.

    The path to those is added last: what the tests' own environment has of imgret is a .pth file,
    which counts only where it was installed.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    python = folder / "bin" / "python"
    install = ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", python, *install], check=True)
    (own,) = (folder / "lib").glob("python*/site-packages")
    paths = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    (own / "dependencies.pth").write_text("\n".join(paths))
    return python


def without_network(folder: Path, *command: object) -> subprocess.CompletedProcess[str]:
    """Run in a folder without a network, with no setting of the tests' own environment."""
    kept = {k: os.environ[k] for k in ("PATH", "LANG", "OMP_NUM_THREADS") if k in os.environ}
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), NO_PROXY_IS_HERE)
    cut = ["unshare", "--map-root-user", "--net"] if _can_unshare() else []
    return subprocess.run(
        [*cut, *map(str, command)], cwd=folder, env=kept | proxies | {"HOME": str(folder / "home")},
        capture_output=True, text=True,
    )  # fmt: skip


def _can_unshare() -> bool:
    command = ["unshare", "--map-root-user", "--net", "true"]
    return bool(shutil.which("unshare")) and subprocess.run(command).returncode == 0


def imported(done: subprocess.CompletedProcess[str]) -> set[str]:
    """The packages that a run of `python -X importtime` imported."""
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_the_wheel_holds_imgrets_own_encoder(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    own = {name: size for name, size in sizes.items() if name.startswith("retrieval/mini/")}
    assert {"retrieval/mini/config.json", "retrieval/mini/model.safetensors"} <= own.keys()
    assert sum(own.values()) < MOST_BYTES


def test_the_wheel_has_types_a_licence_and_words_on_the_weights(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (notice,) = (n for n in names if n.endswith(".dist-info/licenses/NOTICE"))
        assert b"retrieval/mini/model.safetensors" in archive.read(notice)
    assert {f"{package}/py.typed" for package in ("imgret", "classify", "retrieval")} <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_installed_it_indexes_and_answers_without_network_torch_or_timm(
    python: Path, tmp_path: Path
) -> None:
    (tmp_path / "pics").mkdir()
    for n in range(12):
        picture(n).save(tmp_path / "pics" / f"{n:02}.png")
    imgret = [python, "-X", "importtime", "-m", "imgret"]
    index = without_network(tmp_path, *imgret, "index", "pics/", "--format", "json")
    assert index.returncode == 0, index.stderr[-2000:]
    report = json.loads(index.stdout)
    assert (report["added"], report["failed"], report["backbone"]) == (12, 0, "mini")
    query = without_network(tmp_path, *imgret, "query", "pics/03.png", "--k", 3)
    assert query.returncode == 0, query.stderr[-2000:]
    assert [line.split("\t")[0] for line in query.stdout.splitlines()] == ["rank", "1", "2", "3"]
    assert query.stdout.splitlines()[1].endswith("pics/03.png")
    for done in (index, query):
        assert {"imgret", "retrieval", "openvino"} <= imported(done)
        assert not {"torch", "timm", "sklearn"} & imported(done)


def test_installed_it_is_the_wheel_that_runs(python: Path, tmp_path: Path) -> None:
    where = "import imgret, retrieval, classify; print(retrieval.__path__[0])"
    done = without_network(tmp_path, python, "-c", where)
    assert Path(done.stdout.strip()).is_relative_to(python.parent.parent), done.stderr
    done = without_network(tmp_path, python.parent / "imgret", "--version")
    assert done.stdout.startswith("imgret, version")
