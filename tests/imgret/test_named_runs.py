"""What is named as a run and is not one, and runs that are named as something else."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from classify.training import train
from tests.classify.blobs import save_blobs, tiny
from tests.conftest import Command


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run beside its data. Not to be changed."""
    folder = tmp_path_factory.mktemp("named")
    save_blobs(folder / "data", 6)
    train(folder / "data", tiny("training.epochs=1"), folder / "run")
    return folder / "run"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (24, 24), (220, 50, 40)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_a_second_run_is_not_a_folder_of_images(
    inline: Command, run: Path, photo: Path, tmp_path: Path, command: str
) -> None:
    done = inline(command, run, run, photo)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{run} is a run. Give " in done.stderr
    assert ("--beside" in done.stderr) == (command == "explain")
    assert list(tmp_path.iterdir()) == [photo]


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_a_folder_without_images_is_told(
    inline: Command, run: Path, tmp_path: Path, command: str
) -> None:
    (tmp_path / "empty").mkdir()
    done = inline(command, run, "empty")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "imgret: There are no images below empty.\n"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nothere", "there is no such folder"),
        ("resnet50", "there is no such folder"),
        ("mini", "there is no such folder"),
        ("photo.png", "it is a file"),
        ("folder", "it has no "),
    ],
)
@pytest.mark.parametrize(
    "command", ["predict", "explain", "beside", "serve", "test", "leaderboard"]
)
def test_what_is_not_a_run_is_told_everywhere_in_the_same_words(
    inline: Command, run: Path, photo: Path, tmp_path: Path, command: str, name: str, why: str
) -> None:
    (tmp_path / "folder").mkdir()
    arguments = {
        "predict": ("predict", name, photo),
        "explain": ("explain", name, photo),
        "beside": ("explain", run, photo, "--beside", name),
        "serve": ("serve", "--model", name),
    }.get(command, (command, name))
    done = inline(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"imgret: {name} is not a run of `imgret train`: {why}")
    assert done.stderr.endswith("Give the folder of a run.\n")


def test_the_leaderboard_shows_the_others_and_exits_with_2(inline: Command, run: Path) -> None:
    done = inline("leaderboard", run, "nothere")
    assert done.returncode == 2
    assert "nothere is not a run" in done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert inline("leaderboard", run).returncode == 0
