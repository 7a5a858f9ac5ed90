"""What a gallery answers: images like an image, an embedding, or the mean of several images."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

import numpy as np

from retrieval import transform as transforms
from retrieval.arguments import Paths, as_paths, check_text, whole
from retrieval.encoder import Encoder, normalise
from retrieval.errors import GalleryChangedError, GalleryError, QueryError
from retrieval.gallery import Gallery, Settings, read_one_state
from retrieval.gallery.dataset import StoreUnreachedError
from retrieval.images import DEFAULT_MAX_PIXELS, ImageFile
from retrieval.loader import Loaded, default_workers, load_images
from retrieval.refinement import Refinement
from retrieval.retriever import current
from retrieval.retriever.batches import encode_batches
from retrieval.retriever.encoders import EncoderChoice
from retrieval.retriever.forked import Helper, in_own_process
from retrieval.retriever.left_out import LeftOut
from retrieval.retriever.queries import (
    Box,
    Query,
    as_queries,
    decode_query,
    is_one_query,
    region_of,
)
from retrieval.retriever.results import (
    Filters,
    Match,
    QueryResult,
    check_names,
    checked_filters,
)
from retrieval.retriever.selves import as_files, of_any_file, own_file, own_files
from retrieval.retriever.snapshot import Snapshot
from retrieval.retriever.vectors import as_embeddings, fitting, unit_embeddings
from retrieval.words import DEFAULT_TRANSFORM

if TYPE_CHECKING:
    from retrieval.gallery.lease import Lease
    from retrieval.milvus import ServedAddress
    from retrieval.retriever.open_gallery import OpenGallery

_Made = TypeVar("_Made")


class Searcher:
    """Searches a gallery. asked: settings that replace those of the gallery. address: where it is
    searched, if not in its folder.

    Several threads may share one.
    """

    def __init__(
        self,
        gallery: Gallery,
        encoder: EncoderChoice,
        asked: Mapping[str, str],
        address: ServedAddress | None = None,
    ) -> None:
        self.gallery = gallery
        self.address = address
        self.gallery.trusted = encoder.trust
        self._encoder = encoder
        self._asked: dict[str, Any] = dict(asked)
        self.helpers: dict[int, Helper] = {}
        self._stored = current.OpenedState(current.StoredState(gallery))
        self._searched = self._stored
        if address is not None:
            from retrieval.retriever.served import ServedState

            self._searched = current.OpenedState(ServedState(address, gallery))

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
    @in_own_process
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
        """Find the k images most like the query, best first: one list, or one list per query.

        query: a path, an image file's bytes, an open binary file, a PIL image, a uint8 array or
        tensor of (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), or a list of these. crop: X, Y, width
        and height of the region searched by, in pixels. exclude_self: leave out the query's own
        file and copies of its content, which pixels have not. filters: see Filters; k matches are
        found where k pass. Raises ImageError when a query cannot be read, ArgumentError for a wrong
        argument, and GalleryError when there is no gallery or it was made with other settings.
        """
        check_names("search", filters)
        k, crop, max_pixels = whole("k", k), region_of(crop), whole("max_pixels", max_pixels)
        queries = as_files(as_queries(query)) if exclude_self else as_queries(query)

        def made(state: Snapshot) -> tuple[np.ndarray, list[LeftOut] | None]:
            embeddings = self._encoded(queries, self._encoder_of(state), crop, max_pixels)
            selves = own_files(self.gallery, queries) if exclude_self else None  # type: ignore[arg-type]
            return embeddings, selves

        found = self._search(made, k, **filters)
        return found[0] if is_one_query(query) else found

    @in_own_process
    def search_embeddings(
        self,
        embeddings: np.ndarray,
        k: int = 5,
        **filters: Unpack[Filters],
    ) -> list[list[Match]]:
        """Find the k nearest images of each raw embedding, (n, d) or (d,) floats of any length.

        Raises QueryError when one has another width than the gallery's, is not finite, or is zero.
        """
        check_names("search_embeddings", filters)
        k, raw = whole("k", k), as_embeddings(embeddings)
        return self._search(
            lambda state: (unit_embeddings(fitting(raw, state.table.dim)), None), k, **filters
        )

    @in_own_process
    def search_files(
        self,
        paths: Paths,
        k: int = 5,
        *,
        crop: Box | None = None,
        exclude_self: bool = False,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        **filters: Unpack[Filters],
    ) -> Iterator[QueryResult]:
        """Give a result per file, in order, even for one that cannot be read; see search()."""
        check_names("search_files", filters)
        k, crop, max_pixels = whole("k", k), region_of(crop), whole("max_pixels", max_pixels)
        chosen = checked_filters(filters)
        waiting = deque(as_paths(paths))
        while waiting:
            state = self._current()
            encoder = self._encoder_of(state)
            loaded = load_images(
                [ImageFile(path, path, 0, 0) for path in waiting],
                encoder.spec.preprocessing,
                max_pixels=max_pixels,
                crop=crop,
                workers=min(len(waiting), default_workers()),
            )
            with contextlib.closing(loaded):
                for batch in encode_batches(loaded, encoder, encoder.batch_size):
                    good = [(item, e) for item, e in batch if e is not None]
                    try:
                        found = iter(self._answers(state, good, k, exclude_self, chosen))
                    except GalleryChangedError:
                        break  # these and what follows are read again, for the new state
                    for item, embedding in batch:
                        waiting.popleft()
                        matches = () if embedding is None else tuple(next(found))
                        yield QueryResult(item.file.path, matches, item.error)

    @in_own_process
    def search_mean(
        self,
        paths: Paths,
        k: int = 5,
        *,
        crop: Box | None = None,
        exclude_self: bool = False,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        **filters: Unpack[Filters],
    ) -> Iterator[QueryResult]:
        """Give one result, by the mean embedding of several files; raises what search() does."""
        check_names("search_mean", filters)
        k, crop, max_pixels = whole("k", k), region_of(crop), whole("max_pixels", max_pixels)
        files = as_paths(paths)
        if not files:
            raise QueryError("A mean needs at least one image. Give one or more.")

        def query(state: Snapshot) -> tuple[np.ndarray, list[LeftOut] | None]:
            encoder = self._encoder_of(state)
            embeddings = self._encoded(files, encoder, crop, max_pixels)
            mean = normalise(embeddings.mean(axis=0, keepdims=True))
            selves = [of_any_file(own_files(self.gallery, files))] if exclude_self else None
            return mean, selves

        found = self._search(query, k, **filters)
        yield QueryResult(Path(" + ".join(map(str, files))), tuple(found[0]))

    @in_own_process
    def encode(
        self,
        queries: Query | Sequence[Query],
        *,
        crop: Box | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> np.ndarray:
        """Embed images as the gallery's were embedded: (n, d) float32 of unit length.

        queries: as in search(); one image gives one row.
        Raises ImageError when one cannot be read, GalleryError as search() does.
        """
        crop, max_pixels = region_of(crop), whole("max_pixels", max_pixels)
        settings, ours = self._checked(self.gallery.settings()), self.gallery.open_table().is_ours
        encoder = self._encoder.for_queries(settings, ours=ours)
        return self._encoded(as_queries(queries), encoder, crop, max_pixels)

    def _encoded(
        self, queries: Sequence[Query], encoder: Encoder, crop: Box | None, max_pixels: int
    ) -> np.ndarray:
        size = encoder.spec.preprocessing.size
        embeddings = np.empty((len(queries), encoder.spec.dim), np.float32)
        for start in range(0, len(queries), encoder.batch_size):
            part = queries[start : start + encoder.batch_size]
            pixels = np.empty((len(part), size, size, 3), np.uint8)
            for place, query in enumerate(part):
                pixels[place] = decode_query(query, encoder, crop, max_pixels)
            embeddings[start : start + len(part)] = encoder.encode(pixels)
        return embeddings

    def arguments(self) -> tuple[Path | str, dict[str, Any]]:
        """Return the gallery's place and the arguments, to make another one like this."""
        encoder, path = self._encoder, self.gallery.path
        how = {"engine": encoder.engine, "trust": encoder.trust}
        place = self.address.of(str(path)) if self.address else path
        return place, encoder.asked | self._asked | how

    def _encoder_of(self, state: Snapshot) -> Encoder:
        return self._encoder.for_queries(state.settings, ours=state.table.is_ours)

    def _with_asked(self, settings: Settings) -> Settings:
        """Replace settings by what was requested."""
        return replace(settings, **self._asked)

    def _checked(self, settings: Settings) -> Settings:
        """A gallery's settings. Raises as index() does where something else was asked for."""
        self._check_asked()
        if self._encoder.asked:
            self._encoder.check(settings.backbone, self.gallery.path)
        return settings

    def _check_asked(self) -> None:
        self._encoder.check_asked()
        for name, value in self._asked.items():
            check_text(name, value)
        transforms.parse_spec(self._asked.get("transform", DEFAULT_TRANSFORM))
        Refinement.of(*map(self._asked.get, ("expand", "augment", "rerank")))

    def _current(self, *, stored: bool = False, tries: bool = False) -> Snapshot:
        """Return the published state, reopened if another one was published since.

        stored: that of the folder, wherever is searched. tries: whether another transform than the
        gallery's may be asked for. Raises GalleryError, and ServerError where it is not stored.
        """
        state = (self._stored if stored else self._searched).get(self._checked)
        if not tries:
            self._check_fitted(state.settings)
        return state

    def _from_one(
        self, read: Callable[[Snapshot], _Made], *, stored: bool = True, tries: bool = False
    ) -> _Made:
        """Return what `read` makes of the published state, whose rows stay until it is done.

        It is called again where another command took them away. stored, tries: of _current().
        """

        def once(leases: contextlib.ExitStack) -> _Made:
            state = self._current(stored=stored, tries=tries)
            leases.enter_context(state.table.lease())
            return read(state)

        return read_one_state(once)

    @contextlib.contextmanager
    def open(self) -> Iterator[OpenGallery]:
        """Hold what is published now open for several calls, whatever others write meanwhile.

        Raises GalleryError as search() does.
        """
        from retrieval.retriever.open_gallery import OpenGallery

        state, lease = self._leased()
        with lease:
            stored = partial(self._current, stored=True) if self.address else None
            how = self._encoder_of(state), self._with_asked(state.settings), stored
            yield OpenGallery(state, *how)

    def is_current(self) -> bool:
        """Tell whether open() takes no time: what is published is open, and no server is asked."""
        return self.address is None and self._searched.is_current()

    def _leased(self) -> tuple[Snapshot, Lease]:
        """The published state, with the lease that keeps it."""

        def once(_: contextlib.ExitStack) -> tuple[Snapshot, Lease]:
            state = self._current()
            return state, state.table.lease()

        return read_one_state(once)

    def _check_fitted(self, settings: Settings) -> None:
        """Raise GalleryError where other vectors were asked for than those that are indexed."""
        for name in ("transform", "augment"):
            made = getattr(settings, name)
            if (asked := self._asked.get(name, made)) != made:
                raise GalleryError(
                    f"{self.gallery.path} was made with {name} {made}, not with {asked}. Index "
                    "with it, or try it with evaluate()."
                )

    def _search(
        self,
        query: Callable[[Snapshot], tuple[np.ndarray, Sequence[LeftOut] | None]],
        k: int,
        **filters: Unpack[Filters],
    ) -> list[list[Match]]:
        """The matches of embeddings that are made for the very state that is searched.

        query: gives (n, d) unit embeddings and what each leaves out, for a state.
        """
        chosen = checked_filters(filters)

        def answers(state: Snapshot) -> list[list[Match]]:
            embeddings, excluded = query(state)
            if not len(embeddings):
                return []
            return self._found(state, embeddings, k, excluded, chosen)

        with contextlib.suppress(GalleryChangedError):
            return answers(self._current())  # without a lease: that is seldom needed
        return self._from_one(answers, stored=False)

    def _answers(
        self,
        state: Snapshot,
        good: Sequence[tuple[Loaded, np.ndarray]],
        k: int,
        exclude_self: bool,  # noqa: FBT001  private
        filters: dict[str, Any],
    ) -> list[list[Match]]:
        """The matches of files that were encoded for a state. Raises GalleryChangedError."""
        if not good:
            return []
        selves = None
        if exclude_self:
            selves = [own_file(self.gallery, item.file.path, item.sha256) for item, _ in good]
        embeddings = np.stack([embedding for _, embedding in good])
        return self._found(state, embeddings, k, selves, filters)

    def _found(
        self,
        state: Snapshot,
        embeddings: np.ndarray,
        k: int,
        excluded: Sequence[LeftOut] | None,
        filters: dict[str, Any],
    ) -> list[list[Match]]:
        """Search a state, or the one that is published now if its embeddings are of one kind.

        Raises GalleryChangedError when the gallery was embedded anew meanwhile.
        """
        refinement = self._with_asked(state.settings).refinement
        asked = {**filters, "excluded": excluded, "refinement": refinement}
        try:
            return state.search(embeddings, k, **asked)
        except StoreUnreachedError:
            raise
        except (OSError, GalleryError):  # an index run has dropped the version that was open here
            self._searched.forget()
            now = self._current()
            if now.settings.backbone != state.settings.backbone:
                raise GalleryChangedError(
                    f"{self.gallery.path} was embedded anew while it was searched. Run it again."
                ) from None
            return now.search(embeddings, k, **asked)
