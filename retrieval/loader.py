"""Paths -> pixels, decoded ahead in threads and handed over in order; a failure is a value."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import numpy as np

from retrieval.errors import ImageError
from retrieval.images import (
    DEFAULT_MAX_PIXELS,
    Decoded,
    ImageFile,
    PictureFacts,
    Preprocessing,
    Source,
    decode,
    file_budget,
    read_bytes,
)
from retrieval.objects import ObjectPath
from retrieval.threads import CPU_SECONDS, default_workers, in_time, map_ahead

__all__ = [
    "TOO_SLOW",
    "Loaded",
    "decode_in_time",
    "default_workers",
    "load_image",
    "load_images",
    "read_undecoded",
]

LARGE_FILE = 1 << 26  # bytes
OBJECT_FETCHERS, OBJECTS_AHEAD = 48, 192  # threads; objects
BYTES_AHEAD = 1 << 28  # that wait to be decoded; twice that at most
_TOO_SLOW = "takes more than {:.0f} seconds to decode; save it again in another format"
TOO_SLOW = _TOO_SLOW.format(CPU_SECONDS)


def _never(_: str) -> bool:
    return False


@dataclass(frozen=True)
class Loaded:
    """The outcome of loading one file.

    size, mtime_ns: of what was read. sha256: of its content, hex; "" where it could not be read.
    etag: of an object. read_ns: when the reading began, of this machine's clock. width, height:
    upright, 0 where unknown. pixels: (s, s, 3) uint8, or None where the content was known already
    or error says why it cannot be used. facts: None where it was not decoded.
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
    read_ns: int = 0
    etag: str | None = None


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
    read, data = _read(file, is_known)
    if data is None:
        return read
    return _decoded(read, data, preprocessing, max_pixels=max_pixels, crop=crop)


def load_images(
    files: Iterable[ImageFile],
    preprocessing: Preprocessing,
    *,
    is_known: Callable[[str], bool] = _never,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    crop: tuple[int, int, int, int] | None = None,
    workers: int | None = None,
    ahead: int = 64,
    cpu_seconds: float = CPU_SECONDS,
) -> Generator[Loaded, None, None]:
    """Load files in order, at most `ahead` of them in advance.

    workers: decoding threads, by default one a core; Pillow decodes outside Python's lock. What
    takes more than cpu_seconds has an error; nobody waits for it, neither here nor where this is
    closed. Objects of a store are fetched by many more threads, far enough ahead that decoding
    does not wait for the network.
    """
    waiting = iter(files)
    first = next(waiting, None)
    if first is None:
        return _nothing()
    files = chain([first], waiting)
    if isinstance(first.path, ObjectPath):
        return _load_objects(
            files, partial(_decoded, preprocessing=preprocessing, max_pixels=max_pixels, crop=crop),
            is_known, workers=workers or default_workers(), ahead=ahead, cpu_seconds=cpu_seconds,
        )  # fmt: skip
    begun: dict[ImageFile, Loaded] = {}  # what is known of those that are being decoded

    def load(file: ImageFile) -> Loaded:
        try:
            with _room_for(file):
                read, data = _read(file, is_known)
                if data is None:
                    return read
                begun[file] = read
                return _decoded(read, data, preprocessing, max_pixels=max_pixels, crop=crop)
        except ImageError as error:  # there is no room
            return Loaded(file, file.size, file.mtime_ns, error=str(error))
        finally:
            begun.pop(file, None)

    def late(file: ImageFile) -> Loaded:
        known = begun.get(file) or Loaded(file, file.size, file.mtime_ns)
        return replace(known, error=TOO_SLOW)

    return map_ahead(
        load, files, late=late, workers=workers or default_workers(), ahead=ahead,
        cpu_seconds=cpu_seconds,
    )  # fmt: skip


def _nothing() -> Generator[Loaded, None, None]:
    yield from ()


def _load_objects(
    files: Iterable[ImageFile],
    decode: Callable[[Loaded, bytes], Loaded],
    is_known: Callable[[str], bool],
    *,
    workers: int,
    ahead: int,
    cpu_seconds: float,
) -> Generator[Loaded, None, None]:
    """Load objects of a store in two steps: fetch by many threads, then decode by one a core."""
    fetched = map_ahead(
        partial(_read, is_known=is_known), files,
        late=lambda file: (Loaded(file, file.size, file.mtime_ns, error=TOO_SLOW), None),
        workers=OBJECT_FETCHERS, ahead=OBJECTS_AHEAD, cpu_seconds=cpu_seconds, name="imgret-fetch",
        cost=lambda file: max(0, file.size), most_cost=BYTES_AHEAD,
    )  # fmt: skip

    def work(read: tuple[Loaded, bytes | None]) -> Loaded:
        loaded, data = read
        return loaded if data is None else decode(loaded, data)

    decoded = map_ahead(
        work, fetched, late=lambda read: replace(read[0], error=TOO_SLOW), workers=workers,
        ahead=ahead, cpu_seconds=cpu_seconds, cost=lambda read: len(read[1] or b""),
        most_cost=BYTES_AHEAD,
    )  # fmt: skip
    try:
        yield from decoded
    finally:
        decoded.close()
        fetched.close()


def read_undecoded(file: ImageFile, reason: str) -> Loaded:
    """Read a file that must not be decoded: what its bytes tell, and the reason as its error.

    A file that cannot be read has its own error. Raises nothing.
    """
    read, data = _read(file, _never)
    return read if data is None else replace(read, error=reason)


def decode_in_time(
    source: Source,
    preprocessing: Preprocessing,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    crop: tuple[int, int, int, int] | None = None,
    cpu_seconds: float = CPU_SECONDS,
) -> Decoded:
    """Decode one picture as `decode` does, with the time limit, and heeding Ctrl-C meanwhile."""
    work = partial(decode, source, preprocessing, max_pixels=max_pixels, crop=crop)
    try:
        return in_time(work, cpu_seconds=cpu_seconds)
    except TimeoutError as error:
        raise ImageError(_TOO_SLOW.format(cpu_seconds)) from error


def _room_for(file: ImageFile) -> AbstractContextManager[None]:
    """Memory for the bytes of a large file, shared with the other threads."""
    return nullcontext() if file.size < LARGE_FILE else file_budget().holding(file.size)


def _read(file: ImageFile, is_known: Callable[[str], bool]) -> tuple[Loaded, bytes | None]:
    """What is known of a file before it is decoded, and its bytes where that is to be done."""
    if file.error is not None:
        return Loaded(file, file.size, file.mtime_ns, error=file.error), None
    began = time.time_ns()
    try:
        data, stamp = read_bytes(file.path, file.etag)
    except ImageError as error:
        return Loaded(file, file.size, file.mtime_ns, error=str(error)), None
    sha256 = hashlib.sha256(data).hexdigest()
    read = Loaded(file, len(data), stamp.mtime_ns, sha256, read_ns=began, etag=stamp.etag)
    return read, None if is_known(sha256) else data


def _decoded(
    read: Loaded,
    data: bytes,
    preprocessing: Preprocessing,
    *,
    max_pixels: int,
    crop: tuple[int, int, int, int] | None,
) -> Loaded:
    try:
        image = decode(data, preprocessing, max_pixels=max_pixels, crop=crop)
    except ImageError as error:
        return replace(read, error=str(error))
    return replace(
        read, width=image.width, height=image.height, pixels=image.pixels, facts=image.facts
    )
