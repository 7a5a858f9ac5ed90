"""Galleries of any size, written by the library itself from embeddings; their files hold zeros."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path

import numpy as np

from benchmarks.photographs import CACHE, WEIGHTS, unpacked
from benchmarks.vectors import real_embeddings
from retrieval.gallery import Gallery, Row
from retrieval.retriever import Retriever
from retrieval.retriever.publish import bring_up_index

A_FOLDER = 100  # images, points around one real embedding
FOLDERS_A_COMMIT = 500
SPREAD = 0.15  # norm of the noise; embeddings have one of about 1


def gallery_of(n: int, *, quick: bool = False) -> Path:
    """A folder of n files and one photograph, with its gallery in `.imgret`; kept in the cache."""
    folder = CACHE / f"growth-{n}{'-quick' if quick else ''}"
    if folder.is_dir():
        return folder
    making = folder.with_name(f"{folder.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    shutil.copy(
        next(iter(sorted((unpacked("cifar10") / "test").rglob("*.webp")))), photograph(making)
    )
    gallery = making / ".imgret"
    Retriever(gallery, backbone=str(WEIGHTS), size=96, transform="whiten:512").index(making)
    _write_rows(Gallery(gallery), making, n, real_embeddings(quick=quick))
    making.rename(folder)
    return folder


def photograph(folder: Path) -> Path:
    """The one real picture of a gallery."""
    return folder / "photograph.webp"


def _write_rows(gallery: Gallery, folder: Path, n: int, real: np.ndarray) -> None:
    table, settings, random = gallery.open_table(), gallery.settings(), np.random.default_rng(0)
    for first in range(0, n, A_FOLDER * FOLDERS_A_COMMIT):
        rows: list[Row] = []
        for start in range(first, min(n, first + A_FOLDER * FOLDERS_A_COMMIT), A_FOLDER):
            rows += _folder_of_rows(folder, start // A_FOLDER, real, random)
        rows = [
            Row(**{**vars(r), "id": i})
            for i, r in zip(table.next_ids(len(rows)), rows, strict=True)
        ]
        table.write(rows, replace=False)
    table.compact()
    bring_up_index(gallery, table, settings, refit=True)


def _folder_of_rows(
    folder: Path, number: int, real: np.ndarray, random: np.random.Generator
) -> list[Row]:
    """Files of different sizes that take no room on the disk, and what index() stores of them."""
    label = f"class-{number:06}"
    place = folder / label[:-3] / label
    place.mkdir(parents=True)
    centre = real[number % len(real)].astype(np.float32)
    noise = random.standard_normal((A_FOLDER, len(centre)), np.float32)
    embeddings = centre + noise * (SPREAD * np.linalg.norm(centre) / len(centre) ** 0.5)
    rows = []
    for i, embedding in enumerate(embeddings.astype(np.float16)):
        file = place / f"image-{i:03}.jpg"
        with file.open("wb") as stream:
            os.truncate(stream.fileno(), 1000 + number % 1000 * A_FOLDER + i)
            status = os.fstat(stream.fileno())
        stored = file.relative_to(folder).as_posix()
        sha256 = hashlib.sha256(stored.encode()).hexdigest()
        rows.append(
            Row(
                0, stored, ".", status.st_size, status.st_mtime_ns, sha256, 96, 96, label,
                embedding, stored_ns=time.time_ns() + 10**10,
            )
        )  # fmt: skip
    return rows
