"""imgret serve over a gallery in a store, whose images lie there, too."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from retrieval.objects import ObjectPath
from retrieval.retriever import Retriever
from tests.samples import command_environment, command_line
from tests.stores import wait_for


@pytest.mark.long
def test_the_service_shows_and_searches_what_lies_in_a_store(
    bucket: ObjectPath, photos: ObjectPath, pictures: Path, cache: Path, tmp_path: Path
) -> None:
    Retriever(str(bucket / "g.imgret")).index(str(photos))
    command = command_line("serve", f"photos={bucket / 'g.imgret'}", "--port", "0")
    with subprocess.Popen(
        command, cwd=tmp_path, env=command_environment(cache), stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        address = process.stdout.readline().strip().rstrip("/")
        wait_for(f"{address}/readyz")

        def got(route: str) -> bytes:
            with urllib.request.urlopen(f"{address}/v1/{route}", timeout=60) as answer:  # noqa: S310
                content: bytes = answer.read()
            return content

        assert json.loads(got("gallery"))["path"] == str(bucket / "g.imgret")
        first = json.loads(got("images?order=path&limit=1"))["images"][0]
        assert first["path"] == str(photos / "class0" / "00.jpg")
        assert got(f"images/{first['id']}/file") == (pictures / "class0" / "00.jpg").read_bytes()
        assert got(f"images/{first['id']}/thumbnail?size=64")[:2] == b"\xff\xd8"
        near = json.loads(got(f"images/{first['id']}/neighbours?k=3"))["results"][0]["matches"]
        assert len(near) == 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
