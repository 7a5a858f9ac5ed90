"""What a gallery answers: images like an image, an embedding, or the mean of several images."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias, Unpack, overload

import numpy as np

from retrieval.encoder import Encoder, normalise
from retrieval.errors import GalleryError, ImageError, ImgretError
from retrieval.gallery import Gallery, Settings
from retrieval.images import DEFAULT_MAX_PIXELS, ImageFile, Source, is_tensor, read_bytes
from retrieval.loader import decode_in_time, default_workers, load_images
from retrieval.retriever import maintenance
from retrieval.retriever.encoding import EncoderChoice
from retrieval.retriever.indexing import encode_batches
from retrieval.retriever.results import Filters, Match, QueryResult
from retrieval.retriever.snapshot import Snapshot

Query: TypeAlias = Source
Box: TypeAlias = tuple[int, int, int, int]


class Searcher:
    """Searches a gallery. asked: what is to stand in place of the gallery's settings.

    Several threads may share one.
    """

    def __init__(
        self, gallery: Gallery, encoder: EncoderChoice, asked: dict[str, str | None]
    ) -> None:
        self.gallery = gallery
        self._encoder = encoder
        self._asked = asked
        self._snapshot: tuple[tuple[int, ...], Snapshot] | None = None
        self._opening = threading.RLock()

    @overload
    def search(  # type: ignore[overload-overlap]  # a str is a Sequence[str] to mypy
        self, query: Query, k: int = 5, *, crop: Box | None = None, exclude_self: bool = False,
        max_pixels: int = DEFAULT_MAX_PIXELS, **filters: Unpack[Filters],
    ) -> list[Match]: ...  # fmt: skip
    @overload
    def search(
        self, query: Sequence[Query], k: int = 5, *, crop: Box | None = None,
        exclude_self: bool = False, max_pixels: int = DEFAULT_MAX_PIXELS,
        **filters: Unpack[Filters],
    ) -> list[list[Match]]: ...  # fmt: skip
    def search(
        self,
        query: Query | Sequence[Query],
        k: int = 5,
        *,
        crop: Box | None = None,
        exclude_self: bool = False,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        **filters: Unpack[Filters],
    ) -> list[Match] | list[list[Match]]:
        """The k images most like the query, best first: a list, or one list a query.

        query: a path, a PIL image, an (h, w, 3) uint8 RGB array, or a list of these. crop: X, Y,
        W, H of the region searched by. exclude_self: leave out the query's own file and copies of
        its content. filters: where, min_score and min_confidence, see Filters; k matches are
        found where k pass.
        Raises ImageError when a query cannot be read, GalleryError when there is no gallery.
        """
        queries: Sequence[Query] = [query] if _is_one(query) else query  # type: ignore[assignment,list-item]
        embeddings = self.encode(queries, crop=crop, max_pixels=max_pixels)
        excluded = self._selves(queries) if exclude_self else None
        found = self._search(embeddings, k, excluded=excluded, **filters)
        return found[0] if _is_one(query) else found

    def search_embeddings(
        self,
        embeddings: np.ndarray,
        k: int = 5,
        **filters: Unpack[Filters],
    ) -> list[list[Match]]:
        """The k nearest images of each raw embedding, (n, d) float32 of any length."""
        unit = normalise(np.atleast_2d(embeddings))
        return self._search(unit, k, **filters)

    def search_files(
        self,
        paths: Sequence[Path],
        k: int = 5,
        *,
        crop: Box | None = None,
        exclude_self: bool = False,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        **filters: Unpack[Filters],
    ) -> Iterator[QueryResult]:
        """search() for many files, as a stream: a file that cannot be read is a result, too."""
        encoder = self._encoder.for_queries(self.gallery.settings())
        loaded = load_images(
            [ImageFile(path, path, 0, 0) for path in paths],
            encoder.spec.preprocessing,
            max_pixels=max_pixels,
            crop=crop,
            workers=min(len(paths), default_workers()),
        )
        for batch in encode_batches(loaded, encoder, encoder.batch_size):
            good = [item for item, embedding in batch if embedding is not None]
            found: Iterator[list[Match]] = iter(())
            if good:
                selves = [self._same(i.file.path, i.sha256) for i in good] if exclude_self else None
                embeddings = np.stack([e for _, e in batch if e is not None])
                found = iter(self._search(embeddings, k, excluded=selves, **filters))
            for item, embedding in batch:
                matches = () if embedding is None else tuple(next(found))
                yield QueryResult(item.file.path, matches, item.error)

    def search_mean(
        self,
        paths: Sequence[Path],
        k: int = 5,
        *,
        crop: Box | None = None,
        exclude_self: bool = False,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        **filters: Unpack[Filters],
    ) -> Iterator[QueryResult]:
        """One query of several files: the mean of their embeddings. One bad file is an error."""
        embeddings = self.encode(paths, crop=crop, max_pixels=max_pixels)
        mean = normalise(embeddings.mean(axis=0, keepdims=True))
        excluded = [np.concatenate(self._selves(paths))] if exclude_self else None
        found = self._search(mean, k, excluded=excluded, **filters)
        yield QueryResult(Path(" + ".join(map(str, paths))), tuple(found[0]))

    def encode(
        self,
        queries: Sequence[Query],
        *,
        crop: Box | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> np.ndarray:
        """Embeddings of images, as the gallery's were made: (n, d) float32 of unit length."""
        encoder = self._encoder.for_queries(self.gallery.settings())
        size = encoder.spec.preprocessing.size
        embeddings = np.empty((len(queries), encoder.spec.dim), np.float32)
        for start in range(0, len(queries), encoder.batch_size):
            part = queries[start : start + encoder.batch_size]
            pixels = np.empty((len(part), size, size, 3), np.uint8)
            for place, query in enumerate(part):
                pixels[place] = _decode_query(query, encoder, crop, max_pixels)
            embeddings[start : start + len(part)] = encoder.encode(pixels)
        return embeddings

    def _with_asked(self, settings: Settings) -> Settings:
        """Settings with what was asked for in place of what they say."""
        asked = {name: value for name, value in self._asked.items() if value is not None}
        return settings.model_copy(update=asked)

    def _current(self) -> Snapshot:
        """The published state, reopened when another one was published since."""
        with self._opening:
            stamp = maintenance.stamp(self.gallery)
            if self._snapshot is None or self._snapshot[0] != stamp:
                self._snapshot = stamp, maintenance.open_snapshot(self.gallery)
            return self._snapshot[1]

    def _search(
        self,
        embeddings: np.ndarray,
        k: int,
        *,
        excluded: Sequence[np.ndarray] | None = None,
        **filters: Unpack[Filters],
    ) -> list[list[Match]]:
        if k < 1:
            raise ImgretError(f"k is {k}; it must be 1 or more.")
        snapshot = self._current()
        dim = snapshot.table.dim
        if embeddings.shape[1] != dim:
            raise ImgretError(
                f"The embeddings are {embeddings.shape[1]} wide, those of {self.gallery.path} "
                f"{dim}. Encode the queries with the gallery's own backbone."
            )
        search = partial(
            Snapshot.search, embeddings=embeddings, k=k, excluded=excluded, **filters,
            refinement=self._with_asked(snapshot.settings).refinement,
        )  # fmt: skip
        try:
            return search(snapshot)
        except (OSError, GalleryError):  # an index run has dropped the version that was open here
            self._snapshot = None
            return search(self._current())

    def _selves(self, queries: Sequence[Query]) -> list[np.ndarray]:
        return [
            self._same(Path(query), hashlib.sha256(read_bytes(Path(query))[0]).hexdigest())
            if isinstance(query, str | Path)
            else np.empty(0, np.int64)
            for query in queries
        ]

    def _same(self, path: Path, sha256: str) -> np.ndarray:
        return self._current().same_content(sha256, self.gallery.stored(path.absolute()))


def _is_one(query: Query | Sequence[Query]) -> bool:
    """Whether a query is one picture, or something that is none, and not several."""
    one = isinstance(query, str | bytes | bytearray | memoryview | np.ndarray)
    return one or is_tensor(query) or hasattr(query, "read") or not isinstance(query, Iterable)


def _decode_query(query: Query, encoder: Encoder, crop: Box | None, max_pixels: int) -> np.ndarray:
    preprocessing = encoder.spec.preprocessing
    try:
        return decode_in_time(query, preprocessing, crop=crop, max_pixels=max_pixels).pixels
    except ImageError as error:
        name = os.fspath(query) if isinstance(query, str | os.PathLike) else "The query image"
        raise ImageError(f"{name}: {error}") from error
