"""A store that does not answer ends a command in a sentence, after few tries."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from retrieval.errors import GalleryError, GalleryWriteError
from retrieval.objects import ObjectPath
from retrieval.objects import store as clients
from retrieval.retriever import Retriever
from tests.faults import DroppingProxy
from tests.stores import bucket_of

REACHED = r"cannot be reached \(the store does not answer\)\. Check the address, the network"


@pytest.fixture
def proxy(store: int) -> Iterator[DroppingProxy]:
    with DroppingProxy.before(store) as made:
        yield made


@pytest.fixture
def gallery(proxy: DroppingProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectPath]:
    """Where a gallery may be, behind the proxy; it is asked three times, each for a second."""
    quick = clients.OF_LANCE | {"client_max_retries": "2", "timeout": "1s"}
    monkeypatch.setattr(clients, "OF_LANCE", quick)
    monkeypatch.setattr(clients, "RETRIES", 2)
    monkeypatch.setattr(clients, "TIMEOUT", "1s")
    monkeypatch.setattr(clients, "WAITS_FIRST", timedelta(seconds=0.05))
    with bucket_of(proxy.port) as bucket:
        yield bucket / "g.imgret"


def drop_rows(proxy: DroppingProxy) -> None:
    proxy.drops = lambda method, path: method == "PUT" and "images.lance/data" in path


@pytest.mark.long
@pytest.mark.parametrize("silent", [False, True])
def test_rows_that_a_store_does_not_take_end_in_a_sentence(
    proxy: DroppingProxy, gallery: ObjectPath, pictures: Path, *, silent: bool
) -> None:
    proxy.silent = silent
    drop_rows(proxy)
    with pytest.raises(GalleryWriteError, match=REACHED):
        Retriever(str(gallery)).index(pictures)
    assert len(proxy.dropped) == 3  # and not four times as many, which Lance's own default is


@pytest.mark.long
@pytest.mark.parametrize("silent", [False, True])
def test_a_gallery_whose_store_does_not_answer_ends_in_a_sentence(
    proxy: DroppingProxy, gallery: ObjectPath, pictures: Path, *, silent: bool
) -> None:
    Retriever(str(gallery)).index(pictures)
    proxy.silent = silent
    for part in ("images.lance%2F_versions", "images.lance/_versions"):
        proxy.dropped.clear()
        proxy.drops = lambda _, path, part=part: part in path  # type: ignore[misc]
        with pytest.raises(GalleryError, match=REACHED):
            Retriever(str(gallery)).search(pictures / "class0" / "00.jpg", k=1)
        assert len(proxy.dropped) == 3


@pytest.mark.long
def test_rows_that_a_store_does_not_give_are_asked_for_by_lance_alone(
    proxy: DroppingProxy, gallery: ObjectPath, pictures: Path
) -> None:
    Retriever(str(gallery)).index(pictures)
    proxy.drops = lambda _, path: "images.lance/data" in path
    with pytest.raises(GalleryError, match=REACHED):
        Retriever(str(gallery)).search(pictures / "class0" / "00.jpg", k=1)
    assert len(proxy.dropped) == 12  # its reader asks four times; a search that began anew, 24


@pytest.mark.parametrize(
    ("name", "value", "asked"),
    [("OBJECT_STORE_CLIENT_MAX_RETRIES", "1", 2), ("LANCE_AIMD_MAX_RETRIES", "1", 6)],
)
def test_how_often_lance_asks_is_what_the_user_set(
    proxy: DroppingProxy,
    gallery: ObjectPath,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    asked: int,
) -> None:
    monkeypatch.setenv(name, value)
    drop_rows(proxy)
    with pytest.raises(GalleryWriteError, match=REACHED):
        Retriever(str(gallery)).index(pictures)
    assert len(proxy.dropped) == asked


def test_lance_asks_a_store_for_about_a_minute_and_a_disk_as_ever() -> None:
    assert clients.options_of_lance("s3://bucket/g.imgret") == {
        "client_max_retries": "16", "client_retry_timeout": "45", "lance_aimd_max_retries": "0",
    }  # fmt: skip
    assert clients.options_of_lance(Path("g.imgret")) is None
