"""What index passes over is counted, where a user sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.samples import picture


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    """A folder with one picture that is read and five files that are not."""
    folder = tmp_path / "camera"
    folder.mkdir()
    for name in ("a.psd", "b.PSD", "c.jp2", "d.mp4", "e.pdf"):
        (folder / name).write_bytes(bytes(100))
    picture(1).save(folder / "f.png")
    return folder


def test_one_line_counts_by_kind_what_is_not_read(camera: Path, inline: Command) -> None:
    for _ in range(2):  # the second run has nothing to embed
        said = inline("index", camera).stderr.splitlines()
        lines = [line for line in said if "passed over" in line]
        assert [line.partition(" (")[0] for line in lines] == [
            "passed over 5: 2 .psd, 1 .jp2, 1 .mp4, 1 .pdf"
        ]


def test_a_folder_of_such_files_alone_says_so(camera: Path, inline: Command) -> None:
    (camera / "f.png").unlink()
    ended = inline("index", camera)
    assert ended.returncode == 1
    assert "passed over 5" in ended.stderr


def test_a_dry_run_and_json_have_the_counts(camera: Path, inline: Command) -> None:
    expected = [[".psd", 2], [".jp2", 1], [".mp4", 1], [".pdf", 1]]
    dry = inline("index", camera, "--dry-run")
    assert "passed over 5" in dry.stderr
    for extra in (["--dry-run"], []):
        report = json.loads(inline("index", camera, "--format", "json", *extra).stdout)
        assert report["passed_over"] == expected


def test_nothing_is_said_where_nothing_is_passed_over(camera: Path, inline: Command) -> None:
    assert "passed over" not in inline("index", camera / "f.png").stderr
