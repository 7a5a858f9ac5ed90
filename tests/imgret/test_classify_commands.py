"""train, test, predict, explain, leaderboard, recipes and serve as users run them."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from PIL import Image

from classify import recipe as recipes
from classify.run import Run
from classify.training import train
from tests.classify.blobs import TINY, save_blobs, tiny
from tests.conftest import Command
from tests.samples import command_environment, command_line


@pytest.fixture
def imgret(inline: Command) -> Command:
    """In this process, but for Ctrl-C and serve, which need one of their own."""
    return inline


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """As many here as in processes: sums of another order end in other last bits."""


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/train, data/test and two runs on them. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    save_blobs(folder / "data" / "train", 12)
    save_blobs(folder / "data" / "test", 4, first=500)
    for name, epochs in (("good", 12), ("poor", 1)):
        train(folder / "data", tiny(f"training.epochs={epochs}"), folder / "runs" / name)
    return folder


def test_train_writes_a_run_and_a_report(imgret: Command, tmp_path: Path) -> None:
    save_blobs(tmp_path / "blobs", 8)
    (tmp_path / "blobs" / "red" / "bad.png").write_bytes(b"no image")
    (tmp_path / "mine.toml").write_text(TINY)
    done = imgret("train", "blobs", "--recipe", "mine.toml", "--set", "training.epochs=2")
    assert done.returncode == 0, done.stderr
    facts = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert facts["run"] == "runs/blobs"
    assert facts["failed"] == "1"
    assert "bad.png" in done.stderr
    assert done.stderr.count("validation loss") == 2
    assert "images/s" in done.stderr
    page = (tmp_path / "runs" / "blobs" / "report.html").read_text()
    assert "Training pictures" in page
    assert "Confusion matrix" in page
    run = Run.read(tmp_path / "runs" / "blobs")
    assert run.recipe.training.epochs == 2
    again = imgret("train", "blobs", "--recipe", "mine.toml")
    assert again.returncode == 2
    assert "already holds a run" in again.stderr


def test_a_recipe_is_chosen_by_the_pictures(imgret: Command, tmp_path: Path) -> None:
    save_blobs(tmp_path / "blobs", 6)
    done = imgret("train", "blobs", "--set", "training.epochs=1", "--set", "training.batch=4")
    assert done.returncode == 0, done.stderr
    assert "Recipe: default/tiny-pictures" in done.stderr
    for file in (tmp_path / "blobs").rglob("*.png"):
        Image.open(file).resize((200, 200)).save(file)
    offline = imgret("train", "blobs", "--out", "runs/large")
    assert "Recipe: default/few-images" in offline.stderr
    assert offline.returncode == 2
    assert "no hub could be reached" in offline.stderr


@pytest.mark.long
def test_ctrl_c_saves_and_resume_ends_as_an_unbroken_run(
    imgret: Command, tmp_path: Path, cache: Path
) -> None:
    save_blobs(tmp_path / "blobs", 40)
    (tmp_path / "mine.toml").write_text(TINY)
    settings = ["--recipe", "mine.toml", "--set", "training.epochs=6", "--set", "input.size=96"]
    process = subprocess.Popen(
        command_line("train", "blobs", *settings, "--out", "run"),
        cwd=tmp_path, env=command_environment(cache) | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    history = tmp_path / "run" / "history.jsonl"
    while not history.is_file() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "with --resume to continue" in said
    assert not Run.read(tmp_path / "run").facts.ended
    resumed = imgret("train", "blobs", "--out", "run", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    chosen = recipes.parse_recipe(TINY, "x", ["training.epochs=6", "input.size=96"])
    train(tmp_path / "blobs", chosen, tmp_path / "unbroken")
    ours, theirs = ((tmp_path / n / "model.safetensors").read_bytes() for n in ("run", "unbroken"))
    assert ours == theirs
    weights, report = ours, tmp_path / "run" / "report.html"
    report.unlink()  # as where the command was killed before it had written its report
    finished = imgret("train", "blobs", "--out", "run", "--resume")
    assert finished.returncode == 0, finished.stderr
    assert report.is_file()
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "is not a folder"),
        (["data", "--recipe", "no/such"], "imgret recipes"),
        (["data", "--recipe", "P1", "--set", "training.epoch=1"], "training.epoch"),
        (["data", "--recipe", "P1", "--set", "nonsense"], "KEY=VALUE"),
        (["data", "--resume", "--recipe", "P1"], "Leave out all others"),
        (["data", "--resume", "--out", "data"], "not a run"),
        (["data", "--recipe", "P3", "--weights", "nowhere"], "There is no folder nowhere for "),
        (["data", "--recipe", "P1", "--weights", "./nowhere"], "There is no folder ./nowhere for "),
        (["data", "--recipe", "R1"], "R1 is an experiment of retrieval, not a recipe to train by."),
        (["data", "--recipe", "P1", "--set", "foo.bar=1"], "--set: foo: there is no such key."),
        (
            ["data", "--recipe", "P1", "--set", "training.epochs=x"],
            "--set: training.epochs: it takes a whole number, not 'x'. Correct this key.",
        ),
        (
            ["data", "--recipe", "P1", "--set", "training.epochs=0"],
            "--set: training.epochs: it takes 1 or more, not 0. Correct this key.",
        ),
        (
            ["data", "--recipe", "P1", "--set", "input.fit=x"],
            "--set: input.fit: it takes 'squash', 'crop' or 'pad', not 'x'. Correct this key.",
        ),
        (["data/train/red"], "no class folders"),
    ],
)
def test_wrong_use_of_train_is_one_sentence(
    imgret: Command, trained: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "data").symlink_to(trained / "data")
    done = imgret("train", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_test_says_the_same_as_text_json_and_csv(imgret: Command, trained: Path) -> None:
    run, data = trained / "runs" / "good", trained / "data" / "test"
    report = trained / "page.html"
    text = imgret("test", run, "--data", data, "--report", report, "--figures", trained / "figs")
    document = json.loads(imgret("test", run, "--data", data, "--format", "json").stdout)
    rows = list(csv.DictReader(io.StringIO(imgret("test", run, "--data", data, "--format", "csv")
                                           .stdout)))  # fmt: skip
    assert text.returncode == 0, text.stderr
    assert f"top-1        {document['top1']:.4f}" in text.stdout
    assert [row["class"] for row in rows[:3]] == ["blue", "green", "red"]
    assert float(rows[0]["F1"]) == pytest.approx(document["classes"][0]["f1"], abs=1e-6)
    assert "(weighted average)" in text.stdout
    assert "Confusion matrix" in report.read_text()
    drawn = ["classes", "confusion", "mistakes", "per-class", "reliability", "samples"]
    for name in drawn if document["mistakes"] else [n for n in drawn if n != "mistakes"]:
        for kind in ("png", "svg"):
            assert (trained / "figs" / f"{name}.{kind}").is_file()
    assert "Samples of 3 of 3 classes" in report.read_text()
    assert len(document["mistakes"]) == round(12 * (1 - document["top1"]))


def test_runs_are_tested_together_as_an_ensemble(imgret: Command, trained: Path) -> None:
    runs = [trained / "runs" / name for name in ("good", "poor")]
    done = imgret("test", *runs, "--ensemble", "--data", trained / "data" / "test")
    assert done.returncode == 0, done.stderr
    assert "good + poor" in done.stdout
    assert imgret("test", *runs).returncode == 2


def test_the_leaderboard_shows_the_best_first(imgret: Command, trained: Path) -> None:
    runs = [trained / "runs" / name for name in ("poor", "good")]
    page = trained / "runs.html"
    done = imgret("leaderboard", *runs, trained / "data", "--report", page, "--format", "json")
    assert done.returncode == 2
    assert "is not a run" in done.stderr
    assert [row["run"] for row in json.loads(done.stdout)] == ["good", "poor"]
    assert "Validation accuracy" in page.read_text()
    assert imgret("leaderboard", trained / "data").returncode == 2


@pytest.mark.long
def test_the_leaderboard_draws_what_was_tested_and_says_what_was_not(
    imgret: Command, trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained / "runs" / "good", tmp_path / "a" / "run")
    shutil.copytree(trained / "runs" / "poor", tmp_path / "b" / "run")
    (tmp_path / "b" / "run" / "test.json").unlink(missing_ok=True)
    runs, image = ("a/run", "b/run"), trained / "data" / "test" / "red" / "500.png"
    assert imgret("test", "a/run").returncode == 0
    done = imgret("leaderboard", *runs, "--report", "l.html", "--figures", "figs", "--image", image)
    assert done.returncode == 0, done.stderr
    assert "lack b/run" in done.stderr
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["run", *runs]
    assert {file.name for file in (tmp_path / "figs").iterdir()} == {
        f"{name}.{kind}"
        for name in ("scores", "averages", "best-classes", "curves", "grad-cam",
                     "validation-loss", "validation-accuracy")
        for kind in ("png", "svg")
    }  # fmt: skip
    page = (tmp_path / "l.html").read_text()
    assert page.count("<svg") == 7
    assert "lack b/run" in page
    plain = imgret("leaderboard", *runs).stderr  # places by two measures are told without a page
    assert "lack b/run: no test of it is kept, so its place is that of its validation" in plain
    assert imgret("leaderboard", *runs, "--image", image).returncode == 2
    (tmp_path / "bad.png").write_bytes(b"no image")
    bad = imgret("leaderboard", *runs, "--report", "l.html", "--image", "bad.png")
    assert bad.returncode == 2
    assert "bad.png: " in bad.stderr
    assert len(bad.stdout.splitlines()) == 3
    assert (tmp_path / "l.html").read_text().count("<svg") == 6


@pytest.mark.parametrize("split", ["train", "."])
def test_the_leaderboard_shows_only_what_images_say_that_chose_nothing(
    imgret: Command, trained: Path, tmp_path: Path, split: str
) -> None:
    run = tmp_path / "run"
    train(trained / "data" / split, tiny("training.epochs=1"), run)
    assert imgret("test", run).returncode == 0
    (row,) = json.loads(imgret("leaderboard", run, "--format", "json").stdout)
    assert (row["test_accuracy"] is None) == (split == "train")  # it has no test images


def test_predict_tells_the_class(imgret: Command, trained: Path, tmp_path: Path) -> None:
    run, red = trained / "runs" / "good", trained / "data" / "train" / "red"
    rows = json.loads(imgret("predict", run, red, "--format", "json").stdout)
    assert len(rows) == 12
    first = [row["classes"][0]["label"] for row in rows]
    assert first.count("red") >= 10
    assert sum(c["probability"] for c in rows[0]["classes"]) == pytest.approx(1, abs=1e-4)
    (tmp_path / "bad.png").write_bytes(b"no image")
    bad = imgret("predict", run, "bad.png", "--format", "csv")
    assert bad.returncode == 2
    assert "bad.png" in bad.stderr
    assert "bad.png" in bad.stdout
    assert imgret("predict", run, "bad.png", next(red.iterdir())).returncode == 0
    (tmp_path / "empty").mkdir()
    assert imgret("predict", run, "empty").returncode == 1
    assert imgret("predict", "nowhere", red).returncode == 2


def test_explain_draws_several_models_side_by_side(
    imgret: Command, trained: Path, tmp_path: Path
) -> None:
    file = next((trained / "data" / "test" / "red").iterdir())
    runs = [trained / "runs" / name for name in ("good", "poor")]
    done = imgret("explain", runs[0], file, "--beside", runs[1], "--out", "cam.png")
    assert done.returncode == 0, done.stderr
    assert [line.split("\t")[1] for line in done.stdout.splitlines()] == ["run", "good", "poor"]
    with Image.open(tmp_path / "cam.png") as drawn:
        assert drawn.width > 300
    wrong = imgret("explain", runs[0], trained / "data" / "test", "--show", "correct",
                   "--class", "green", "--limit", 2)  # fmt: skip
    assert wrong.returncode == 0, wrong.stderr
    assert len(wrong.stdout.splitlines()) == 1 + 2
    assert imgret("explain", runs[0], file, "--show", "correct").returncode == 2
    assert imgret("explain", runs[0], file, "--class", "cow").returncode == 2
    pages = ("--out", "x.svg", "--report", "x.html")
    several = imgret("explain", runs[1], file, *pages, "--beside", runs[0])
    assert several.returncode == 0, several.stderr
    assert (tmp_path / "x.svg").read_text().count("<svg") == 1
    assert "What speaks for a class" in (tmp_path / "x.html").read_text()
    assert not (tmp_path / "explained.png").exists() or "explained.png" in wrong.stderr
    assert imgret("explain", runs[0], file, "--out", "x.jpg").returncode == 2
    (tmp_path / "bad.png").write_bytes(b"no image")
    for name in ("photo.png", "explained.png", "photos/photo.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / name)
    for asked in (("photo.png", "--out", "photo.png"), ("explained.png",),
                  ("photos", "--out", "photos/photo.png")):  # fmt: skip
        done = imgret("explain", runs[0], *asked)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"{asked[-1]} is read, and would be overwritten." in done.stderr
        assert (tmp_path / asked[-1]).read_bytes() == file.read_bytes()
    near = imgret("explain", runs[0], file, "--class", "gren")
    assert "Did you mean green? Name one of these." in near.stderr
    bad = imgret("explain", runs[0], "bad.png", "--out", "new.png")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.endswith("imgret: No image can be used. Give other images.\n")
    assert imgret("explain", runs[0], file, "--out", "x.html").returncode == 2


def test_recipes_are_listed_and_shown(imgret: Command) -> None:
    listed = imgret("recipes")
    lines = {line.split("\t")[0]: line.split("\t") for line in listed.stdout.splitlines()}
    assert listed.returncode == 0
    assert {"R1", *recipes.recipe_names()} <= set(lines)
    assert lines["parts/cnn"][1] == "P1"
    assert lines["R1"][5:7] == ["0.0500", "0.1400"]
    assert lines["R3-lite2"][1] == ""  # in place of R3, not its row
    assert not [name for name, line in lines.items() if line[4] == "-"]  # parameters
    assert lines["parts/mobilenetv3-small"][4] == "1,013,621"
    shown = imgret("recipes", "parts/cnn").stdout
    assert recipes.parse_recipe(shown, "shown") == recipes.read_recipe("parts/cnn")
    assert imgret("recipes", "no/such").returncode == 2


def test_a_run_is_a_backbone_of_a_gallery(imgret: Command, trained: Path) -> None:
    run, data = trained / "runs" / "good", trained / "data"
    indexed = imgret("index", data / "train", "--backbone", run, "--transform", "none")
    assert indexed.returncode == 0, indexed.stderr
    query = next((data / "test" / "red").iterdir())
    found = json.loads(imgret("query", query, "--k", 3, "--format", "json").stdout)
    assert [m["label"] for m in found[0]["matches"]] == ["red"] * 3


@pytest.mark.long
def test_a_network_of_tokens_goes_through_every_command(imgret: Command, tmp_path: Path) -> None:
    save_blobs(tmp_path / "blobs", 8)
    recipe = """title = "tokens"
