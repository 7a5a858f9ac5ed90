"""Options that few calls need: each of them changes what its help says, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from classify.run import Run
from retrieval.retriever import Retriever
from tests.classify.blobs import TINY, save_blobs
from tests.conftest import Command
from tests.retrieval.stored import age, rows, save_small
from tests.samples import drawn, picture, save_pictures


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Networks this small gain nothing from more."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures in 3 classes, one of them large, and their gallery."""
    folder = tmp_path_factory.mktemp("rare")
    save_pictures(folder / "pictures")
    picture(90, 400, 300).save(folder / "pictures" / "class0" / "large.png")
    for file in (folder / "pictures").rglob("*.*"):
        age(file)
    Retriever(folder / ".imgret", transform="standard").index(folder / "pictures")
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path, dirs_exist_ok=True))


def evaluated(inline: Command, *arguments: object) -> dict[str, Any]:
    done = inline("evaluate", "--no-calibrate", "--format", "json", *arguments)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_picture_of_too_many_pixels_is_a_row_that_failed(inline: Command, folder: Path) -> None:
    done = inline("index", "pictures", "--gallery", "new", "--max-pixels", 10_000)
    assert done.returncode == 0
    assert "120,000 pixels, more than --max-pixels 10,000" in done.stderr
    failed = {path: row["error"] for path, row in rows(folder / "new").items() if row["error"]}
    assert list(failed) == ["pictures/class0/large.png"]
    strict = inline("index", "pictures", "--gallery", "new", "--max-pixels", 10_000, "--strict")
    assert strict.returncode == 2
    assert inline("index", "pictures", "--gallery", "new", "--strict").returncode == 0


def test_a_query_of_too_many_pixels_is_told_and_the_others_are_answered(
    inline: Command, folder: Path
) -> None:
    names = ["pictures/class0/large.png", "pictures/class1/01.jpg"]
    done = inline("query", *names, "--max-pixels", 10_000, "--format", "json")
    assert done.returncode == 2
    assert f"{names[0]}: 120,000 pixels, more than --max-pixels 10,000" in done.stderr
    assert [result["query"] for result in json.loads(done.stdout)] == names[1:]


def test_queries_of_too_many_pixels_are_not_evaluated(inline: Command, folder: Path) -> None:
    document = evaluated(inline, "--queries", "pictures", "--max-pixels", 10_000)
    assert document["queries"] == 24
    assert evaluated(inline, "--queries", "pictures")["queries"] == 25


def test_a_vote_of_one_is_the_label_of_the_nearest(inline: Command, folder: Path) -> None:
    document = evaluated(inline, "--vote", 1, "--k", "1,3")
    values = {metric["name"]: metric["value"] for metric in document["metrics"]}
    assert document["vote"]["k"] == 1
    assert document["vote"]["accuracy"] == pytest.approx(values["precision@1"])


def test_a_sample_of_the_queries_is_as_large_as_it_was_asked_for(
    inline: Command, folder: Path
) -> None:
    document = evaluated(inline, "--most-queries", 10)
    assert document["queries"] == 10
    assert "10 of 25" in document["notices"][0]


def test_refit_fits_to_what_is_stored_now_and_encodes_nothing(
    inline: Command, folder: Path
) -> None:
    query = ("query", "pictures/class1/01.jpg", "--format", "json", "--k", 3)
    save_small(folder / "pictures", *(f"class2/more{n}.png" for n in range(8)), first=400)
    assert inline("index", "pictures").returncode == 0
    before = json.loads(inline(*query).stdout)[0]["matches"]
    done = inline("index", "pictures", "--refit", "--format", "json")
    assert json.loads(done.stdout)["encoded"] == 0
    after = json.loads(inline(*query).stdout)[0]["matches"]
    assert after[0]["path"] == before[0]["path"] == "pictures/class1/01.jpg"
    assert [match["score"] for match in after[1:]] != [match["score"] for match in before[1:]]


def test_keep_missing_keeps_a_row_and_is_not_given_with_its_contrary(
    inline: Command, folder: Path
) -> None:
    gone = folder / "pictures" / "class1" / "01.jpg"
    gone.unlink()
    done = inline("index", "pictures", "--keep-missing", "--drop-missing")
    assert done.returncode == 2
    assert "Give --keep-missing or --drop-missing, not both." in done.stderr
    assert inline("index", "pictures", "--keep-missing").returncode == 0
    assert "pictures/class1/01.jpg" in rows(folder / ".imgret")
    assert inline("index", "pictures").returncode == 0
    assert "pictures/class1/01.jpg" not in rows(folder / ".imgret")


def test_paths_end_in_nul_by_either_name_and_only_as_paths(inline: Command, folder: Path) -> None:
    query = ("query", "pictures/class1/01.jpg", "--k", 2, "--format")
    short, long = (inline(*query, "paths", name) for name in ("-0", "--null"))
    assert short.stdout == long.stdout
    assert long.stdout.count("\0") == 2
    assert long.stdout.startswith("pictures/class1/01.jpg\0")
    assert "\n" not in long.stdout
    done = inline(*query, "json", "--null")
    assert (done.returncode, done.stdout) == (2, "")
    assert "-0 only works with --format paths" in done.stderr


