"""Which rows are of a file: those of its path, and those of its content."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.gallery import FileIdentity, ImageTable, Row

VECTOR = np.ones(4, np.float16)
CONTENTS = [(10, "a" * 64), (10, "b" * 64), (20, "c" * 64), (30, "d" * 64)]  # sizes and hashes


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    random = np.random.default_rng(0)
    return [
        Row(
            100 + n,
            f"p/{n}.jpg",
            "p",
            *_facts(random.integers(4)),
            embedding=np.ones(4, np.float16),
        )
        for n in range(40)
    ]


def _facts(number: int) -> tuple[int, int, str]:
    size, sha256 = CONTENTS[number]
    return size, 1, sha256


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> ImageTable:
    made = ImageTable.create(tmp_path_factory.mktemp("t") / "images.lance", 4, "")
    made.write(rows, replace=False)
    made.remove([105])
    return made


FILES = st.builds(
    lambda n, content: FileIdentity(f"p/{n}.jpg", *content),
    st.integers(0, 45),
    st.sampled_from([*CONTENTS, (10, "e" * 64), (50, "f" * 64)]),
)


@given(st.lists(FILES, max_size=5))
@settings(max_examples=60, deadline=None)
def test_they_are_those_that_a_look_at_each_row_finds(
    table: ImageTable, rows: list[Row], files: list[FileIdentity]
) -> None:
    expected = [
        [r.id for r in rows if r.id != 105 and (r.path == f.path or r.sha256 == f.sha256)]
        for f in files
    ]
    assert [ids.tolist() for ids in table.ids_of_files(files)] == expected


def test_paths_are_read_only_for_a_file_that_its_size_does_not_find(
    table: ImageTable, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    columns = type(table).columns

    def recorded(self: ImageTable, names: list[str], *rest: object) -> object:
        read.extend(names)
        return columns(self, names, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(type(table), "columns", recorded)
    monkeypatch.setattr("retrieval.gallery.reader.FEW_OF", 1)  # a quarter has that size
    own = FileIdentity(rows[3].path, rows[3].size, rows[3].sha256)
    assert 103 in table.ids_of_files([own])[0]
    assert "path" not in read
    assert table.ids_of_files([FileIdentity(rows[3].path, 77, "e" * 64)])[0].tolist() == [103]
    assert "path" in read
