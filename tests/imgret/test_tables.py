"""Tables in a pipe: a first line that names the columns, then one line a row."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from classify.training import train
from retrieval.retriever import Retriever
from tests.classify.blobs import save_blobs, tiny
from tests.conftest import ROOT, Command

TRAIN = "data/train"
RED = "data/test/red/500.png"
TABLES = {  # the command whose file prints tables -> how it is asked, and the tables' first lines
    "backbones": (("backbones",), [
        ["name", "short", "width", "input", "parameters", "weights", "licence"],
    ]),
    "calibrate": (("calibrate", "--most-pictures", 20), [["probability", "right", "queries"]]),
    "compare": (
        ("compare", TRAIN, "--transform", "none", "--transform", "whiten:8", "--cache", "c"), [
        ["experiment", "width", "precision@1", "precision@5"],
        ["first", "second", "difference", "low", "high", "p"],
    ]),
    "duplicates": (("duplicates",), [
        ["group", "tier", "score", "pixels", "bytes", "label", "path"],
    ]),
    "evaluate": (("evaluate",), [
        ["metric", "value", "low", "high"],
        ["class", "queries", "precision@5", "F1"],
    ]),
    "explain": (("explain", "run", RED), [
        ["image", "run", "predicted", "probability", "label"],
    ]),
    "info": (("info", "--failed"), [["image", "reason"]]),
    "leaderboard": (("leaderboard", "run"), [["run", "model", "parameters"]]),
    "predict": (("predict", "run", RED), [["image", "rank", "probability", "class"]]),
    "query": (("query", RED), [["rank", "score", "label", "path"]]),
    "recipes": (("recipes",), [["name", "row", "data", "model", "parameters", "to beat"]]),
    "test": (("test", "run"), [["class", "precision", "recall", "F1", "support"]]),
    "tune": (("tune", TRAIN, "--minutes", 0.01, "--cache", "c", "--out", "t.toml"), [
        ["setting", "precision@5", "gain"],
    ]),
}  # fmt: skip


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/train and data/test, a run and a gallery of them, with a copy and a broken file."""
    folder = tmp_path_factory.mktemp("tables")
    save_blobs(folder / "data" / "train", 8)
    save_blobs(folder / "data" / "test", 2, first=500)
    train(folder / "data", tiny("training.epochs=1"), folder / "run")
    red = folder / "data" / "train" / "red"
    shutil.copy(red / "000.png", red / "copy.png")
    (red / "broken.png").write_bytes(b"no image")
    Retriever(folder / ".imgret", transform="none").index(folder / "data" / "train")
    return folder


def printing() -> set[str]:
    """The commands whose files call print_table()."""
    return {
        file.stem
        for file in (ROOT / "imgret" / "commands").glob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print_table"
    }


def test_every_command_that_prints_tables_is_tried_here() -> None:
    assert printing() == set(TABLES)


@pytest.mark.parametrize("command", TABLES)
def test_a_table_in_a_pipe_begins_with_the_names_of_its_columns(
    inline: Command, made: Path, tmp_path: Path, command: str
) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    Retriever(tmp_path / ".imgret").index(tmp_path / "data" / "train")
    arguments, tables = TABLES[command]
    done = inline(*arguments)
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    for columns in tables:
        place = next(n for n, line in enumerate(lines) if line[: len(columns)] == columns)
        assert len(lines[place + 1]) == len(lines[place]), "a row follows, as wide"
        assert place == 0 or len(lines[place - 1]) == 1, "nothing of the table comes before"


def test_of_no_rows_a_pipe_gets_nothing(inline: Command, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    done = inline("query", RED, "--min-score", 1.5)
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("evaluate",), "intervals  95 %, for other queries of these classes"),
        (("evaluate", "--by", "class"), "intervals  95 %, for other classes than these"),
        (("compare", TRAIN, "--cache", "c"), "intervals  95 %, for other queries of these classes"),
        (("compare", TRAIN, "--cache", "c", "--by", "class"), "95 %, for other classes than these"),
        (
            ("tune", TRAIN, "--minutes", 0.01, "--cache", "c", "--out", "t.toml"),
            "95 %, for other queries of these classes",
        ),
        (("evaluate", "--format", "csv"), ",interval_over\r\n"),
        (("compare", TRAIN, "--cache", "c", "--format", "csv"), ",queries,interval_over,"),
    ],
)
def test_it_is_said_what_intervals_are_of(
    inline: Command, made: Path, tmp_path: Path, command: tuple[object, ...], said: str
) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    done = inline(*command)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout or said.replace("\r", "") in done.stdout
