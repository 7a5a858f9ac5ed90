from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from imgret import output


@pytest.mark.parametrize(
    ("per_second", "said"),
    [(1234.4, "1,234/s"), (2.54, "2.5/s"), (0.25, "4.0 s each"), (1 / 300, "5 min each")],
)
def test_a_slow_rate_is_told_as_time(per_second: float, said: str) -> None:
    assert output.as_rate(per_second) == said


def test_a_long_job_has_few_lines_and_always_its_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with output.shown_progress() as progress:
        for done in range(1, 3601):
            now += 1
            progress("encoding", done, 3600)
    lines = capsys.readouterr().err.splitlines()
    assert 20 < len(lines) < 100  # every five seconds would be 720
    assert lines[0] == "Encoding: 5 of 3,600, 1.2/s, 48 min left"
    assert lines[-1].startswith("Encoding: 3,600 of 3,600, 1.0/s")


def test_every_step_of_a_long_job_has_words() -> None:
    root = Path(output.__file__).parent.parent
    files = [f for package in ("retrieval", "classify") for f in (root / package).rglob("*.py")]
    said = r"""progress\(\s*"([a-z]+)","""
    steps = {step for file in files for step in re.findall(said, file.read_text("utf-8"))}
    assert {"encoding", "calibrating"} <= steps <= set(output.STEP_WORDS)
