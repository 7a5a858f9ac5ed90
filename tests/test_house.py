"""The house keeps its rules: one name for one thing, files named by what they hold."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("retrieval", "classify", "imgret")
IN_MID_AIR = re.compile(
    r"(Of|The same|Some of|As|Those|All of|In|The others?|And|Or|Also|Both)\b"
    r"(?!.*\b(is|are|has|have|gives?|returns?)\b)"
)
TRACEABLE = 60  # characters; a longer line is a sentence


def sources() -> list[Path]:
    return sorted(p for name in PACKAGES for p in (ROOT / name).rglob("*.py"))


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def public_names(tree: ast.Module) -> Iterator[str]:
    """Classes, functions, type aliases and constants at the top of a module."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                parts = target.elts if isinstance(target, ast.Tuple) else [target]
                yield from (part.id for part in parts if isinstance(part, ast.Name))


def test_no_public_name_is_defined_twice() -> None:
    places = defaultdict(set)
    for file in sources():
        for name in public_names(parsed(file)):
            if not name.startswith("_") and name != "command":  # one a command, by its file
                places[name].add(str(file.relative_to(ROOT)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_files_are_named_by_what_they_hold() -> None:
    assert [str(file) for file in sources() if file.stem.endswith("ing")] == []


def test_docstrings_begin_as_sentences_do() -> None:
    found = []
    for file in sources():
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
                first = (ast.get_docstring(node) or "").partition("\n")[0]
                if IN_MID_AIR.match(first) and len(first) < TRACEABLE:
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
    for file in sources():
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                documented = ast.get_docstring(node) is not None and len(node.body) > 1
                body = node.body[1:] if documented else node.body
                if (body[-1].end_lineno or 0) - body[0].lineno >= 50:
                    long.append(f"{file}: {node.name}")
    assert long == []
