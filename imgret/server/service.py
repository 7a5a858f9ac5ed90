"""What all requests share: galleries, encoder, classifier and the threads that work for them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from starlette.requests import Request

from imgret.server.download import download_picture
from imgret.server.jobs import Jobs
from imgret.server.options import ServiceOptions
from imgret.server.problem import Problem
from imgret.server.queue import Batcher, Lanes
from imgret.server.thumbnails import ThumbnailCache
from imgret.server.traffic import Traffic
from imgret.server.uploads import Uploaded, UploadWork, store_together
from imgret.server.work import (
    LONG_AT_ONCE,
    SEARCHED_AT_ONCE,
    Classified,
    ClassifyWork,
    EncodeWork,
    Searched,
    SearchWork,
    classify_together,
    encode_together,
    search_together,
)
from retrieval.errors import GalleryEmptyError, ImgretError
from retrieval.gallery import check_vacant
from retrieval.images import Preprocessing, memory_needed
from retrieval.loader import decode_in_time, default_workers
from retrieval.retriever import GalleryInfo, OpenGallery, Retriever
from retrieval.retriever.left_out import NONE_LEFT_OUT, LeftOut
from retrieval.text import one_sentence

if TYPE_CHECKING:
    from classify.predictor import Predictor

READERS, FETCHERS = 4, 8
STORED_AT_ONCE = 64
COSTLY_BYTES = 64 << 20  # of memory to decode a picture
WARM_SECONDS = 2.0

Outcome = TypeVar("Outcome")
_log = logging.getLogger("imgret")


class Service:
    """Opens what the options name. Raises ImgretError where it cannot be used."""

    def __init__(self, options: ServiceOptions) -> None:
        self.options = options
        self.traffic = Traffic(options.log_format)
        self._turn = threading.Lock()
        self.not_ready: str | None = "The service is starting. Wait a few seconds."
        self.galleries = {name: _opened(path, options) for name, path in options.galleries.items()}
        self._awaited = {name for name, each in self.galleries.items() if not each.gallery.exists()}
        self.predictor = _predictor(options)
        self._lanes = Lanes(default_workers(), self.traffic)
        self._readers = ThreadPoolExecutor(READERS, "imgret-reader")
        self.fetching = asyncio.Semaphore(FETCHERS)  # until decoded: each may hold much
        self._packer = ThreadPoolExecutor(1, "imgret-packer")
        self.packed = 0  # bytes of archives that are on their way
        self._fetchers = ThreadPoolExecutor(FETCHERS, "imgret-fetcher")
        self._encoding: Batcher[EncodeWork, np.ndarray] = Batcher(
            "encode", encode_together, lambda work: work.gallery.encoder.batch_size, self.traffic
        )
        self._searching: Batcher[SearchWork, Searched] = Batcher(
            "search", search_together, lambda _: SEARCHED_AT_ONCE, self.traffic
        )
        self._searching_long: Batcher[SearchWork, Searched] = Batcher(
            "long search", search_together, lambda _: LONG_AT_ONCE, self.traffic
        )
        self._storing: Batcher[UploadWork, Uploaded] = Batcher(
            "store", self._in_turn(store_together), lambda _: STORED_AT_ONCE, self.traffic
        )
        self._writer = ThreadPoolExecutor(1, "imgret-writer")
        self.thumbnails = ThumbnailCache(self.traffic)
        self.jobs = Jobs()
        self._infos: dict[str, tuple[Callable[[], object], GalleryInfo]] = {}
        self._classifying: Batcher[ClassifyWork, Classified] = Batcher(
            "classify", partial(classify_together, self.predictor), lambda _: 64, self.traffic
        )

    async def read(self, work: Callable[..., Outcome], *arguments: Any) -> Outcome:
        """Do some reading in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, partial(work, *arguments))

    async def pack(self, work: Callable[..., Outcome], *arguments: Any) -> Outcome:
        """Read many files, apart from what others read."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._packer, partial(work, *arguments))

    async def write(self, work: Callable[..., Outcome], *arguments: Any) -> Outcome:
        """Do what changes a gallery, one after the other."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer, partial(self._in_turn(work), *arguments))

    def _in_turn(self, work: Callable[..., Outcome]) -> Callable[..., Outcome]:
        """Have work that changes a gallery done while no other does."""

        def done(*arguments: Any) -> Outcome:
            with self._turn:
                return work(*arguments)

        return done

    async def store(self, work: UploadWork) -> Uploaded:
        """Store and index a picture, together with others that wait. Raises ImageError."""
        return await self._storing.submit(work)

    def name_of(self, name: str | None) -> str:
        """Return the name of a gallery, by default the first one's. Raises Problem."""
        if name is None and self.galleries:
            return next(iter(self.galleries))
        if name is None or name not in self.galleries:
            raise Problem(404, "There is no gallery of that name. `GET /v1/gallery` names them.")
        return name

    def retriever(self, name: str | None) -> Retriever:
        """Return the Retriever of a gallery. Raises Problem."""
        return self.galleries[self.name_of(name)]

    @contextlib.asynccontextmanager
    async def opened(self, name: str | None) -> AsyncIterator[OpenGallery]:
        """Hold a gallery open for one request. Raises Problem, GalleryError."""
        retriever = self.retriever(name)
        opening = retriever.open()
        at_once = retriever.is_current()
        gallery = opening.__enter__() if at_once else await self.read(opening.__enter__)
        try:
            yield gallery
        finally:
            opening.__exit__(None, None, None)

    async def info(self, name: str | None) -> GalleryInfo | None:
        """Describe what is published of a gallery, a version once; None before its first upload."""
        name = self.name_of(name)
        if self.is_awaited(name):
            return None
        try:
            async with self.opened(name) as found:
                known = self._infos.get(name)
                if known is None or known[0]() is not found.state:
                    known = weakref.ref(found.state), await self.read(found.info)
                    self._infos[name] = known
                return known[1]
        except GalleryEmptyError:
            return await self.read(self.retriever(name).info)

    def is_awaited(self, name: str) -> bool:
        """Tell whether a gallery was not there at the start, and still is not."""
        if name in self._awaited and self.galleries[name].gallery.exists():
            self._awaited.discard(name)
        return name in self._awaited

    async def embed(
        self, gallery: OpenGallery, content: bytes, crop: tuple[int, int, int, int] | None = None
    ) -> np.ndarray:
        """Embed a picture: (d,) float32 of unit length. Raises ImageError."""
        pixels = await self.decode(content, gallery.encoder.spec.preprocessing, crop)
        return await self._encoding.submit(EncodeWork(gallery, pixels))

    async def search(
        self,
        gallery: OpenGallery,
        embedding: np.ndarray,
        k: int,
        excluded: LeftOut = NONE_LEFT_OUT,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> Searched:
        """Search by a (d,) embedding, together with others that wait."""
        work = SearchWork(gallery, embedding, k, excluded, options)
        return await (self._searching_long if work.is_long else self._searching).submit(work)

    async def download(self, url: str) -> bytes:
        """Fetch a picture. Raises Problem where that is off, and ImageError."""
        if not self.options.allow_urls:
            raise Problem(403, "Addresses are not fetched here. Start with --allow-urls.")
        loop = asyncio.get_running_loop()
        fetch = partial(download_picture, url, self.options.limits.body)
        return await loop.run_in_executor(self._fetchers, fetch)

    async def decode(
        self,
        content: bytes,
        preprocessing: Preprocessing,
        crop: tuple[int, int, int, int] | None = None,
    ) -> np.ndarray:
        """Decode a picture: (size, size, 3) uint8. Raises ImageError."""
        limits = self.options.limits

        def work() -> np.ndarray:
            return decode_in_time(
                content, preprocessing, max_pixels=limits.pixels, crop=crop,
                cpu_seconds=limits.picture_seconds,
            ).pixels  # fmt: skip

        return await self.in_lanes(content, work)

    async def in_lanes(self, content: bytes, work: Callable[[], Outcome]) -> Outcome:
        """Do what decodes a picture, apart from others if it costs much."""
        most = self.options.limits.pixels
        return await self._lanes.decode(lambda: memory_needed(content, most) > COSTLY_BYTES, work)

    async def classify(self, content: bytes, top: int, *, heat: bool = False) -> Classified:
        """Predict the classes of a picture. Raises ImageError, and Problem without a classifier.

        heat: whether to show what speaks for the first of them.
        """
        if self.predictor is None:
            raise Problem(404, "There is no classifier. Start with `imgret serve --model RUN`.")
        pixels = await self.decode(content, self.predictor.preprocessing)
        return await self._classifying.submit(ClassifyWork(pixels, top, heat))

    async def keep_warm(self) -> None:
        """Open everything, and try again where that failed."""
        while True:
            self.not_ready = await self.read(self._why_not_ready)
            if self.not_ready is None:
                return
            await asyncio.sleep(WARM_SECONDS)

    def end(self) -> None:
        """Let all threads end."""
        searching = (self._searching, self._searching_long)
        for batcher in (self._encoding, *searching, self._storing, self._classifying):
            batcher.end()
        self._lanes.end()
        self.jobs.end()
        for threads in (self._readers, self._packer, self._fetchers, self._writer):
            threads.shutdown(wait=False, cancel_futures=True)

    def _why_not_ready(self) -> str | None:
        try:
            for name, retriever in self.galleries.items():
                if self.is_awaited(name):
                    continue
                with contextlib.suppress(GalleryEmptyError), retriever.open() as gallery:
                    size = gallery.encoder.spec.preprocessing.size
                    pixels = np.zeros((gallery.encoder.batch_size, size, size, 3), np.uint8)
                    gallery.search(gallery.encode(pixels)[:1], 1)
            return None
        except ImgretError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001  it is tried again, and told meanwhile
            return f"The gallery cannot be opened ({one_sentence(error)}). Try again later."


def service_of(request: Request) -> Service:
    """Return the service that answers a request."""
    service: Service = request.app.state.service
    return service


def _opened(path: Path | str, options: ServiceOptions) -> Retriever:
    retriever = Retriever(path, trust=options.trust)
    gallery = retriever.gallery
    if options.can_begin and not gallery.exists() and not gallery.path.is_file():
        check_vacant(gallery)
    else:
        gallery.check_exists()
    return retriever


def _predictor(options: ServiceOptions) -> Predictor | None:
    if options.model is None:
        return None
    from classify.predictor import Predictor

    return Predictor.load(options.model)
