"""The service while its gallery changes, and while it is killed."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from imgret.server import ServiceOptions
from retrieval.retriever import Retriever
from tests.imgret.server.started import in_thread, is_problem, started
from tests.samples import command_environment, command_line, picture

CLIENTS = 50


def encoded(seed: int) -> bytes:
    stream = io.BytesIO()
    picture(seed).save(stream, "JPEG")
    return stream.getvalue()


class Asking:
    """Clients that search and list until they are told to end. wrong: answers that are."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.wrong: list[str] = []
        self.totals: set[int] = set()
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(n,)) for n in range(CLIENTS)]

    def ask(self, n: int) -> None:
        with httpx.Client(base_url=self.address, timeout=60) as client:
            while not self.ended.is_set():
                if n % 2:
                    answer = client.post("/v1/search", files={"picture": encoded(n)})
                else:
                    answer = client.get("/v1/images?limit=1000")
                if answer.status_code == 200:
                    self.check(answer.json())
                elif answer.status_code != 429:
                    self.wrong.append(answer.text)

    def check(self, found: dict[str, Any]) -> None:
        if "total" in found:
            self.totals.add(found["total"])
            if len(found["images"]) != found["total"]:
                self.wrong.append(f"{found['total']} images and {len(found['images'])} rows")
        elif len(found["results"][0]["matches"]) != 20:
            self.wrong.append(json.dumps(found))

    def __enter__(self) -> Asking:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join(60)


@pytest.mark.long
def test_fifty_clients_are_answered_while_index_writes(own: Path, cache: Path) -> None:
    with in_thread(ServiceOptions({"own": own / ".imgret"})) as client:
        with Asking(str(client.base_url)) as asking:
            for round_ in range(3):
                for n in range(4):
                    picture(1000 + 10 * round_ + n).save(own / "pictures" / f"{round_}-{n}.jpg")
                done = subprocess.run(
                    command_line("index", own / "pictures", "--gallery", own / ".imgret"),
                    env=command_environment(cache), capture_output=True, text=True, timeout=120,
                )  # fmt: skip
                assert done.returncode == 0, done.stderr
            time.sleep(0.5)
        assert client.get("/v1/images").json()["total"] == 36
    assert asking.wrong == []
    assert asking.totals <= {24, 28, 32, 36}
    assert len(asking.totals) > 1
    assert Retriever(own / ".imgret").verify().ok


@pytest.mark.long
def test_what_was_answered_with_201_is_there_after_a_kill(own: Path, cache: Path) -> None:
    stored: list[tuple[int, bytes]] = []
    for round_ in range(2):
        with started(own, cache, "--uploads", own / "sent") as service:
            threads = [
                threading.Thread(
                    target=_send_until_killed, args=(service.address, 100 * round_ + 30 * n, stored)
                )
                for n in range(3)
            ]
            for thread in threads:
                thread.start()
            until = time.monotonic() + 60
            while len(stored) < 4 * (round_ + 1) and time.monotonic() < until:
                time.sleep(0.02)
            service.process.send_signal(signal.SIGKILL)
            service.process.wait(60)
            for thread in threads:
                thread.join(60)
    assert len(stored) >= 8
    with Retriever(own / ".imgret").open() as gallery:
        images = gallery.images([id for id, _ in stored])
        for id, content in stored:
            assert gallery.original(images[id]) == content
    report = Retriever(own / ".imgret").index(own / "sent")
    assert report.failed == 0
    assert Retriever(own / ".imgret").verify().ok


def _send_until_killed(address: str, first: int, stored: list[tuple[int, bytes]]) -> None:
    with httpx.Client(base_url=address, timeout=60) as client:
        for seed in range(5000 + first, 5030 + first):
            content = encoded(seed)
            try:
                answer = client.post("/v1/images", files={"picture": content})
            except httpx.TransportError:
                return
            if answer.status_code == 201:
                stored.append((answer.json()["results"][0]["image"]["id"], content))


def test_an_upload_beside_another_writer_is_told_to_come_again(own: Path) -> None:
    options = ServiceOptions({"own": own / ".imgret"}, uploads=own / "sent")
    with in_thread(options) as client:
        with Retriever(own / ".imgret").gallery.lock():
            assert client.get("/v1/gallery").json()["is_written"]
            answer = client.post("/v1/images", files={"picture": encoded(1)})
        assert is_problem(answer, 503)
        assert answer.headers["retry-after"]
        assert [f for f in (own / "sent").rglob("*") if f.is_file()] == []
        assert client.post("/v1/images", files={"picture": encoded(1)}).status_code == 201


def test_a_gallery_that_is_gone_is_told_and_found_again(own: Path) -> None:
    with in_thread(ServiceOptions({"own": own / ".imgret"})) as client:
        (own / ".imgret").rename(own / "away")
        assert is_problem(client.get("/v1/images"), 503)
        assert is_problem(client.get("/readyz"), 503)
        (own / "away").rename(own / ".imgret")
        assert client.get("/v1/images").status_code == 200
