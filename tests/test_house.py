"""The house keeps its rules: one name for one thing, files named by what they hold."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

from benchmarks.house import functions, public_names
from tests.conftest import ROOT

PACKAGES = ("retrieval", "classify", "imgret")
IN_MID_AIR = re.compile(
    r"(Of|The same|Some of|As|Those|These|All of|In|The others?|Another|Nothing|None|Such|Also"
    r"|Both|It|Its|They|Their|That|This|There|And|Or|So)\b|\("
)


def sources() -> list[Path]:
    return sorted(p for name in PACKAGES for p in (ROOT / name).rglob("*.py"))


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def test_no_public_name_is_defined_twice() -> None:
    places = defaultdict(set)
    for file in sources():
        for name in public_names(parsed(file)):
            places[name].add(str(file.relative_to(ROOT)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_the_page_of_the_design_shows_the_layers_that_are_checked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (c for c in project["tool"]["importlinter"]["contracts"] if "containers" in c)
    page = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    shown = page.partition("from the bottom:\n\n")[2].partition("\n\n")[0]
    assert contract["exhaustive"]
    assert [layer.split(", ") for layer in " ".join(shown.split()).split(" | ")] == [
        sorted(layer.split(" | ")) for layer in reversed(contract["layers"])
    ]


def test_files_are_named_by_what_they_hold() -> None:
    assert [str(file) for file in sources() if file.stem.endswith("ing")] == []


def test_docstrings_begin_as_sentences_do() -> None:
    found = []
    for file in sources():
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
                first = (ast.get_docstring(node) or "").partition("\n")[0]
                if IN_MID_AIR.match(first):
                    found.append(f"{file.relative_to(ROOT)}: {first}")
    assert found == []


@pytest.mark.parametrize("word", [r"\b[Mm]end(s|ed|ing)?\b", "gone on from"])
def test_messages_say_fix_and_resume(word: str) -> None:
    found = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in sources()
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(word, line)
    ]
    assert found == []


def test_files_hold_at_most_400_lines_and_functions_50() -> None:
    long = [str(f) for f in sources() if f.read_text(encoding="utf-8").count("\n") > 400]
    long += [str(f) for f in sources() if any(size > 50 for size in functions(parsed(f)))]
    assert long == []
