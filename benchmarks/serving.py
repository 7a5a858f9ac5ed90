"""Searches over HTTP under load: `imgret serve` beside the plain way, measured with wrk."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from benchmarks.photographs import CACHE, cifar_part, unpacked
from benchmarks.stores import free_port
from benchmarks.table import Table
from retrieval.retriever import Retriever

CLIENTS, QUICK_CLIENTS = (1, 8, 64, 256), (1, 8)
SECONDS, QUICK_SECONDS = 30, 2
SIZES_SENT = {"0.1 MB": (640, 480, 100_000), "2 MB": (2400, 1800, 2_000_000)}
PICTURES = 16  # of each size, sent in turns
SCRIPT = """
local bodies, at = {}, 0
for n = 0, %(pictures)d - 1 do
  local file = io.open(string.format("%(folder)s/%%d", n), "rb")
  bodies[n] = file:read("*all")
  file:close()
end
wrk.method = "POST"
wrk.headers["Content-Type"] = "multipart/form-data; boundary=wrk"
request = function()
  at = (at + 1) %% %(pictures)d
  return wrk.format(nil, nil, nil, bodies[at])
end
done = function(summary, latency)
  io.write(string.format('{"requests": %%d, "us": %%d, "status": %%d, "broken": %%d, ' ..
    '"p50": %%d, "p99": %%d}', summary.requests, summary.duration, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass
class Load:
    """What came of a load. broken: requests without an answer. refused: told to come again."""

    per_second: float
    p50: float
    p99: float
    refused: int
    broken: int
    resident: int


def measure(*, quick: bool) -> list[Table]:
    """One row a size of picture, a number of clients and a service."""
    seconds = QUICK_SECONDS if quick else SECONDS
    table = Table(
        "Serving",
        f"Searches by one picture each over HTTP, sent by `wrk` for {seconds} s a row. The "
        f"{PICTURES} pictures of a size are sent in turns. The gallery is CIFAR-10's part with "
        "`mini`. `plain` is FastAPI with `Retriever.search` in its pool of threads. `share` is "
        "that of the images/s of `Retriever.search` on a list of the same pictures, measured "
        "before. `429` counts requests told to come again, which `wrk` sends again at once. "
        "`memory` is resident after the row.",
        ["picture", "clients", "service", "images/s", "share", "p50", "p99", "429", "broken",
         "memory"],
    )  # fmt: skip
    if shutil.which("wrk") is None:
        table.prose += " Not measured: `wrk` is not installed (`apt-get install wrk`)."
        return [table]
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        folder = Path(name)
        gallery = folder / "searched.imgret"
        Retriever(gallery).index(cifar_part(quick=quick) / "train")
        for size in SIZES_SENT:
            _measure_size(table, gallery, size, folder / size.replace(" ", ""), quick=quick)
    return [table]


def _measure_size(table: Table, gallery: Path, size: str, folder: Path, *, quick: bool) -> None:
    pictures = sent_pictures(size)
    script = made_script(pictures, folder)
    alone = _alone(gallery, pictures, quick=quick)
    table.add(size, "", "Retriever.search", f"{alone:.1f}", "1.00", "", "", "", "", "")
    for clients in QUICK_CLIENTS if quick else CLIENTS:
        for service in ("imgret serve", "plain"):
            with running_service(service, gallery) as (process, address):
                _loaded(script, address, clients, 1, process)
                load = _loaded(
                    script, address, clients, QUICK_SECONDS if quick else SECONDS, process
                )
            table.add(
                size, f"{clients}", service, f"{load.per_second:.1f}",
                f"{load.per_second / alone:.2f}", f"{load.p50:.0f} ms", f"{load.p99:.0f} ms",
                f"{load.refused}", f"{load.broken}", f"{load.resident / 1e6:.0f} MB",
            )  # fmt: skip


def sent_pictures(size: str) -> list[bytes]:
    """Real photographs side by side, of about so many bytes."""
    width, height, wanted = SIZES_SENT[size]
    chance = random.Random(0)
    files = sorted(unpacked("cars").rglob("*.jpg"))
    made = []
    for _ in range(PICTURES):
        canvas = Image.new("RGB", (width, height))
        for x in range(0, width, 320):
            for y in range(0, height, 240):
                with Image.open(chance.choice(files)) as tile:
                    canvas.paste(tile.convert("RGB").resize((320, 240)), (x, y))
        made.append(_near(canvas, wanted))
    return made


def _near(image: Image.Image, wanted: int) -> bytes:
    """The JPEG whose quality comes nearest to a number of bytes."""

    def encoded(quality: int) -> bytes:
        stream = BytesIO()
        image.save(stream, "JPEG", quality=quality)
        return stream.getvalue()

    return min(map(encoded, range(40, 100, 3)), key=lambda data: abs(len(data) - wanted))


def made_script(pictures: list[bytes], folder: Path) -> Path:
    """Write what wrk sends."""
    folder.mkdir()
    head = b"--wrk\r\nContent-Disposition: form-data; name=picture; filename=a.jpg\r\n"
    head += b"Content-Type: image/jpeg\r\n\r\n"
    for n, content in enumerate(pictures):
        (folder / str(n)).write_bytes(head + content + b"\r\n--wrk--\r\n")
    script = folder / "send.lua"
    script.write_text(SCRIPT % {"pictures": len(pictures), "folder": folder})
    return script


def _alone(gallery: Path, pictures: list[bytes], *, quick: bool) -> float:
    """Images/s of one search with a list, the best of three."""
    retriever, several = Retriever(gallery), pictures * (2 if quick else 16)
    retriever.search(pictures, k=20)
    best = 0.0
    for _ in range(3):
        began = time.perf_counter()
        retriever.search(several, k=20)
        best = max(best, len(several) / (time.perf_counter() - began))
    return best


@contextlib.contextmanager
def running_service(name: str, gallery: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    commands = {
        "imgret serve": ["imgret", "serve", str(gallery), "--port", str(port)],
        "plain": ["benchmarks.plain_service", str(gallery), str(port)],
    }
    with subprocess.Popen(
        [sys.executable, "-m", *commands[name]],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(address)
            yield process, address
        finally:
            process.terminate()
            process.wait(120)


def _wait(address: str) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/readyz", timeout=5):
            return
        time.sleep(0.2)
    raise TimeoutError(address)


def sent_by_wrk(script: Path, address: str, clients: int, seconds: int) -> dict[str, int]:
    """Send searches for so many seconds; what the script says came of them."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "60s", "-s", str(script)]
    done = subprocess.run(
        [*command, f"{address}/v1/search"], capture_output=True, text=True, check=True
    )
    found: dict[str, int] = json.loads(done.stdout[done.stdout.index('{"requests"') :])
    return found


def _loaded(
    script: Path, address: str, clients: int, seconds: int, process: subprocess.Popen[bytes]
) -> Load:
    found = sent_by_wrk(script, address, clients, seconds)
    status = Path(f"/proc/{process.pid}/status").read_text()
    resident = 1024 * int(status.partition("VmRSS:")[2].split()[0])
    answered = found["requests"] - found["status"]
    return Load(
        per_second=answered / (found["us"] / 1e6),
        p50=found["p50"] / 1000,
        p99=found["p99"] / 1000,
        refused=found["status"],
        broken=found["broken"],
        resident=resident,
    )
