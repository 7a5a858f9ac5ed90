"""The page of `imgret serve` on a large gallery: from a drop to the first match, and scrolling."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.galleries import SPREAD, random
from benchmarks.photographs import CACHE, photographs
from benchmarks.table import Table, spread
from retrieval.gallery import Gallery, Row
from retrieval.gallery.rows import row_of
from retrieval.retriever import Retriever
from retrieval.retriever.publish import bring_up_index

IMAGES, QUICK_IMAGES = 100_000, 2_000
PICTURES, QUICK_PICTURES = 1500, 60  # different ones; the other files are links to them
DROPS, QUICK_DROPS = 20, 3
CARDS, QUICK_CARDS = 10_000, 1_000
A_FRAME, LATE_MS = 200, 50.0  # pixels that are scrolled; of a frame that one sees
FIRST_MATCHES = 100  # that the page asks for at first
DROP = """
async ([content, name]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(content)], name, { type: "image/jpeg" }));
  const began = performance.now();
  for (const kind of ["dragover", "drop"]) {
    const how = { dataTransfer: transfer, bubbles: true, cancelable: true };
    document.body.dispatchEvent(new DragEvent(kind, how));
  }
  for (;;) {
    await new Promise(requestAnimationFrame);
    const grid = document.querySelector('.grid[aria-label="Matches"][aria-busy="false"]');
    const first = grid?.querySelector(".card img");
    if (first && first.complete && first.naturalWidth) return performance.now() - began;
  }
}
"""
SCROLL = """
async ([cards, step]) => {
  const deltas = [];
  let before = await new Promise(requestAnimationFrame);
  for (;;) {
    scrollBy(0, step);
    const now = await new Promise(requestAnimationFrame);
    deltas.push(now - before);
    before = now;
    const shown = [...document.querySelectorAll(".grid [data-index]")];
    const last = Math.max(...shown.map((card) => Number(card.dataset.index)));
    if (last >= cards) return deltas;
    if (deltas.length > 60000) throw new Error(`only ${last} cards came`);
  }
}
"""


def measure(*, quick: bool) -> list[Table]:
    """Measure what one waits for, in the service and in Chromium."""
    images = QUICK_IMAGES if quick else IMAGES
    table = Table(
        "Page",
        f"`imgret serve` on {images:,} images with `mini`: the embeddings of real photographs with "
        f"noise. Their files are links to {QUICK_PICTURES if quick else PICTURES:,} photographs of "
        "224 px. Service: POST /v1/search with one picture for the first "
        f"{FIRST_MATCHES} matches, one after the other. Page: in headless Chromium of 1280 x 900 "
        "on the same machine, from the drop to the first match with its picture on the screen, "
        "each query a new one. Scrolling: "
        f"{QUICK_CARDS if quick else CARDS:,} cards of the gallery, {A_FRAME} pixels a frame.",
        ["what", "median (least to most)", "95th percentile"],
    )
    api = _playwright()
    if api is None:
        table.prose += " Not measured: it needs playwright and `apt-get install chromium`."
        return [table]
    folder = linked_gallery(images, QUICK_PICTURES if quick else PICTURES)
    drops = QUICK_DROPS if quick else DROPS
    with _serving(folder) as address, api.sync_playwright() as playwright:
        for size in ("small", "12 MP"):
            queries = _queries(size, 2 * drops)
            _add(table, f"search over HTTP, a picture of {size}", _searches(address, queries))
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        for size in ("small", "12 MP"):
            queries = _queries(size, 3 * drops)[2 * drops :]
            _add(table, f"drop to first match, a picture of {size}", _drops(page, address, queries))
        deltas = _scrolled(page, address, QUICK_CARDS if quick else CARDS)
        _add(table, "a frame while scrolling", deltas)
        late = sum(delta > LATE_MS for delta in deltas) / len(deltas)
        table.add(f"frames above {LATE_MS:.0f} ms", f"{100 * late:.2f} %", "")
        browser.close()
    return [table]


def linked_gallery(images: int, pictures: int) -> Path:
    """A folder whose gallery has so many images, with files that are links; kept in the cache."""
    folder = CACHE / f"page-{images}"
    if folder.is_dir():
        return folder
    making = folder.with_name(f"{folder.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    (making / "0").mkdir(parents=True)
    for file in sorted(photographs("small", PICTURES).iterdir())[:pictures]:
        shutil.copy2(file, making / "0" / file.name)
    retriever = Retriever(making / ".imgret")
    retriever.index(making / "0")
    gallery = Gallery(making / ".imgret")
    table, settings = gallery.open_table(), gallery.settings()
    whole = table.batches(table.column_names, None)
    originals = [row_of(values) for batch in whole for values in batch.to_pylist()]
    noise = random()
    for number in range(1, -(-images // len(originals))):
        (making / str(number)).mkdir()
        rows = [_linked(making, row, number, noise) for row in originals]
        rows = rows[: images - number * len(originals)]
        ids = table.next_ids(len(rows))
        table.write([replace(r, id=i) for i, r in zip(ids, rows, strict=True)], replace=False)
    table.compact(everything=True)
    bring_up_index(gallery, table, settings, refit=True)
    making.rename(folder)
    return folder


def _linked(folder: Path, row: Row, number: int, noise: np.random.Generator) -> Row:
    """A row of another file of the same content, whose embedding is near the first one's."""
    name = f"{number}/{Path(row.path).name}"
    os.link(folder / row.path, folder / name)
    if row.embedding is None:
        raise ValueError(f"{row.path} has no embedding")
    centre = row.embedding.astype(np.float32)
    moved = noise.standard_normal(len(centre), np.float32)
    moved *= SPREAD * np.linalg.norm(centre) / len(centre) ** 0.5
    label = str(number)
    return replace(row, path=name, label=label, embedding=(centre + moved).astype(np.float16))