[input]
size = 32
[model]
backbone = "efficientvit_m0"
[training]
batch = 8
epochs = 1
"""
    (tmp_path / "mine.toml").write_text(recipe)
    done = imgret("train", "blobs", "--recipe", "mine.toml", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").is_file()
    for command in (
        ("predict", "run", "blobs"),
        ("test", "run"),
        ("index", "blobs", "--backbone", "run", "--gallery", "g"),
    ):
        done = imgret(*command)
        assert done.returncode == 0, done.stderr


def test_a_network_that_cannot_be_trained_is_said_before_an_image_is_read(
    imgret: Command, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / "blobs" / name).mkdir(parents=True)
        for n in range(4):
            (tmp_path / "blobs" / name / f"{n}.png").write_bytes(b"no image" + bytes([n]))
    (tmp_path / "mine.toml").write_text(
        'title = "no"\n[input]\nsize = 100\n[model]\nbackbone = "vit_tiny_patch16_224"\n'
    )
    done = imgret("train", "blobs", "--recipe", "mine.toml", "--out", "run")
    assert done.returncode == 2
    assert "patches of 16 px" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["index", "compare", "tune"])
def test_a_recipe_to_train_by_is_not_an_experiment(imgret: Command, command: str) -> None:
    done = imgret(command, "data", "--recipe", "parts/cnn")
    assert done.returncode == 2
    said = "imgret: parts/cnn is a recipe to train by, not an experiment of retrieval. Give it to "
    assert done.stderr == f"{said}`imgret train`.\n"
    assert "There is no recipe 'parts/no'" in imgret(command, "data", "--recipe", "parts/no").stderr
