"""Finds images that end the process that decodes them: a child decodes them one by one.

It says which one it begins before it does, so its parent knows at which one it died, and goes on
behind that one with a new child.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection

from retrieval.cluster import start_child
from retrieval.images import ImageFile, Preprocessing
from retrieval.loader import load_images

_SERVE = "retrieval.retriever.probe:serve_probe"


def find_deadly(
    files: Sequence[ImageFile], preprocessing: Preprocessing, max_pixels: int
) -> set[int]:
    """Return the places of the files whose decoding ends a process."""
    deadly: set[int] = set()
    start = 0
    while start < len(files):
        died_at = _died_at(files[start:], preprocessing, max_pixels)
        if died_at is None:
            break
        deadly.add(start + died_at)
        start += died_at + 1
    return deadly


def _died_at(
    files: Sequence[ImageFile], preprocessing: Preprocessing, max_pixels: int
) -> int | None:
    """The place of the first file at which a child dies; None where it comes to the end."""
    process, connection = start_child(_SERVE)
    begun: int | None = None
    try:
        with connection, contextlib.suppress(EOFError, OSError):
            connection.send((list(files), preprocessing, max_pixels))
            while (place := connection.recv()) is not None:
                begun = place
            return None
        return begun
    finally:
        process.kill()
        process.wait()


def serve_probe(handle: int) -> None:
    """Decode the files that the process at the other end of a socket names, and say which."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(handle)
    files, preprocessing, max_pixels = connection.recv()

    for place, file in enumerate(files):
        connection.send(place)
        for _ in load_images([file], preprocessing, max_pixels=max_pixels, workers=1, ahead=1):
            pass  # one by one: objects of a store are read far ahead otherwise
    connection.send(None)
