"""Every error has a class of its own kind, and its message says what to do, in plain English."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import imgret
from imgret.exits import exit_code
from retrieval import errors
from retrieval.errors import ImgretError
from tests.conftest import ROOT
from tests.test_house import parsed, sources

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, ImgretError)
}


def made(tree: ast.Module) -> Iterator[ast.Call]:
    """Calls that make an error of ours, wherever it is raised from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node) in CLASSES:
            yield node


def name_of(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def place(file: Path, node: ast.AST) -> str:
    return f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"


def test_the_root_of_the_errors_is_never_made_itself() -> None:
    found = [
        place(file, call)
        for file in sources()
        for call in made(parsed(file))
        if name_of(call) == "ImgretError"
    ]
    assert found == []


def test_every_class_of_errors_is_made_somewhere_and_is_on_the_face() -> None:
    used = {name_of(call) for file in sources() for call in made(parsed(file))}
    assert used == CLASSES.keys() - {"ImgretError"}
    assert set(imgret.__all__) >= CLASSES.keys()


def test_the_exit_code_of_an_error_stands_on_its_class() -> None:
    assert {name: error.exit_code for name, error in CLASSES.items()} == dict.fromkeys(CLASSES, 2)

    class NothingFoundError(ImgretError):
        exit_code = 1

    def step() -> None:
        raise NothingFoundError("There is nothing.")

    assert exit_code(step) == 1
