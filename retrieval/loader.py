"""Paths -> pixels, decoded ahead in threads and handed over in order; a failure is a value."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np

from retrieval.errors import ImageError
from retrieval.files import modified_ns
from retrieval.images import (
    DEFAULT_MAX_PIXELS,
    ImageFile,
    PictureFacts,
    Preprocessing,
    decode,
    read_bytes,
)


def _never(_: str) -> bool:
    return False


@dataclass(frozen=True)
class Loaded:
    """What became of one file.

    size, mtime_ns: of what was read. sha256: of its content, hex; "" where it could not be read.
    width, height: upright, 0 where unknown. pixels: (s, s, 3) uint8, or None where the content
    was known already or error says why it cannot be used. facts: None where it was not decoded.
    """

    file: ImageFile
    size: int
    mtime_ns: int
    sha256: str = ""
    width: int = 0
    height: int = 0
    pixels: np.ndarray | None = None
    error: str | None = None
    facts: PictureFacts | None = None


def default_workers() -> int:
    """One decoding thread a core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_image(
    file: ImageFile,
    preprocessing: Preprocessing,
    *,
    is_known: Callable[[str], bool] = _never,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    crop: tuple[int, int, int, int] | None = None,
) -> Loaded:
    """Read and decode one file, or its region crop (X, Y, W, H in upright pixels).

    Content whose SHA-256 is_known is not decoded. Raises nothing: a failure is in error.
    """
    if file.error is not None:
        return Loaded(file, file.size, file.mtime_ns, error=file.error)
    try:
        data, stat = read_bytes(file.path)
    except ImageError as error:
        return Loaded(file, file.size, file.mtime_ns, error=str(error))
    sha256 = hashlib.sha256(data).hexdigest()
    size, mtime_ns = len(data), modified_ns(stat)
    if is_known(sha256):
        return Loaded(file, size, mtime_ns, sha256)
    try:
        image = decode(data, preprocessing, max_pixels=max_pixels, crop=crop)
    except ImageError as error:
        return Loaded(file, size, mtime_ns, sha256, error=str(error))
    return Loaded(
        file, size, mtime_ns, sha256, image.width, image.height, image.pixels, facts=image.facts
    )


def load_images(
    files: Iterable[ImageFile],
    preprocessing: Preprocessing,
    *,
    is_known: Callable[[str], bool] = _never,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    crop: tuple[int, int, int, int] | None = None,
    workers: int | None = None,
    ahead: int = 64,
) -> Generator[Loaded, None, None]:
    """Load files in order, at most `ahead` of them before they are asked for.

    workers: decoding threads, by default one a core; Pillow decodes outside Python's lock.
    """
    todo = iter(files)
    waiting: deque[Future[Loaded]] = deque()
    pool = ThreadPoolExecutor(workers or default_workers(), thread_name_prefix="imgret-decode")

    load = partial(
        load_image, preprocessing=preprocessing, is_known=is_known, max_pixels=max_pixels, crop=crop
    )

    def start(file: ImageFile) -> None:
        waiting.append(pool.submit(load, file))

    try:
        for file in islice(todo, ahead):
            start(file)
        while waiting:
            loaded = waiting.popleft().result()
            for file in islice(todo, 1):
                start(file)
            yield loaded
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
