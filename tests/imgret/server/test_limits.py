"""Each limit of the service, and that one client's excess is its own."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from imgret.server import Limits, ServiceOptions
from imgret.server.form import READ_AT_ONCE, SMALL_BODY
from tests.imgret.server.started import connect, in_thread, is_problem
from tests.samples import picture
from tests.watchdog import until

JSON = {"Content-Type": "application/json"}


@contextlib.contextmanager
def limited(stored: Path, **limits: float) -> Iterator[httpx.Client]:
    options = ServiceOptions({"one": stored / ".imgret"}, limits=Limits(**limits))  # type: ignore[arg-type]
    with in_thread(options) as client:
        yield client


def head(path: str, length: int, *more: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {length}"]
    return "\r\n".join([*lines, "Content-Type: application/json", *more, "", ""]).encode()


def read_all(connection: socket.socket) -> bytes:
    with contextlib.suppress(ConnectionError):
        return connection.makefile("rb").read()
    return b""


def wait_for_running(client: httpx.Client, number: int) -> None:
    """Until so many requests are being answered."""
    until(lambda: f"imgret_requests_running {number}.0\n" in client.get("/metrics").text)


def drip(connection: socket.socket) -> None:
    for _ in range(1000):
        connection.sendall(b"a: b\r\n")
        time.sleep(0.1)


def encoded(seed: int = 1, side: int = 80) -> bytes:
    stream = io.BytesIO()
    picture(seed, side, side).save(stream, "JPEG")
    return stream.getvalue()


def one_colour(side: int) -> bytes:
    """A PNG of few bytes and many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    size = side.to_bytes(4, "big")
    rows = zlib.compress((b"\0" + b"\x7f" * 3 * side) * side, 1)
    header = chunk(b"IHDR", size + size + b"\x08\x02\0\0\0")
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_body_that_says_it_is_too_large_is_refused_unread(stored: Path) -> None:
    with limited(stored, body=1000) as client, connect(client) as connection:
        connection.sendall(head("/v1/search", 1001))
        said = read_all(connection)
        assert said.startswith(b"HTTP/1.1 413 ")
        assert b"application/problem+json" in said


def test_a_body_that_does_not_say_its_size_is_counted(stored: Path) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    with limited(stored, body=1000) as client:
        assert is_problem(client.post("/v1/search", content=endless(), headers=JSON), 413)
        sent = {"Content-Type": "multipart/form-data; boundary=x"}
        start = b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n'
        form = itertools.chain([start], endless())
        assert is_problem(client.post("/v1/search", content=form, headers=sent), 413)


def test_json_is_bounded_by_itself(stored: Path) -> None:
    with limited(stored, json=100) as client:
        answer = client.post("/v1/search", json={"ids": [1], "where": "x" * 100})
        assert is_problem(answer, 413)


@pytest.mark.parametrize("asked", [{"rerank": "201"}, {"expand": "101"}, {"k": 1001}])
def test_a_search_that_takes_long_is_bounded(stored: Path, asked: dict[str, object]) -> None:
    with limited(stored) as client:
        id = client.get("/v1/images?limit=1").json()["images"][0]["id"]
        assert is_problem(client.post("/v1/search", json={"ids": [id], **asked}), 422)


def test_the_bodies_of_all_requests_are_bounded(stored: Path) -> None:
    with limited(stored, bodies=1000, body=900, body_seconds=60) as client:
        with connect(client) as slow:
            slow.sendall(head("/v1/search", 900) + b"{")
            wait_for_running(client, 1)
            answer = client.post("/v1/search", content=b" " * 200, headers=JSON)
            assert is_problem(answer, 429)
            assert answer.headers["retry-after"] == "1"
        wait_for_running(client, 0)
        assert client.post("/v1/search", content=b" " * 200, headers=JSON).status_code == 422


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(stored: Path) -> None:
    with limited(stored, pixels=6400) as client:
        answer = client.post("/v1/search", files={"picture": encoded(side=81)})
        assert is_problem(answer, 422)
        assert "6,561 pixels" in answer.json()["detail"]
        assert client.post("/v1/search", files={"picture": encoded()}).status_code == 200


def test_pictures_of_a_request_are_bounded(stored: Path) -> None:
    with limited(stored, pictures=2) as client:
        files = [("picture", (str(n), encoded())) for n in range(3)]
        assert is_problem(client.post("/v1/search", files=files), 400)
        assert client.post("/v1/search", files=files[:2]).status_code == 200


def test_a_picture_that_takes_too_long_is_given_up(stored: Path) -> None:
    with limited(stored, picture_seconds=0.05) as client:
        answer = client.post("/v1/search", files={"picture": one_colour(4000)})
        assert is_problem(answer, 422)
        assert "seconds to decode" in answer.json()["detail"]


