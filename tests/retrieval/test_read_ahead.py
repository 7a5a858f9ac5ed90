"""Cells of a mapped index are read before they are searched, not page by page."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import time
from pathlib import Path

import numpy as np
import pytest

from retrieval.index import Index, Kind
from retrieval.index.ahead import PIECE, ReadAhead
from retrieval.index.selection import Selection
from retrieval.transform import Transform

D = 256
PAGE = mmap.PAGESIZE

pytestmark = pytest.mark.skipif(
    not hasattr(os, "posix_fadvise"), reason="needs a kernel that forgets a file when asked"
)


def forget(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def resident(address: int, size: int) -> np.ndarray:
    """Of each page of mapped memory, whether it is in memory."""
    start = address // PAGE * PAGE
    pages = np.zeros(-(-(address + size - start) // PAGE), np.uint8)
    mincore = ctypes.CDLL(None, use_errno=True).mincore
    mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    assert mincore(start, address + size - start, pages.ctypes.data) == 0
    return (pages & 1).astype(bool)


def mapped(kind: Kind, folder: Path) -> Index:
    x = np.random.default_rng(0).normal(size=(6_400, D)).astype(np.float32)
    ids = np.arange(len(x))
    made = Index.build(Transform("none", D), lambda: iter([(ids, x)]), len(x), kind=kind)
    made.save(folder / "index")
    forget(folder / "index")
    return Index.load(folder / "index", made.settings)


def test_the_cells_asked_for_are_read_and_no_others(tmp_path: Path) -> None:
    index = mapped("ivf", tmp_path)
    stored = index.stored
    sizes = stored.cell_sizes * stored.row_size
    first = int(stored.index.invlists.get_codes(int(np.argmax(sizes > 0))))
    starts = first + np.cumsum(sizes) - sizes
    forget(tmp_path / "index")
    if resident(first, int(sizes.sum())).mean() > 0.5:
        pytest.skip("the file system keeps files in memory")
    asked = np.array([[3, -1], [90, 3]])
    stored.read_ahead(asked)

    def there(cell: int) -> np.ndarray:
        return resident(int(starts[cell]) + PAGE, int(sizes[cell]) - 2 * PAGE)

    until = time.monotonic() + 30
    while not (there(3).all() and there(90).all()) and time.monotonic() < until:
        time.sleep(0.01)  # the kernel reads beside
    assert there(3).all()
    assert there(90).all()
    assert not there(50).any()


@pytest.mark.parametrize("kind", ["exact", "ivf"])
def test_a_search_takes_few_faults(kind: Kind, tmp_path: Path) -> None:
    index = mapped(kind, tmp_path)
    queries = np.random.default_rng(1).normal(size=(5, D)).astype(np.float32)
    expected = index.search(queries, 3)
    again = mapped(kind, tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
    found = again.search(queries, 3)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt - before
    assert (found[1] == expected[1]).all()
    pages = 6_400 * D * (4 if kind == "exact" else 2) // PAGE  # so wide are vectors by chance
    assert faults < pages // 4


def test_a_narrow_filter_reads_no_whole_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = mapped("ivf", tmp_path)
    asked: list[np.ndarray] = []
    monkeypatch.setattr(ReadAhead, "read", lambda self, cells: asked.append(cells))
    queries = np.random.default_rng(1).normal(size=(1, D)).astype(np.float32)
    index.search(queries, 3, among=Selection.of(np.arange(0, 6_400, 100)))
    assert not asked
    index.search(queries, 3, among=Selection.of(np.arange(0, 6_400, 2)))
    assert asked


def test_each_cell_is_asked_for_once_in_pieces() -> None:
    ahead = ReadAhead(10 * PAGE + 7, np.array([0, PIECE + 5, 3 * PAGE]))
    calls: list[tuple[int, int]] = []
    ahead._advise = lambda start, size, _: calls.append((start, size)) or 0  # type: ignore[func-returns-value]
    ahead.read(np.array([0, 1, -1]))
    assert [start % PAGE for start, _ in calls] == [0, 0]
    assert calls[0][0] == 10 * PAGE
    assert calls[-1][0] + calls[-1][1] == 10 * PAGE + 7 + PIECE + 5
    ahead.read(np.array([1]))
    assert len(calls) == 2
    ahead.read(np.array([1, 2]))
    assert len(calls) == 3
