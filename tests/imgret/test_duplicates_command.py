"""imgret duplicates as users run it: a process, its exit codes, what goes where."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from retrieval.retriever.duplicates import opened
from tests.conftest import Command
from tests.samples import command_environment, command_line, picture

GONE = "class 0/gone.jpg"


@pytest.fixture
def imgret(inline: Command) -> Command:
    """In this process; test_commands.py runs it as one of its own."""
    return inline


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, weights: Path, cache: Path) -> Path:
    """18 pictures; 00 copied, 01 as PNG and WebP, 02 recompressed; one file gone; their gallery."""
    folder = tmp_path_factory.mktemp("prepared")
    root = folder / "pictures"
    for n in range(18):
        file = root / f"class {n % 3}" / f"{n:02}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(n).save(file, quality=95)
    shutil.copy(root / "class 0" / "00.jpg", root / "class 0" / "a\ncopy.jpg")
    shutil.copy(root / "class 0" / "03.jpg", root / GONE)
    picture(90).save(root / "90.png")
    picture(90).save(root / "90 <b>'\"&.webp", lossless=True)
    picture(91, 160, 120).save(root / "91.png")
    picture(91, 160, 120).save(root / "91.jpg", quality=85)
    subprocess.run(
        command_line("index", "pictures", "--backbone", weights),
        cwd=folder, env=command_environment(cache), check=True, capture_output=True,
    )  # fmt: skip
    (root / GONE).unlink()
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    """The same, in the working directory of the command, for a test to change."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_text_is_one_line_a_member(imgret: Command, folder: Path) -> None:
    (folder / "pictures" / "class 0" / "a\ncopy.jpg").unlink()
    done = imgret("duplicates", "--tier", "picture")
    names, *lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert names == ["group", "tier", "score", "pixels", "bytes", "label", "path"]
    assert [line[:4] for line in lines] == [
        ["1", "keep", "1.000", "80x60"], ["1", "picture", "1.000", "80x60"]
    ]  # fmt: skip
    assert {line[6] for line in lines} == {"pictures/90.png", "pictures/90 <b>'\"&.webp"}


def test_json_has_all_members_and_the_threshold(imgret: Command, folder: Path) -> None:
    report = json.loads(imgret("duplicates", "--threshold", 0.9999, "--format", "json").stdout)
    assert report["threshold"] == {"score": 0.9999, "how": "as given"}
    assert report["images"] == 23
    assert report["left_out"] == [{"path": f"pictures/{GONE}", "reason": "does not exist"}]
    assert [group["tier"] for group in report["groups"]] == ["bytes", "picture", "copy"]
    keep, other = report["groups"][0]["members"]
    assert keep == {
        "tier": "keep", "score": 1.0, "width": 80, "height": 60, "label": "class 0",
        "size": (folder / "pictures/class 0/00.jpg").stat().st_size,
        "gallery": ".imgret", "path": "pictures/class 0/00.jpg",
    }  # fmt: skip
    assert (other["tier"], other["path"]) == ("bytes", "pictures/class 0/a\ncopy.jpg")


def test_csv_is_one_row_a_member(imgret: Command, folder: Path) -> None:
    done = imgret("duplicates", "--tier", "picture", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(r["group"], r["group_tier"], r["tier"]) for r in rows] == [
        ("1", "bytes", "keep"), ("1", "bytes", "bytes"),
        ("2", "picture", "keep"), ("2", "picture", "picture"),
    ]  # fmt: skip
    assert {"score", "width", "height", "size", "label", "gallery", "path"} < set(rows[0])
    assert rows[1]["path"] == "pictures/class 0/a\ncopy.jpg"


