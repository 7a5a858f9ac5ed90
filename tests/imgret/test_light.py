"""imgret-light as users get it: installed alone, measured, and all its commands run.

`make light` runs this. It needs the network for what imgret-light depends on, and takes minutes.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.samples import save_weights

pytestmark = pytest.mark.slow

LIGHT = ROOT / "packaging" / "light"
SMALL = ("--constraint", str(LIGHT / "small.txt"))
MOST_MB = {(): 1_050, SMALL: 900}  # without bytecode; see docs/light.md for what costs most
MOST_TRIMMED_MB = {(): 850, SMALL: 700}
INSTALLERS = {"pip", "setuptools"}
ABSENT = {"torch", "torchvision", "timm", "captum", "huggingface_hub", "faiss-gpu"}
log = logging.getLogger(__name__)


@pytest.fixture(scope="module", params=[(), SMALL], ids=["newest", "small"])
def constraint(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """What tells pip the versions: nothing, or the file of small ones."""
    given: tuple[str, ...] = request.param
    return given


@pytest.fixture(scope="module")
def light(constraint: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An environment with the wheel and what it depends on; deleted at the end: it is 1 GB."""
    folder = tmp_path_factory.mktemp("light")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*build, str(LIGHT)], check=True, capture_output=True)
    (wheel,) = folder.glob("imgret_light-*.whl")
    venv.create(folder / "venv")
    python = folder / "venv" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", wheel]
    subprocess.run([*install, *constraint], check=True)
    yield folder / "venv"
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def place(light: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands run: with rendered parts, and the cache of exported encoders."""
    folder = tmp_path_factory.mktemp("place")
    done(light, folder, "sample", "parts", "--train", 12, "--test", 3, "--size", 96)
    return folder


def run(
    environment: Path, place: Path, *arguments: object, python: tuple[str, ...] = ("-m", "imgret")
) -> subprocess.CompletedProcess[str]:
    """Run imgret of an environment, without a setting of the tests' own."""
    kept = {k: os.environ[k] for k in ("PATH", "LANG", "OMP_NUM_THREADS") if k in os.environ}
    own = {"HOME": str(place), "IMGRET_CACHE": str(place / "cache"), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [environment / "bin" / "python", *python, *map(str, arguments)], cwd=place, text=True,
        env=kept | own, capture_output=True,
    )  # fmt: skip


def done(environment: Path, place: Path, *arguments: object) -> str:
    """What a command that has to end well writes."""
    finished = run(environment, place, *arguments)
    assert finished.returncode == 0, finished.stderr[-2000:]
    return finished.stdout


def site_of(environment: Path) -> Path:
    (site,) = environment.glob("lib/python3*/site-packages")
    return site


def megabytes(environment: Path) -> dict[str, float]:
    """What each distribution takes on the disk, largest first, without bytecode."""
    taken: dict[str, float] = defaultdict(float)
    for found in metadata.distributions(path=[str(site_of(environment))]):
        for file in found.files or ():
            path = Path(str(found.locate_file(file)))
            if path.suffix != ".pyc" and path.is_file():
                taken[found.name] += path.stat().st_size / 1e6
    sizes = {name: size for name, size in taken.items() if name not in INSTALLERS}
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def test_light_installs_without_torch_and_within_its_size(
    light: Path, constraint: tuple[str, ...]
) -> None:
    sizes = megabytes(light)
    table = "  ".join(f"{name} {size:.0f}" for name, size in sizes.items() if size >= 1)
    log.info("%.0f MB installed: %s", sum(sizes.values()), table)
    assert not ABSENT & sizes.keys()
    assert sum(sizes.values()) < MOST_MB[constraint]
    check = [sys.executable, "-m", "pip", "--python", light / "bin" / "python", "check"]
    assert subprocess.run(check).returncode == 0


def test_light_uses_a_backbone_that_a_machine_with_torch_exported(light: Path, place: Path) -> None:
    whole = Path(sys.executable).parent.parent
    weights = save_weights(place / "weights", seed=0)
    environment = {"PYTHONPATH": str(ROOT), "IMGRET_CACHE": str(place / "cache")}
    subprocess.run(
        [whole / "bin" / "python", "-m", "imgret", "index", "parts/train/bolt", "--gallery",
         "exported", "--backbone", weights], cwd=place, check=True, capture_output=True,
        env=os.environ | environment,
    )  # fmt: skip
    asked = ("query", "parts/train/bolt/bolt_000.jpg", "--k", 1, "--gallery", "exported")
    assert done(light, place, *asked).endswith("parts/train/bolt/bolt_000.jpg\n")
    more = done(light, place, "index", "parts/train", "--gallery", "exported", "--format", "json")
    assert json.loads(more)["added"] == 4 * 12  # beside the bolts
    assert json.loads(more)["engine"].startswith("openvino")


def test_light_says_in_a_sentence_what_needs_torch(light: Path, place: Path) -> None:
    for arguments in (
        ("train", "parts", "--out", "run"),
        ("predict", "run", "parts/train/bolt/bolt_000.jpg"),
        ("index", "parts", "--backbone", "resnet50", "--gallery", "none"),
        ("index", "parts", "--engine", "torch-cuda-bf16", "--gallery", "none"),
    ):  # fmt: skip
        finished = run(light, place, *arguments)
        assert finished.returncode == 2
        said = finished.stderr.splitlines()[-1]
        assert said.endswith("not installed. Run `pip install 'imgret-light[torch]'`."), said


def test_light_notices_a_real_distribution_that_overwrites_its_files(
    light: Path, place: Path, tmp_path: Path
) -> None:
    wheel = tmp_path / "classify-2.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("classify/__init__.py", "def classify(): ...\n")
        about = "classify-2.1.dist-info"
        archive.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: classify\nVersion: 2.1\n"
        )
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", "classify/__init__.py,,\n")
    ours = (site_of(light) / "classify" / "__init__.py").read_bytes()
    pip = [sys.executable, "-m", "pip", "--python", light / "bin" / "python"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    finished = run(light, place, "info")
    assert finished.returncode == 2
    assert "classify 2.1, another distribution, has put files" in finished.stderr
    subprocess.run([*pip, "uninstall", "--quiet", "--yes", "classify"], check=True)
    (site_of(light) / "classify" / "__init__.py").write_bytes(ours)
    assert run(light, place, "--version").returncode == 0


def test_light_goes_through_the_tour_after_it_is_trimmed(
    light: Path, place: Path, constraint: tuple[str, ...]
) -> None:
    trim = [sys.executable, LIGHT / "trim.py", site_of(light)]
    log.info(subprocess.run(trim, check=True, capture_output=True, text=True).stdout)
    sizes = megabytes(light)
    log.info("%.0f MB after trimming", sum(sizes.values()))
    assert sum(sizes.values()) < MOST_TRIMMED_MB[constraint]
    done(light, place, "index", "parts/train")
    found = done(light, place, "query", "parts/test/bolt/bolt_000.jpg", "--k", 3)
    assert [line.split("\t")[0] for line in found.splitlines()] == ["rank", "1", "2", "3"]
    asked = ("--queries", "parts/test", "--report")
    assert "precision@1" in done(light, place, "evaluate", *asked, "e.html")
    done(light, place, "index", "parts/train", "--transform", "lda")
    grid = ("--transform", "none", "--transform", "auto")
    assert "auto" in done(light, place, "compare", "parts/train", *grid, *asked, "c.html")
    done(light, place, "tune", "parts/train", "--minutes", 0.05, "--out", "tuned.toml")
    done(light, place, "index", "parts/train", "--recipe", "tuned.toml", "--reembed")
    shutil.copy(place / "parts/train/bolt/bolt_000.jpg", place / "parts/train/bolt/twin.jpg")
    done(light, place, "index", "parts/train")
    assert "twin.jpg" in done(light, place, "duplicates", "--report", "d.html")
    done(light, place, "map", "--report", "m.html")
    for name in ("x.parquet", "x.npz"):
        assert "61 images" in done(light, place, "export", "--out", name)
    assert "all is well" in done(light, place, "verify")
    assert "mini" in done(light, place, "info")
    for page in ("e.html", "c.html", "d.html", "m.html"):
        assert (place / page).stat().st_size > 1_000
