"""How `imgret serve` starts, who it lets in, and how it ends."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image

from classify.training import train
from imgret.server.run import listen
from tests.classify.blobs import save_blobs, tiny
from tests.conftest import Command
from tests.imgret.server.started import Started, connect, is_problem, started
from tests.watchdog import until

TOKEN, READER = "0123456789abcdef-write", "0123456789abcdef-read"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    save_blobs(folder / "data", 6)
    train(folder / "data", tiny("training.epochs=6"), folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def service(
    stored: Path, run: Path, tmp_path_factory: pytest.TempPathFactory, cache: Path
) -> Iterator[Started]:
    with started(stored, cache, "--model", run, "--debug") as found:
        yield found


def red(run: Path) -> Path:
    return next((run.parent / "data" / "red").iterdir())


def test_the_page_and_the_api_are_told_where_they_are(service: Started) -> None:
    assert service.address.startswith("http://127.0.0.1:")
    page = service.client.get("/")
    assert "<title>imgret</title>" in page.text
    for name in ("page.js", "page.css"):
        assert f"/page/{name}" in page.text
        assert service.client.get(f"/page/{name}").status_code == 200
    docs = service.client.get("/api/docs").text
    assert "POST /v1/classify" in docs
    assert "//" not in docs.replace("</", "")


def test_nothing_tells_which_program_answers(service: Started) -> None:
    for path in ("/", "/healthz", "/nothing", "/api"):
        headers = service.client.get(path).headers
        assert "server" not in headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "unsafe" not in headers["content-security-policy"]


def test_the_document_is_openapi_3_1(service: Started) -> None:
    document = service.client.get("/api").json()
    assert document["openapi"].startswith("3.1")
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_a_run_tells_the_classes_of_several_pictures(service: Started, run: Path) -> None:
    good, bad = ("a.png", red(run).read_bytes()), ("b.png", b"no image")
    sent = [("picture", good), ("picture", bad)]
    answer = service.client.post("/v1/classify", files=sent, data={"top": "2"})
    assert answer.status_code == 200
    first, second = answer.json()["results"]
    assert first["classes"][0]["label"] == "red"
    assert len(first["classes"]) == 2
    assert (second["classes"], second["name"]) == ([], "b.png")
    assert "not an image" in second["error"]
    assert float(answer.headers["server-timing"].partition("dur=")[2]) > 0


def test_what_speaks_for_a_class_is_shown_where_it_is_asked_for(
    service: Started, run: Path
) -> None:
    sent = [("picture", ("a.png", red(run).read_bytes()))]
    told = service.client.post("/v1/classify", files=sent, data={"heat": "true"}).json()
    heat = Image.open(io.BytesIO(base64.b64decode(told["results"][0]["heat"])))
    assert (heat.format, heat.width) == ("PNG", heat.height)
    assert heat.convert("RGB").getcolors(2) is None
    plain = service.client.post("/v1/classify", files=sent).json()
    assert plain["results"][0]["heat"] is None
    assert plain["results"][0]["classes"] == told["results"][0]["classes"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/page/../options.py", 404),
        ("GET", "/page/%2e%2e%2foptions.py", 404),
        ("DELETE", "/healthz", 405),
        ("PUT", "/v1/classify", 405),
        ("POST", "/v1/classify", 415),
    ],
)
def test_every_error_is_a_problem(service: Started, method: str, path: str, status: int) -> None:
    assert is_problem(service.client.request(method, path), status)


def test_a_wrong_value_names_itself(service: Started, run: Path) -> None:
    sent = {"picture": red(run).read_bytes()}
    for fields in ({"top": "0"}, {"top": "x"}, {"nothing": "1"}):
        answer = service.client.post("/v1/classify", files=sent, data=fields)
        assert is_problem(answer, 422)
        assert answer.json()["errors"][0]["location"] == next(iter(fields))
    answer = service.client.post("/v1/classify", files={"picture": b"no image"})
    assert is_problem(answer, 422)
    assert is_problem(service.client.post("/v1/classify", files={"other": b"x"}), 422)


def test_another_host_or_origin_is_refused(service: Started) -> None:
    client = service.client
    own = service.address.rstrip("/")
    assert is_problem(client.get("/", headers={"Host": "elsewhere.example"}), 421)
    assert client.get("/", headers={"Host": "localhost"}).status_code == 200
    assert client.get("/healthz", headers={"Origin": own}).status_code == 200
    for headers in (
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        answer = client.get("/healthz", headers=headers)
        assert is_problem(answer, 403)
        assert "access-control-allow-origin" not in answer.headers
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/", headers=link).status_code == 200
    assert is_problem(client.get("/metrics", headers=link), 403)


def test_what_is_not_http_is_told_so(service: Started) -> None:
    with connect(service.client) as connection:
        connection.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        said = connection.makefile("rb").read()
    assert said.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"application/problem+json" in said


def test_the_figures_are_those_of_prometheus(service: Started) -> None:
    service.client.get("/healthz")
    text = service.client.get("/metrics").text
    assert 'imgret_requests_total{method="GET",route="/healthz",status="200"}' in text
    for name in ("imgret_request_seconds_bucket", "imgret_queue", "imgret_cache"):
        assert name in text


def test_it_ends_on_sigterm_with_its_work_done(stored: Path, run: Path, cache: Path) -> None:
    content = red(run).read_bytes()
    boundary = b"--x\r\nContent-Disposition: form-data; name=picture; filename=a\r\n\r\n"
    body = boundary + content + b"\r\n--x--\r\n"
    head = "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\nConnection: close\r\n\r\n"
    with started(stored, cache, "--model", run) as found:
        with connect(found.client) as connection:
            connection.sendall(head.format(len(body)).encode() + body[:100])
            time.sleep(0.3)
            found.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            connection.sendall(body[100:])
            said = connection.makefile("rb").read()
        assert said.startswith(b"HTTP/1.1 200 OK")
        assert found.process.wait(timeout=60) == 0
        assert "Traceback" not in found.log


def test_it_ends_on_ctrl_c_and_logs_a_line_of_json(stored: Path, cache: Path) -> None:
    with started(stored, cache, "--log-format", "json") as found:
        assert is_problem(found.client.post("/v1/classify", files={"picture": b"secret"}), 404)
        found.client.get("/healthz?secret=1")
        assert found.end(signal.SIGINT) == 0
        lines = found.log.splitlines()
    assert "Press Ctrl-C to end it." in lines
    last = json.loads(lines[-1])
    assert (last["method"], last["path"], last["status"]) == ("GET", "/healthz", 200)
    assert not any("secret" in line for line in lines)


def test_a_request_is_logged_once_it_is_answered(stored: Path, cache: Path) -> None:
    with started(stored, cache, "--log-format", "json") as found:
        with connect(found.client) as connection:
            head = "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
            connection.sendall(head.encode())  # and nothing of the body
            said = connection.recv(1024)
            found.client.get("/healthz")
            said += connection.makefile("rb").read()  # which it waited for a moment
        assert said.startswith(b"HTTP/1.1 404 Not Found")
        assert b"application/problem+json" in said
        assert found.end() == 0
        lines = [json.loads(line)["path"] for line in found.log.splitlines() if line[0] == "{"]
    assert lines[-2:] == ["/v1/classify", "/healthz"]


def test_a_token_is_asked_for_and_says_what_may_be_done(stored: Path, cache: Path) -> None:
    (stored.parent / "tokens").write_text(f"# ours\nread-only {READER}\n")
    arguments = ("--token-file", stored.parent / "tokens", "--allow-origin", "https://a.example")
    with started(stored, cache, *arguments, IMGRET_TOKEN=TOKEN) as found:
        client = found.client
        assert client.get("/").status_code == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
            answer = client.get("/metrics", headers=headers)
            assert is_problem(answer, 401)
            assert answer.headers["www-authenticate"].startswith("Bearer")
        reader, writer = ({"Authorization": f"Bearer {t}"} for t in (READER, TOKEN))
        assert client.get("/metrics", headers=reader).status_code == 200
        assert is_problem(client.delete("/v1/images/1", headers=reader), 403)
        assert client.delete("/v1/images/1", headers=writer).status_code == 404
        foreign = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
        answer = client.options("/v1/search", headers=foreign)
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == "https://a.example"


def test_any_address_but_this_machines_needs_a_token(imgret: Command, stored: Path) -> None:
    done = imgret("serve", stored / ".imgret", "--host", "0.0.0.0")  # noqa: S104
    assert (done.returncode, done.stdout) == (2, "")
    assert "a token is needed" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "There is no gallery in"),
        (("nothere",), "is not a gallery"),
        (("run",), "Write `imgret serve --model run`."),
        (("a=x", "a=y"), "Two galleries are called a"),
        (("--allow-origin", "example.com"), "is not an origin"),
        (("--token-file", "tokens"), "Line 1 of tokens is not a token"),
        (("--token-file", "short"), "A token is too short"),
        (("--token-file", "empty"), "holds no token"),
        (("--token-file", "nothere"), "cannot be read"),
    ],
)
def test_what_cannot_be_served_is_told_in_a_sentence(
    inline: Command, stored: Path, tmp_path: Path, arguments: tuple[object, ...], said: str
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    (tmp_path / "tokens").write_text("secret\n")
    (tmp_path / "short").write_text("read-only secret\n")
    (tmp_path / "empty").write_text("# none\n")
    gallery = (stored / ".imgret",) if arguments[:1] in (("--token-file",),) else ()
    done = inline("serve", *gallery, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_told(inline: Command, stored: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = inline("serve", stored / ".imgret", "--port", taken.getsockname()[1])
    assert done.returncode == 2
    assert "cannot be used" in done.stderr
    assert "Choose another --port" in done.stderr


def test_open_opens_the_page(stored: Path, cache: Path, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    with started(stored, cache, "--open", BROWSER=str(browser)) as found:
        told = tmp_path / "opened"
        until(lambda: told.exists() and told.read_text().endswith("\n"))
        assert told.read_text().strip() == found.address


def test_help_imports_no_library_of_the_service(imgret: Command) -> None:
    assert imgret("serve", "--help").returncode == 0
    code = "import sys, imgret.commands.serve as s; print({'fastapi','uvicorn'} & {*sys.modules})"
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_small_answers_are_sent_at_once() -> None:
    async def sends_at_once(listening: socket.socket) -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def look(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            own = writer.get_extra_info("socket")
            found.set_result(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(look, sock=listening):
            with socket.create_connection(listening.getsockname()):
                return await found

    with listen("127.0.0.1", 0) as listening, ThreadPoolExecutor(1) as thread:
        assert thread.submit(lambda: asyncio.run(sends_at_once(listening))).result(60) == 1


def test_many_connections_at_once_are_answered(service: Started) -> None:
    codes = []

    def ask() -> None:
        codes.append(httpx.get(service.address + "healthz", timeout=60).status_code)

    threads = [threading.Thread(target=ask) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [200] * 50


def test_it_ends_at_once_while_something_long_runs_in_the_background(
    stored: Path, cache: Path
) -> None:
    with started(stored, cache) as found:
        assert found.client.get("/v1/map").status_code in (200, 202)
        found.client.get("/v1/duplicates")
        assert found.end() == 0
