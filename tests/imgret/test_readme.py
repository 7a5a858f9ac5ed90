"""README.md and the guide can be followed, in one empty folder each, without a network.

Blocks marked bash, console and python run, in full and in order. Blocks of the README marked sh
install something, and no other may be marked so. What is indented in the guide stands for the
reader's own pictures; test_pages.py checks its options. The slow tests run what takes minutes:
the README's blocks under TRAINING, and the guide.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.pages import DOCS, Block, blocks, indented
from tests.shell import RUN, follow

README = (ROOT / "README.md").read_text(encoding="utf-8")
TRAINING = ("Find better matches", "Train a classifier")
INSTALL = "sh"
INSTALLERS = re.compile(r"(pip install|make (demo|test))\b")


def runnable(text: str) -> list[Block]:
    return [block for block in blocks(text) if block.language in RUN]


def guide() -> list[Block]:
    """The blocks of the guide's pages, in the order of the navigation."""
    names = re.findall(r"guide/[\w-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    return [b for name in names for b in runnable((DOCS / name).read_text(encoding="utf-8"))]


@pytest.mark.long
def test_the_tour_and_the_python_run(tmp_path: Path, cache: Path) -> None:
    found = [block for block in runnable(README) if block.heading not in TRAINING]
    assert {block.language for block in found} == set(RUN)
    follow(found, tmp_path / "empty", cache)


@pytest.mark.slow
def test_all_of_the_readme_runs(tmp_path: Path, cache: Path) -> None:
    found = runnable(README)
    assert {block.heading for block in found} >= set(TRAINING)
    follow(found, tmp_path / "empty", cache)


@pytest.mark.slow
def test_the_guide_runs(tmp_path: Path, cache: Path) -> None:
    found = guide()
    assert len(found) > 10
    follow(found, tmp_path / "empty", cache)


def test_only_lines_that_install_are_not_run() -> None:
    kept_back = [block for block in blocks(README) if block.language not in RUN]
    assert {block.language for block in kept_back} == {INSTALL}
    lines = [line for block in kept_back for line in block.text.splitlines()]
    assert [line for line in lines if not INSTALLERS.match(line)] == []
    assert indented(README) == []


def test_the_pictures_are_there_and_small() -> None:
    pictures = re.findall(r"\]\((docs/images/[\w.]+)\)", README)
    assert pictures[0] == "docs/images/page.webp"
    assert all((ROOT / picture).stat().st_size <= 150_000 for picture in pictures)
