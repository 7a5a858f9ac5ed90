"""Tar shards, datasets in Parquet and lists of images, in folders and in a store."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrieval.errors import DataError
from retrieval.images import read_bytes
from retrieval.objects import ObjectPath
from retrieval.retriever import Retriever
from tests.conftest import Command
from tests.objects.test_store_galleries import stored

Sent = Callable[[Path], Path]
NO_IMAGES = ("photos/", "photos/read+me.txt", "photos/noise")  # which an inventory has as well


@pytest.fixture(params=["folder", "store"])
def sent(request: pytest.FixtureRequest) -> Sent:
    """Leaves a file where it is, or sends it to a bucket."""
    if request.param == "folder":
        return lambda file: file
    bucket: ObjectPath = request.getfixturevalue("bucket")

    def send(file: Path) -> Path:
        (bucket / "data" / file.name).write_bytes(file.read_bytes())
        return bucket / "data" / file.name

    return send


def embeddings(retriever: Retriever) -> dict[str, Any]:
    """By content: label, error and the bits of the embedding."""
    return {content: rest for content, *rest in stored(retriever).values()}


@pytest.fixture
def local(pictures: Path, tmp_path: Path) -> Retriever:
    retriever = Retriever(tmp_path / "local.imgret")
    retriever.index(pictures)
    return retriever


def make_tar(pictures: Path, file: Path) -> Path:
    """A shard as WebDataset writes them: 00.jpg beside 00.cls."""
    with tarfile.open(file, "w") as archive:
        for picture in sorted(pictures.rglob("*.jpg")):
            archive.add(picture, picture.name)
            label = tarfile.TarInfo(f"{picture.stem}.cls")
            label.size = len(picture.parent.name)
            archive.addfile(label, io.BytesIO(picture.parent.name.encode()))
    return file


def make_dataset(pictures: Path, file: Path) -> Path:
    """As the library datasets writes it: images of bytes and path, labels as numbers with names."""
    names = ["class0", "class1", "class2"]
    files = sorted(pictures.rglob("*.jpg"))
    images = [{"bytes": picture.read_bytes(), "path": picture.name} for picture in files]
    labels = [names.index(picture.parent.name) for picture in files]
    features = {"label": {"names": names, "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    told = json.dumps({"info": {"features": features}})
    table = pa.table({"image": images, "label": labels}).replace_schema_metadata(
        {"huggingface": told}
    )
    pq.write_table(table, file, row_group_size=5)
    return file


@pytest.mark.long
@pytest.mark.parametrize(
    ("make", "name"), [(make_tar, "shard-000.tar"), (make_dataset, "train.parquet")]
)
def test_images_in_a_shard_are_embedded_as_files_are(
    sent: Sent, make: Callable[[Path, Path], Path], name: str, pictures: Path, local: Retriever,
    tmp_path: Path,
) -> None:  # fmt: skip
    place = sent(make(pictures, tmp_path / name))
    retriever = Retriever(tmp_path / "g.imgret")
    report = retriever.index(str(place))
    assert (report.added, report.failed) == (24, 0)
    assert embeddings(retriever) == embeddings(local)
    match = retriever.search(pictures / "class0" / "00.jpg", k=1)[0]
    assert str(match.path).startswith(f"{place}/")
    assert not match.missing
    assert read_bytes(match.path)[0] == (pictures / "class0" / "00.jpg").read_bytes()
    assert retriever.verify().ok
    assert retriever.duplicates(tier="copy").failures == ()
    assert retriever.index(str(place)).unchanged == 24
    assert retriever.index(str(place), reembed=True).failed == 0
    assert retriever.verify().rows == 24


def test_an_unchanged_shard_of_a_store_is_not_read(
    bucket: ObjectPath, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = bucket / "a.tar"
    place.write_bytes(make_tar(pictures, tmp_path / "a.tar").read_bytes())
    retriever = Retriever(tmp_path / "g.imgret")
    retriever.index(str(place))
    monkeypatch.setattr(ObjectPath, "parts_of_content", None)
    monkeypatch.setattr(ObjectPath, "read_range", None)
    from retrieval.images.shards import members

    members._table.cache_clear()
    assert retriever.index(str(place)).unchanged == 24


def test_a_changed_shard_is_read_again_and_what_it_lost_is_dropped(
    sent: Sent, pictures: Path, tmp_path: Path
) -> None:
    place = sent(make_tar(pictures, tmp_path / "a.tar"))
    retriever = Retriever(tmp_path / "g.imgret")
    retriever.index(str(place))
    for file in (pictures / "class2").iterdir():
        file.unlink()
    sent(make_tar(pictures, tmp_path / "a.tar"))
    report = retriever.index(str(place))
    assert (report.removed, report.added) == (8, 0)
    assert retriever.verify().ok


def test_what_a_hostile_tar_names_outside_of_it_is_left_out(pictures: Path, tmp_path: Path) -> None:
    content = (pictures / "class0" / "00.jpg").read_bytes()
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("../up.jpg", "/root.jpg", "a/../../b.jpg", "good/a.jpg"):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
            link = tarfile.TarInfo(f"link{kind!r}.jpg")
            link.type, link.linkname = kind, "/etc/passwd"
            archive.addfile(link)
    retriever = Retriever(tmp_path / "g.imgret")
    assert retriever.index(tmp_path / "a.tar").added == 1
    assert list(stored(retriever)) == ["a.jpg"]
    assert not (tmp_path.parent / "up.jpg").exists()


@pytest.mark.parametrize(
    "content", [b"", b"no tar at all" * 100, gzip.compress(b"x" * 5000, mtime=0)],
    ids=["empty", "text", "packed"],
)  # fmt: skip
def test_what_is_no_shard_is_a_row_with_its_reason(content: bytes, tmp_path: Path) -> None:
    for name in ("a.tar", "b.parquet"):
        (tmp_path / name).write_bytes(content)
        report = Retriever(tmp_path / f"{name}.imgret").index(tmp_path / name)
        assert report.added == 0
        assert report.failed == 1
        assert all("that can be read" in reason for _, reason in report.failures)


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_a_list_names_images_wherever_they_lie(
    kind: str, photos: ObjectPath, pictures: Path, local: Retriever, tmp_path: Path
) -> None:
    rows = [
        (str(photos / f"{file.parent.name}/{file.name}" if n % 2 else file), f"label {n % 4}")
        for n, file in enumerate(sorted(pictures.rglob("*.jpg")))
    ]
    place = tmp_path / f"list.{kind}"
    if kind == "parquet":
        pq.write_table(
            pa.table({"uri": [r[0] for r in rows], "label": [r[1] for r in rows]}), place
        )
    else:
        data = "".join(f"{uri},{label}\n" for uri, label in [("uri", "label"), *rows]).encode()
        place.write_bytes(gzip.compress(data) if kind == "csv.gz" else data)
    retriever = Retriever(tmp_path / "g.imgret")
    report = retriever.index(place)
    assert (report.added, report.failed) == (24, 0)
    found = stored(retriever)
    assert {name: row[3] for name, row in found.items()} == {
        name: row[3] for name, row in stored(local).items()
    }
    assert {row[1] for row in found.values()} == {f"label {n}" for n in range(4)}
    assert retriever.index(place).unchanged == 24


def test_an_inventory_of_s3_tells_sizes_and_etags(
    photos: ObjectPath, bucket: ObjectPath, local: Retriever, tmp_path: Path, pictures: Path
) -> None:  # fmt: skip
    lines = "".join(
        f'"{bucket.bucket}","{path.key}","{facts.size}",{facts.etag},"true","false"\n'
        for path, facts in photos.all_below()
    )
    lines += f'"{bucket.bucket}","photos/gone.jpg","1","x","true","true"\n'
    lines += "".join(f'"{bucket.bucket}","{key}","0","x","true","false"\n' for key in NO_IMAGES)
    odd = photos / "class0" / "a b+c%20.jpg"
    odd.write_bytes((pictures / "class0" / "00.jpg").read_bytes())
    name = "photos/class0/a+b%2Bc%2520.jpg"
    lines += f'"{bucket.bucket}","{name}","9",{odd.facts().etag},"true","false"\n'
    (bucket / "inventory" / "1.csv.gz").write_bytes(gzip.compress(lines.encode()))
    manifest = {
        "sourceBucket": bucket.bucket, "destinationBucket": f"arn:aws:s3:::{bucket.bucket}",
        "version": "2016-11-30", "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size, ETag, IsLatest, IsDeleteMarker",
        "files": [{"key": "inventory/1.csv.gz", "size": 1, "MD5checksum": ""}],
    }  # fmt: skip
    (bucket / "inventory" / "manifest.json").write_bytes(json.dumps(manifest).encode())
    retriever = Retriever(tmp_path / "g.imgret")
    report = retriever.index(str(bucket / "inventory" / "manifest.json"))
    assert (report.added, report.failed) == (25, 0)
    assert embeddings(retriever) == embeddings(local)
    assert "a b+c%20.jpg" in stored(retriever)
    assert retriever.index(str(photos)).failed == 0
    assert len(stored(retriever)) == 25


def test_what_lists_and_folders_name_twice_is_one_row(pictures: Path, tmp_path: Path) -> None:
    lines = ["uri,label", "pictures/class0/00.jpg,first", "./pictures/class0/00.jpg,second"]
    (tmp_path / "list.csv").write_text("\n".join([*lines, lines[1]]))
    retriever = Retriever(tmp_path / "g.imgret")
    assert retriever.index(tmp_path / "list.csv").added == 1
    assert retriever.index(tmp_path / "list.csv").unchanged == 1
    assert stored(retriever)["00.jpg"][1] == "first"
    assert retriever.index([tmp_path / "list.csv", pictures]).added == 23
    (pictures / "class0" / "00.jpg").write_bytes((pictures / "class0" / "03.jpg").read_bytes())
    assert retriever.index([pictures, tmp_path / "list.csv"]).changed == 1
    assert retriever.gallery.open_table().count() == 24


def test_a_row_that_names_no_image_is_told_and_the_others_are_indexed(
    pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "list.csv").write_text(
        "uri,size,etag\nhttp://host/a.jpg,,\npictures/class0/00.jpg,,\na\0.jpg,,\n"
        "s3://bucket/../a.jpg,,\nfile:///a%00.jpg,,\nb.jpg,many,x\nb.jpg,99999999999999999999,x\n"
        f"s3://bucket/a//b.jpg,,\ns3://bucket/a/,,\n{'a' * 5000}.jpg,,\n,,\n"
        "..,,\npictures/..,,\n"
    )
    retriever = Retriever(tmp_path / "g.imgret")
    report = retriever.index(tmp_path / "list.csv")
    assert (report.added, report.failed) == (1, 12)
    assert "list.csv/row 1" in str(report.failures[0][0])
    assert max(len(reason) for _, reason in report.failures) < 200
    assert retriever.index(tmp_path / "list.csv").unchanged == 1


def test_a_list_in_a_store_names_no_file_of_this_machine(
    bucket: ObjectPath, photos: ObjectPath, pictures: Path, tmp_path: Path
) -> None:
    secret = pictures / "class0" / "00.jpg"
    lines = ["uri", "photos/class0/00.jpg", str(secret), secret.as_uri(), "../a.jpg"]
    (bucket / "list.csv").write_bytes("\n".join(lines).encode())
    retriever = Retriever(tmp_path / "g.imgret")
    report = retriever.index(str(bucket / "list.csv"))
    assert (report.added, report.failed) == (1, 3)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.csv.gz", gzip.compress(b"uri\na.jpg\n" * 99, mtime=0)[:-12]),
        ("list.csv.gz", gzip.compress(b"uri\na.jpg\n", mtime=0)[:12] + b"\xff" * 20),
        ("manifest.json", b"[" * 100_000), ("manifest.json", b'{"files": [5]}'),
        ("manifest.json", b'{"files": [{}], "fileFormat": "CSV"}'),
        ("manifest.json", b'{"files": [{"key": "x"}], "fileFormat": "ORC"}'),
    ],
    ids=["truncated", "damaged", "deep", "no file", "no key", "another format"],
)  # fmt: skip
def test_a_damaged_list_is_one_sentence(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"^The list .* cannot be read"):
        Retriever(tmp_path / "g.imgret").index(tmp_path / name)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_tar_whose_header_asks_for_all_memory_is_refused(kind: bytes, tmp_path: Path) -> None:
    header = tarfile.TarInfo("long")
    header.type, header.size = kind, 8 * 10**12
    (tmp_path / "a.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    report = Retriever(tmp_path / "g.imgret").index(tmp_path / "a.tar")
    assert [reason for _, reason in report.failures] == [
        "it is no plain tar that can be read (a name or its facts are too long); unpack it"
    ]


def test_a_tar_that_leads_back_to_its_beginning_is_refused(tmp_path: Path) -> None:
    facts = b"14 size=-1536\n"
    header = tarfile.TarInfo("facts")
    header.type, header.size = tarfile.XHDTYPE, len(facts)
    blocks = [tarfile.TarInfo("a").tobuf(), header.tobuf(), facts.ljust(512, b"\0")]
    (tmp_path / "a.tar").write_bytes(b"".join([*blocks, tarfile.TarInfo("b.jpg").tobuf()]))
    report = Retriever(tmp_path / "g.imgret").index(tmp_path / "a.tar")
    assert "below zero" in report.failures[0][1]


def test_a_name_in_a_tar_that_is_no_utf_8_is_spelled_out(pictures: Path, tmp_path: Path) -> None:
    content = (pictures / "class0" / "00.jpg").read_bytes()
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("\udcfe.jpg", "\udcff.jpg"):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    retriever = Retriever(tmp_path / "g.imgret")
    assert retriever.index(tmp_path / "a.tar").added == 2
    assert [match.missing for match in retriever.search(content)] == [False, False]
    assert retriever.verify().ok


def test_a_shard_in_a_shard_is_a_folder_of_that_name(pictures: Path, tmp_path: Path) -> None:
    content = (pictures / "class0" / "00.jpg").read_bytes()
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("b.tar/a.jpg")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    retriever = Retriever(tmp_path / "g.imgret")
    assert retriever.index(tmp_path / "a.tar").added == 1
    assert retriever.verify().ok


def test_a_shard_that_is_damaged_later_drops_no_row(pictures: Path, tmp_path: Path) -> None:
    place = make_tar(pictures, tmp_path / "a.tar")
    retriever = Retriever(tmp_path / "g.imgret")
    assert retriever.index(place).added == 24
    content = bytearray(place.read_bytes())
    with tarfile.open(place) as archive:
        damaged = archive.getmembers()[20].offset
    content[damaged : damaged + 512] = b"x" * 512
    place.write_bytes(content)
    report = retriever.index(place)
    assert (report.removed, report.failed) == (0, 1)


@pytest.mark.parametrize(
    ("kind", "added"),
    [
        (pa.struct([("bytes", pa.binary())]), 24),
        (pa.binary(), 24),
        (pa.struct([("bytes", pa.binary()), ("path", pa.int64())]), 24),
        (pa.struct([("bytes", pa.int64()), ("path", pa.string())]), 0),
    ],
    ids=["no paths", "plain bytes", "paths that are numbers", "bytes that are numbers"],
)
def test_a_dataset_of_another_shape_is_read_or_refused(
    kind: pa.DataType, added: int, pictures: Path, tmp_path: Path
) -> None:
    contents = [file.read_bytes() for file in sorted(pictures.rglob("*.jpg"))]
    images: list[Any] = list(contents)
    if pa.types.is_struct(kind):
        number = pa.types.is_integer(kind.field(0).type)
        images = [{"bytes": 1 if number else content, "path": None} for content in contents]
        images = [{f.name: image[f.name] for f in kind} for image in images]
    pq.write_table(pa.table({"image": pa.array(images, kind)}), tmp_path / "a.parquet")
    report = Retriever(tmp_path / "g.imgret").index(tmp_path / "a.parquet")
    assert (report.added, report.failed) == (added, 0 if added else 1)


@pytest.mark.parametrize(
    "content",
    [b"a,b\n1,2\n", b"uri\nhttps://example.com/a.jpg\n", b"\xff\xfe\x00", b"uri\n\n,\n"],
    ids=["no address", "the web", "noise", "empty lines"],
)
def test_a_list_that_cannot_be_used_is_one_sentence(
    content: bytes, tmp_path: Path, imgret: Command
) -> None:
    (tmp_path / "list.csv").write_bytes(content)
    done = imgret("index", "list.csv")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("imgret: The list list.csv cannot be read")
    assert done.stderr.count("\n") == 1
