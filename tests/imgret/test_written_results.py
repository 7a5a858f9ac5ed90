"""What results look like in a pipe, read back by the readers that people use."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgret import output
from retrieval.text import HIDDEN

NAMES = st.text(st.characters(blacklist_categories=("Cs",)), max_size=12)
ORDINARY = st.text(st.characters(whitelist_categories=("L", "N")), min_size=1, max_size=12)
REPEATED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
FACTOR = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
SECONDS = {"s": 1, "min": 60, "h": 3600}


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_500_000, "1.5 MB"), (10**9, "1.0 GB"),
     (2_345 * 10**9, "2.3 TB"), (10**16, "10000.0 TB")],
)  # fmt: skip
def test_bytes_are_told_in_units_of_a_thousand(size: int, said: str) -> None:
    assert output.as_size(size) == said


@given(st.integers(0, 10**15))
def test_a_size_is_told_within_a_twentieth(size: int) -> None:
    value, unit = output.as_size(size).split()
    assert float(value) * FACTOR[unit] == pytest.approx(size, rel=0.051)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0.0 s"), (0.04, "0.0 s"), (9.94, "9.9 s"), (10, "10 s"), (119.4, "119 s"),
     (120, "2 min"), (3600, "60 min"), (7199, "120 min"), (7200, "2.0 h"), (90_000, "25.0 h")],
)  # fmt: skip
def test_a_time_is_told_in_the_unit_that_a_person_would_use(seconds: float, said: str) -> None:
    assert output.as_time(seconds) == said


@given(st.floats(1, 1e6))
def test_a_time_is_told_within_a_quarter(seconds: float) -> None:
    value, unit = output.as_time(seconds).split()
    assert float(value) * SECONDS[unit] == pytest.approx(seconds, rel=0.26)


def test_a_path_is_told_as_one_would_type_it_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert output.shown_path(tmp_path / "here" / "a" / "b.jpg") == "a/b.jpg"
    assert output.shown_path(tmp_path / "b.jpg") == str(tmp_path / "b.jpg")
    assert output.shown_path(Path("b.jpg")) == "b.jpg"


@REPEATED
@given(rows=st.lists(st.lists(NAMES, min_size=2, max_size=2), min_size=1, max_size=4))
def test_a_row_of_a_table_is_one_line_whatever_its_names_hold(
    rows: list[list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    output.print_table(["path", "label"], rows)
    lines = capfd.readouterr().out.split("\n")
    assert lines[0] == "path\tlabel"
    assert lines[-1] == ""
    assert len(lines) == len(rows) + 2
    assert [line.count("\t") for line in lines[:-1]] == [1] * (len(rows) + 1)
    assert not any(HIDDEN.search(line.replace("\t", "")) for line in lines)


def test_a_table_without_rows_is_nothing_at_all(capfd: pytest.CaptureFixture[str]) -> None:
    output.print_table(["path", "label"], [])
    assert capfd.readouterr().out == ""


@REPEATED
@given(document=st.dictionaries(NAMES, st.lists(NAMES | st.integers() | st.none(), max_size=3)))
def test_json_is_read_back_exactly_and_hides_nothing(
    document: dict[str, list[object]], capfd: pytest.CaptureFixture[str]
) -> None:
    output.print_json(document)
    text = capfd.readouterr().out
    assert json.loads(text) == document
    assert not HIDDEN.search(text.replace("\n", ""))


def test_json_keeps_letters_and_writes_what_it_lacks_as_text(
    capfd: pytest.CaptureFixture[str],
) -> None:
    output.print_json({"path": Path("日本/ü.jpg"), "none": None})
    assert capfd.readouterr().out == '{\n  "path": "日本/ü.jpg",\n  "none": null\n}\n'


@REPEATED
@given(name=ORDINARY, score=st.floats(-1, 1), count=st.integers(-9, 9))
def test_csv_gives_names_and_numbers_back(
    name: str, score: float, count: int, capfd: pytest.CaptureFixture[str]
) -> None:
    output.print_csv(["a", "b", "c", "d"], [[name, score, count, output.Number("-0.5")]])
    head, row = csv.reader(io.StringIO(capfd.readouterr().out))
    assert head == ["a", "b", "c", "d"]
    assert (row[0], float(row[1]), int(row[2]), row[3]) == (name, score, count, "-0.5")


@REPEATED
@given(before=st.sampled_from(["", " ", "\t", "\n", "  \n"]), sign=st.sampled_from("=+-@＝＋－＠"),
       rest=ORDINARY)  # fmt: skip
def test_no_name_in_csv_is_a_formula_to_a_spreadsheet(
    before: str, sign: str, rest: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for cell in (before + sign + rest, Path(f"{sign}{rest}.jpg")):
        output.print_csv(["path"], [[cell]])
        _, (read,) = csv.reader(io.StringIO(capfd.readouterr().out, newline=""))
        assert read == f"'{cell}"


def test_a_sign_alone_or_within_a_name_is_left_as_it_is(
    capfd: pytest.CaptureFixture[str],
) -> None:
    names = ["-", "=", "a=b", "a-b", "@", "1+1"]
    output.print_csv(["label"], [[name] for name in names])
    assert capfd.readouterr().out.splitlines()[1:] == names


def test_paths_that_end_in_nul_are_exact_and_none_is_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [b"a b\n.jpg", b"-rf.jpg", b"\xff\xfe.jpg", "日本.jpg".encode(), b"--help"]
    output.print_paths([tmp_path / os.fsdecode(name) for name in names], null=True)
    read = capfdbinary.readouterr().out.split(b"\0")
    assert read == [b"./" + name if name.startswith(b"-") else name for name in names] + [b""]
    output.print_paths([Path("a.jpg"), Path("-b.jpg")], null=False)
    assert capfdbinary.readouterr().out == b"a.jpg\n./-b.jpg\n"


def test_facts_stand_in_one_column_and_each_is_one_line(
    capfd: pytest.CaptureFixture[str],
) -> None:
    output.print_facts([("images", "3"), ("a longer name", "x\ny"), ("z", "")])
    assert capfd.readouterr().out.splitlines() == [
        "images         3", "a longer name  x\\ny", "z              ",
    ]  # fmt: skip


def test_text_keeps_its_lines_and_shows_what_hides(capfd: pytest.CaptureFixture[str]) -> None:
    output.print_text("one\n  two\x1b[31m\n\nthree\r\n")
    assert capfd.readouterr().out == "one\n  two\\x1b[31m\n\nthree\\r\n"


def test_what_was_passed_over_is_one_line_and_nothing_is_silence(
    capfd: pytest.CaptureFixture[str],
) -> None:
    output.say_passed_over([])
    assert capfd.readouterr().err == ""
    output.say_passed_over([(".mp4", 1200), (".pdf", 3)])
    (line,) = capfd.readouterr().err.splitlines()
    assert re.match(r"passed over 1,203: 1,200 \.mp4, 3 \.pdf \(", line)


def test_an_unknown_step_is_told_by_its_own_word(capfd: pytest.CaptureFixture[str]) -> None:
    with output.shown_progress() as progress:
        progress("polishing", 2, 2)
        progress("finding", 1, None)  # not finished, and too soon for another line
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("polishing: 2 of 2")
