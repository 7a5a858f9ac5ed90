"""An object store for the tests: moto's S3 server, which has conditional puts, on loopback."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator

import pytest

from benchmarks.stores import free_port, store_environment
from retrieval.objects import ObjectPath

NEEDED = ("moto", "flask", "obstore")
SERVE = "import sys; from moto.server import main; main(['-H', '127.0.0.1', '-p', sys.argv[1]])"


@contextlib.contextmanager
def running_store() -> Iterator[int]:
    """The port of a store of its own. Skips where moto or obstore is not installed."""
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}")
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            wait_for(f"http://127.0.0.1:{port}/moto-api/")
            yield port
        finally:
            process.kill()


@contextlib.contextmanager
def bucket_of(port: int) -> Iterator[ObjectPath]:
    """A new bucket; while it is there, this process and those that it starts find its store."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    with pytest.MonkeyPatch.context() as patch:
        for key, value in store_environment(port).items():
            patch.setenv(key, value)
        address = f"{os.environ['AWS_ENDPOINT_URL']}/{name}"
        urllib.request.urlopen(urllib.request.Request(address, method="PUT"))  # noqa: S310
        yield ObjectPath(f"s3://{name}")


def wait_for(address: str) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=2):  # noqa: S310
            return
        time.sleep(0.1)
    raise TimeoutError(address)
