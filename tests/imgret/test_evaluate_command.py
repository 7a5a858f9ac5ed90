"""evaluate, compare and tune as users run them."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import Command
from tests.samples import (
    command_environment,
    command_line,
    no_room_for,
    picture,
    save_pictures,
)


@pytest.fixture
def imgret(inline: Command) -> Command:
    """In this process; test_commands.py runs it as one of its own."""
    return inline


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, weights: Path, cache: Path) -> Path:
    """24 pictures in 3 classes and their gallery."""
    folder = tmp_path_factory.mktemp("evaluated")
    save_pictures(folder / "pictures")
    subprocess.run(
        command_line("index", "pictures", "--backbone", weights, "--transform", "none"),
        cwd=folder, env=command_environment(cache), check=True, capture_output=True,
    )  # fmt: skip
    return folder


@pytest.fixture
def indexed(prepared: Path, tmp_path: Path) -> Path:
    """The same, in the working directory of the command, for a test to change."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    return tmp_path / "pictures"


@pytest.fixture
def told_apart(imgret: Command, tmp_path: Path) -> Path:
    """A gallery of four classes that pictures show: a class's own, each with another through it."""
    for n in range(32):
        file = tmp_path / "pictures" / f"class{n % 4}" / f"{n:02}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.blend(picture(1000 + n % 4), picture(n), 0.4).save(file, quality=95)
    assert imgret("index", "pictures").returncode == 0
    return tmp_path / "pictures"


def test_evaluate_prints_every_metric_with_its_interval(imgret: Command, indexed: Path) -> None:
    done = imgret("evaluate")
    assert done.returncode == 0
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    shown = {line[0]: line[1:] for line in lines}
    for name in ("precision@1", "recall@5", "MAP@R", "R-precision", "mAP", "nDCG@10", "distance@5"):
        value, low, high = map(float, shown[name])
        assert low <= value <= high
    assert "vote@5 f1 macro" in shown
    assert "24 images" in done.stdout


def test_evaluate_as_json_and_csv_says_the_same(imgret: Command, indexed: Path) -> None:
    document = json.loads(imgret("evaluate", "--format", "json", "--k", "1,3").stdout)
    rows = list(csv.reader(io.StringIO(imgret("evaluate", "--format", "csv", "--k", "1,3").stdout)))
    known = {metric["name"]: metric["value"] for metric in document["metrics"]}
    assert {"precision@1", "precision@3"} <= set(known)
    for name, value, *_ in rows[1:]:
        if name in known:
            assert float(value) == pytest.approx(known[name], abs=1e-6)
    assert document["protocol"] == "leave-one-out"
    assert "per_query" not in document


