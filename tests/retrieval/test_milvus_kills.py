"""Published galleries of thousands of images, and what is left where a process was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.milvus_server import MilvusProcess
from imgret import Filter, GalleryError, Retriever, ServerError
from retrieval.gallery import Gallery, Row
from retrieval.milvus import MilvusServer, ServedAddress
from retrieval.retriever.publish import bring_up_index, open_to_write
from tests.samples import command_environment, picture

pytestmark = pytest.mark.slow

A_CLASS, DIRECTIONS, NOISE = 100, 24, 0.1  # images of a label, and how they are spread
KILLED = """
import os, signal, sys
from imgret import Retriever
def killed(step, done, total):
    if step == "publishing" and done >= int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
Retriever(sys.argv[1]).publish(sys.argv[2], progress=killed)
"""
KILLED_AT = """
import os, signal, sys
from imgret import Retriever
from retrieval.milvus import MilvusServer
setattr(MilvusServer, sys.argv[3], lambda *_, **how: os.kill(os.getpid(), signal.SIGKILL))
Retriever(sys.argv[1]).publish(sys.argv[2])
"""


def gallery_of(folder: Path, n: int) -> Retriever:
    """A gallery of one picture, and of rows without files, in classes of A_CLASS."""
    folder.mkdir(parents=True, exist_ok=True)
    picture(0).save(folder / "one.png")
    retriever = Retriever(folder / "photos.imgret", transform="pca:64")
    retriever.index(folder / "one.png")
    add_rows(retriever, 0, n)
    return retriever


def embeddings_of(retriever: Retriever, first: int, n: int) -> np.ndarray:
    """Points near a space of few directions, as embeddings of images are."""
    dim = retriever.gallery.open_table().dim
    space = np.random.default_rng(0).normal(size=(DIRECTIONS, dim)).astype(np.float32)
    random = np.random.default_rng([first, n])
    x = random.standard_normal((n, DIRECTIONS), np.float32) @ space
    x += NOISE * random.standard_normal((n, dim), np.float32)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16)


def add_rows(retriever: Retriever, first: int, n: int) -> None:
    gallery: Gallery = retriever.gallery
    with gallery.lock():
        settings, table = open_to_write(gallery)
        embeddings = embeddings_of(retriever, first, n)
        for start in range(0, n, 50_000):
            part = range(start, min(n, start + 50_000))
            ids = table.next_ids(len(part))
            rows = [
                Row(id_, f"rows/{first + i}.jpg", "rows", 1000 + i, i, sha256=f"{first + i:064x}",
                    width=640, height=480, label=f"c{(first + i) // A_CLASS}",
                    embedding=embeddings[i])
                for id_, i in zip(ids, part, strict=True)
            ]  # fmt: skip
            table.write(rows, replace=False)
        bring_up_index(gallery, table, settings)


def served(local: Retriever, place: str) -> Retriever:
    return Retriever(f"{place}?gallery={local.gallery.path}")


def held_out(local: Retriever, n: int) -> np.ndarray:
    """Embeddings of no row."""
    return embeddings_of(local, 1 << 30, n).astype(np.float32)


def ids_of(retriever: Retriever, queries: np.ndarray, k: int, **how: Any) -> list[list[int]]:
    return [[m.id for m in found] for found in retriever.search_embeddings(queries, k, **how)]


def killed_publish(local: Retriever, place: str, after: int) -> None:
    run_to_its_kill(KILLED, local, place, str(after))


def run_to_its_kill(script: str, local: Retriever, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script, str(local.gallery.path), *arguments],
        env=command_environment(Path(local.gallery.path).parent / "cache"), capture_output=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def unfinished(place: str) -> list[str]:
    server = MilvusServer(ServedAddress.parse(place))
    names = [n for n in server.collections() if n.startswith(server.address.name + "_")]
    return [there.unfinished for n in names if (there := server.collection(n)) is not None]


@pytest.fixture
def small(tmp_path: Path) -> Retriever:
    return gallery_of(tmp_path / "small", 8_000)


def test_a_first_publish_that_is_killed_answers_nothing_and_continues(
    milvus: MilvusProcess, small: Retriever
) -> None:
    place = f"milvus://127.0.0.1:{milvus.port}/killed_first"
    killed_publish(small, place, 4_000)
    assert unfinished(place) != [""]
    with pytest.raises(GalleryError, match="is not published"):
        served(small, place).search(picture(0))
    done = small.publish(place)
    assert (done.images, done.removed) == (8_001, 0)
    assert 0 < done.added <= 4_001  # what had arrived is not sent again
    assert unfinished(place) == [""]
    assert_alike(served(small, place), small, held_out(small, 40))


def test_an_update_that_is_killed_leaves_what_was_published_and_ends_right(
    milvus: MilvusProcess, small: Retriever
) -> None:
    place = f"milvus://127.0.0.1:{milvus.port}/killed_update"
    small.publish(place)
    gone = [m.path for m in small.search_embeddings(held_out(small, 1), 50)[0]]
    small.remove(gone)
    add_rows(small, 20_000, 5_000)
    new = embeddings_of(small, 20_000, 5_000)[:3].astype(np.float32)
    killed_publish(small, place, 2_500)
    there = served(small, place)
    queries = held_out(small, 40)[5:]
    kept = set(small.gallery.open_table().ids().tolist())
    assert all(set(found) <= kept for found in ids_of(there, queries, 10))
    add_rows(small, 30_000, 100)  # the next run is of a later version than the killed one
    small.remove([m.path for m in small.search_embeddings(new, 1)[0]])
    done = small.publish(place)
    assert not done.anew
    assert unfinished(place) == [""]
    for asked in (queries, new, held_out(small, 1)):
        assert_alike(there, small, asked)
    assert small.publish(place).added == 0


def test_a_killed_publish_of_an_emptied_gallery_is_repeated(
    milvus: MilvusProcess, tmp_path: Path
) -> None:
    place = f"milvus://127.0.0.1:{milvus.port}/killed_empty"
    few = gallery_of(tmp_path / "few", 300)
    few.publish(place)
    there, queries = served(few, place), held_out(few, 5)
    few.remove([few.gallery.base])
    for call in ("create", "build", "load", "say", "switch"):
        run_to_its_kill(KILLED_AT, few, place, call)
        assert [len(found) for found in ids_of(there, queries, 10)] == [10] * 5, call
    run_to_its_kill(KILLED_AT, few, place, "drop")
    assert ids_of(there, queries, 10) == [[]] * 5
    assert unfinished(place) == ["", ""]
    assert few.publish(place).images == 0
    assert unfinished(place) == [""]  # where the rows were is gone
    assert ids_of(there, queries, 10) == [[]] * 5


def test_a_server_that_is_killed_is_one_sentence_and_then_answers_again(
    milvus: MilvusProcess, small: Retriever
) -> None:
    place = f"milvus://127.0.0.1:{milvus.port}/killed_server"
    small.publish(place)
    there, queries = served(small, place), held_out(small, 20)
    raised: list[Exception] = []

    def search() -> None:
        try:
            while True:
                assert_alike(there, small, queries)
        except (ServerError, AssertionError) as error:
            raised.append(error)

    searching = threading.Thread(target=search)
    searching.start()
    killing = threading.Timer(1.0, milvus.kill)
    killing.start()
    searching.join(90)
    killing.join()
    try:
        assert not searching.is_alive()
        assert isinstance(raised[0], ServerError), raised
        assert "\n" not in str(raised[0])
        assert "Start the server, or search the gallery itself" in str(raised[0])
        with pytest.raises(ServerError, match="cannot be reached"):
            served(small, place).search_embeddings(queries)
        with pytest.raises(ServerError, match="cannot be reached"):
            small.publish(place)
    finally:
        milvus.start()
    said = wait_until_loaded(there, queries)
    assert not any("\n" in each for each in said)
    assert_alike(there, small, queries)
    assert_alike(served(small, place), small, queries)
    assert len(ids_of(there, queries[:1], 10_000)[0]) == 8_001
    assert small.publish(place).added == 0


def wait_until_loaded(there: Retriever, queries: np.ndarray) -> list[str]:
    """Wait until a server that was started answers; return what it said until then."""
    said: list[str] = []
    while len(said) < 60:
        try:
            there.search_embeddings(queries[:1])
            break
        except ServerError as error:
            said.append(str(error))
            time.sleep(1)
    return said


@pytest.fixture(scope="module")
def large(milvus: MilvusProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A gallery of 100,000 images, and where it is published."""
    local = gallery_of(tmp_path_factory.mktemp("large"), 100_000)
    place = f"milvus://127.0.0.1:{milvus.port}/large"
    done = local.publish(place)
    assert done.images == 100_001
    assert done.recall >= 0.99
    yield local, place, done
    MilvusServer(ServedAddress.parse(place)).drop(done.collection)


