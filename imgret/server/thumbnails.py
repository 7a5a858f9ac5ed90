"""Thumbnails that were made before, up to a number of bytes."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict

from imgret.server.traffic import Traffic
from retrieval.images import thumbnail

MOST_CACHED = 128 << 20
THUMBNAIL_QUALITY = 85


class ThumbnailCache:
    """The thumbnails asked for last, by content and side; several threads may share it."""

    def __init__(self, traffic: Traffic, most: int = MOST_CACHED) -> None:
        self._held: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._bytes = 0
        self._most = most
        self._turn = threading.Lock()
        self._outcomes = {name: traffic.cache.labels(name) for name in ("hit", "miss")}

    def find(self, sha256: str, side: int) -> bytes | None:
        """Return a thumbnail that is held, else None."""
        with self._turn:
            found = self._held.get((sha256, side))
            if found is not None:
                self._held.move_to_end((sha256, side))
        self._outcomes["miss" if found is None else "hit"].inc()
        return found

    def add(self, sha256: str, side: int, content: bytes) -> None:
        """Hold a thumbnail, and drop those that were not asked for longest."""
        with self._turn:
            before = self._held.pop((sha256, side), b"")
            self._held[sha256, side] = content
            self._bytes += len(content) - len(before)
            while self._bytes > self._most:
                _, dropped = self._held.popitem(last=False)
                self._bytes -= len(dropped)


def draw_thumbnail(content: bytes, side: int, most_pixels: int) -> bytes:
    """Return a picture as a JPEG, at most `side` pixels long. Raises ImageError."""
    stream = io.BytesIO()
    thumbnail(content, side, max_pixels=most_pixels).save(stream, "JPEG", quality=THUMBNAIL_QUALITY)
    return stream.getvalue()