def test_a_costly_picture_keeps_nobody_else_waiting(stored: Path) -> None:
    costly = one_colour(6000)
    with limited(stored) as client, ThreadPoolExecutor(4) as threads:
        heavy = [
            threads.submit(client.post, "/v1/search", files={"picture": costly}) for _ in range(3)
        ]
        time.sleep(0.2)
        answer = client.post("/v1/search", files={"picture": encoded()})
        assert answer.status_code == 200
        assert not heavy[-1].done()
        codes = {each.result().status_code for each in heavy}
        assert codes <= {200, 422}


def test_one_request_too_many_is_told_to_come_again_at_once(stored: Path) -> None:
    with limited(stored, waiting=2, body_seconds=60) as client:
        with contextlib.ExitStack() as slow:
            for _ in range(2):
                connection = slow.enter_context(connect(client))
                connection.sendall(head("/v1/search", 10) + b"{")
            wait_for_running(client, 2)
            answer = client.post("/v1/search", json={"ids": [1]})
            assert is_problem(answer, 429)
            assert answer.headers["retry-after"] == "1"
            assert client.get("/healthz").status_code == 200
            assert "imgret_requests_refused_total 1.0" in client.get("/metrics").text
        wait_for_running(client, 0)
        assert is_problem(client.post("/v1/search", json={"ids": [1]}), 422)


def test_one_connection_too_many_is_told_so(stored: Path) -> None:
    with limited(stored, connections=3) as client, contextlib.ExitStack() as held:
        client.get("/healthz")  # the first one, which stays
        for _ in range(2):
            held.enter_context(connect(client))
        time.sleep(0.2)
        with connect(client) as connection:
            said = read_all(connection)
        assert said.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"retry-after: 1" in said
        assert json.loads(said.partition(b"\r\n\r\n")[2])["status"] == 503


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\n"])
def test_a_client_that_sends_no_header_is_dropped(stored: Path, sent: bytes) -> None:
    with limited(stored, header_seconds=0.5) as client, connect(client) as connection:
        connection.sendall(sent)
        assert read_all(connection) == b""


def test_a_client_that_drips_its_header_is_dropped(stored: Path) -> None:
    with limited(stored, header_seconds=1) as client, connect(client) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(ConnectionError):
            drip(connection)


def test_a_client_that_does_not_send_its_body_is_told_so(stored: Path) -> None:
    with limited(stored, body_seconds=0.5) as client, connect(client) as connection:
        connection.sendall(head("/v1/search", 100) + b"{")
        said = read_all(connection)
        assert said.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in said.lower()


def test_clients_that_send_large_bodies_slowly_keep_nobody_waiting(stored: Path) -> None:
    start = head("/v1/search", 2 * SMALL_BODY).replace(
        b"application/json", b"multipart/form-data; boundary=x"
    )
    with limited(stored, body_seconds=60) as client, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(client)) for _ in range(2 * READ_AT_ONCE)]
        for connection in slow:
            connection.sendall(start + b"--x\r\n")
        wait_for_running(client, len(slow))
        files = {"picture": encoded() + b"\0" * 2 * SMALL_BODY}
        assert client.post("/v1/search", files=files, timeout=50).status_code == 200
        for connection in slow:  # they are waited for still
            connection.setblocking(False)
            with pytest.raises(BlockingIOError):
                connection.recv(1)


def test_a_client_that_reads_nothing_is_dropped(own: Path) -> None:
    large = own / "pictures" / "class0" / "large.bmp"
    picture(5, 3000, 3000).save(large)
    from retrieval.retriever import Retriever

    retriever = Retriever(own / ".imgret")
    retriever.index(own / "pictures")
    id = retriever.search(large, k=1)[0].id
    with limited(own, write_seconds=0.5) as client, connect(client) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(f"GET /v1/images/{id}/file HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        time.sleep(3)
        assert len(read_all(connection)) < 27_000_000


def test_a_request_that_takes_too_long_is_given_up(stored: Path) -> None:
    with limited(stored, seconds=0.3) as client:
        answer = client.post("/v1/search", files={"picture": one_colour(6000)})
        assert is_problem(answer, 503)
        assert "took too long" in answer.json()["detail"]


def test_a_header_that_is_too_long_is_a_problem(stored: Path) -> None:
    with limited(stored) as client:
        answer = client.get("/healthz", headers={"a": "x" * 100_000})
        assert is_problem(answer, 400)


def test_threads_and_files_do_not_add_up(stored: Path) -> None:
    with limited(stored) as client:
        for _ in range(3):
            client.post("/v1/search", files={"picture": encoded()})
        before = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
        for n in range(40):
            client.post("/v1/search", files={"picture": encoded(n)})
            client.get("/v1/images")
        after = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    assert after[0] <= before[0] + 8
    assert after[1] <= before[1] + 8


def test_who_is_refused_while_sending_much_sees_why(stored: Path) -> None:
    with limited(stored, waiting=0) as client, ThreadPoolExecutor(8) as threads:
        files = {"picture": b"x" * (20 << 20)}
        answers = list(threads.map(lambda _: client.post("/v1/search", files=files), range(16)))
        assert all(is_problem(answer, 429) for answer in answers)
        before = client.get("/metrics").text
        assert "imgret_requests_running 0.0" in before
