"""An object store, and pictures in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieval.objects import ObjectPath
from tests.stores import bucket_of, running_store


@pytest.fixture(scope="session")
def store() -> Iterator[int]:
    """The port of a store that all tests of a process share."""
    with running_store() as port:
        yield port


@pytest.fixture
def bucket(store: int) -> Iterator[ObjectPath]:
    """A bucket of its own for each test."""
    with bucket_of(store) as made:
        yield made


@pytest.fixture
def photos(bucket: ObjectPath, pictures: Path) -> ObjectPath:
    """The pictures of the folder `pictures` in the bucket, below photos/."""
    return send(pictures, bucket / "photos")


def send(folder: Path, to: ObjectPath) -> ObjectPath:
    """Copy all files of a folder."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            (to / file.relative_to(folder).as_posix()).write_bytes(file.read_bytes())
    return to