def test_labels_of_queries_may_come_from_a_file(inline: Command, folder: Path) -> None:
    (folder / "q").mkdir()
    for n in range(3):
        shutil.copy(folder / "pictures" / f"class{n}" / f"0{n}.jpg", folder / "q" / f"{n}.jpg")
    lines = [f"q/{n}.jpg,class{n}" for n in range(3)]
    (folder / "q.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    compared = ("compare", "pictures", "--queries", "q", "--transform", "none", "--cache", "c")
    done = inline(*compared, "--query-labels", "q.csv", "--vote", 1, "--k", 1, "--format", "json")
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["experiments"]
    assert result["evaluation"]["queries"] == 3
    values = {m["name"]: m["value"] for m in result["evaluation"]["metrics"]}
    assert result["evaluation"]["vote"]["accuracy"] == pytest.approx(values["precision@1"])
    without = inline(*compared, "--format", "json")  # q is the name of no class
    assert without.returncode == 2
    assert "no label in common" in without.stderr


@pytest.mark.parametrize(
    ("k", "shown"),
    [("3", ["precision@3", "precision@5"]), ("8,3", ["precision@3", "precision@5"]),
     ("10", ["precision@5"]), ("5", ["precision@5"])],
)  # fmt: skip
def test_a_comparison_shows_the_precision_of_the_smallest_k_and_the_one_it_tests(
    inline: Command, folder: Path, k: str, shown: list[str]
) -> None:
    done = inline("compare", "pictures", "--transform", "none", "--cache", "c", "--k", k)
    assert done.returncode == 0, done.stderr
    columns, row = (line.split("\t") for line in done.stdout.splitlines()[:2])
    assert columns == [
        "experiment", "width", *shown, "MAP@R", "mAP", "distance", "vote F1", "ms/image", "to beat"
    ]  # fmt: skip
    assert len(row) == len(columns)


def save_recipe(folder: Path) -> Path:
    file = folder / "tiny.toml"
    file.write_text(TINY)
    return file


def test_each_folder_that_holds_images_may_be_a_class(inline: Command, tmp_path: Path) -> None:
    save_blobs(tmp_path / "data" / "warm", 4)
    save_blobs(tmp_path / "data" / "cold", 4, first=300)
    arguments = ("--recipe", save_recipe(tmp_path), "--set", "training.epochs=1")
    unclear = inline("train", "data", *arguments, "--out", "unclear")
    assert unclear.returncode == 2
    assert "--classes" in unclear.stderr
    done = inline("train", "data", *arguments, "--classes", "deepest", "--out", "run")
    assert done.returncode == 0, done.stderr
    found = [name.rpartition("/")[2] for name in Run.read(tmp_path / "run").classes]
    assert sorted(set(found)) == ["blue", "green", "red"]


@pytest.mark.long
def test_near_copies_are_grouped_where_that_is_asked_for(inline: Command, tmp_path: Path) -> None:
    for n in range(8):  # each saved twice
        for again in ("a.png", "b.jpg"):
            file = tmp_path / "data" / f"class{n % 2}" / f"{n}{again}"
            file.parent.mkdir(parents=True, exist_ok=True)
            drawn(n).save(file)
    arguments = ("--recipe", save_recipe(tmp_path), "--set", "training.epochs=1")
    plain = inline("train", "data", *arguments, "--out", "plain")
    grouped = inline("train", "data", *arguments, "--group-duplicates", "--out", "grouped")
    assert (plain.returncode, grouped.returncode) == (0, 0), grouped.stderr
    assert "copies of one another" not in plain.stderr
    assert "copies of one another" in grouped.stderr
    assert Run.read(tmp_path / "grouped").recipe.data.group_duplicates


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("index", "pictures", "--workers", 0), "--workers"),
        (("index", "pictures", "--max-pixels", 0), "--max-pixels"),
        (("evaluate", "--vote", 0), "--vote"),
        (("evaluate", "--most-queries", 1), "--most-queries"),
        (("calibrate", "--most-pictures", 19), "--most-pictures"),
        (("calibrate", "--prior-known", 1), "--prior-known"),
        (("query", "a.jpg", "--min-confidence", 1.1), "--min-confidence"),
        (("query", "a.jpg", "--crop", "0,0,0,5"), "--crop"),
        (("serve", "--port", 65_536), "--port"),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_the_name_of_its_option(
    inline: Command, arguments: tuple[object, ...], said: str
) -> None:
    done = inline(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert said in sentence


@pytest.mark.long
def test_compact_needs_no_path_and_takes_no_other_option_then(
    imgret: Command, pictures: Path
) -> None:
    assert imgret("index", pictures, "--gallery", "g").returncode == 0
    assert imgret("index", "--compact", "--gallery", "g").returncode == 0
    assert imgret("index", pictures, "--compact", "--gallery", "g").returncode == 0
    assert imgret("verify", "--gallery", "g").returncode == 0
    for wrong in (["--transform", "none"], ["--labels", "none"], ["--format", "json"], ["--refit"]):
        refused = imgret("index", "--compact", "--gallery", "g", *wrong)
        assert refused.returncode == 2
        assert "Name the folders or files" in refused.stderr
    both = imgret("index", pictures, "--compact", "--dry-run", "--gallery", "g")
    assert (both.returncode, "not both" in both.stderr) == (2, True)
