"""Objects without an image's suffix, which are known by their content."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from retrieval.images import find_images
from retrieval.images.folders import ASKED_AT_ONCE
from retrieval.objects import ObjectPath
from tests.samples import picture

WAIT = 20  # seconds, which only a test that fails takes


class Counted:
    """Reads of headers: each waits until so many are under way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, until: int) -> None:
        self.names: list[str] = []
        self.now = self.most = 0
        self._until, self._read = until, ObjectPath.read_start
        self._lock, self._enough = threading.Lock(), threading.Event()
        monkeypatch.setattr(ObjectPath, "read_start", lambda path, length: self(path, length))

    def __call__(self, path: ObjectPath, length: int) -> bytes:
        with self._lock:
            self.names.append(path.name)
            self.now += 1
            self.most = max(self.most, self.now)
            if self.now >= self._until:
                self._enough.set()
        assert self._enough.wait(WAIT), f"only {self.most} at a time"
        try:
            return self._read(path, length)
        finally:
            with self._lock:
                self.now -= 1


@pytest.fixture
def folder(bucket: ObjectPath, tmp_path: Path) -> ObjectPath:
    """More objects than are read at a time: pictures, and each third is none."""
    picture(0).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    for i in range(ASKED_AT_ONCE + 12):
        (bucket / "p" / f"{i:03}").write_bytes(b"no picture" if i % 3 == 0 else content)
    (bucket / "p" / "named.png").write_bytes(content)
    return bucket / "p"


def test_headers_of_objects_are_read_48_at_a_time_and_in_order(
    folder: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch, until=ASKED_AT_ONCE)
    found = [file.path.name for file in find_images([folder])]
    pictures = [f"{i:03}" for i in range(ASKED_AT_ONCE + 12) if i % 3]
    assert found == [*pictures, "named.png"]
    assert counted.most == ASKED_AT_ONCE == 48
    assert sorted(counted.names) == [f"{i:03}" for i in range(ASKED_AT_ONCE + 12)]


def test_of_known_objects_no_header_is_read(
    folder: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch, until=1)
    known = [f"{i:03}" for i in range(ASKED_AT_ONCE)]
    found = [file.path.name for file in find_images([folder], known=lambda _: known)]
    assert set(known) <= set(found)
    assert set(counted.names).isdisjoint(known)


def test_an_object_whose_header_cannot_be_read_is_passed_over(
    folder: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = ObjectPath.read_start

    def refused(path: ObjectPath, length: int) -> bytes:
        if path.name == "001":
            raise PermissionError(13, "the store refuses the credentials", str(path))
        return read(path, length)

    monkeypatch.setattr(ObjectPath, "read_start", refused)
    found = [file.path.name for file in find_images([folder])]
    assert found[:2] == ["002", "004"]
