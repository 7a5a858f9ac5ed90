"""imgret sample, as a user runs it."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.samples import command_environment, command_line

SMALL = ("--train", 2, "--test", 1, "--size", 40)


def test_a_folder_is_written_and_what_to_try_next_is_said(imgret: Command, tmp_path: Path) -> None:
    done = imgret("sample", "my parts", *SMALL)
    assert done.returncode == 0
    assert [line.split(maxsplit=1) for line in done.stdout.splitlines()] == [
        ["folder", "my parts"],
        ["images", "15: 10 to train, 5 to test"],
        ["written", "15"],
        ["classes", "bolt, carton_box, cement_bag, nut, washer"],
    ]
    assert "Rendering pictures: 15 of 15" in done.stderr
    assert "imgret index 'my parts/train'" in done.stderr
    assert "imgret query 'my parts/test/bolt/bolt_000.jpg'" in done.stderr
    assert (tmp_path / "my parts" / "test" / "bolt" / "bolt_000.jpg").is_file()


def test_after_ctrl_c_the_same_command_goes_on(
    inline: Command, tmp_path: Path, cache: Path
) -> None:
    arguments = ("sample", "parts", "--train", 60, "--test", 0, "--size", 32)
    process = subprocess.Popen(
        command_line(*arguments), cwd=tmp_path, env=command_environment(cache),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (130, "")
    assert "Interrupted. What was stored stays; run the same command again to continue." in err
    first = {path: path.read_bytes() for path in tmp_path.rglob("*.jpg")}
    assert 0 < len(first) < 300
    one_more_each = str(len(first) // 5 + 2)
    more = inline("sample", "parts", "--train", one_more_each, "--test", 0, "--size", 32)
    assert more.returncode == 0
    assert len(list(tmp_path.rglob("*.jpg"))) == int(one_more_each) * 5
    assert all(path.read_bytes() == data for path, data in first.items())


def test_a_second_run_writes_nothing(inline: Command) -> None:
    inline("sample", "parts", *SMALL)
    again = inline("sample", "parts", *SMALL)
    assert (again.returncode, again.stdout.splitlines()[2].split()) == (0, ["written", "0"])


def test_a_folder_with_other_things_in_it_is_refused_with_2(
    inline: Command, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_bytes(b"mine")
    done = inline("sample", "photos")
    assert (done.returncode, done.stdout) == (2, "")
    assert "photos is not empty, and `imgret sample` did not write its content." in done.stderr
    assert len(list((tmp_path / "photos").iterdir())) == 1


@pytest.mark.parametrize(
    "wrong", [("--size", 8), ("--size", 9999), ("--train", -1), ("--seed", -1), ("--test", "x")]
)
def test_numbers_out_of_range_are_wrong_usage(
    inline: Command, tmp_path: Path, wrong: tuple[object, ...]
) -> None:
    done = inline("sample", "parts", *wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert not (tmp_path / "parts").exists()


def test_no_images_at_all_are_refused(inline: Command) -> None:
    done = inline("sample", "parts", "--train", 0, "--test", 0)
    assert done.returncode == 2
    assert "Give at least one image." in done.stderr


def test_help_has_examples(inline: Command) -> None:
    assert "  imgret sample parts/" in inline("sample", "--help").stdout