def _playwright() -> Any:
    if shutil.which("chromium") is None:
        return None
    try:
        from playwright import sync_api
    except ImportError:
        return None
    return sync_api


@contextlib.contextmanager
def _serving(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-W", "ignore", "-m", "imgret", "serve", "--port", "0", "--debug"]
    with subprocess.Popen(
        [*command, str(folder / ".imgret")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            while True:
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{address}readyz").close()
                    break
                time.sleep(0.2)
            yield address
        finally:
            process.terminate()


def _queries(size: str, count: int) -> list[Path]:
    """Pictures that are not in the gallery, each a different one."""
    if size == "small":
        return sorted(photographs("small", PICTURES + 200).iterdir())[-count:]
    return sorted(photographs(size, 60).iterdir())[:count]


def _searches(address: str, queries: list[Path]) -> list[float]:
    """Milliseconds of each search, as a client waits for it."""
    taken = []
    with httpx.Client(base_url=address, timeout=60) as client:
        for file in queries:
            content = file.read_bytes()
            began = time.perf_counter()
            answer = client.post(
                "/v1/search", files={"picture": content}, data={"k": str(FIRST_MATCHES)}
            )
            taken.append(1000 * (time.perf_counter() - began))
            answer.raise_for_status()
    return taken


def _drops(page: Any, address: str, queries: list[Path]) -> list[float]:
    """Milliseconds from each drop to its first match."""
    taken = []
    for file in queries:
        page.goto("about:blank")
        page.goto(address)
        page.wait_for_function("() => document.querySelector('.grid .card img')?.naturalWidth > 0")
        page.wait_for_timeout(1500)  # until the thumbnails of the start page are there
        taken.append(page.evaluate(DROP, [list(file.read_bytes()), file.name]))
    return taken


def _scrolled(page: Any, address: str, cards: int) -> list[float]:
    """Milliseconds between frames."""
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_function("() => document.querySelector('.grid .card img')?.naturalWidth > 0")
    page.wait_for_timeout(1500)
    return list(page.evaluate(SCROLL, [cards, A_FRAME]))


def _add(table: Table, what: str, taken: list[float]) -> None:
    table.add(what, f"{spread(taken)} ms", f"{np.percentile(taken, 95):.0f} ms")
