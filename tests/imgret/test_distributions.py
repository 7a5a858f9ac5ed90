"""Two distributions of one tree: what each depends on, and what is said where torch is not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from retrieval.libraries import NEEDED_TO_TRAIN
from tests.conftest import ROOT
from tests.samples import command_environment, save_pictures

EITHER = "faiss"  # each has its own build of it


def project(*place: str) -> dict[str, Any]:
    table = tomllib.loads(ROOT.joinpath(*place, "pyproject.toml").read_text())["project"]
    return dict(table)


def without_faiss(requirements: list[str]) -> set[str]:
    return {line for line in requirements if not line.startswith(EITHER)}


@pytest.fixture
def no_torch(tmp_path: Path) -> Path:
    """A folder whose sitecustomize hides torch and what stands on it, as if not installed."""
    code = f"""
import sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, *more):
        is_hidden = name.partition(".")[0] in {NEEDED_TO_TRAIN}
        return None if is_hidden else super().find_spec(name, *more)

sys.meta_path[:] = [Hiding if finder is PathFinder else finder for finder in sys.meta_path]
"""
    (tmp_path / "hiding").mkdir()
    (tmp_path / "hiding" / "sitecustomize.py").write_text(code)
    return tmp_path / "hiding"


def run(
    no_torch: Path, cache: Path, *arguments: object, python: tuple[str, ...] = ("-m", "imgret")
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(no_torch), str(ROOT)])
    return subprocess.run(
        [sys.executable, *python, *map(str, arguments)], cwd=no_torch.parent, text=True,
        env=command_environment(cache) | {"PYTHONPATH": path}, capture_output=True,
    )  # fmt: skip


def test_light_with_torch_depends_on_what_the_whole_does_at_the_same_versions() -> None:
    whole, light = project(), project("packaging", "light")
    more = light["optional-dependencies"].pop("torch")
    assert without_faiss([*light["dependencies"], *more]) == without_faiss(whole["dependencies"])
    assert not without_faiss(light["dependencies"]) & set(more)
    extras = whole["optional-dependencies"]
    assert light["optional-dependencies"].items() <= extras.items()


def test_both_have_the_same_command_version_and_terms() -> None:
    whole, light = project(), project("packaging", "light")
    for key in ("scripts", "entry-points", "license", "license-files", "requires-python",
                "dynamic", "authors"):  # fmt: skip
        assert whole[key] == light[key], key
    for name in light["license-files"]:
        assert (ROOT / "packaging" / "light" / name).read_bytes() == (ROOT / name).read_bytes()


@pytest.mark.parametrize("place", [(), ("packaging", "light")], ids=["whole", "light"])
def test_every_python_that_is_asked_for_is_a_classifier(place: tuple[str, ...]) -> None:
    asked = project(*place)
    named = re.findall(r":: 3\.(\d+)", " ".join(asked["classifiers"]))
    least, most = re.findall(r"3\.(\d+)", asked["requires-python"])
    assert list(map(int, named)) == list(range(int(least), int(most)))


def test_no_torch_extra_names_a_library_that_is_not_told_as_missing() -> None:
    more = project("packaging", "light")["optional-dependencies"]["torch"]
    names = {re.split(r"[><=~!;\[ ]", line)[0].replace("-", "_") for line in more}
    assert names <= set(NEEDED_TO_TRAIN)


@pytest.mark.long
@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "pictures", "--out", "run"),
        ("test", "run", "--data", "pictures"),
        ("predict", "run", "pictures/class0/00.jpg"),
        ("explain", "run", "pictures/class0/00.jpg", "--out", "cam.png"),
        ("serve", "--model", "run"),
        ("index", "pictures", "--backbone", "resnet50"),
        ("index", "pictures", "--backbone", "random:resnet18"),
        ("index", "pictures", "--engine", "torch-fp32"),
        ("index", "pictures", "--pool", "avg+gem"),
        ("compare", "pictures", "--backbone", "resnet18"),
        ("export-backbone", "mini", "--out", "mini.onnx"),
        ("tune", "pictures", "--backbone", "resnet18", "--minutes", "0.1"),
    ],
    ids=lambda arguments: " ".join(arguments[:1] + arguments[2:4]),
)
def test_without_torch_a_command_that_needs_it_says_so_in_a_sentence(
    no_torch: Path, cache: Path, arguments: tuple[str, ...]
) -> None:
    save_pictures(no_torch.parent / "pictures")
    (no_torch.parent / "run").mkdir()
    done = run(no_torch, cache, *arguments)
    assert done.returncode == 2
    said = done.stderr.splitlines()[-1]
    assert re.fullmatch(
        r"imgret: .* needs torch, which is not installed\. Run `pip install .+`\.", said
    )
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_without_torch_mini_indexes_and_queries(no_torch: Path, cache: Path) -> None:
    save_pictures(no_torch.parent / "pictures")
    assert run(no_torch, cache, "index", "pictures").returncode == 0
    done = run(no_torch, cache, "query", "pictures/class0/00.jpg", "--k", 1)
    assert done.stdout.endswith("pictures/class0/00.jpg\n")


def test_without_torch_the_face_says_which_name_needs_it(no_torch: Path, cache: Path) -> None:
    done = run(no_torch, cache, python=("-c", "from imgret import tune, Run, Recipe, train"))
    last = done.stderr.splitlines()[-1]
    said = "needs torch, which is not installed. Run `pip install imgret`."
    assert last.startswith(f"ImportError: imgret.train {said}")


def test_without_torch_backbones_are_those_that_can_be_used(no_torch: Path, cache: Path) -> None:
    done = run(no_torch, cache, "backbones")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].startswith("mini\tmini\t1,280\t152\t")
    assert "resnet50.a1_in1k" not in done.stdout
    said = "Any other backbone needs torch, which is not installed. Run `pip install imgret`."
    assert done.stderr.splitlines() == [said]
    wanted = run(no_torch, cache, "backbones", "resnet50")
    assert (wanted.returncode, wanted.stdout) == (1, "")
    assert wanted.stderr.splitlines()[0] == said
