"""The face of imgret: what `import imgret` offers, and what that costs."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pydantic
import pytest

import imgret
from tests.conftest import ROOT

OURS = ("imgret", "classify", "retrieval")
HEAVY = {"PIL", "click", "faiss", "lance", "matplotlib", "numpy", "pyarrow", "rich", "sklearn",
         "scipy", "timm", "torch"}  # fmt: skip


def test_all_is_sorted_and_each_name_is_there() -> None:
    assert imgret.__all__ == sorted(set(imgret.__all__))
    assert all(getattr(imgret, name) is not None for name in imgret.__all__)


def test_dir_shows_the_public_names_before_any_is_loaded() -> None:
    code = "import imgret; print(dir(imgret) == imgret.__all__, 'Retriever' in vars(imgret))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "False"]


def test_import_imgret_loads_none_of_its_own_packages_nor_a_library() -> None:
    code = "import imgret, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"classify", "retrieval", *HEAVY} & set(done.stdout.split())


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Gallery'"):
        imgret.Gallery  # noqa: B018


def test_type_checkers_are_told_the_same_names() -> None:
    tree = ast.parse(Path(imgret.__file__).read_text(encoding="utf-8"))
    (told,) = (n for n in tree.body if isinstance(n, ast.If))
    names = [a.asname or a.name for n in told.body for a in n.names]  # type: ignore[attr-defined]
    assert sorted(names) == imgret.__all__


def test_every_type_that_the_face_returns_is_on_the_face() -> None:
    public = {id(getattr(imgret, name)) for name in imgret.__all__}
    lacking = {
        f"{name} gives {given.__module__}.{given.__qualname__}"
        for name in imgret.__all__
        for given in given_by(getattr(imgret, name))
        if given.__module__.partition(".")[0] in OURS and id(given) not in public
    }
    assert not lacking


def test_every_dataclass_that_the_face_returns_has_to_dict() -> None:
    given = {given for name in imgret.__all__ for given in given_by(getattr(imgret, name))}
    results = {one for one in given if dataclasses.is_dataclass(one)}
    known = {imgret.Filter, imgret.NamedExperiment, imgret.Neighbourhood, imgret.Refinement,
             imgret.Reranking}  # fmt: skip
    assert {one.__name__ for one in results - known if not hasattr(one, "to_dict")} == set()
    assert imgret.Trained in results


def test_each_package_says_that_it_is_typed() -> None:
    assert all((ROOT / package / "py.typed").is_file() for package in OURS)


def test_the_version_is_said_in_one_way_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "retrieval/__init__.py"
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited
    assert cited[1] == imgret.__version__
    assert f"## {imgret.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_licence_is_said_in_one_way_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    assert "license: Apache-2.0" in (ROOT / "CITATION.cff").read_text()
    assert (
        "Apache License\n                           Version 2.0" in (ROOT / "LICENSE").read_text()
    )


def given_by(public: Any) -> Iterator[type]:
    """The types that a function returns, and a class by its methods, properties and fields."""
    if not inspect.isclass(public):
        if inspect.isfunction(public):
            yield from returned_by(public)
        return
    if dataclasses.is_dataclass(public):
        for name, hint in typing.get_type_hints(public).items():
            if not name.startswith("_"):
                yield from parts(hint)
    inherited = dir(pydantic.BaseModel) if issubclass(public, pydantic.BaseModel) else []
    for name, member in inspect.getmembers_static(public):
        if name in inherited:
            continue
        function = member.fget if isinstance(member, property) else member
        function = getattr(function, "__func__", function)
        if not name.startswith("_") and inspect.isfunction(function):
            yield from returned_by(inspect.unwrap(function))


def returned_by(function: Any) -> Iterator[type]:
    module = sys.modules[function.__module__]
    names = imported_for_types(module) | vars(module)
    yield from parts(typing.get_type_hints(function, names).get("return"))


@functools.cache
def imported_for_types(module: ModuleType) -> dict[str, Any]:
    """What a module imports for type checkers alone, by its name."""
    tree = ast.parse(inspect.getsource(module))
    blocks = [
        n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"
    ]
    return {
        a.asname or a.name: getattr(importlib.import_module(str(n.module)), a.name)
        for block in blocks
        for n in block.body
        if isinstance(n, ast.ImportFrom)
        for a in n.names
    }


def parts(hint: Any) -> Iterator[type]:
    """The classes in a hint: those of list[Match] | None are list, Match and NoneType."""
    if isinstance(hint, type) and not typing.get_args(hint):
        yield hint
    for argument in typing.get_args(hint):
        yield from parts(argument)
