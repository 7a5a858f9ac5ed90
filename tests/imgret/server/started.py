"""A service that answers: as a process of its own, or in a thread with limits of a test."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn

from imgret.server import ServiceOptions, make_app
from imgret.server.connection import connection_with
from tests.samples import command_environment, command_line

SECONDS = 120.0


@dataclass
class Started:
    """A process that serves. address: as it told it."""

    process: subprocess.Popen[str]
    address: str
    client: httpx.Client

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=SECONDS)

    @property
    def log(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()


@contextlib.contextmanager
def started(folder: Path, cache: Path, *arguments: object, **environment: str) -> Iterator[Started]:
    """`imgret serve`, run in a folder, once it is ready."""
    with subprocess.Popen(
        command_line("serve", "--port", 0, *arguments), cwd=folder,
        env=command_environment(cache) | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            if not address and process.stderr is not None:
                raise AssertionError(process.stderr.read())
            with httpx.Client(base_url=address, timeout=SECONDS) as client:
                wait_until_ready(client)
                yield Started(process, address, client)
        finally:
            process.kill()


def wait_until_ready(client: httpx.Client) -> None:
    until = time.monotonic() + SECONDS
    while (answer := client.get("/readyz")).status_code != 200:
        assert answer.status_code == 503
        assert time.monotonic() < until, answer.text
        time.sleep(0.1)


@contextlib.contextmanager
def in_thread(options: ServiceOptions, *, ready: bool = True) -> Iterator[httpx.Client]:
    """The same app and the same connections in this process."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(1024)
    config = uvicorn.Config(
        make_app(options), http=connection_with(options.limits), ws="none", loop="asyncio",
        log_config=None, access_log=False, server_header=False, lifespan="on",
        timeout_graceful_shutdown=5,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with httpx.Client(base_url=address, timeout=SECONDS) as client:
        try:
            if ready:
                wait_until_ready(client)
            yield client
        finally:
            client.close()
            server.should_exit = True
            thread.join(SECONDS)
            listening.close()


def connect(client: httpx.Client) -> socket.socket:
    """A connection of its own to a client's service."""
    return socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=60)


def is_problem(answer: httpx.Response, status: int) -> bool:
    """Whether an answer is a problem as RFC 9457 has it, with a whole sentence."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    details = answer.json()
    assert details["status"] == status
    assert details["title"]
    return bool(details["detail"].endswith("."))
