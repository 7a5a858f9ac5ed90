"""Labelled images -> pixels, decoded once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from classify.data.groups import content_of
from classify.data.labelled import LabelledImages
from retrieval.errors import DataError
from retrieval.images import Preprocessing
from retrieval.loader import load_images
from retrieval.progress import Progress

MEMORY_SHARE, DISK_SHARE = 0.5, 0.9  # of what is there that pixels may take
_SMALL = Preprocessing(size=32, mean=(0.5,) * 3, std=(0.5,) * 3)  # JPEGs decode fast to this


@dataclass(frozen=True)
class Pixels:
    """Decoded images.

    pixels: (n, s, s, 3) uint8. contents: SHA-256 of each file, hex. failed: files that cannot be
    used, and why.
    """

    pixels: np.ndarray
    images: LabelledImages
    contents: tuple[str, ...]
    failed: tuple[tuple[Path, str], ...]


@dataclass(frozen=True)
class Verified:
    """What reading images once has shown.

    contents: SHA-256 of each file, hex, "" where it cannot be read. failed: files that cannot be
    used, and why.
    """

    contents: tuple[str, ...]
    failed: tuple[tuple[Path, str], ...]


def decode_all(
    images: LabelledImages,
    preprocessing: Preprocessing,
    progress: Progress | None = None,
    *,
    purpose: str = "",
) -> Pixels:
    """Decode all images to (n, size, size, 3) uint8; leave out and name unusable ones.

    They are kept in memory, or in a temporary file where they would take more than half of it.
    purpose: what they are for, where several sets are decoded, such as "validation". Raises
    DataError when there is no room for them, or none can be used.
    """
    side = preprocessing.size
    pixels = _room(len(images), side)
    kept: list[int] = []
    contents: list[str] = []
    failed: list[tuple[Path, str]] = []
    for place, loaded in enumerate(load_images(images.files, preprocessing)):
        if loaded.pixels is None:
            failed.append((loaded.file.path, loaded.error or "it cannot be used"))
        else:
            pixels[len(kept)] = loaded.pixels
            kept.append(place)
            contents.append(loaded.sha256)
        if progress:
            progress("reading", place + 1, len(images))
    if len(images) and not kept:
        path, reason = failed[0]
        raise DataError(
            "No image can be used"
            + f" for {purpose}" * bool(purpose)
            + f", such as {path}: {reason}. "
            "Give other images."
        )
    usable = images.subset(np.array(kept, np.int64))
    return Pixels(pixels[: len(kept)], usable, tuple(contents), tuple(failed))


def verify_all(images: LabelledImages, progress: Progress | None = None) -> Verified:
    """Decode all images and keep no pixels: which of them can be used later, and their contents."""
    contents: list[str] = []
    failed: list[tuple[Path, str]] = []
    for place, loaded in enumerate(load_images(images.files, _SMALL)):
        if loaded.pixels is None:
            failed.append((loaded.file.path, loaded.error or "it cannot be used"))
        contents.append(loaded.sha256 or content_of(loaded.file))
        if progress:
            progress("reading", place + 1, len(images))
    return Verified(tuple(contents), tuple(failed))


def batches(n: int, size: int, order: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Give the places of each batch, in the given order, without a last short batch."""
    if order is None:
        yield from (np.arange(start, min(start + size, n)) for start in range(0, n, size))
        return
    size = min(size, n)
    for start in range(0, n - size + 1, size):
        yield order[start : start + size]


def _room(count: int, side: int) -> np.ndarray:
    """Make room for the pixels: in memory, or in a nameless file if they would fill it.

    Raises DataError where the disk has no room either.
    """
    shape, needed = (count, side, side, 3), count * side * side * 3
    if needed <= MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
        return np.empty(shape, np.uint8)
    folder = tempfile.gettempdir()
    there = shutil.disk_usage(folder).free
    if needed > DISK_SHARE * there:
        raise DataError(
            f"{count:,} images of {side} px take {needed / 1e9:.0f} GB, more than memory has, and "
            f"{folder} has {there / 1e9:.0f} GB. Set TMPDIR to a larger disk, or set a smaller "
            "input.size or data.fraction."
        )
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.uint8, "w+", shape=shape)
