"""Copies, files that are gone, and --distinct, as a user sees them."""

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
from tests.samples import command_environment, command_line, drawn


@pytest.fixture
def imgret(inline: Command) -> Command:
    return inline


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, weights: Path, cache: Path) -> Path:
    """20 pictures, copies of the first one, and their gallery."""
    folder = tmp_path_factory.mktemp("copies")
    (folder / "p").mkdir()
    for n in range(20):
        drawn(n).save(folder / "p" / f"{n:02}.bmp")
    drawn(0).resize((128, 96)).save(folder / "p" / "half.jpg")
    drawn(0).transpose(Image.Transpose.ROTATE_90).save(folder / "p" / "turned.jpg")
    shutil.copy(folder / "p" / "00.bmp", folder / "p" / "again.bmp")
    subprocess.run(
        command_line("index", "p", "--backbone", weights), cwd=folder,
        env=command_environment(cache), check=True, capture_output=True,
    )  # fmt: skip
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_the_tier_copy_is_in_every_format(imgret: Command, folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(imgret("duplicates", "--format", "csv").stdout)))
    tiers = {Path(row["path"]).name: row["tier"] for row in rows}
    assert tiers == {
        "00.bmp": "keep", "again.bmp": "bytes", "half.jpg": "copy", "turned.jpg": "copy"
    }  # fmt: skip
    (group,) = json.loads(imgret("duplicates", "--format", "json").stdout)["groups"]
    assert group["tier"] == "copy"
    done = imgret("duplicates", "--tier", "copy", "--report", "sheet.html")
    assert [line.split("\t")[1] for line in done.stdout.splitlines()] == [
        "tier", "keep", "bytes", "copy", "copy"
    ]  # fmt: skip
    assert "copy       groups: 1, images besides the kept: 3" in done.stderr
    assert '<span class="tier copy">copy</span>' in (folder / "sheet.html").read_text()
    strict = imgret("duplicates", "--tier", "picture", "--format", "paths").stdout
    assert strict == "p/again.bmp\n"


def test_distinct_folds_copies_and_counts_them(imgret: Command, folder: Path) -> None:
    asked = ("query", "p/00.bmp", "--distinct", "--k", 20)
    names, *lines = [line.split("\t") for line in imgret(*asked).stdout.splitlines()]
    assert (names[-1], len(lines)) == ("copies", 20)
    assert lines[0][-1] == "4"
    assert {line[-1] for line in lines[1:]} == {"1"}
    (found,) = json.loads(imgret(*asked, "--format", "json").stdout)
    assert [m["copies"] for m in found["matches"]] == [4] + [1] * 19
    rows = list(csv.DictReader(io.StringIO(imgret(*asked, "--format", "csv").stdout)))
    assert rows[0]["copies"] == "4"
    imgret(*asked, "--report", "sheet.html")
    assert "(4 copies)" in (folder / "sheet.html").read_text()
    assert "copies" not in imgret("query", "p/00.bmp", "--format", "json").stdout


def test_a_match_whose_file_is_gone_is_said_in_every_format(imgret: Command, folder: Path) -> None:
    (folder / "p" / "05.bmp").unlink()
    shutil.copy(folder / "p" / "04.bmp", folder / "query.bmp")
    asked = ("query", "query.bmp", "--k", 23)
    said = "imgret: p/05.bmp: the file is not there. `imgret index` its folder again.\n"
    text = imgret(*asked)
    assert (text.returncode, text.stderr) == (0, said)
    marked = [line.split("\t")[-1] for line in text.stdout.splitlines() if "05.bmp" in line]
    assert marked == ["missing"]
    rows = list(csv.DictReader(io.StringIO(imgret(*asked, "--format", "csv").stdout)))
    assert [Path(row["path"]).name for row in rows if row["file"] == "missing"] == ["05.bmp"]
    (found,) = json.loads(imgret(*asked, "--format", "json").stdout)
    assert [Path(m["path"]).name for m in found["matches"] if m.get("missing")] == ["05.bmp"]
    assert imgret(*asked, "--format", "paths", "--report", "sheet.html").stderr == said
    assert (folder / "sheet.html").read_text().count("file is gone") == 1
    left_out = imgret("duplicates", "--format", "json")
    assert "left out: p/05.bmp: does not exist" in left_out.stderr
    assert json.loads(left_out.stdout)["left_out"][0]["path"] == "p/05.bmp"
