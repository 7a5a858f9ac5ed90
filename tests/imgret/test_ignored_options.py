"""An option that a command would ignore is an error that says which one to leave out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.samples import save_pictures

IGNORED = [
    (("evaluate", "--labels", "x.csv"), "--labels labels the images of --queries."),
    (("evaluate", "--queries", "x", "--zero-shot"), "Leave out --queries."),
    (("evaluate", "--zero-shot", "--by", "query"), "--zero-shot works by class."),
    (("evaluate", "--zero-shot", "--prior-known", "0.5"), "--prior-known belongs to"),
    (("evaluate", "--no-calibrate", "--prior-known", "0.5"), "--prior-known belongs to"),
    (("compare", "x", "--query-labels", "x.csv"), "--query-labels labels the images of --queries."),
    (("compare", "x", "--zero-shot", "--by", "query"), "--zero-shot works by class."),
    (("calibrate", "--by", "class", "--most-pictures", "50"), "needs --by picture."),
    (("index", ".", "--cluster-workers", "2"), "--cluster-workers needs --cluster."),
    (("index", ".", "--cluster", "processes", "--dry-run"), "which embeds nothing, not both."),
    (("verify", "--drop-missing"), "--drop-missing only works with --repair."),
]


@pytest.mark.parametrize(("arguments", "said"), IGNORED, ids=lambda value: " ".join(value)[:40])
def test_an_option_that_would_do_nothing_is_refused(
    inline: Command, arguments: tuple[str, ...], said: str
) -> None:
    done = inline(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.parametrize(("name", "key"), [("R1", "encoding"), ("cars/best", "phases")])
def test_a_recipe_is_shown_as_json_where_that_is_asked_for(
    inline: Command, name: str, key: str
) -> None:
    assert key in json.loads(inline("recipes", name, "--format", "json").stdout)


def test_failed_images_are_listed_as_json_too(inline: Command, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.jpg").write_bytes(b"no picture")
    gallery = ("--gallery", tmp_path / "g")
    assert inline("index", tmp_path / "p", *gallery).returncode == 0
    done = inline("info", "--failed", "--format", "json", *gallery)
    assert done.returncode == 0
    (row,) = json.loads(done.stdout)
    assert set(row) == {"image", "reason"}
    done = inline("remove", tmp_path / "p" / "b.jpg", *gallery)
    assert (done.returncode, done.stdout) == (1, "removed  0\n")
    assert "The gallery holds no such image." in done.stderr


def test_paths_that_are_not_in_the_gallery_are_named(inline: Command, tmp_path: Path) -> None:
    save_pictures(tmp_path / "p")
    assert inline("index", "p", "--transform", "none").returncode == 0
    done = inline("remove", "p/class0/00.jpg", "p/class0/nothere.jpg", "p/class1", "p/class")
    assert (done.returncode, done.stdout) == (0, "removed  9\n")
    assert [line.split(": ")[1] for line in done.stderr.splitlines() if "holds no" in line] == [
        "p/class0/nothere.jpg", "p/class"
    ]  # fmt: skip
    assert inline("remove", "p/class0/00.jpg").returncode == 1  # it is gone already
    done = inline("remove", "/nowhere", "/")
    assert (done.returncode, done.stdout) == (0, "removed  15\n")
    assert done.stderr.count("holds no such image") == 1
