"""Requests that are made to break the service, to stop it for others, or to lose their files."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import json
import os
import shutil
import socket
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from imgret.server import ServiceOptions
from imgret.server.queue import Batcher
from imgret.server.traffic import Traffic
from retrieval.retriever import Retriever
from tests.imgret.server.started import in_thread, is_problem
from tests.samples import picture

JSON = {"Content-Type": "application/json"}
MANY = ",".join(f'"a{n}":1' for n in range(300_000))


@pytest.fixture(scope="module")
def client(stored: Path) -> Iterator[httpx.Client]:
    with in_thread(ServiceOptions({"one": stored / ".imgret"})) as client:
        yield client


@pytest.fixture
def both(own: Path) -> Iterator[httpx.Client]:
    """Two galleries that store what is sent in one folder."""
    shutil.copytree(own / ".imgret", own / "other.imgret")
    galleries = {"one": own / ".imgret", "other": own / "other.imgret"}
    with in_thread(ServiceOptions(galleries, uploads=own / "sent")) as client:
        yield client


def encoded(seed: int = 1) -> bytes:
    stream = io.BytesIO()
    picture(seed).save(stream, "JPEG")
    return stream.getvalue()


def send(client: httpx.Client, gallery: str, content: bytes, **fields: str) -> httpx.Response:
    query = {"gallery": gallery}
    return client.post("/v1/images", params=query, files={"picture": content}, data=fields)


def sent_file(answer: httpx.Response) -> Path:
    assert answer.status_code == 201, answer.text
    return Path(answer.json()["results"][0]["image"]["path"])


@pytest.mark.parametrize(
    ("content", "path"),
    [("{" + MANY + "}", "/v1/search"), ('{"positive":[{' + MANY + "}]}", "/v1/search"),
     ("{" + MANY + "}", "/v1/archive"), ("{" + MANY + "}", "/v1/embed")],
)  # fmt: skip
def test_a_million_values_are_refused_before_they_are_looked_at(
    client: httpx.Client, content: str, path: str
) -> None:
    answer = client.post(path, content=content, headers=JSON)
    assert is_problem(answer, 422)
    assert "more than 64 values" in answer.json()["detail"]
    assert len(answer.content) < 10_000  # a sentence for each fault had millions


def test_one_wrong_number_of_an_embedding_is_told(client: httpx.Client) -> None:
    content = json.dumps({"embeddings": [["x"] * 16_384] * 16})
    answer = client.post("/v1/search", content=content, headers=JSON)
    assert is_problem(answer, 422)
    assert len(answer.content) < 10_000
    errors = answer.json()["errors"]
    assert [error["location"] for error in errors[:1]] == ["embeddings.0.0"]


def test_what_an_archive_is_asked_is_bounded_as_other_json_is(client: httpx.Client) -> None:
    answer = client.post("/v1/archive", content=b" " * (9 << 20), headers=JSON)
    assert is_problem(answer, 413)
    assert is_problem(client.post("/v1/archive", content=b"\xff", headers=JSON), 422)
    assert is_problem(client.post("/v1/archive", content=b"{}"), 415)


@pytest.mark.parametrize("encoding", ["punycode", "undefined", "unicode_escape", "utf-16"])
def test_a_form_is_utf_8(client: httpx.Client, encoding: str) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="k"\r\n\r\na.b\xff\r\n--x--\r\n'
    kind = f"multipart/form-data; boundary=x; charset={encoding}"
    answer = client.post("/v1/search", content=form, headers={"Content-Type": kind})
    assert is_problem(answer, 415)
    kind = "multipart/form-data; boundary=x; charset=UTF-8"
    assert is_problem(client.post("/v1/search", content=form, headers={"Content-Type": kind}), 422)


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "ftp://{host}", "http://{host}#a"])
def test_an_origin_that_is_none_is_refused(client: httpx.Client, origin: str) -> None:
    host = f"{client.base_url.host}:{client.base_url.port}"
    answer = client.get("/v1/images", headers={"Origin": origin.format(host=host)})
    assert is_problem(answer, 403)
    assert client.get("/v1/images", headers={"Origin": f"http://{host}"}).status_code == 200


def test_a_file_of_one_gallery_survives_what_fails_in_another(
    both: httpx.Client, own: Path
) -> None:
    file = sent_file(send(both, "one", encoded()))
    with Retriever(own / "other.imgret").gallery.lock():
        assert is_problem(send(both, "other", encoded()), 503)
    assert file.read_bytes() == encoded()


def test_a_file_of_two_galleries_is_deleted_with_the_last_one(both: httpx.Client) -> None:
    answers = {name: send(both, name, encoded()) for name in ("one", "other")}
    file = sent_file(answers["one"])
    assert file == sent_file(answers["other"])
    for name, is_left in (("one", True), ("other", False)):
        id = answers[name].json()["results"][0]["image"]["id"]
        assert both.delete(f"/v1/images/{id}", params={"gallery": name}).status_code == 204
        assert file.exists() is is_left


def test_what_is_sent_again_while_it_is_removed_is_there(both: httpx.Client) -> None:
    def remove(id: int) -> None:
        both.delete(f"/v1/images/{id}")

    for _ in range(4):
        answer = send(both, "one", encoded())
        image = answer.json()["results"][0]["image"]
        thread = threading.Thread(target=remove, args=[image["id"]])
        thread.start()
        time.sleep(0.05)
        again = send(both, "one", encoded())
        thread.join()
        if again.status_code == 201:
            assert sent_file(again).exists()


def test_a_gallery_that_is_away_is_not_begun_anew(both: httpx.Client, own: Path) -> None:
    (own / ".imgret").rename(own / "away")
    assert is_problem(send(both, "one", encoded()), 503)
    assert not (own / ".imgret").exists()
    assert [file for file in (own / "sent").rglob("*") if file.is_file()] == []
    (own / "away").rename(own / ".imgret")
    assert send(both, "one", encoded()).status_code == 201


def test_a_label_that_is_no_folder_is_told(both: httpx.Client, own: Path) -> None:
    (own / "sent").mkdir(exist_ok=True)
    (own / "sent" / "nut").write_text("a file")
    (own / "sent" / "bolt").symlink_to(own / "nowhere")
    for label in ("nut", "bolt"):
        assert is_problem(send(both, "one", encoded(), label=label), 409)


def test_a_disk_that_is_full_is_told(both: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: object) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("imgret.server.uploads.write_new", write)
    answer = send(both, "one", encoded())
    assert is_problem(answer, 507)
    assert "No space left" in answer.json()["detail"]


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_names_in_an_archive_lead_out_of_no_folder(own: Path) -> None:
    (own / "pictures" / "class0" / "a\\..\\..\\b.jpg").write_bytes(encoded(70))
    Retriever(own / ".imgret").index(own / "pictures")
    with in_thread(ServiceOptions({"own": own / ".imgret"})) as client:
        ids = [image["id"] for image in client.get("/v1/images").json()["images"]]
        answer = client.post("/v1/archive", json={"ids": ids})
        names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
        assert any(name.endswith("a_.._.._b.jpg") for name in names)
        assert not [name for name in names if "\\" in name or "/" in name]


def test_a_panic_ends_no_thread() -> None:
    """What is no Exception, such as a panic in Rust, is told, and what follows is done."""

    class Panic(BaseException):
        pass

    def run(pieces: Sequence[int]) -> list[int]:
        if 1 in pieces:
            raise Panic("index out of bounds")
        return [2 * piece for piece in pieces]

    async def work() -> int:
        batcher: Batcher[int, int] = Batcher("test", run, lambda _: 1, Traffic())
        with pytest.raises(RuntimeError, match="index out of bounds"):
            await asyncio.wait_for(batcher.submit(1), 5)
        try:
            return await asyncio.wait_for(batcher.submit(2), 5)
        finally:
            batcher.end()

    with ThreadPoolExecutor(1) as thread:  # Playwright's loop may be running in this one
        assert thread.submit(asyncio.run, work()).result() == 4


def test_pictures_of_addresses_wait_before_they_are_fetched(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, most = [0], [0]
    turn = threading.Lock()

    def download(*_: object) -> bytes:
        with turn:
            held[0] += 1
        return encoded()

    def needed(*_: object) -> int:
        with turn:
            most[0] = max(most[0], held[0])
            held[0] -= 1
        time.sleep(0.05)
        return 0

    monkeypatch.setattr("imgret.server.service.download_picture", download)
    monkeypatch.setattr("imgret.server.service.memory_needed", needed)
    with in_thread(ServiceOptions({"one": stored / ".imgret"}, allow_urls=True)) as client:
        body = {"urls": ["http://a.example/"] * 16}
        with ThreadPoolExecutor(3) as threads:
            answers = list(threads.map(lambda _: client.post("/v1/search", json=body), range(3)))
        assert [answer.status_code for answer in answers] == [200] * 3
    assert most[0] <= 8


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_who_leaves_before_an_archive_is_here_leaves_no_file_open(client: httpx.Client) -> None:
    def unnamed() -> int:
        links = []
        for file in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                links.append(str(file.readlink()))
        return sum("(deleted)" in link for link in links)

    body = json.dumps({"ids": [i["id"] for i in client.get("/v1/images").json()["images"]]})
    head = f"POST /v1/archive HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    before = unnamed()
    gc.disable()
    try:
        for _ in range(20):
            place = client.base_url.host, client.base_url.port or 80
            with socket.create_connection(place, timeout=10) as connection:
                sent = f"{head}Content-Type: application/json\r\n\r\n{body}"
                connection.sendall(sent.encode())
        until = time.monotonic() + 10
        while unnamed() > before + 2 and time.monotonic() < until:
            time.sleep(0.1)
        assert unnamed() <= before + 2
    finally:
        gc.enable()


def test_archives_that_are_on_their_way_are_bounded(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def packed(*_: object) -> io.BytesIO:
        begun.set()
        assert goes_on.wait(30)
        return io.BytesIO(b"packed")

    with in_thread(ServiceOptions({"one": stored / ".imgret"})) as client:
        body = {"ids": [image["id"] for image in client.get("/v1/images").json()["images"]]}
        monkeypatch.setattr("imgret.server.archive._packed", packed)
        monkeypatch.setattr("imgret.server.archive.MOST_AT_ONCE", 1)
        with ThreadPoolExecutor(1) as thread:
            first = thread.submit(client.post, "/v1/archive", json=body)
            assert begun.wait(30)
            answer = client.post("/v1/archive", json=body)
            assert is_problem(answer, 429)
            assert answer.headers["retry-after"]
            goes_on.set()
            assert first.result().content == b"packed"
        assert client.post("/v1/archive", json=body).status_code == 200


def test_no_room_for_an_archive_is_told(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> io.BytesIO:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("imgret.server.archive._packed", full)
    id = client.get("/v1/images").json()["images"][0]["id"]
    for _ in range(2):
        assert is_problem(client.post("/v1/archive", json={"ids": [id]}), 507)


def test_a_line_of_the_log_is_short(capfd: pytest.CaptureFixture[str]) -> None:
    traffic = Traffic()
    traffic.tell("A" * 5000, "/" + "\n\x1b" * 2000, "unknown", 404, 0.001)
    traffic.log.end()
    # another service of this process may be telling its last request
    said = [line for line in capfd.readouterr().err.splitlines() if " AAAA" in line]
    assert len(said) == 1
    assert "\x1b" not in said[0]
    assert len(said[0]) < 2000
