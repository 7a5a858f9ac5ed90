"""Galleries of any size, written by the library itself from embeddings; their files hold zeros."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.cost import cost_of
from benchmarks.photographs import CACHE, WEIGHTS, unpacked
from benchmarks.vectors import real_embeddings
from retrieval.gallery import Gallery, ImageTable, Row, Settings
from retrieval.retriever import Retriever
from retrieval.retriever.publish import bring_up_index

A_FOLDER = 100  # images, points around one real embedding
ROWS_A_COMMIT = 100_000
NARROW = "random:resnet18"  # its embeddings have 512 numbers
COSTS = "index.json"
SPREAD = 0.15  # norm of the noise; embeddings have one of about 1


def gallery_of(n: int, *, quick: bool = False) -> Path:
    """A folder of n files and one photograph, with its gallery in `.imgret`; kept in the cache.

    A quick one is made anew: with another cache of imgret's, what was kept is a stranger's.
    """
    folder = CACHE / f"growth-{n}{'-quick' if quick else ''}"
    if quick:
        shutil.rmtree(folder, ignore_errors=True)
    if folder.is_dir():
        return folder
    making = folder.with_name(f"{folder.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    _copy_photograph(making)
    gallery = making / ".imgret"
    Retriever(gallery, backbone=str(WEIGHTS), size=96, transform="whiten:512").index(making)
    rows = partial(_folder_of_files, making, real_embeddings(quick=quick), random())
    table, settings = _write_rows(Gallery(gallery), n, rows)
    bring_up_index(Gallery(gallery), table, settings, refit=True)
    making.rename(folder)
    return folder


def gallery_without_files(n: int) -> Path:
    """A folder whose gallery has n rows of 512-d embeddings, in `.imgret`; kept in the cache.

    Its backbone has random weights: only the photograph is of it. What was made of it is kept where
    this was interrupted. COSTS: what its index took, in seconds of CPU and MB of peak memory.
    """
    folder = CACHE / f"largest-{n}"
    if (folder / COSTS).is_file():
        return folder
    gallery = Gallery(folder / ".imgret")
    if not gallery.exists() or gallery.open_table().count() <= n:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _copy_photograph(folder)
        Retriever(gallery.path, backbone=NARROW, size=32, transform="whiten:512").index(folder)
        real = _narrowed(real_embeddings(quick=False))
        _write_rows(gallery, n, partial(_folder_of_rows, real, random()))
    cost = cost_of([sys.executable, "-m", "benchmarks.galleries", str(gallery.path)])
    (folder / COSTS).write_text(json.dumps(asdict(cost)))
    return folder


def gallery_of_points(folder: Path, x: np.ndarray) -> Path:
    """A gallery in a folder, of a photograph and of rows with (n, 1280) float16 embeddings."""
    folder.mkdir(parents=True, exist_ok=True)
    _copy_photograph(folder)
    gallery = Gallery(folder / ".imgret")
    Retriever(gallery.path, backbone=str(WEIGHTS), size=96, transform="whiten:512").index(folder)

    def rows(number: int) -> list[Row]:
        part = x[number * A_FOLDER : (number + 1) * A_FOLDER]
        made = _folder_of_rows(part, random(), number)
        return [replace(row, embedding=e) for row, e in zip(made, part, strict=False)]

    with gallery.lock():
        table, settings = _write_rows(gallery, len(x), rows)
        bring_up_index(gallery, table, settings, refit=True)
    return gallery.path


def random() -> np.random.Generator:
    """The noise of all galleries."""
    return np.random.default_rng(0)


def _narrowed(real: np.ndarray) -> np.ndarray:
    """(n, d) embeddings -> the first 512 of their principal components, about their mean."""
    x = real.astype(np.float32)
    x -= x.mean(axis=0)
    _, vectors = np.linalg.eigh(x.T @ x)
    return np.asarray(x @ vectors[:, ::-1][:, :512])


def photograph(folder: Path) -> Path:
    """The one real picture of a gallery."""
    return folder / "photograph.webp"


def _copy_photograph(folder: Path) -> None:
    shutil.copy(min((unpacked("cifar10") / "test").rglob("*.webp")), photograph(folder))


def _write_rows(
    gallery: Gallery, n: int, folder_of_rows: Callable[[int], list[Row]]
) -> tuple[ImageTable, Settings]:
    """Write the rows of folders until there are n, and merge the small files."""
    table, settings = gallery.open_table(), gallery.settings()
    for first in range(0, n, ROWS_A_COMMIT):
        rows: list[Row] = []
        for start in range(first, min(n, first + ROWS_A_COMMIT), A_FOLDER):
            rows += folder_of_rows(start // A_FOLDER)
        rows = [replace(r, id=i) for i, r in zip(table.next_ids(len(rows)), rows, strict=True)]
        table.write(rows, replace=False)
        print(f"  {first + len(rows):,} rows", file=sys.stderr, flush=True)
    table.compact()
    return table, settings


def _folder_of_files(
    folder: Path, real: np.ndarray, noise: np.random.Generator, number: int
) -> list[Row]:
    """Files of different sizes that take no room on the disk, and what index() stores of them."""
    rows = _folder_of_rows(real, noise, number)
    (folder / rows[0].path).parent.mkdir(parents=True)
    made = []
    for row in rows:
        with (folder / row.path).open("wb") as stream:
            os.truncate(stream.fileno(), row.size)
            made.append(replace(row, mtime_ns=os.fstat(stream.fileno()).st_mtime_ns))
    return made


def _folder_of_rows(real: np.ndarray, noise: np.random.Generator, number: int) -> list[Row]:
    """What index() stores of a folder of images, points around one real embedding."""
    label = f"class-{number:06}"
    centre = real[number % len(real)].astype(np.float32)
    points = noise.standard_normal((A_FOLDER, len(centre)), np.float32)
    embeddings = centre + points * (SPREAD * np.linalg.norm(centre) / len(centre) ** 0.5)
    now, rows = time.time_ns(), []
    for i, embedding in enumerate(embeddings.astype(np.float16)):
        stored = f"{label[:-3]}/{label}/image-{i:03}.jpg"
        sha256 = hashlib.sha256(stored.encode()).hexdigest()
        rows.append(
            Row(
                0, stored, ".", 1000 + number % 1000 * A_FOLDER + i, now, sha256, 96, 96, label,
                embedding, stored_ns=now + 10**10,
            )
        )  # fmt: skip
    return rows


def main() -> None:
    """Make the index of a gallery anew; in a process of its own, to measure it."""
    gallery = Gallery(Path(sys.argv[1]))
    bring_up_index(gallery, gallery.open_table(), gallery.settings(), refit=True)
    print()


if __name__ == "__main__":
    main()
