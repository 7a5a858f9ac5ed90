"""Where results go is checked before the work that makes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Command
from tests.samples import save_pictures

REPORTS = [
    ("query", "x.jpg"), ("evaluate",), ("compare", "x"), ("duplicates",), ("map",), ("test", "run"),
    ("leaderboard", "run"),
]  # fmt: skip
NOWHERE = [
    *((*command, "--report", "nodir/m.html") for command in REPORTS),
    ("explain", "run", "x.jpg", "--out", "nodir/c.png"),
    ("tune", "x", "--out", "nodir/t.toml"),
    ("export", "--out", "nodir/x.npz"),
    ("export-backbone", "nothere", "--out", "nodir/x.onnx"),
]
IN_THE_WAY = [
    ("test", "run", "--figures", "file/figures"),
    ("leaderboard", "run", "--figures", "file/more/figures"),
    ("compare", "x", "--figures", "file/figures"),
    ("train", "x", "--out", "file/run"),
    ("map", "--report", "file/m.html"),
]


@pytest.mark.parametrize("arguments", NOWHERE, ids=" ".join)
def test_a_folder_that_is_not_there_is_told_before_all_else(
    inline: Command, arguments: tuple[str, ...]
) -> None:
    done = inline(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert f"{arguments[-1]} cannot be written" in done.stderr
    assert "Create its folder first" in done.stderr


@pytest.mark.parametrize("arguments", IN_THE_WAY, ids=" ".join)
def test_a_file_in_the_place_of_a_folder_is_told_before_all_else(
    inline: Command, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "file").touch()
    done = inline(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{arguments[-1]} cannot be written (Not a directory)" in done.stderr


@pytest.mark.parametrize("name", ["x.pdf", "x.txt", "x"])
@pytest.mark.parametrize("command", REPORTS, ids=" ".join)
def test_a_report_is_html(inline: Command, command: tuple[str, ...], name: str) -> None:
    done = inline(*command, "--report", name)
    assert done.returncode == 2
    assert f"{name} has an unknown suffix. Use .html or .htm." in done.stderr


@pytest.mark.parametrize("name", ["x.HTML", "x.htm"])
def test_html_has_two_suffixes_in_any_case(inline: Command, tmp_path: Path, name: str) -> None:
    save_pictures(tmp_path / "pictures")
    assert inline("index", "pictures", "--transform", "none").returncode == 0
    assert inline("query", "pictures/class0/00.jpg", "--report", name).returncode == 0
    assert "<html" in (tmp_path / name).read_text()


@pytest.mark.parametrize("name", ["mini.pt", "mini.onnx.zip", "model.xml"])
def test_a_backbone_is_exported_to_a_known_suffix(
    inline: Command, tmp_path: Path, name: str
) -> None:
    done = inline("export-backbone", "nothere", "--out", name)
    assert done.returncode == 2
    assert f"{name} has an unknown suffix. Use .onnx" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["keep.onnx", "keep", "keep/"])
def test_a_backbone_is_not_exported_over_what_is_there(
    inline: Command, tmp_path: Path, name: str
) -> None:
    (tmp_path / name.removesuffix("/")).write_text("mine")
    done = inline("export-backbone", "nothere", "--out", name)
    assert done.returncode == 2
    assert "already exists. Name a new file .onnx, or a new folder." in done.stderr
    assert (tmp_path / name.removesuffix("/")).read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_told_before_an_image_is_read(
    inline: Command, tmp_path: Path
) -> None:
    save_pictures(tmp_path / "pictures")
    done = inline("train", "pictures", "--out", "/proc/run")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("imgret: /proc/run cannot be written (")
    assert "--resume" not in done.stderr
    (tmp_path / "runs").touch()
    done = inline("train", "pictures")
    assert done.returncode == 2
    assert "runs/pictures cannot be written (Not a directory)" in done.stderr
    assert "ecod" not in done.stderr
    assert "--resume" not in done.stderr


def test_queries_that_cannot_be_compared_are_told_before_the_gallery_is_embedded(
    inline: Command, tmp_path: Path
) -> None:
    save_pictures(tmp_path / "pictures")
    (tmp_path / "empty").mkdir()
    compare = ("compare", "pictures", "--cache", "kept", "--queries")
    done = inline(*compare, "empty")
    assert done.returncode == 2
    assert done.stderr == "imgret: There is no image below empty. Give a folder of images.\n"
    done = inline(*compare, "pictures", "--query-labels", "none")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "None of the images below pictures has a label." in done.stderr
    assert not (tmp_path / "kept").exists()


def test_queries_without_labels_are_told_before_they_are_encoded(
    inline: Command, tmp_path: Path
) -> None:
    save_pictures(tmp_path / "pictures")
    assert inline("index", "pictures", "--transform", "none").returncode == 0
    done = inline("evaluate", "--queries", "pictures", "--labels", "none")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "None of the images below pictures has a label." in done.stderr


def test_a_file_that_is_read_is_not_written_over(inline: Command, tmp_path: Path) -> None:
    save_pictures(tmp_path / "pictures")
    photo = (tmp_path / "pictures" / "class0" / "00.jpg").read_bytes()
    assert inline("index", "pictures", "--transform", "none").returncode == 0
    (tmp_path / "q.html").write_bytes(photo)
    (tmp_path / "link.html").symlink_to("q.html")
    (tmp_path / "a.toml").write_text('[search]\ntransform = "rca"\n')
    (tmp_path / "tuned.toml").write_text((tmp_path / "a.toml").read_text())
    for arguments, read in (
        (("query", "q.html", "--report", "q.html"), "q.html"),
        (("query", "q.html", "--report", "link.html"), "link.html"),
        (("query", "-", "--report", "q.html"), "q.html"),
        (("tune", "pictures", "--recipe", "a.toml", "--out", "./a.toml"), "a.toml"),
        (("tune", "pictures", "--recipe", "tuned.toml"), "tuned.toml"),
    ):
        done = inline(*arguments, stdin="q.html\n")
        assert (done.returncode, done.stdout) == (2, ""), arguments
        said = f"Error: {read} is read, and would be overwritten. Name another file to write."
        assert said in done.stderr
    for arguments in (
        ("leaderboard", "run", "--image", "figures/a.png", "--figures", "figures"),
        ("train", "pictures", "--recipe", "figures/a.png", "--out", "figures/"),
    ):
        (tmp_path / "figures").mkdir(exist_ok=True)
        (tmp_path / "figures" / "a.png").touch()
        done = inline(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "figures/a.png is read, and lies in figures, where files" in done.stderr
    assert (tmp_path / "q.html").read_bytes() == photo
    assert "rca" in (tmp_path / "a.toml").read_text() + (tmp_path / "tuned.toml").read_text()
    assert inline("query", "q.html", "--report", "new.html").returncode == 0
    assert inline("query", "q.html", "--report", "new.html").returncode == 0  # a page, not read
