"""Addresses in object stores as paths."""

from __future__ import annotations

import os
import pickle  # noqa: TID251  of our own
import stat
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval import files
from retrieval.arguments import path_of
from retrieval.errors import ArgumentError
from retrieval.objects import MOST_OF_A_SIZE, ObjectChangedError, ObjectPath, path, place_of
from retrieval.objects import store as clients
from retrieval.text import remedy

NAMES = st.text(min_size=1, max_size=20).filter(
    lambda name: "/" not in name and "\0" not in name and name not in (".", "..")
)


@given(st.sampled_from(["s3", "gs", "az"]), st.lists(NAMES, min_size=1, max_size=4))
def test_an_address_is_what_its_parts_are(scheme: str, names: list[str]) -> None:
    key = "/".join(names)
    path = ObjectPath(f"{scheme}://bucket/{key}")
    assert (path.scheme, path.bucket, path.key, str(path)) == (
        scheme, "bucket", key, f"{scheme}://bucket/{key}",
    )  # fmt: skip
    assert path.name == PurePosixPath(key).name
    assert path.parent / path.name == path == pickle.loads(pickle.dumps(path))  # noqa: S301
    assert path.is_relative_to(ObjectPath(f"{scheme}://bucket"))
    assert path.absolute() == path.resolve() == path
    assert isinstance(path.parent, ObjectPath)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("https://example.com/a", "of no object store"), ("s3:///key", "of no object store"),
        ("s3://bucket/../other", "has an empty part, . or .."),
        ("s3://bucket//photos", "has an empty part"), ("gs://bucket/photos//", "has an empty part"),
        ("az://bucket/./photos", "has an empty part"), ("s3://./photos", "has an empty part"),
        ("s3://me:secret@bucket/a", "no plain"),
        ("file://elsewhere/a", "names another machine"), ("ftp://host/a", "of no object store"),
    ],
)  # fmt: skip
def test_other_addresses_are_refused_in_a_sentence(address: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        place_of(address)
    with pytest.raises(ArgumentError, match=said):
        path_of("gallery", address, stores=True)


def test_the_address_of_a_file_is_a_path_on_this_machine(tmp_path: Path) -> None:
    (tmp_path / "ä b").mkdir()
    assert place_of((tmp_path / "ä b").as_uri()) == tmp_path / "ä b"


def test_an_object_is_read_listed_and_told_as_a_file_is(bucket: ObjectPath) -> None:
    odd = bucket / "photos" / "ü a#b%41?.jpg"
    assert odd.write_bytes(b"content") == 7
    (bucket / "photos" / "below" / "c.jpg").write_bytes(b"x")
    assert (odd.read_bytes(), odd.read_start(3)) == (b"content", b"con")
    assert odd.stat().st_size == 7
    assert stat.S_ISREG(odd.stat().st_mode)
    assert stat.S_ISDIR((bucket / "photos").stat().st_mode)
    assert sorted(path.name for path in (bucket / "photos").iterdir()) == ["below", odd.name]
    assert [path.name for path, _ in bucket.all_below()] == ["c.jpg", odd.name]
    assert (odd.is_file(), odd.is_dir(), (bucket / "no").exists()) == (True, False, False)
    assert files.disk_use(bucket) == 8
    files.delete(bucket / "photos")
    assert not bucket.is_dir()


def test_what_is_not_there_is_told_as_a_file_system_does(bucket: ObjectPath) -> None:
    for missing in (bucket / "no.jpg", ObjectPath("s3://no-such-bucket-here/a")):
        with pytest.raises(FileNotFoundError) as caught:
            missing.stat()
        assert caught.value.filename == str(missing)


def test_a_key_that_stores_do_not_take_is_one_sentence(bucket: ObjectPath) -> None:
    for ask in (ObjectPath.stat, ObjectPath.read_bytes, ObjectPath.facts):
        with pytest.raises(OSError, match="its key has a control character"):
            ask(bucket / "a\x1b[31m.jpg")


def test_what_a_store_says_is_a_few_plain_words() -> None:
    exceptions = pytest.importorskip("obstore.exceptions")
    asked = "Generic S3 error: Error performing GET http://host/a - b.jpg in 670.12ms"
    for said, expected in [
        (f"{asked}, after 4 retries, max_retries: 4, retry_timeout: 60s  - Server returned non-2xx "
         "status code: 503 Service Unavailable: \n\nDebug source:", "the store answers 503"),
        (f"{asked} - HTTP error: error sending request", "the store does not answer: "),
        ("Generic S3 error: HTTP error: request or response body error", "the answer of the store"),
    ]:  # fmt: skip
        with pytest.raises(OSError) as caught, clients.said_as_os_errors("a"):  # noqa: PT011
            raise exceptions.GenericError(said)
        assert str(caught.value.strerror).startswith(expected)


def test_an_object_is_swapped_only_for_the_one_that_was_read(bucket: ObjectPath) -> None:
    place = bucket / "state"
    first = place.put(b"1", over="")
    with pytest.raises(ObjectChangedError):
        place.put(b"2", over="")
    second = place.put(b"2", over=first)
    with pytest.raises(ObjectChangedError):
        place.put(b"3", over=first)
    assert place.read_bytes() == b"2"
    assert second == place.facts().etag != first


def test_more_bytes_than_allowed_are_not_fetched(bucket: ObjectPath) -> None:
    (bucket / "large").write_bytes(bytes(1000))
    with pytest.raises(ValueError, match="larger than 999"):
        files.read_bounded(bucket / "large", 999)


def test_a_size_that_no_row_holds_is_the_largest_that_one_does() -> None:
    meta = {"path": "a/b.jpg", "size": 1 << 64, "last_modified": datetime.now(UTC), "e_tag": None}
    assert path._facts(meta).size == MOST_OF_A_SIZE


def test_functions_of_files_serve_objects(bucket: ObjectPath) -> None:
    file = bucket / "a" / "b.bin"
    with files.replaced(file) as made:
        assert not isinstance(made, ObjectPath)
        made.write_bytes(b"whole")
    assert files.sha256_of(file) == files.sha256_of_bytes(b"whole")
    assert not files.write_new(file, b"other")
    assert files.write_new(bucket / "new", b"1")
    with pytest.raises(ZeroDivisionError), files.replaced(file) as made:
        made.write_bytes(b"half" * (1 // 0))
    assert file.read_bytes() == b"whole"
    assert not list(Path(os.environ.get("TMPDIR", "/tmp")).glob(f"{files.PREFIX}*/b.bin"))  # noqa: S108


def test_without_the_library_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "is_installed", lambda _: False)
    clients.store_of.cache_clear()
    with pytest.raises(OSError, match=r"needs obstore.*pip install 'imgret\S*\[objects\]'"):
        ObjectPath("s3://bucket/a").stat()


def test_missing_credentials_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(clients, "RETRIES", 0)
    with pytest.raises(OSError) as caught:  # noqa: PT011  a machine of a cloud may have some
        ObjectPath("s3://a-bucket-of-nobody/a").stat()
    assert "\n" not in str(caught.value.strerror)
    assert "169.254" not in str(caught.value.strerror)


def test_a_store_that_cannot_be_reached_is_one_sentence(
    bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(clients, "RETRIES", 0)
    with pytest.raises(OSError, match=r"Connection refused|error sending request") as caught:
        ObjectPath("s3://elsewhere/a").stat()
    assert remedy(caught.value).startswith("Check the address and the network")
    assert "\n" not in str(caught.value.strerror)
