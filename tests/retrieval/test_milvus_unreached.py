"""What a published gallery says and checks where no server is: all that needs none."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgret import ArgumentError, GalleryError, Retriever, ServerError
from retrieval.index import Index
from retrieval.milvus import MilvusServer, Published, ServedAddress, StoredTransform
from retrieval.milvus.kinds import efforts, search_parameters, served_kind_for
from retrieval.milvus.transform import FOLDER, TRANSFORMS_KEPT
from retrieval.transform import Transform
from retrieval.words import SERVED_KINDS
from tests.conftest import Command
from tests.retrieval.answering import answering
from tests.samples import command_environment, command_line, picture
from tests.watchdog import PATIENCE, ends

CLOSED = "milvus://127.0.0.1:1/photos"
ADDRESS = ServedAddress.parse(CLOSED)
SAID = Published(
    table="a" * 32, gallery="/photos.imgret", version=3, rows=5, held="0" * 64, weights="1" * 64,
    transform="2" * 64, spec="none", fitted_on=0, d_in=8, d_out=8, kind="hnsw", effort=32,
    recall=1.0, tuned=5, written=7,
)  # fmt: skip


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    for n in range(3):
        picture(n).save(tmp_path / f"{n}.png")
    Retriever(tmp_path / "photos.imgret").index([tmp_path / f"{n}.png" for n in range(3)])
    return tmp_path / "photos.imgret"


@pytest.mark.parametrize("command", [
    ("query", "0.png", "--gallery", f"{CLOSED}?gallery=photos.imgret"),
    ("info", "--gallery", f"{CLOSED}?gallery=photos.imgret"),
    ("publish", CLOSED, "--gallery", "photos.imgret"),
    ("publish", f"{CLOSED}?gallery=photos.imgret"),
])  # fmt: skip
def test_a_server_that_is_down_is_one_sentence(
    gallery: Path, inline: Command, command: tuple[str, ...]
) -> None:
    done = inline(*command)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        f"imgret: {CLOSED} cannot be reached (Connection refused). Start the server, or search the "
        "gallery itself with --gallery PATH."
    )


def test_a_server_that_never_answers_is_not_waited_for() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        place = f"milvus://127.0.0.1:{silent.getsockname()[1]}/photos"
        refused = pytest.raises(ServerError, match=r"reached \(it does not answer in time\)")
        with ends(), refused:
            MilvusServer(ServedAddress.parse(place)).collection("photos")


@pytest.mark.parametrize(("answer", "said"), [
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", r"is not a Milvus server .*\(it speaks HTTP\)\. Correct"),
    (b"\x15\x03\x01\x00\x02\x02\x46", r"is not a Milvus server .*\(it speaks TLS\)\. Correct the"),
    (b"220 mail ready\r\n", r"is not a Milvus server .*\(it speaks another protocol\)\. Correct"),
    (bytes(range(8)), r"is not a Milvus server .*\(it speaks another protocol\)\. Correct"),
    (b"", r"cannot be reached \(it ends the connection\)\. Start the server"),
])  # fmt: skip
def test_a_server_that_is_no_milvus_is_told_by_what_it_speaks(answer: bytes, said: str) -> None:
    pytest.importorskip("pymilvus")

    class Other(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(100)
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        place = f"milvus://127.0.0.1:{server.server_address[1]}/photos"
        try:
            with pytest.raises(ServerError, match=said):
                MilvusServer(ServedAddress.parse(place)).collection("photos")
        finally:
            server.shutdown()


@pytest.mark.parametrize(("code", "details", "said"), [
    ("UNAUTHENTICATED", "no", r"does not let you in\. Set MILVUS_TOKEN to USER:PASSWORD"),
    ("RESOURCE_EXHAUSTED", "too\nmany", r"refuses \(too\)\. Try again later"),
    ("INVALID_ARGUMENT", "", r"refuses \(INVALID_ARGUMENT\)\. Try again later"),
])  # fmt: skip
def test_what_grpc_refuses_is_told_by_its_reason(code: str, details: str, said: str) -> None:
    grpc = pytest.importorskip("grpc")
    refuse = partial(refused, getattr(grpc.StatusCode, code), details)
    with answering(refuse) as port, pytest.raises(ServerError, match=said):
        MilvusServer(ServedAddress.parse(f"milvus://127.0.0.1:{port}/p")).collection("p")


def test_another_server_of_grpc_is_told_as_no_milvus() -> None:
    grpc = pytest.importorskip("grpc")
    server = grpc.server(ThreadPoolExecutor(1))
    place = f"milvus://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}/photos"
    server.start()
    try:
        with pytest.raises(ServerError, match=r"\(it speaks gRPC, but not as Milvus\)\. Correct"):
            MilvusServer(ServedAddress.parse(place)).collection("photos")
    finally:
        server.stop(None)


def refused(code: object, details: str, context: Any) -> None:
    context.abort(code, details)


def test_a_server_that_hangs_later_is_not_waited_for() -> None:
    pytest.importorskip("grpc")
    done = threading.Event()
    with answering(lambda _: done.wait(PATIENCE)) as port:
        refused = pytest.raises(ServerError, match=r"reached \(it does not answer in time\)")
        with ends(), refused:
            MilvusServer(ServedAddress.parse(f"milvus://127.0.0.1:{port}/p")).collection("p")
        done.set()


def test_without_the_extra_the_message_says_what_to_install(
    gallery: Path, tmp_path: Path, cache: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u; f = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n == 'pymilvus' else f(n, *a)\n"
    )
    environment = command_environment(cache)
    environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{environment.get('PYTHONPATH', '')}"
    done = subprocess.run(
        command_line("publish", CLOSED, "--gallery", gallery), env=environment,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"imgret: {CLOSED} needs pymilvus, which is not installed. Run `pip install "
        "'imgret[milvus]'`."
    )


def test_what_writes_refuses_an_address_and_names_the_gallery(gallery: Path) -> None:
    there = Retriever(f"{CLOSED}?gallery={gallery}")
    for change in (
        lambda: there.index(gallery.parent / "0.png"),
        lambda: there.remove(gallery.parent / "0.png"),
        lambda: there.relabel({1: "a"}),
        there.compact,
        there.calibrate,
        lambda: there.evaluate(prior_known=0.5),
        lambda: there.verify(repair=True),
    ):
        with pytest.raises(ArgumentError, match=rf"is only searched\. Name the gallery {gallery}"):
            change()
    assert there.verify().rows == 3
    assert not there.is_current()  # a service asks before it opens, and must not wait


@pytest.mark.parametrize("command", [
    ("index", "."), ("remove", "0.png"), ("calibrate",), ("verify", "--repair"),
    ("evaluate", "--prior-known", "0.5"),
], ids=" ".join)  # fmt: skip
def test_commands_that_write_refuse_an_address(
    gallery: Path, inline: Command, command: tuple[str, ...]
) -> None:
    done = inline(*command, "--gallery", f"{CLOSED}?gallery={gallery}")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{CLOSED} is only searched. Name the gallery {gallery} instead" in done.stderr


@pytest.mark.parametrize("asked", [
    {"kind": "flat"}, {"shards": 0}, {"shards": 65}, {"replicas": 0}, {"replicas": 1.5},
])  # fmt: skip
def test_wrong_options_of_publish_are_refused_before_a_server_is_asked(
    gallery: Path, asked: dict[str, object]
) -> None:
    with pytest.raises(ArgumentError):
        Retriever(gallery).publish(CLOSED, **asked)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Retriever(gallery).publish(CLOSED, color="red")  # type: ignore[call-arg]
    with pytest.raises(ArgumentError, match="Leave one out"):
        Retriever(gallery).publish(f"{CLOSED}?gallery=other.imgret")


# --- the transform in front


def affine(d_in: int, d_out: int, seed: int = 0) -> Transform:
    random = np.random.default_rng(seed)
    matrix, bias = random.normal(size=(d_out, d_in)), random.normal(size=d_out)
    return Transform("whiten", d_in, matrix.astype(np.float32), bias.astype(np.float32))


@pytest.fixture(params=[affine(24, 7), Transform("none", 24)], ids=["affine", "norm"])
def index(request: pytest.FixtureRequest) -> Index:
    x = np.random.default_rng(1).normal(size=(50, 24)).astype(np.float16)
    return Index.build(request.param, lambda: iter([(np.arange(50), x)]), 50)


def test_a_stored_transform_gives_the_vectors_of_the_index_to_the_bit(
    index: Index, tmp_path: Path
) -> None:
    stored = StoredTransform.of(index)
    stored.save(tmp_path)
    again = StoredTransform.load(tmp_path, stored.sha256, index.d_in, index.d_out)
    assert again is not None
    for n in (1, 300):
        x = np.random.default_rng(n).normal(size=(n, 24)).astype(np.float32)
        np.testing.assert_array_equal(again.apply(x), index.transform(x))
    assert StoredTransform.load(tmp_path, "0" * 64, index.d_in, index.d_out) is None
    with pytest.raises(ValueError, match="takes"):
        again.apply(np.ones((2, 23), np.float32))


@pytest.mark.parametrize("damage", ["bit", "short", "long", "link"])
def test_a_damaged_transform_is_refused(tmp_path: Path, damage: str) -> None:
    made = affine(24, 7)
    stored = StoredTransform(24, made.matrix, made.bias)
    stored.save(tmp_path)
    (file,) = (tmp_path / FOLDER).iterdir()
    content = file.read_bytes()
    if damage == "link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    else:
        changed = {"bit": content[:-1] + bytes([content[-1] ^ 1]), "short": content[:-9],
                   "long": content + bytes(1 << 16)}  # fmt: skip
        file.write_bytes(changed[damage])
    with pytest.raises(GalleryError, match=r"cannot be read .*imgret publish` again"):
        StoredTransform.load(tmp_path, stored.sha256, 24, 7)


def test_few_transforms_are_kept_and_the_newest_is_among_them(tmp_path: Path) -> None:
    for seed in range(TRANSFORMS_KEPT + 3):
        made = affine(8, 4, seed)
        stored = StoredTransform(8, made.matrix, made.bias)
        stored.save(tmp_path)
        os.utime(tmp_path / FOLDER / f"{stored.sha256}.safetensors", (seed, seed))
        assert StoredTransform.load(tmp_path, stored.sha256, 8, 4) is not None
    assert len([*(tmp_path / FOLDER).iterdir()]) == TRANSFORMS_KEPT


# --- what a server says


def test_what_a_collection_says_is_read_as_it_was_written() -> None:
    assert Published.read_text(SAID.as_text(), ADDRESS) == SAID


@pytest.mark.parametrize("wrong", [
    "", "[]", "1", "{", "[" * 100_000, '{"format": 1}', "x" * 100_000,
    *(json.dumps(SAID.as_table() | change) for change in (
        {"format": 2}, {"rows": -1}, {"rows": 1e400}, {"transform": "../../../etc/passwd"},
        {"kind": "flat"}, {"effort": 1 << 40}, {"d_out": 1 << 40}, {"version": True},
        {"other": 1}, {"gallery": "x" * 5000}, {"spec": "\x1b[2J"}, {"recall": float("nan")},
        {"table": "a b"},
    )),
], ids=lambda text: text[-40:])  # fmt: skip
def test_what_a_server_says_is_checked(wrong: str) -> None:
    with pytest.raises(GalleryError, match=r"says of its rows cannot be read.* Delete it there"):
        Published.read_text(wrong, ADDRESS)
    assert replace(SAID, rows=6).rows == 6


# --- kinds and efforts


@pytest.mark.parametrize("kind", SERVED_KINDS)
def test_efforts_grow_and_searches_stay_within_what_milvus_takes(kind: str) -> None:
    for n in (1, 1_000, 10**9):
        tried = [*efforts(kind, n)]  # type: ignore[arg-type]
        assert tried == sorted(set(tried))
        for limit in (1, 11, 16_384):
            for share in (1.0, 0.5, 1e-9):
                for effort in (tried[0], tried[-1]):
                    (value,) = search_parameters(kind, n, effort, limit, share).values()  # type: ignore[arg-type]
                    assert 1 <= value <= 65_536
                    assert kind == "ivf_sq8" or value >= limit
    assert served_kind_for(10_000_000) == "hnsw"
    assert served_kind_for(10_000_001) == "ivf_sq8"
    assert served_kind_for(100_000_001) == "diskann"
