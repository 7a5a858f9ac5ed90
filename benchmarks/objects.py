"""Reading from an object store: what fetches small objects, and indexing beside a local disk."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.photographs import CACHE, WEIGHTS, photographs
from benchmarks.slow_store import BUCKET
from benchmarks.stores import free_port, store_environment
from benchmarks.table import Table, spread

LATENCIES = (0, 50)  # ms of each request
SMALL_BYTES, SMALL, QUICK_SMALL = 4096, 10_000, 100
IMAGES, QUICK_IMAGES = {"small": 1500, "1 MP": 400}, {"small": 48}
CLIENTS = {
    "obstore, 48 threads": (
        "obstore",
        "from retrieval.objects import ObjectPath\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "root = ObjectPath('s3://photos')\n"
        "def fetch(keys):\n"
        "    with ThreadPoolExecutor(48) as pool:\n"
        "        return sum(pool.map(lambda key: len((root / key).read_bytes()), keys))\n",
    ),
    "fsspec with s3fs": (
        "s3fs",
        "import os, s3fs\n"
        "files = s3fs.S3FileSystem(endpoint_url=os.environ['AWS_ENDPOINT_URL'])\n"
        "def fetch(keys):\n"
        "    found = files.cat([f'photos/{k}' for k in keys], batch_size=48)\n"
        "    return sum(map(len, found.values()))\n",
    ),
    "boto3, 48 threads": (
        "boto3",
        "import os, boto3\n"
        "from botocore.config import Config\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "client = boto3.client('s3', config=Config(max_pool_connections=48))\n"
        "def fetch(keys):\n"
        "    one = lambda key: len(client.get_object(Bucket='photos', Key=key)['Body'].read())\n"
        "    with ThreadPoolExecutor(48) as pool:\n"
        "        return sum(pool.map(one, keys))\n",
    ),
}
TIMED = (
    "import json, sys, time\n"
    "keys = [f'{n:05}' for n in range(int(sys.argv[1]))]\n"
    "fetch(keys[:20])\n"
    "wall, cpu = time.perf_counter(), time.process_time()\n"
    "total = fetch(keys)\n"
    "print(json.dumps([total, time.perf_counter() - wall, time.process_time() - cpu]))\n"
)
INDEXED = (
    "import sys; from retrieval.retriever import Retriever\n"
    "made = Retriever(sys.argv[2], backbone=sys.argv[3], transform='none').index(sys.argv[1])\n"
    "print(made.images_per_second)\n"
)


def measure(*, quick: bool) -> list[Table]:
    """Fetching alone, and whole runs of index."""
    return [_fetching(quick=quick), _indexing(quick=quick)]


def _fetching(*, quick: bool) -> Table:
    count = QUICK_SMALL if quick else SMALL
    table = Table(
        "Small objects",
        f"{count:,} objects of {SMALL_BYTES} bytes fetched from a store on this machine that waits "
        "before each answer, 48 at a time. `CPU` is that of the client, for each object. A library "
        "that is not installed is left out.",
        ["client", "latency", "objects/s", "CPU"],
    )
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        for n in range(count):
            Path(name, f"{n:05}").write_bytes(n.to_bytes(2, "big") * (SMALL_BYTES // 2))
        for latency in LATENCIES:
            with slow_store(Path(name), latency) as environment:
                for client, (library, code) in CLIENTS.items():
                    if importlib.util.find_spec(library) is None:
                        continue
                    total, wall, cpu = json.loads(_run(code + TIMED, [str(count)], environment))
                    if total != count * SMALL_BYTES:
                        raise ValueError(client)
                    table.add(
                        client,
                        f"{latency} ms",
                        f"{count / wall:,.0f}",
                        f"{1e3 * cpu / count:.2f} ms",
                    )
    return table


def _indexing(*, quick: bool) -> Table:
    rounds = 1 if quick else 3
    table = Table(
        "Indexing from a store",
        f"images/s of `imgret index` with MobileNetV2 at 224 px, medians of {rounds} interleaved "
        "rounds (least to most): from a folder, and from a store on this machine that waits 50 ms "
        "before each answer. The store's own work is done on the same two cores. `in turn` fetches "
        "one object at a time in each decoding thread, as for files.",
        ["images", "folder", "store", "store / folder", "in turn"],
    )
    for size, count in (QUICK_IMAGES if quick else IMAGES).items():
        folder = photographs(size, count)
        rates: dict[str, list[float]] = {"folder": [], "store": [], "in turn": []}
        with slow_store(folder, 50) as environment:
            for _ in range(rounds):
                for side, found in rates.items():
                    found.append(_indexed(side, folder, environment))
        ratio = median(rates["store"]) / median(rates["folder"])
        table.add(
            f"{count} of {size}", spread(rates["folder"]), spread(rates["store"]),
            f"{ratio:.2f}", spread(rates["in turn"]),
        )  # fmt: skip
    return table


def _indexed(side: str, folder: Path, environment: dict[str, str]) -> float:
    code = INDEXED
    if side == "in turn":
        code = "from retrieval import loader; loader.ObjectPath = ()\n" + code
    source = str(folder) if side == "folder" else f"s3://{BUCKET}"
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        return float(_run(code, [source, f"{name}/g.imgret", str(WEIGHTS)], environment))


def _run(code: str, arguments: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        env=os.environ | environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()[-1]


@contextlib.contextmanager
def slow_store(folder: Path, milliseconds: int) -> Iterator[dict[str, str]]:
    """Run the store of a folder; gives the environment of its clients."""
    port = free_port()
    command = ["-m", "benchmarks.slow_store", str(port), str(folder), str(milliseconds)]
    with subprocess.Popen([sys.executable, *command]) as process:
        try:
            for _ in range(300):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.1)
            yield store_environment(port)
        finally:
            process.kill()
