"""Images and galleries in an object store give what those in a folder give."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.errors import GalleryError, GalleryWriteError
from retrieval.gallery import Gallery, store_lease
from retrieval.gallery.store_lease import LEASE_NAME, WriterLease
from retrieval.objects import ObjectPath
from retrieval.retriever import Retriever, current
from tests.conftest import Command
from tests.objects.conftest import send
from tests.samples import command_environment, command_line, picture


def stored(retriever: Retriever) -> dict[str, tuple[Any, ...]]:
    """By name: content, label, error and the bits of the embedding."""
    table = retriever.gallery.open_table()
    names = ["path", "sha256", "label", "error", "embedding"]
    return {
        row["path"].rpartition("/")[2]: (
            row["sha256"], row["label"], row["error"],
            None if row["embedding"] is None else np.array(row["embedding"], np.float16).tobytes(),
        )
        for row in table.columns(names).to_pylist()
    }  # fmt: skip


def found(retriever: Retriever, query: Path) -> list[tuple[str, float]]:
    return [(match.path.name, match.score) for match in retriever.search(query, k=10)]


@pytest.fixture
def local(pictures: Path, tmp_path: Path) -> Retriever:
    retriever = Retriever(tmp_path / "local.imgret")
    retriever.index(pictures)
    return retriever


def test_images_of_a_store_are_embedded_as_files_are(
    photos: ObjectPath, local: Retriever, tmp_path: Path, pictures: Path
) -> None:
    remote = Retriever(tmp_path / "remote.imgret")
    report = remote.index(str(photos))
    assert (report.added, report.failed) == (24, 0)
    assert stored(remote) == stored(local)
    assert found(remote, pictures / "class0" / "00.jpg") == found(
        local, pictures / "class0" / "00.jpg"
    )
    match = remote.search(str(photos / "class0" / "00.jpg"), k=1, exclude_self=True)[0]
    assert str(match.path).startswith(f"{photos}/class")
    assert match.path.name != "00.jpg"
    assert not match.missing


def test_an_unchanged_object_is_not_read_and_a_changed_one_is(
    photos: ObjectPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retriever = Retriever(tmp_path / "g.imgret")
    retriever.index(str(photos))
    read: list[str] = []
    real = ObjectPath.read_with_facts

    def noted(path: ObjectPath, most: int | None = None) -> Any:
        read.append(path.name)
        return real(path, most)

    monkeypatch.setattr(ObjectPath, "read_with_facts", noted)
    assert retriever.index(str(photos)).unchanged == 24
    assert read == []
    first = photos / "class0" / "00.jpg"
    content = first.read_bytes()
    read.clear()
    changed = bytearray(content)
    changed[-3] ^= 1  # as many bytes: only its etag tells
    first.write_bytes(bytes(changed))
    report = retriever.index(str(photos))
    assert (report.changed, report.unchanged, read) == (1, 23, ["00.jpg"])
    (photos / "class1" / "01.jpg").unlink()
    assert retriever.index(str(photos)).removed == 1


def test_a_broken_object_is_a_row_with_its_reason(photos: ObjectPath, tmp_path: Path) -> None:
    (photos / "class0" / "bad.jpg").write_bytes(b"no picture")
    (photos / "class0" / "empty.jpg").write_bytes(b"")
    report = Retriever(tmp_path / "g.imgret").index(str(photos))
    assert (report.added, report.failed) == (24, 2)
    assert {reason for _, reason in report.failures} == {
        "not an image this program reads", "empty file",
    }  # fmt: skip


@pytest.mark.long
def test_a_gallery_in_a_store_answers_as_one_in_a_folder(
    bucket: ObjectPath, photos: ObjectPath, local: Retriever, pictures: Path
) -> None:
    place = bucket / "photos.imgret"
    remote = Retriever(str(place))
    remote.index(str(photos))
    assert stored(remote) == stored(local)
    query = pictures / "class2" / "02.jpg"
    assert found(remote, query) == found(local, query)
    assert remote.verify().ok
    # beside its images, these are stored relative to it, so that both can be moved together
    assert remote.gallery.open_table().paths()[0].startswith("photos/class")

    remote.remove(str(photos / "class1"))
    local.remove(pictures / "class1")
    (photos / "class1").delete_below()
    assert found(remote, query) == found(local, query)
    new = pictures / "new.png"
    picture(99).save(new)
    (photos / "new.png").write_bytes(new.read_bytes())
    assert remote.index(str(photos)).added == 1
    assert Retriever(str(place)).search(new, k=1)[0].path == photos / "new.png"
    remote.compact()
    assert remote.verify().ok
    where = remote.search(query, k=20, where="label = 'class0'")
    assert {match.label for match in where} == {"class0"}
    remote.index(str(photos), reembed=True)
    assert remote.verify().ok
    assert not remote.gallery.is_being_written()


def test_a_gallery_in_a_store_has_images_of_this_machine(
    bucket: ObjectPath, pictures: Path
) -> None:
    remote = Retriever(str(bucket / "g.imgret"))
    remote.index(pictures)
    match = remote.search(pictures / "class0" / "00.jpg", k=1)[0]
    assert (match.path, match.missing) == (pictures / "class0" / "00.jpg", False)
    (pictures / "class0" / "00.jpg").unlink()
    assert "gone: 1" in str(remote.verify().problems)


@pytest.mark.long
def test_a_search_sees_at_once_what_its_own_process_has_removed(
    bucket: ObjectPath, photos: ObjectPath, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current, "ASKED_AGAIN", 1e9)
    searched, writes = (Retriever(str(bucket / "g.imgret")) for _ in range(2))
    writes.index(str(photos))
    query = pictures / "class0" / "00.jpg"
    assert searched.search(query, k=1)[0].path.name == "00.jpg"
    writes.remove(str(photos / "class0"))
    assert all(match.label != "class0" for match in searched.search(query, k=24))


@pytest.mark.long
def test_the_index_of_a_version_is_fetched_once(
    bucket: ObjectPath, photos: ObjectPath, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = str(bucket / "g.imgret")
    Retriever(place).index(str(photos))
    fetched: list[str] = []
    real = ObjectPath.fetch

    def noted(path: ObjectPath, to: Path) -> None:
        fetched.append(path.name)
        real(path, to)

    monkeypatch.setattr(ObjectPath, "fetch", noted)
    monkeypatch.setenv("IMGRET_CACHE", str(pictures.parent / "another"))
    query = pictures / "class0" / "00.jpg"
    for _ in range(2):
        Retriever(place).search(query)
    assert len(fetched) == 1
    name = fetched[0]
    content = bytearray((bucket / "g.imgret" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bucket / "g.imgret" / name).write_bytes(bytes(content))
    monkeypatch.setenv("IMGRET_CACHE", str(pictures.parent / "third"))
    assert Retriever(place).search(query)[0].path.name == "00.jpg"  # built again, of the rows


@pytest.mark.long
def test_an_index_that_cannot_be_fetched_is_told_and_not_built_again(
    bucket: ObjectPath, photos: ObjectPath, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = bucket / "g.imgret"
    Retriever(str(place)).index(str(photos))
    before = (place / "gallery.toml").facts().etag

    def broken(_: ObjectPath, __: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("IMGRET_CACHE", str(pictures.parent / "another"))
    with monkeypatch.context() as patch:
        patch.setattr(ObjectPath, "fetch", broken)
        with pytest.raises(GalleryError, match=r"cannot be fetched .*No space left"):
            Retriever(str(place)).search(pictures / "class0" / "00.jpg")
    assert (place / "gallery.toml").facts().etag == before
    assert Retriever(str(place)).search(pictures / "class0" / "00.jpg")


@pytest.mark.long
def test_of_two_writers_one_is_told_of_the_other(
    bucket: ObjectPath, photos: ObjectPath, imgret: Command
) -> None:
    place = bucket / "g.imgret"
    with Gallery(place).lock():
        refused = imgret("index", photos, "--gallery", place)
        assert refused.returncode == 2
        assert "is being written by process" in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert imgret("index", photos, "--gallery", place).returncode == 0


def test_a_lease_is_taken_over_once_its_holder_is_dead(
    bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_lease, "LASTS", 1.0)
    monkeypatch.setattr(store_lease, "CLOCKS_APART", 0.5)
    monkeypatch.setattr(store_lease, "RENEWED_EVERY", 1e6)  # as of a process that hangs
    first = WriterLease.take(bucket, 0)
    with pytest.raises(GalleryError, match="is being written by process"):
        WriterLease.take(bucket, 0)
    second = WriterLease.take(bucket, 30)
    with pytest.raises(GalleryWriteError, match="could not be renewed in time"):
        first.check()
    first.end()  # gives nothing back that is another's
    assert json.loads((bucket / LEASE_NAME).read_bytes())["token"] == second._held.token
    second.end()
    WriterLease.take(bucket, 0).end()


def test_the_lease_of_a_process_that_was_killed_here_is_over_at_once(
    bucket: ObjectPath, cache: Path, tmp_path: Path
) -> None:
    code = (
        "import os, sys; from retrieval.gallery.store_lease import WriterLease\n"
        "from retrieval.objects import ObjectPath\n"
        "WriterLease.take(ObjectPath(sys.argv[1]), 0); os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, str(bucket)], env=command_environment(cache), cwd=tmp_path,
        check=False,
    )  # fmt: skip
    assert killed.returncode == -9
    told = json.loads((bucket / LEASE_NAME).read_bytes())
    assert told["until"] > time.time()
    WriterLease.take(bucket, 0).end()
    rest = told["process"].partition(" ")[2]
    elsewhere = told | {"process": f"another-boot {rest}"}
    (bucket / LEASE_NAME).write_bytes(json.dumps(elsewhere).encode())
    with pytest.raises(GalleryError, match="is being written by"):
        WriterLease.take(bucket, 0)


def test_a_lease_is_renewed_while_its_holder_works(
    bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_lease, "LASTS", 2.0)
    monkeypatch.setattr(store_lease, "CLOCKS_APART", 0.0)
    monkeypatch.setattr(store_lease, "RENEWED_EVERY", 0.2)
    lease = WriterLease.take(bucket, 0)
    until = time.monotonic() + 3
    while time.monotonic() < until:
        with pytest.raises(GalleryError):
            WriterLease.take(bucket, 0)
        lease.check()
    lease.end()


def test_who_lost_the_lease_commits_and_publishes_nothing(
    bucket: ObjectPath, photos: ObjectPath
) -> None:
    gallery = Gallery(bucket / "g.imgret")
    Retriever(str(gallery.path)).index(str(photos))
    with gallery.lock():
        table, settings = gallery.open_table(), gallery.settings()
        (gallery.path / LEASE_NAME).write_bytes(b'{"holder": "x", "token": "y", "until": 9e9}')
        gallery._lease._lost = "another writer has taken it"  # as its thread finds
        version = table.version
        with pytest.raises(GalleryWriteError, match="is lost"):
            table.remove(table.ids().tolist())
        with pytest.raises(GalleryWriteError, match="is lost"):
            gallery.publish(settings)
    assert gallery.open_table().version == version


def test_settings_that_another_has_published_are_not_overwritten(
    bucket: ObjectPath, photos: ObjectPath
) -> None:
    gallery = Gallery(bucket / "g.imgret")
    Retriever(str(gallery.path)).index(str(photos))
    with gallery.lock():
        settings = gallery.settings()
        gallery.settings_path.write_bytes(gallery.settings_path.read_bytes() + b"\n")
        with pytest.raises(GalleryError, match="Another writer has published"):
            gallery.publish(settings)


@pytest.mark.long
def test_a_run_that_is_killed_goes_on_where_it_stopped(
    bucket: ObjectPath, photos: ObjectPath, local: Retriever, cache: Path, tmp_path: Path
) -> None:
    place, killed = bucket / "g.imgret", 0
    code = (
        "import os, sys; from retrieval.retriever import Retriever, writer\n"
        "writer.ROWS_PER_COMMIT = 4; left = [int(sys.argv[3])]; real = writer.Writer.commit\n"
        "def commit(self):\n"
        "    real(self); left[0] -= 1\n"
        "    if not left[0]: os.kill(os.getpid(), 9)\n"
        "writer.Writer.commit = commit\n"
        "Retriever(sys.argv[2]).index(sys.argv[1])\n"
    )
    for commits in (1, 2, 2):
        run = subprocess.run(
            [sys.executable, "-c", code, str(photos), str(place), str(commits)],
            env=command_environment(cache), cwd=tmp_path, capture_output=True, check=False,
        )  # fmt: skip
        killed += run.returncode == -9
    remote = Retriever(str(place))
    report = remote.index(str(photos))
    assert killed == 3
    assert 0 < report.added < 24
    assert stored(remote) == stored(local)
    assert remote.verify().ok


@pytest.mark.long
def test_commands_take_addresses(
    bucket: ObjectPath, photos: ObjectPath, imgret: Command, tmp_path: Path
) -> None:
    place = bucket / "photos.imgret"
    assert imgret("index", photos, "--gallery", place).returncode == 0
    result = imgret("query", photos / "class0" / "00.jpg", "--gallery", place, "--format", "json")
    assert result.returncode == 0
    assert json.loads(result.stdout)[0]["matches"][0]["path"] == str(photos / "class0" / "00.jpg")
    assert f"gallery     {place}" in imgret("info", "--gallery", place).stdout
    assert imgret("remove", photos / "class0", "--gallery", place).stdout == "removed  8\n"
    copies = imgret("duplicates", "--gallery", place, "--threshold", "0.5")
    assert "s3:/" not in copies.stdout.replace("s3://", "")
    assert "does not exist" not in copies.stderr


def test_equal_objects_are_duplicates_of_each_other(bucket: ObjectPath, photos: ObjectPath) -> None:
    first = photos / "class0" / "00.jpg"
    (photos / "class1" / "copy.jpg").write_bytes(first.read_bytes())
    retriever = Retriever(str(bucket / "g.imgret"))
    retriever.index(str(photos))
    groups = retriever.duplicates(tier="bytes").groups
    assert [sorted(member.path.name for member in group.members) for group in groups] == [
        ["00.jpg", "copy.jpg"]
    ]


@pytest.mark.long
def test_what_cannot_be_reached_is_one_sentence(bucket: ObjectPath, imgret: Command) -> None:
    for arguments in (
        ("info", "--gallery", "s3://no-such-bucket-here/g.imgret"),
        ("index", bucket / "nothing", "--gallery", bucket / "g.imgret"),
        ("index", bucket / "nothing"),
        ("query", bucket / "no.jpg", "--gallery", bucket / "g.imgret"),
    ):
        result = imgret(*arguments)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith("imgret: s3://")
        assert result.stderr.count("\n") == 1


def test_a_strangers_gallery_fetches_nothing_of_another_bucket(
    bucket: ObjectPath, photos: ObjectPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Retriever(tmp_path / "g.imgret").index(str(photos))
    monkeypatch.setenv("IMGRET_CACHE", str(tmp_path / "another-user"))
    stranger = Retriever(tmp_path / "g.imgret")
    match = stranger.search(picture(0), k=1)[0]
    assert match.outside
    with pytest.raises(GalleryError, match="outside of its folder"):
        stranger.evaluate()
    assert Retriever(tmp_path / "g.imgret", trust=True).search(picture(0))[0].outside is False


def test_a_folder_with_a_key_that_is_no_path_is_told(
    bucket: ObjectPath, photos: ObjectPath, tmp_path: Path
) -> None:
    boto3 = pytest.importorskip("boto3")
    client = boto3.client("s3", endpoint_url=command_environment(tmp_path)["AWS_ENDPOINT_URL"])
    client.put_object(Bucket=bucket.bucket, Key="photos/class0//a.jpg", Body=b"1")
    report = Retriever(tmp_path / "g.imgret").index(str(photos))
    assert (report.added, report.failed) == (16, 1)
    assert "cannot be listed" in report.failures[0][1]


@pytest.mark.long
def test_ctrl_c_in_a_run_over_a_store_keeps_what_is_stored(
    bucket: ObjectPath, photos: ObjectPath, cache: Path, tmp_path: Path
) -> None:
    send(tmp_path / "pictures", bucket / "more")
    place = bucket / "g.imgret"
    with subprocess.Popen(
        command_line("index", bucket, "--gallery", place, "--batch-size", "2"), cwd=tmp_path,
        env=command_environment(cache), stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("Encoding"):
                break
        process.send_signal(2)
        rest = process.stderr.read()
    assert process.returncode in (0, 130), rest
    assert Retriever(str(place)).index(str(bucket)).unchanged >= 0
    assert Retriever(str(place)).verify().ok
