"""Files of strangers: what is opened, how much of it is read, and what is said otherwise."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.encoder.exports import find_exports, is_whole
from retrieval.files import (
    disk_use,
    identity,
    is_there,
    make_folder,
    modified_ns,
    opened,
    read_bounded,
    sha256_of,
    sync_tree,
)


@given(st.binary(max_size=64), st.integers(0, 64), st.booleans())
def test_at_most_so_many_bytes_are_read(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, most: int, is_named: bool
) -> None:
    file = tmp_path_factory.getbasetemp() / "bounded"
    file.write_bytes(content)
    if len(content) <= most:
        assert read_bounded(file, most, is_named=is_named) == content
    else:
        with pytest.raises(ValueError, match=rf"^it is larger than {most} bytes$"):
            read_bounded(file, most, is_named=is_named)


def test_a_file_of_any_size_costs_no_more_than_its_bound(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)  # of zeros, which take no room
    with pytest.raises(ValueError, match="it is larger than 1,000 bytes"):
        read_bounded(tmp_path / "huge", 1000)


@pytest.mark.parametrize("content", [b"[" * 60_000, b'{"name": 1}', b"\0"])
def test_facts_of_a_strange_export_are_passed_over(tmp_path: Path, content: bytes) -> None:
    facts = tmp_path / "encoders" / "strange" / "encoder.json"
    facts.parent.mkdir(parents=True)
    facts.write_bytes(content)
    assert find_exports(tmp_path) == {}
    with facts.open("r+b") as file:
        file.truncate(1 << 40)
    assert find_exports(tmp_path) == {}
    assert not is_whole(facts.parent)


def test_a_link_is_followed_only_where_a_user_named_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("secret")
    assert read_bounded(tmp_path / "link", 10, is_named=True) == b"mine"
    with pytest.raises(ValueError, match=r"^it is a link$"):
        read_bounded(tmp_path / "link", 10)


def test_a_link_to_nothing_is_a_link_to_strangers_and_nothing_to_its_user(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError):
        read_bounded(tmp_path / "link", 10, is_named=True)
    with pytest.raises(ValueError, match="it is a link"):
        read_bounded(tmp_path / "link", 10)


def test_a_pipe_is_read_only_where_a_user_named_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match=r"^it is not a regular file$"):
        read_bounded(pipe, 10)  # at once, though nobody writes
    writer = threading.Thread(target=pipe.write_bytes, args=(b"recipe",), daemon=True)
    writer.start()
    assert read_bounded(pipe, 10, is_named=True) == b"recipe"
    writer.join(10)
    assert not writer.is_alive()


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_not_read_for_a_stranger(device: str) -> None:
    with pytest.raises(ValueError, match="it is not a regular file"):
        read_bounded(Path(device), 10)
    with pytest.raises(OSError, match="it is not a regular file"):
        sha256_of(Path(device))


def test_a_device_that_never_ends_is_read_no_further_than_its_bound() -> None:
    with pytest.raises(ValueError, match="larger than 4,096 bytes"):
        read_bounded(Path("/dev/zero"), 4096, is_named=True)
    assert read_bounded(Path("/dev/null"), 0, is_named=True) == b""


@pytest.mark.parametrize("is_named", [False, True])
def test_a_folder_is_no_file(tmp_path: Path, is_named: bool) -> None:
    with pytest.raises((OSError, ValueError), match=r"not a regular file|Is a directory"):
        read_bounded(tmp_path, 10, is_named=is_named)
    with pytest.raises(FileNotFoundError):
        read_bounded(tmp_path / "nowhere", 10, is_named=is_named)


def test_a_socket_and_a_pipe_are_not_opened_for_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for name in ("pipe", "socket"):
            with pytest.raises(OSError, match=r"not a regular file|No such device|not supported"):
                sha256_of(tmp_path / name)


def test_a_link_to_a_file_is_opened_and_hashed_as_the_file(tmp_path: Path) -> None:
    content = os.urandom(300_000)
    (tmp_path / "file").write_bytes(content)
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        assert sha256_of(tmp_path / name) == hashlib.sha256(content).hexdigest()
        with opened(tmp_path / name) as stream:
            assert stream.read() == content


def test_the_disk_use_of_a_folder_counts_each_file_below_and_no_link(tmp_path: Path) -> None:
    (tmp_path / "f" / "deep").mkdir(parents=True)
    (tmp_path / "outside").write_bytes(b"x" * 5000)
    (tmp_path / "f" / "one").write_bytes(b"x" * 100)
    (tmp_path / "f" / "deep" / "two").write_bytes(b"x" * 23)
    assert disk_use(tmp_path / "f") == 123
    (tmp_path / "f" / "link").symlink_to("../outside")
    (tmp_path / "f" / "folder").symlink_to("..")
    assert disk_use(tmp_path / "f") == 123 + len("../outside") + len("..")
    assert disk_use(tmp_path / "outside") == 5000
    assert disk_use(tmp_path / "nowhere") == 0


def test_a_name_is_there_also_where_its_link_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert is_there(tmp_path / "link")
    assert is_there(tmp_path)
    assert not is_there(tmp_path / "nowhere")


def test_a_folder_that_takes_the_place_of_another_is_told_from_it(tmp_path: Path) -> None:
    first = tmp_path / "first"
    make_folder(first)
    before = identity(first)
    first.rename(tmp_path / "moved")
    assert identity(first) is None
    make_folder(first)
    assert identity(tmp_path / "moved") == before != identity(first)


@pytest.mark.parametrize("ns", [0, 1, -1, 1_700_000_000_123_456_789, -(10**18)])
def test_the_time_of_a_file_is_that_of_its_stamp(tmp_path: Path, ns: int) -> None:
    (tmp_path / "a").touch()
    os.utime(tmp_path / "a", ns=(ns, ns))
    assert modified_ns((tmp_path / "a").stat()) == (tmp_path / "a").stat().st_mtime_ns == ns


def test_a_tree_with_links_and_pipes_is_synced_without_following_any(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_bytes(b"a")
    (tmp_path / "deep" / "up").symlink_to("..")  # followed, it would never end
    (tmp_path / "nothing").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    sync_tree(tmp_path)
    assert (tmp_path / "deep" / "a").read_bytes() == b"a"
