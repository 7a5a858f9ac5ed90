"""Names and labels are data: in no format does one become a command, a line or a formula."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from classify.training import train
from tests.classify.blobs import save_blobs, tiny
from tests.conftest import Command
from tests.samples import command_environment, command_line, on_a_terminal, picture

ESCAPE, TITLE = "esc\x1b[2J\x1b[31mred", "\x1b]0;TITLE\x07bad"
NAMES = [
    f"{ESCAPE}.png", f"{TITLE}.png", "new\nline.png", "tab\there.png", "c1\x9b31m.png",
    "del\x7f.png", "rtl\u202egnp.exe.png", "return\rback.png", "日本.png", "-dash.png",
]  # fmt: skip
NO_UTF_8 = os.fsdecode(b"8bit\x9b31m\xff.png")
LABELS = ["=HYPERLINK(1)", "+1\x1b[31m", "@sum", "-2+3", "$x^2$"]
OBEYED = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\x8e\x8f\xaa-\xae]")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, weights: Path, cache: Path) -> Path:
    """p/LABEL/NAME for all names, a broken image of a name with an escape, and their gallery."""
    folder = tmp_path_factory.mktemp("names")
    for n, name in enumerate(NAMES):
        place = folder / "p" / LABELS[n % len(LABELS)]
        place.mkdir(parents=True, exist_ok=True)
        picture(n).save(place / name)
    (folder / "p" / f"{TITLE}.jpg").write_text("no image")
    picture(1).save(folder / "query.png")
    picture(1).save(folder / "p" / NO_UTF_8)
    done = subprocess.run(
        command_line("index", "p", "--backbone", weights), cwd=folder,
        env=command_environment(cache), capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert OBEYED.search(done.stderr) is None
    assert rb"failed: p/\x1b]0;TITLE\x07bad.jpg" in done.stderr
    return folder


def piped(folder: Path, cache: Path, *arguments: object, **options: object) -> bytes:
    done = subprocess.run(
        command_line(*arguments), cwd=folder, env=command_environment(cache), capture_output=True,
        **options,  # type: ignore[call-overload]
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    assert OBEYED.search(done.stderr) is None
    return done.stdout


QUERY = ("query", "query.png", "--k", len(NAMES))


@pytest.mark.long
@pytest.mark.parametrize(
    "arguments",
    [QUERY, *((*QUERY, "--format", kind) for kind in ("paths", "csv", "json")),
     ("query", "query.png", f"p/{NO_UTF_8}"), ("info", "--failed"),
     ("duplicates", "--threshold", "-1"), ("verify",), ("index", "p")],
    ids=lambda a: " ".join(map(str, a)),
)  # fmt: skip
def test_a_terminal_sees_names_with_their_controls_written_out(
    prepared: Path, cache: Path, arguments: tuple[object, ...]
) -> None:
    shown, _ = on_a_terminal(prepared, cache, *arguments)
    assert "Traceback" not in shown
    for obeyed in ("\x1b[2J", "\x1b]0;", "\x1b[31m", "\x9b", "\x7f", "\u202e", "\x07"):
        assert obeyed not in shown
    if arguments == QUERY:
        assert r"esc\x1b[2J\x1b[31mred.png" in shown
        assert "日本.png" in shown


def test_text_in_a_pipe_is_one_line_a_match_with_four_columns(prepared: Path, cache: Path) -> None:
    names, *lines = piped(prepared, cache, *QUERY).splitlines()
    assert names == b"rank\tscore\tlabel\tpath"
    assert len(lines) == len(NAMES)
    assert {line.count(b"\t") for line in lines} == {3}
    assert all(OBEYED.search(line) is None for line in lines)
    names = [line.split(b"/")[-1] for line in lines]
    assert rb"new\nline.png" in names
    assert rb"tab\there.png" in names


@pytest.mark.long
def test_paths_in_a_pipe_have_the_bytes_of_the_names(prepared: Path, cache: Path) -> None:
    ended = piped(prepared, cache, *QUERY, "--format", "paths", "-0").split(b"\0")
    assert {os.fsdecode(path).rpartition("/")[2] for path in ended[:-1]} == set(NAMES)
    assert all((prepared / os.fsdecode(path)).is_file() for path in ended[:-1])
    assert piped(prepared, cache, *QUERY, "--format", "paths").split(b"\n")[0] == ended[0]


def test_a_path_that_begins_with_a_dash_is_no_option_to_who_takes_it(
    prepared: Path, cache: Path
) -> None:
    inside = prepared / "p" / LABELS[NAMES.index("-dash.png") % len(LABELS)]
    asked = ("query", "./-dash.png", "--k", 1, "--gallery", prepared / ".imgret")
    assert piped(inside, cache, *asked, "--format", "paths") == b"./-dash.png\n"


@pytest.mark.long
def test_json_holds_names_exactly_and_none_of_their_controls(prepared: Path, cache: Path) -> None:
    out = piped(prepared, cache, *QUERY, "--format", "json")
    assert OBEYED.search(out) is None
    (found,) = json.loads(out)
    assert {Path(m["path"]).name for m in found["matches"]} == set(NAMES)
    failed = json.loads(piped(prepared, cache, "info", "--format", "json"))["failures"]
    assert f"p/{TITLE}.jpg" in [path for path, _ in failed]
    (found,) = json.loads(piped(prepared, cache, "query", f"p/{NO_UTF_8}", "--format", "json"))
    assert found["query"] == f"p/{NO_UTF_8}"


def test_csv_has_one_record_a_match_and_guards_formulas(prepared: Path, cache: Path) -> None:
    out = piped(prepared, cache, *QUERY, "--format", "csv")
    assert OBEYED.search(out) is None
    rows = list(csv.DictReader(io.StringIO(out.decode(), newline="")))
    assert len(rows) == len(NAMES)
    assert {row["label"] for row in rows} == {
        "'=HYPERLINK(1)",
        r"'+1\x1b[31m",
        "'@sum",
        "'-2+3",
        "$x^2$",
    }
    assert any(row["path"].endswith("new\nline.png") for row in rows)
    scores = [float(row["score"]) for row in rows]
    assert min(scores) < 0.99 <= max(scores)


@pytest.mark.long
def test_pages_hold_no_tag_and_no_mark_that_turns_text_around(
    prepared: Path, cache: Path, tmp_path: Path
) -> None:
    pages = [tmp_path / name for name in ("sheet.html", "map.html", "duplicates.html", "e.html")]
    piped(prepared, cache, *QUERY, "--report", pages[0])
    piped(prepared, cache, "map", "--report", pages[1], "--method", "tsne")
    piped(prepared, cache, "duplicates", "--threshold", "-1", "--report", pages[2])
    piped(prepared, cache, "evaluate", "--report", pages[3])
    for page in pages:
        assert OBEYED.search(page.read_bytes()) is None, page
    assert r"rtl\u202egnp.exe.png" in pages[0].read_text()


@pytest.mark.long
def test_messages_of_wrong_use_write_controls_out(prepared: Path, cache: Path) -> None:
    for wrong in (
        ("query", f"{TITLE}.none"), (f"{TITLE}",), ("query", f"--{TITLE}"),
        ("query", "query.png", "--gallery", TITLE), ("query", "query.png", "--format", TITLE),
        ("train", "p", "--recipe", f"{TITLE}"), ("remove", f"{TITLE}\n"),
    ):  # fmt: skip
        done = subprocess.run(
            command_line(*wrong), cwd=prepared, env=command_environment(cache), capture_output=True
        )
        assert done.returncode in (1, 2), wrong
        assert OBEYED.search(done.stderr) is None, done.stderr
        assert b"Traceback" not in done.stderr


@pytest.mark.long
def test_classifiers_write_the_names_of_their_classes_out(inline: Command, tmp_path: Path) -> None:
    save_blobs(tmp_path / "data" / "train", 4)
    for n, folder in enumerate(sorted((tmp_path / "data" / "train").iterdir())):
        folder.rename(folder.with_name([f"=1{TITLE}", "$\\frac$", "@x\ny"][n % 3] + str(n)))
    train(tmp_path / "data", tiny("training.epochs=1"), tmp_path / "runs" / "a\x1b[31mb")
    run = "runs/a\x1b[31mb"
    image = next(f for f in (tmp_path / "data" / "train").rglob("*") if f.is_file())
    odd = image.with_name(f"{ESCAPE}{image.suffix}")
    image.rename(odd)
    name = str(odd.relative_to(tmp_path))
    for arguments in (
        ("predict", run, name), ("predict", run, name, "--format", "csv"),
        ("predict", run, name, "--format", "json"),
        ("test", run, "--data", "data/train", "--report", "t.html", "--figures", "figures"),
        ("test", run, "--data", "data/train", "--format", "csv"),
        ("explain", run, name), ("leaderboard", run, "--report", "l.html"),
        ("leaderboard", run, "--format", "csv"),
    ):  # fmt: skip
        done = inline(*arguments)
        assert done.returncode == 0, done.stderr
        assert OBEYED.search((done.stdout + done.stderr).encode()) is None, arguments
        if arguments[-1] == "csv":
            cells = [cell for row in csv.reader(io.StringIO(done.stdout)) for cell in row]
            assert not any(re.match(r"[=+@-]", cell) for cell in cells)
    for page in [tmp_path / "t.html", tmp_path / "l.html", *(tmp_path / "figures").glob("*.svg")]:
        assert OBEYED.search(page.read_bytes()) is None, page