def test_paths_can_be_moved_aside_and_then_nothing_is_left(
    folder: Path, imgret: Command, cache: Path
) -> None:
    (folder / "aside").mkdir()
    command = " ".join(command_line("duplicates", "--tier", "picture", "--format", "paths", "-0"))
    done = subprocess.run(
        ["/bin/sh", "-c", f"{command} | xargs -0 mv -t aside/"], cwd=folder,
        env=command_environment(cache), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    moved = {file.name for file in (folder / "aside").iterdir()}
    assert "a\ncopy.jpg" in moved
    assert len(moved) == 2
    assert len(moved & {"90.png", "90 <b>'\"&.webp"}) == 1
    again = imgret("duplicates", "--tier", "picture", "--format", "paths")
    assert (again.returncode, again.stdout) == (1, "")


def test_nothing_is_deleted_or_changed(imgret: Command, folder: Path) -> None:
    before = {f: (f.stat().st_mtime_ns, f.read_bytes()) for f in all_files(folder)}
    assert imgret("duplicates", "--threshold", 0.9).returncode == 0
    assert {f: (f.stat().st_mtime_ns, f.read_bytes()) for f in all_files(folder)} == before
    assert "Nothing is deleted" in imgret("duplicates", "--help").stdout


def all_files(folder: Path) -> list[Path]:
    return [f for f in folder.rglob("*") if f.is_file()]


def test_stderr_tells_the_threshold_its_source_the_counts_and_what_is_left_out(
    imgret: Command, folder: Path
) -> None:
    done = imgret("duplicates", "--format", "json")
    lines = done.stderr.splitlines()
    assert f"imgret: left out: pictures/{GONE}: does not exist" in lines
    score = json.loads(done.stdout)["threshold"]["score"]
    assert any(line.startswith(f"threshold  {score:.4f}, estimated from") for line in lines)
    assert "bytes      groups: 1, images besides the kept: 1" in lines
    assert "Comparing embeddings: 22 of 22" in done.stderr


def test_an_approximate_search_tells_what_share_of_near_copies_it_finds(
    imgret: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = json.loads(imgret("duplicates", "--format", "json").stdout)
    monkeypatch.setattr(opened, "LARGE_FROM", 10)
    done = imgret("duplicates", "--format", "json")
    report = json.loads(done.stdout)
    assert (exact["approximate"], exact["recall"]) == (False, None)
    assert (report["approximate"], report["recall"]) == (True, 1.0)
    told = [line for line in done.stderr.splitlines() if line.startswith("neighbours  ")]
    assert told == [
        "neighbours  approximate, through an index; each pair is verified exactly; of near-copies "
        "made to measure it, it found 100.0%"
    ]


@pytest.mark.parametrize(
    ("tier", "searched"), [("bytes", ["bytes"]), ("copy", ["bytes", "picture", "copy"])]
)
def test_only_tiers_that_were_looked_for_are_counted(
    imgret: Command, folder: Path, tier: str, searched: list[str]
) -> None:
    done = imgret("duplicates", "--tier", tier, "--format", "json")
    said = [line.split()[0] for line in done.stderr.splitlines() if "groups:" in line]
    assert said == searched
    assert "threshold" not in done.stderr
    assert json.loads(done.stdout)["tier"] == tier


def test_exit_code_1_without_a_group(imgret: Command, folder: Path) -> None:
    done = imgret("duplicates", "--where", "label = 'class 1'", "--threshold", 1)
    assert (done.returncode, done.stdout) == (1, "")
    empty = imgret("duplicates", "--where", "label = 'none'", "--format", "json")
    assert (empty.returncode, json.loads(empty.stdout)["groups"]) == (1, [])


def test_the_sheet_needs_no_other_file_and_escapes_names(imgret: Command, folder: Path) -> None:
    done = imgret("duplicates", "--tier", "picture", "--report", "sheet.html", "--format", "paths")
    page = (folder / "sheet.html").read_text()
    assert done.returncode == 0
    assert page.count("data:image/jpeg;base64,") == 4
    assert "90 &lt;b&gt;&#39;&#34;&amp;.webp" in page
    assert "<b>" not in page
    assert 'src="' not in page.replace('src="data:', "")
    assert "http" not in page.replace("http-equiv", "")
    assert page.count('<figure class="card keep">') == 2
    assert "Left out, since they are gone, changed or unreadable: 1" in page
    assert "gone.jpg: does not exist" in page


@pytest.mark.long
def test_the_sheet_counts_what_it_does_not_draw(
    imgret: Command, tmp_path: Path, weights: Path
) -> None:
    (tmp_path / "p").mkdir()
    for n in range(205):
        for copy in range(2 if n else 40):
            picture(n, 8, 6).save(tmp_path / "p" / f"{n}-{copy}.png")
    imgret("index", "p", "--backbone", weights)
    assert imgret("duplicates", "--tier", "bytes", "--report", "sheet.html").returncode == 0
    page = (tmp_path / "sheet.html").read_text()
    assert page.count("<section ") == 200
    assert "the first 200 of 205 groups" in page
    assert "and 15 more" in page


def test_against_names_the_images_of_this_gallery_only(
    imgret: Command, folder: Path, weights: Path
) -> None:
    (folder / "train").mkdir()
    shutil.copy(folder / "pictures" / "class 1" / "04.jpg", folder / "train" / "leak.jpg")
    shutil.copy(folder / "pictures" / "class 1" / "04.jpg", folder / "train" / "leak 2.jpg")
    (folder / "train" / "linked.jpg").symlink_to(folder / "pictures" / "class 2" / "05.jpg")
    imgret("index", "train", "--backbone", weights, "--gallery", "train.imgret")
    arguments = ("duplicates", "--against", "train.imgret", "--tier", "bytes", "--format")
    report = json.loads(imgret(*arguments, "json").stdout)
    galleries = [{m["gallery"] for m in group["members"]} for group in report["groups"]]
    assert galleries == [{".imgret", "train.imgret"}] * 2
    assert {group["members"][0]["gallery"] for group in report["groups"]} == {"train.imgret"}
    # 05.jpg is a leak, too, but moving it away would take what linked.jpg leads to
    assert imgret(*arguments, "paths").stdout == "pictures/class 1/04.jpg\n"
    page = imgret(*arguments, "paths", "--report", "sheet.html")
    assert page.returncode == 0
    assert "in train.imgret" in (folder / "sheet.html").read_text()


def test_another_backbone_is_refused(imgret: Command, folder: Path, other_weights: Path) -> None:
    imgret("index", "pictures", "--backbone", other_weights, "--gallery", "other.imgret")
    done = imgret("duplicates", "--against", "other.imgret")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("imgret: ")
    assert str(other_weights) in done.stderr


WRONG = [
    ["--gallery", "nowhere"],
    ["--against", "nowhere"],
    ["--against", ".imgret"],
    ["--against", ""],
    ["--threshold", "1.5"],
    ["--threshold", "nan"],
    ["--threshold", "0.9", "--tier", "bytes"],
    ["--tier", "same"],
    ["--where", "label ="],
    ["--report", "nowhere/sheet.html"],
    ["--format", "json", "-0"],
]


@pytest.mark.long
@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_wrong_use_is_a_message_and_exit_code_2(
    prepared: Path, cache: Path, arguments: list[str]
) -> None:
    done = subprocess.run(
        command_line("duplicates", *arguments), cwd=prepared, env=command_environment(cache),
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "imgret: " in done.stderr or "Error: " in done.stderr
