"""The figures of the house, of a tiny tree whose figures one can count."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from benchmarks import house

FILES = {
    "retrieval/__init__.py": "",
    "retrieval/words.py": '"""Words."""\n\nFIT, POOL = "fit", "pool"\n_own = 1\n\n\n'
    "class Word:\n    pass\n",
    "retrieval/index/__init__.py": "",
    "retrieval/index/cells.py": "from retrieval.words import Word\n\n\n"
    "def cells(word):\n    '''Give cells.'''\n    found = word\n    return found\n",
    "classify/__init__.py": "",
    "classify/word.py": "from retrieval.words import Word as _Word\n\n\nclass Word(_Word):\n"
    "    def spell(self):\n        return [\n            1,\n            2,\n        ]\n",
    "imgret/__init__.py": "from classify.word import Word as Spoken\n",
    "imgret/long.py": "x = 1\n" * 401,
    "tests/test_words.py": "assert 1\n" * 214,
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_figures_of_a_tree_are_those_counted_by_hand(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("grimp")
    house.main(tree)
    figures = dict(line.split("\t") for line in capsys.readouterr().out.splitlines())
    code = sum(text.count("\n") for name, text in FILES.items() if not name.startswith("tests"))
    assert figures == {
        "files": "8",
        "files over 400 lines": "1",
        "lines": str(code),
        "test lines a code line": f"{214 / code:.2f}",
        "functions": "2",
        "lines a function, median": "3",
        "lines a function, 90 % below": "4",
        "functions over 50 lines": "0",
        "public names that stand for two things": "1",
        "folders": "4",
        "arrows between folders": "3",
    }


def test_a_function_is_as_long_as_its_body_without_its_docstring() -> None:
    text = '''
def documented():
    """Say one thing.

    And another.
    """
    return 1

def only_documented():
    """Say it."""

async def outer():
    def inner():
        x = 1

        return x
    return inner
'''
    assert sorted(house.functions(ast.parse(text))) == [1, 1, 3, 5]


def test_public_names_are_those_at_the_top_that_others_may_use() -> None:
    text = """
import os
from os import path as alias
A = B = 1
C, _E = 1, 2
F: int = 4
_hidden = 5
x.attribute = 7
def g(): h = 8
class I: j = 9
async def k(): ...
"""
    assert house.public_names(ast.parse(text)) == {"A", "B", "C", "F", "g", "I", "k"}


def test_lines_are_those_of_all_files_in_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("日本\n\nü\n", encoding="utf-8")
    (tmp_path / "b").write_text("", encoding="utf-8")
    assert house.lines([tmp_path / "a", tmp_path / "b"]) == 3
    assert house.lines([]) == 0


def test_this_project_has_fewer_than_one_long_function_in_a_hundred() -> None:
    root = Path(house.__file__).parents[1]
    files = [file for name in house.PACKAGES for file in (root / name).rglob("*.py")]
    sizes = [n for file in files for n in house.functions(ast.parse(file.read_text("utf-8")))]
    assert len(sizes) > 1000
    assert sum(size > 50 for size in sizes) < len(sizes) / 100
