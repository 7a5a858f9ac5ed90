"""The site of the docs: pages that are generated say what is there, and links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import imgret
from imgret.cli import COMMANDS
from tests.conftest import ROOT

DOCS = ROOT / "docs"
LAID = ("docs", "imgret", "classify", "retrieval", "mkdocs.yml")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the site is made of, to be changed."""
    pytest.importorskip("material", reason="needs the extra docs, which `make docs` installs")
    pytest.importorskip("mkdocstrings", reason="needs the extra docs, which `make docs` installs")
    for name in LAID:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def build(checkout: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", "site"]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True)


class Headings(HTMLParser):
    """The ids of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids |= {value for key, value in attrs if key == "id" and value}


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    spec = importlib.util.spec_from_file_location("page", ROOT / "packaging" / "commands_page.py")
    assert spec
    assert spec.loader
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    said = page.commands_page()
    assert all(f"\n## imgret {name}\n" in said for name in COMMANDS)
    assert "--backbone TEXT" in said
    told = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert told == said, "Run `python packaging/commands_page.py`."


def test_the_reference_has_every_public_name_once() -> None:
    shown = re.findall(r"^::: imgret\.(\w+)$", (DOCS / "reference.md").read_text(), re.MULTILINE)
    assert sorted([*shown, "__version__"]) == imgret.__all__


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2].partition("\n\n")[0]
    named = re.findall(r"[\w/-]+\.md", navigation)
    assert sorted(named) == sorted(str(file.relative_to(DOCS)) for file in DOCS.rglob("*.md"))


def test_the_site_builds_and_shows_what_docstrings_say(checkout: Path) -> None:
    done = build(checkout)
    assert done.returncode == 0, done.stderr[-2000:]
    page = Headings()
    page.feed((checkout / "site" / "reference.html").read_text(encoding="utf-8"))
    methods = {"imgret.Retriever.search", "imgret.Retriever.index"}
    names = {f"imgret.{name}" for name in imgret.__all__ if name != "__version__"}
    assert methods | names <= page.ids


@pytest.mark.parametrize("broken", ["[x](nowhere.md)", "[x](guide/search.md#no-such-heading)"])
def test_a_link_that_leads_nowhere_ends_the_build(checkout: Path, broken: str) -> None:
    with (checkout / "docs" / "index.md").open("a") as file:
        file.write(f"\n{broken}\n")
    done = build(checkout)
    assert done.returncode != 0
    assert f"contains a link '{broken[4:-1]}'" in done.stderr