def test_queries_of_a_folder_and_a_bad_one_are_evaluated(
    imgret: Command, indexed: Path, tmp_path: Path
) -> None:
    for n in range(6):
        (tmp_path / "q" / f"class{n % 3}").mkdir(parents=True, exist_ok=True)
        picture(n).save(tmp_path / "q" / f"class{n % 3}" / f"{n}.png")
    (tmp_path / "q" / "class0" / "bad.jpg").write_bytes(b"no image")
    done = imgret("evaluate", "--queries", tmp_path / "q", "--format", "json")
    document = json.loads(done.stdout)
    assert done.returncode == 0
    assert (document["protocol"], document["queries"]) == ("queries", 6)
    assert "bad.jpg" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--k", "0"], "whole numbers"),
        (["--k", "five"], "whole numbers"),
        (["--zero-shot", "--queries", "pictures"], "--zero-shot"),
        (["--transform", "pca:x"], "The N of the transform pca is x."),
        (["--expand", "x"], "expand"),
        (["--queries", "nowhere"], "nowhere"),
        (["--report", "no/such/folder/x.html"], "cannot be written"),
    ],
)
def test_wrong_use_is_one_sentence(
    imgret: Command, indexed: Path, arguments: list[str], said: str
) -> None:
    done = imgret("evaluate", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_gallery_without_labels_says_what_to_do(
    imgret: Command, pictures: Path, weights: Path
) -> None:
    imgret("index", pictures, "--backbone", weights, "--labels", "none")
    done = imgret("evaluate")
    assert done.returncode == 2
    assert "folder named after its class" in done.stderr


def test_queries_without_an_answer_are_one_sentence_and_a_report(
    imgret: Command, tmp_path: Path, weights: Path
) -> None:
    for n in range(4):
        (tmp_path / "alone" / f"class{n}").mkdir(parents=True)
        picture(n).save(tmp_path / "alone" / f"class{n}" / "one.png")
    imgret("index", "alone", "--backbone", weights)
    done = imgret("evaluate", "--report", "report.html")
    assert done.returncode == 1
    assert "No query has another image of its class" in done.stderr
    assert "nan" not in done.stdout
    assert "nan" not in imgret("evaluate", "--format", "csv").stdout
    page = (tmp_path / "report.html").read_text()
    assert "None of 4 queries has another image of its class" in page


@pytest.mark.long
def test_one_query_has_no_interval(imgret: Command, indexed: Path, weights: Path) -> None:
    (indexed.parent / "one" / "class0").mkdir(parents=True)
    picture(900).save(indexed.parent / "one" / "class0" / "new.png")
    done = imgret("compare", "pictures", "--queries", "one", "--backbone", weights, "--transform",
                  "none", "--transform", "standard", "--report", "page.html")  # fmt: skip
    assert done.returncode == 0
    assert "nan" not in done.stdout
    assert done.stdout.splitlines()[-1].split("\t")[3:5] == ["-", "-"]
    assert "without an interval, which needs two queries or more" in Path("page.html").read_text()
    told = imgret("compare", "pictures", "--queries", "one", "--backbone", weights, "--transform",
                  "none", "--transform", "standard", "--format", "json")  # fmt: skip
    document = json.loads(told.stdout, parse_constant=pytest.fail)  # JSON knows no NaN
    assert document["tests"][0]["low"] is None


def test_query_shows_probabilities_and_can_say_that_nothing_matches(
    imgret: Command, told_apart: Path, tmp_path: Path
) -> None:
    query = told_apart / "class0" / "00.jpg"
    before = imgret("query", query, "--min-confidence", "0.5")
    assert before.returncode == 2
    assert "imgret evaluate" in before.stderr
    assert imgret("evaluate", "--prior-known", "0.5").returncode == 0
    document = json.loads(imgret("query", query, "--format", "json").stdout)
    probabilities = [match["probability"] for match in document[0]["matches"]]
    assert all(0 <= p <= 1 for p in probabilities)
    Image.new("RGB", (64, 64), (255, 0, 255)).save(tmp_path / "odd.png")
    none = imgret("query", tmp_path / "odd.png", "--min-confidence", "1.0")
    assert none.returncode == 1
    assert "No match has a probability of 1 or more" in none.stderr
    assert none.stdout == ""


def test_matches_without_a_label_have_no_probability_and_are_told(
    imgret: Command, told_apart: Path, tmp_path: Path
) -> None:
    files = sorted(told_apart.rglob("*.jpg"))
    rows = [f"{file},{file.parent.name}" for file in files[1:]]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    assert imgret("index", "pictures", "--labels", "labels.csv").returncode == 0
    assert imgret("calibrate", "--by", "class").returncode == 0
    done = imgret("query", files[0], "--k", "2", "--format", "json")
    first, second = json.loads(done.stdout)[0]["matches"]
    assert (first["label"], first["probability"]) == (None, None)
    assert second["probability"] is not None
    assert "1 of the 2 matches have no label, so it is unknown how likely" in done.stderr
    assert "no label" not in imgret("query", files[0], "--k", "2", "--exclude-self").stderr


@pytest.mark.long
def test_calibrate_tells_how_far_off_it_is_and_needs_no_labels(
    imgret: Command, told_apart: Path
) -> None:
    told = imgret("calibrate", "--by", "picture", "--most-pictures", "20")
    assert told.returncode == 0, told.stderr
    assert "60 queries with an answer, 60 without one" in told.stdout
    assert "probability\tright\tqueries" in told.stdout or "best matches" in told.stdout
    assert "shows the same thing" in imgret("info").stdout
    document = json.loads(imgret("calibrate", "--format", "json", "--prior-known", "0.3").stdout)
    assert (document["kind"], document["prior_known"]) == ("class", 0.3)
    assert 0 <= document["error"] <= 1
    query = told_apart / "class0" / "00.jpg"
    shown = [
        json.loads(imgret("query", query, "--prior-known", prior, "--format", "json").stdout)
        for prior in ("0.01", "0.99")
    ]
    rare, usual = (answer[0]["matches"][0]["probability"] for answer in shown)
    assert rare < usual
    for wrong in ("0", "1", "x"):
        refused = imgret("calibrate", "--prior-known", wrong)
        assert refused.returncode == 2
        assert "--prior-known" in refused.stderr


@pytest.mark.long
def test_compare_says_which_queries_it_leaves_out(
    imgret: Command, pictures: Path, weights: Path, tmp_path: Path
) -> None:
    shutil.copytree(pictures / "class0", tmp_path / "asked" / "class0")
    shutil.copytree(pictures / "class1", tmp_path / "asked" / "unknown")
    done = imgret(
        "compare", pictures, "--queries", tmp_path / "asked", "--backbone", weights,
        "--transform", "none", "--cache", tmp_path / "c", "--report", tmp_path / "page.html",
        "--k", "5000",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = "Left out, since no image has their class: 8 queries."
    assert f"imgret: {said}\n" in done.stderr
    assert said in (tmp_path / "page.html").read_text()
    assert "24 images can be found for a query, so figures of 5,000 neighbours count" in done.stderr


@pytest.mark.long
def test_compare_spans_a_grid_writes_page_and_figures_and_remembers(
    imgret: Command, pictures: Path, weights: Path, tmp_path: Path
) -> None:
    command = [
        "compare", pictures, "--backbone", weights, "--transform", "none", "--transform",
        "whiten:8",
        "--cache", tmp_path / "c", "--report", "page.html", "--figures", "figures",
    ]  # fmt: skip
    first, again = imgret(*command), imgret(*command)
    assert first.returncode == again.returncode == 0, first.stderr
    assert first.stdout == again.stdout
    assert "Encoding" in first.stderr
    assert "Encoding" not in again.stderr
    names = [line.split("\t")[0] for line in first.stdout.splitlines()]
    assert names[1:3] == ["none", "whiten:8"]
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 7
    assert {f.name for f in (tmp_path / "figures").iterdir()} >= {"precision.png", "cost.svg"}


@pytest.mark.long
def test_compare_runs_recipes_with_random_weights_and_says_so(
    imgret: Command, pictures: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "small.toml"
    recipe.write_text(
        '[encoding]\nbackbone = "mobilenetv3_small_050"\nsize = 64\n[search]\ntransform = "none"\n'
        "[reference]\nprecision_at_5 = 0.5\n"
    )
    done = imgret("compare", pictures, "--recipe", recipe, "--random-weights", "--format", "json")
    document = json.loads(done.stdout)
    assert document["experiments"][0]["random_weights"] is True
    assert document["experiments"][0]["reference"] == 0.5
    assert "random weights" in done.stderr
    rows = imgret("compare", pictures, "--recipe", recipe, "--random-weights", "--format", "csv")
    assert "small" in rows.stdout.splitlines()[1]


def test_weights_that_no_recipe_needs_are_refused(
    imgret: Command, pictures: Path, weights: Path, tmp_path: Path
) -> None:
    done = imgret("compare", pictures, "--recipe", "R2", "--weights", weights)
    assert done.returncode == 2
    assert f"--weights {weights} holds weights of mobilenetv3_small_050, which no" in done.stderr
    recipe = tmp_path / "small.toml"
    recipe.write_text('[encoding]\nbackbone = "mobilenetv3_small_050"\nsize = 64\n')
    assert imgret("compare", pictures, "--recipe", recipe, "--weights", weights).returncode == 0


def test_compare_without_weights_or_network_says_what_to_do(
    imgret: Command, pictures: Path
) -> None:
    done = imgret("compare", pictures, "--recipe", "R2")
    assert done.returncode == 2
    assert "not on this machine" in done.stderr
    assert imgret("compare", pictures, "--recipe", "R7").returncode == 2


@pytest.mark.long
def test_tune_writes_a_recipe_that_index_and_compare_read(
    imgret: Command, pictures: Path, weights: Path, tmp_path: Path
) -> None:
    done = imgret("tune", pictures, "--backbone", weights, "--minutes", "0.02", "--out", "t.toml")
    assert done.returncode == 0, done.stderr
    assert "held-out images that chose nothing" in done.stdout
    indexed = imgret("index", pictures, "--recipe", "t.toml", "--transform", "none")
    assert indexed.returncode == 0, indexed.stderr
    assert "asked for: none" in imgret("info").stdout
    compared = imgret("compare", pictures, "--recipe", "t.toml")
    assert compared.returncode == 0, compared.stderr


@pytest.mark.long
def test_index_keeps_pooling_views_and_refinement(
    imgret: Command, pictures: Path, weights: Path
) -> None:
    options = ["--pool", "avg+max", "--views", "flip", "--expand", "2", "--rerank", "10"]
    done = imgret("index", pictures, "--backbone", weights, *options)
    assert done.returncode == 0, done.stderr
    assert "pool avg+max, views flip" in imgret("info").stdout
    assert imgret("query", pictures / "class0" / "00.jpg").returncode == 0
    other = imgret("index", pictures, "--pool", "gem")
    assert other.returncode == 2
    assert "--reembed" in other.stderr


@pytest.mark.usefixtures("indexed")
def test_evaluate_shows_its_figures_where_nothing_beside_them_can_be_written(
    imgret: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_room_for(monkeypatch, "gallery.toml")
    done = imgret("evaluate")
    assert done.returncode == 0
    assert "The calibration was not kept: " in done.stderr
    assert "gallery.toml cannot be written (No space left on device). Free some" in done.stderr
    assert "precision@1" in done.stdout
    no_room_for(monkeypatch, "e.html")
    done = imgret("evaluate", "--report", "e.html")
    assert done.returncode == 2
    assert "e.html cannot be written (No space left on device). Free some" in done.stderr
    assert "precision@1" in done.stdout


@pytest.mark.long
def test_compare_and_tune_show_what_they_found_where_it_cannot_be_written(
    imgret: Command, pictures: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_room_for(monkeypatch, "*.json", "c.html", "t.toml")
    compared = imgret("compare", pictures, "--backbone", weights, "--report", "c.html")
    assert compared.returncode == 2
    assert "c.html cannot be written (No space left on device). Free some" in compared.stderr
    assert "experiment" in compared.stdout
    tuned = imgret("tune", pictures, "--backbone", weights, "--minutes", "0.02", "--out", "t.toml")
    assert tuned.returncode == 2
    assert "t.toml cannot be written (No space left on device). Free some" in tuned.stderr
    assert "held-out images that chose nothing" in tuned.stdout
    assert "written" not in tuned.stdout