def assert_alike(there: Retriever, local: Retriever, queries: np.ndarray) -> None:
    assert recall(ids_of(there, queries, 10), ids_of(local, queries, 10)) >= 0.99


def recall(found: list[list[int]], expected: list[list[int]]) -> float:
    pairs = zip(found, expected, strict=True)
    return float(np.mean([len({*a} & {*b}) / max(1, len(b)) for a, b in pairs if a or b] or [1]))


def test_of_100_000_the_ten_nearest_are_those_of_the_gallery(large: Any) -> None:
    local, place, done = large
    there, queries = served(local, place), held_out(local, 300)
    assert recall(ids_of(there, queries, 10), ids_of(local, queries, 10)) >= 0.99
    assert recall(ids_of(there, queries[:20], 300), ids_of(local, queries[:20], 300)) >= 0.99
    info = there.info().served
    assert info is not None
    assert (info.images, info.kind, info.effort, info.recall, info.current) == (
        100_001, done.kind, done.effort, done.recall, True
    )  # fmt: skip


def test_of_20_000_in_cells_of_bytes_the_ten_nearest_are_found_with_and_without_a_filter(
    milvus: MilvusProcess, tmp_path: Path
) -> None:
    local = gallery_of(tmp_path / "cells", 20_000)
    place = f"milvus://127.0.0.1:{milvus.port}/cells"
    done = local.publish(place, kind="ivf_sq8")
    assert (done.kind, done.images) == ("ivf_sq8", 20_001)
    assert done.recall >= 0.99
    assert local.info().index == "exact"
    there, queries = served(local, place), held_out(local, 200)
    for where in (None, "size < 2000", "path like 'rows/1%'", "size < 11000", "label != 'c7'"):
        found, expected = (ids_of(r, queries, 10, where=where) for r in (there, local))
        assert recall(found, expected) >= 0.99, where
    found, expected = (ids_of(r, queries[:20], 300) for r in (there, local))
    assert recall(found, expected) >= 0.99
    MilvusServer(ServedAddress.parse(place)).drop(done.collection)


@pytest.mark.parametrize("where", [
    "label = 'c7'", "path in ('rows/5.jpg', 'rows/99999.jpg', 'no/such.jpg')", "size < 5000",
    "path like 'rows/9%'", "label is null", "size between 1003 and 1005",
])  # fmt: skip
def test_of_100_000_a_filter_leaves_exactly_what_passes(large: Any, where: str) -> None:
    local, place, _ = large
    queries = held_out(local, 100)
    found, expected = (ids_of(r, queries, 10, where=where) for r in (served(local, place), local))
    assert [len(each) for each in found] == [len(each) for each in expected]
    table = local.gallery.open_table()
    passing = set(table.ids(Filter.parse(where)).tolist())
    assert all(set(each) <= passing for each in found)
    assert recall(found, expected) >= 0.99
