"""Where a gallery is published: an address is read with care, and holds no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgret import ArgumentError, Retriever
from retrieval.milvus import ServedAddress, is_served
from tests.conftest import Command


@pytest.mark.parametrize(("text", "read"), [
    ("milvus://host/photos", ("host", 19530, "photos", None)),
    ("MILVUS://10.0.0.1:1/_a9", ("10.0.0.1", 1, "_a9", None)),
    ("milvus://[::1]:19530/p", ("[::1]", 19530, "p", None)),
    ("milvus://a_b-c.9/p", ("a_b-c.9", 19530, "p", None)),
    ("milvus://h/p?gallery=%ff", ("h", 19530, "p", "\udcff")),  # a folder may have any bytes
    ("milvus://h/p?gallery=a%26b%20c++.imgret", ("h", 19530, "p", "a&b c++.imgret")),
    ("milvus://h/p?gallery=s3://bucket/a.imgret", ("h", 19530, "p", "s3://bucket/a.imgret")),
])  # fmt: skip
def test_an_address_is_read(text: str, read: tuple[object, ...]) -> None:
    found = ServedAddress.parse(text)
    assert (found.host, found.port, found.name, found.gallery) == read
    if found.gallery:
        assert ServedAddress.parse(found.of(found.gallery)) == found


@pytest.mark.parametrize("text", [
    "milvus://h", "milvus:///p", "milvus://h/", "milvus://h/1a", "milvus://h/a-b", "milvus://h/a.b",
    "milvus://h/a/b", "milvus://h/..", "milvus://h/é", f"milvus://h/{'a' * 201}", "milvus://h:0/p",
    "milvus://h:65536/p", "milvus://h:x/p", "milvus://unix:/tmp/s/p", "milvus://h h/p",
    "milvus://-h/p", "milvus://a..b/p", f"milvus://{'a' * 64}/p", f"milvus://{'a.' * 127}a/p",
    "milvus://[1::2::3]/p", "milvus://[::g]/p", "milvus://[]/p", "photos", "http://h/p",
    "milvus://h/p\n", "milvus://h/p?", "milvus://h/p?token=x", "milvus://h/p#x",
    "milvus://h/p?gallery=", "milvus://h/p?gallery=a&gallery=b", "milvus://h/p?Gallery=a",
])  # fmt: skip
def test_a_wrong_address_is_one_sentence_and_what_to_do(text: str) -> None:
    if text.endswith("?"):
        assert ServedAddress.parse(text).gallery is None
        return
    with pytest.raises(ArgumentError, match=r"Write it like milvus://|Use at most"):
        ServedAddress.parse(text)


@pytest.mark.parametrize("gallery", ["%00", "https://x/y", "milvus://h/p", "s3://", "s3://a@b/c"])
def test_a_gallery_that_cannot_be_one_is_refused_by_every_command(
    inline: Command, gallery: str
) -> None:
    address = f"milvus://h/p?gallery={gallery}"
    for command in (("info", "--gallery", address), ("publish", address)):
        done = inline(*command)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("imgret: gallery is ")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("text", ["milvus://root:secret@h/p", "milvus://h/p?token=secret&x=1"])
def test_an_address_with_a_secret_is_refused_and_does_not_show_it(text: str) -> None:
    with pytest.raises(ArgumentError) as raised:
        Retriever(text)
    assert "secret" not in str(raised.value)
    assert not is_served("photos")


def test_who_logs_in_comes_from_the_environment_or_netrc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MILVUS_TOKEN", raising=False)
    address = ServedAddress.parse("milvus://db.example/photos")
    assert address.token == ""
    (tmp_path / ".netrc").write_text("machine db.example login ann password s3cret\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert address.token == "ann:s3cret"  # noqa: S105
    monkeypatch.setenv("MILVUS_TOKEN", "root:other")
    assert address.token == "root:other"  # noqa: S105
    assert "other" not in repr(address) + str(address)
    monkeypatch.delenv("MILVUS_TOKEN")
    (tmp_path / ".netrc").write_text("machin db.example\n")
    with pytest.raises(ArgumentError, match=r"netrc cannot be read\. Correct it"):
        _ = address.token


def test_commands_take_an_address_and_refuse_others(inline: Command, tmp_path: Path) -> None:
    wrong = inline("info", "--gallery", "milvus://h/a-b")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("imgret: 'a-b' cannot be a name in Milvus.")
    other = inline("info", "--gallery", "http://h/photos")
    assert other.returncode == 2
    assert "is an address" in other.stderr
    none = inline("query", "a.jpg", "--gallery", "milvus://h/photos")
    assert none.stderr.startswith("imgret: There is no gallery in ")
