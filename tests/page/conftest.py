"""The page in Debian's Chromium, with a service that answers from a small real gallery."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from classify.samples import make_samples
from classify.training import train
from retrieval.retriever import Retriever
from tests.classify.blobs import save_blobs, tiny
from tests.imgret.server.started import wait_until_ready
from tests.samples import command_environment, command_line, save_pictures

HOSTILE = "<img src=x onerror=\"document.title='owned'\">.png"
WAIT = 20_000  # milliseconds; the machine may be busy


@dataclass
class Service:
    """A service that runs. folder: it holds the galleries parts and plain, and pictures."""

    folder: Path
    address: str


@dataclass
class Visit:
    """A tab of a browser on the page. failures: what it said of errors of the page's own."""

    page: Any
    address: str
    failures: list[str] = field(default_factory=list)

    def open(self, fragment: str = "") -> Any:
        """Go to the page, as the first address or with another state."""
        self.page.goto("about:blank")
        self.page.goto(self.address + fragment)
        self.page.locator("header.top").wait_for()
        return self.page


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser of the system; none is downloaded."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs chromium: apt-get install chromium")
    with api.sync_playwright() as playwright:
        api.expect.set_options(timeout=WAIT)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rendered parts, copies of two and a hostile name, and their gallery."""
    folder = tmp_path_factory.mktemp("page")
    make_samples(folder / "parts", train=12, test=2, size=96)
    nut = folder / "parts" / "test" / "nut"
    shutil.copy(nut / "nut_000.jpg", nut / "copy of nut_000.jpg")
    Image.open(nut / "nut_001.jpg").save(nut / HOSTILE)
    retriever = Retriever(folder / ".imgret")
    retriever.index(folder / "parts")
    retriever.calibrate()
    Retriever(folder / "plain.imgret").index(save_pictures(folder / "pictures"))
    save_blobs(folder / "blobs" / "train", 12)
    save_blobs(folder / "blobs" / "test", 4, first=500)
    train(folder / "blobs", tiny("training.epochs=4"), folder / "run")
    return folder


@contextlib.contextmanager
def serving(folder: Path, cache: Path, *arguments: object, **more: str) -> Iterator[str]:
    """The address of `imgret serve` in a folder. It logs into a file: a pipe would soon be full."""
    with (folder / "log").open("w") as log, subprocess.Popen(
        command_line("serve", "--port", 0, *arguments), cwd=folder, stdout=subprocess.PIPE,
        stderr=log, text=True, env=command_environment(cache) | {"OMP_NUM_THREADS": "1"} | more,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address, (folder / "log").read_text()
            yield address
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def service(gallery: Path, cache: Path) -> Iterator[Service]:
    named = ("parts=.imgret", "plain=plain.imgret", "--model", "run", "--debug")
    with serving(gallery, cache, *named) as address:
        with httpx.Client(base_url=address) as client:
            wait_until_ready(client)
        yield Service(gallery, address)


@pytest.fixture
def visits(chromium: Any, service: Service) -> Iterator[Callable[..., Visit]]:
    """Open tabs, each of a browser that knows nothing of the others."""
    contexts: list[Any] = []
    opened: list[Visit] = []

    def visit(width: int = 1280, height: int = 900, scheme: str = "light", **options: Any) -> Visit:
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, **options
        )
        contexts.append(context)
        context.set_default_timeout(WAIT)
        visited = Visit(context.new_page(), service.address)
        visited.page.on("pageerror", lambda error: visited.failures.append(str(error)))
        visited.page.on("console", lambda message: note(visited, message))
        opened.append(visited)
        return visited

    def note(visited: Visit, message: Any) -> None:
        # an answer that refuses is no failure of the page: it shows what the service says
        if message.type == "error" and "Failed to load resource" not in message.text:
            visited.failures.append(message.text)

    yield visit
    for context in contexts:
        context.close()
    assert [failure for visited in opened for failure in visited.failures] == []


@pytest.fixture
def visit(visits: Callable[..., Visit]) -> Visit:
    return visits()


def drop(page: Any, file: Path) -> None:
    """Drop a file on the page, as a hand would."""
    content = list(file.read_bytes())
    transfer = page.evaluate_handle(
        """([content, name]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(content)], name, { type: "image/jpeg" }));
            return transfer;
        }""",
        [content, file.name],
    )
    page.dispatch_event("body", "dragover", {"dataTransfer": transfer})
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})


def names(page: Any) -> list[str]:
    """The names on the cards that are there, in their order."""
    return list(page.locator(".grid .name").all_inner_texts())
