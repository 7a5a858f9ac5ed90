"""The curl lines of the guide's page work as they stand there."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from imgret.server import ServiceOptions
from tests.imgret.server.started import in_thread
from tests.pages import DOCS, indented
from tests.samples import picture

PAGE = (DOCS / "guide" / "serve.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"
LINES = [
    line.strip()
    for block in indented(PAGE)
    for line in block.splitlines()
    if line.strip().startswith("curl ") and "/classify" not in line
]


@pytest.fixture
def service(own: Path) -> Iterator[tuple[httpx.Client, Path]]:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    for n, name in enumerate(("photo.jpg", "other.jpg", "new.jpg")):
        stream = io.BytesIO()
        picture(500 + n).save(stream, "JPEG")
        (own / name).write_bytes(stream.getvalue())
    options = ServiceOptions({"own": own / ".imgret"}, uploads=own / "sent")
    with in_thread(options) as client:
        yield client, own


def test_each_line_of_curl_is_answered(service: tuple[httpx.Client, Path]) -> None:
    client, folder = service
    first, second = client.get("/v1/images?limit=2").json()["images"]
    for line in LINES:
        command = line.replace(ADDRESS, str(client.base_url).rstrip("/"))
        command = command.replace("12345", str(first["id"])).replace("23456", str(second["id"]))
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert done.stdout or "-o " in line or "DELETE" in line
    assert len(LINES) >= 15


def test_every_route_has_a_line(service: tuple[httpx.Client, Path]) -> None:
    client, _ = service
    told = PAGE.replace("12345", "{id}")
    for path in client.get("/api").json()["paths"]:
        assert path in told, path
