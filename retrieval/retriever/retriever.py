"""The Retriever: a gallery, the encoder that made it, and the index that searches it."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Unpack, overload

import numpy as np
from PIL import Image

from retrieval import transform as transforms
from retrieval.backbones import Fit
from retrieval.encoder import Encoder, Engine, normalise
from retrieval.errors import GalleryError, ImageError, ImgretError
from retrieval.evaluation import Evaluation
from retrieval.evaluation.protocols import MOST_QUERIES, Measured
from retrieval.gallery import Gallery, ImageTable, Settings
from retrieval.gallery.settings import BackboneState
from retrieval.images import DEFAULT_MAX_PIXELS, ImageFile, decode, read_bytes
from retrieval.loader import default_workers, load_images
from retrieval.projection import Method
from retrieval.refinement import Refinement
from retrieval.retriever import evaluating, maintenance
from retrieval.retriever.duplicates import DuplicateReport, Tier, find_duplicates
from retrieval.retriever.encoding import EncoderChoice
from retrieval.retriever.indexing import Reading, Writer, encode_batches, run_tasks
from retrieval.retriever.mapping import GalleryMap, map_gallery
from retrieval.retriever.planning import Plan, check_paths, labels_from, make_plan, read_rows
from retrieval.retriever.reembedding import reembed_rows
from retrieval.retriever.results import (
    Filters,
    GalleryInfo,
    IndexEstimate,
    IndexReport,
    Match,
    Progress,
    QueryResult,
    VerifyReport,
)
from retrieval.retriever.snapshot import Snapshot
from retrieval.retriever.upkeep import bring_up_index

if TYPE_CHECKING:
    from retrieval.pooling import Pool, Views

Query: TypeAlias = str | Path | Image.Image | np.ndarray
Paths: TypeAlias = str | Path | Sequence[str | Path]
Box: TypeAlias = tuple[int, int, int, int]


class Retriever:
    """Index folders of images into a gallery and search it by image.

    gallery: the gallery's folder; it is made by the first index(). The other parameters say how
    a new gallery is made, and must agree with one that is there already: backbone is a short name
    (mobilenetv2, resnet50, efficientnet-b7), a timm name, "hf-hub:user/model" or a folder; size
    the side of its input in pixels; fit how a picture becomes a square; pool and views what
    retrieval/pooling.py has; transform one of none,
    standard, standard+pca:N, whiten:N, lda, auto; engine what runs the backbone. expand, augment
    and rerank say what follows a search, as retrieval/refinement.py has it: index() keeps them
    with the gallery, search() and evaluate() use those given here or else the gallery's.
    Several threads may share a Retriever.
    """

    def __init__(
        self,
        gallery: str | Path = ".imgret",
        *,
        backbone: str | None = None,
        size: int | None = None,
        fit: Fit | None = None,
        pool: Pool | None = None,
        views: Views | None = None,
        transform: str | None = None,
        expand: str | None = None,
        augment: str | None = None,
        rerank: str | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.gallery = Gallery(Path(gallery))
        self._asked = {
            "transform": transform, "expand": expand, "augment": augment, "rerank": rerank
        }  # fmt: skip
        self._encoder = EncoderChoice(backbone, size, fit, pool, views, engine)
        self._snapshot: tuple[tuple[int, ...], Snapshot] | None = None
        self._opening = threading.RLock()

    def index(
        self,
        paths: Paths,
        *,
        labels: str | None = None,
        exclude: Sequence[str] = (),
        include_hidden: bool = False,
        keep_missing: bool = False,
        refit: bool = False,
        reembed: bool = False,
        batch_size: int | None = None,
        workers: int | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        progress: Progress | None = None,
    ) -> IndexReport:
        """Bring the gallery in step with folders and files: embed what is new, drop what is gone.

        labels: "folder" (the name of the folder that holds the image), "none", or a CSV file with
        the columns path and label; by default what the gallery had. exclude: globs. reembed:
        embed all stored images again with this backbone, size or fit. Commits as it goes: after
        an interrupt or a crash the same call goes on where it stopped.
        Raises GalleryError (another writer, another backbone), BackboneError, ImgretError.
        """
        start = time.monotonic()
        folders = _as_paths(paths)
        check_paths(folders)
        self._check_asked()
        reading = Reading(batch_size, workers, max_pixels, progress)
        with self._writing():
            settings, table = self._opened(labels, reading, reembed=reembed)
            asked = labels or (settings.labels if settings else "folder")
            rows = read_rows(table)
            plan = make_plan(
                self.gallery, rows, folders, labels_from(asked), exclude=exclude,
                include_hidden=include_hidden, keep_missing=keep_missing, progress=progress,
            )  # fmt: skip
            if settings is None or table is None:
                if not plan.tasks:
                    return self._report(plan, None, start)
                settings = self._new_settings(asked)
                table = self.gallery.create(settings)
            writer = Writer(table, rows)
            if plan.tasks:
                run_tasks(plan, writer, self._encoder.of(settings), reading)
            writer.finish(plan)
            bring_up_index(self.gallery, table, settings, refit=refit, progress=progress)
        return self._report(plan, writer, start, settings)

    def _opened(
        self, labels: str | None, reading: Reading, *, reembed: bool
    ) -> tuple[Settings | None, ImageTable | None]:
        """The settings and the table to write to, embedded anew where asked; None where new."""
        if not self.gallery.exists():
            return None, None
        settings, table = self._settings(labels, reembed=reembed), self.gallery.open_table()
        if reembed:
            settings = self._new_settings(settings.labels, settings)
            reembed_rows(self.gallery, settings, table, self._encoder.of(settings), reading)
        return settings, table

    def estimate(
        self,
        paths: Paths,
        *,
        labels: str | None = None,
        exclude: Sequence[str] = (),
        include_hidden: bool = False,
        keep_missing: bool = False,
        reembed: bool = False,
        batch_size: int | None = None,
        workers: int | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        progress: Progress | None = None,
    ) -> IndexEstimate:
        """What index() with the same arguments would do; stores nothing."""
        folders = _as_paths(paths)
        self._check_asked()
        settings = self._settings(labels, reembed=reembed) if self.gallery.exists() else None
        table = self.gallery.open_table() if settings else None
        asked = labels or (settings.labels if settings else "folder")
        rows = read_rows(table)
        if settings and reembed:
            settings = self._new_settings(settings.labels, settings)
            rows = {path: replace(row, settled=False) for path, row in rows.items()}
        plan = make_plan(
            self.gallery, rows, folders, labels_from(asked), exclude=exclude,
            include_hidden=include_hidden, keep_missing=keep_missing, progress=progress,
        )  # fmt: skip
        encoder = None
        if plan.tasks:
            encoder = self._encoder.of(settings or self._new_settings(asked))
        return maintenance.estimate(plan, encoder, Reading(batch_size, workers, max_pixels))

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

    def evaluate(
        self,
        queries: Paths | None = None,
        *,
        labels: str = "folder",
        zero_shot: bool = False,
        k: Sequence[int] = (1, 5, 10),
        vote: int = 5,
        most_queries: int = MOST_QUERIES,
        calibrate: bool = True,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        progress: Progress | None = None,
    ) -> Evaluation:
        """How good matches are, by labels: of the gallery's images among themselves, or of queries.

        queries: folders of labelled images that are not in the gallery; labels: theirs, as in
        index(). zero_shot: by the classes of the second half, the transform fitted to the first.
        most_queries: of more, a fair sample is evaluated. calibrate: keep what leave-one-out
        learnt of the gallery's scores, so that a Match has a probability.
        Another transform or refinement than the gallery's is tried without reading an image.
        Raises ImgretError when there is nothing to measure.
        """
        self._check_asked()
        snapshot = self._current()
        measured = Measured(tuple(sorted({*k})), vote, most_queries)
        embedded = None
        if queries is not None:
            embedded = evaluating.encode_labelled(
                _as_paths(queries),
                labels_from(labels),
                self._encoder.for_queries(snapshot.settings),
                Reading(max_pixels=max_pixels, progress=progress),
                most_queries,
            )
        return evaluating.evaluate_gallery(
            snapshot,
            self._with_asked(snapshot.settings),
            embedded,
            measured=measured,
            zero_shot=zero_shot,
            calibrate=calibrate,
            progress=progress,
        )

    def duplicates(
        self,
        *,
        against: str | Path | None = None,
        threshold: float | None = None,
        tier: Tier = "similar",
        where: str | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        progress: Progress | None = None,
    ) -> DuplicateReport:
        """Groups of near-identical images, here or between here and another gallery.

        tier: the most lenient looked for: same "bytes", same "picture", "similar". See
        find_duplicates. Raises GalleryError, ImgretError; a file that is gone is in the report.
        """
        other = None if against is None else Gallery(Path(against))
        return find_duplicates(
            self.gallery, other, threshold=threshold, tier=tier, where=where,
            max_pixels=max_pixels, progress=progress,
        )  # fmt: skip

    def map(
        self,
        method: Method = "tsne",
        *,
        most_images: int = 5_000,
        where: str | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> GalleryMap:
        """The gallery's images in two dimensions; of more than most_images a fair sample.

        method: "tsne", or "umap" where umap-learn is installed. Raises ImgretError.
        """
        return map_gallery(
            self._current(), method, most=most_images, where=where, seed=seed, progress=progress
        )

    def info(self) -> GalleryInfo:
        """The gallery in figures."""
        return maintenance.describe(self.gallery)

    def remove(self, paths: Paths, *, progress: Progress | None = None) -> int:
        """Drop the rows of these images and of all below these folders; the number dropped."""
        self.gallery.check_exists()
        with self._writing():
            table, settings = self.gallery.open_table(), self.gallery.settings()
            ids = maintenance.rows_below(self.gallery, table, _as_paths(paths))
            if ids:
                table.remove(ids)
                bring_up_index(self.gallery, table, settings, progress=progress)
        return len(ids)

    def verify(self, *, repair: bool = False, progress: Progress | None = None) -> VerifyReport:
        """Check that every row is readable, that the index agrees, that the files are there.

        repair: rebuild what is derived and drop the rows whose files are gone.
        """
        self.gallery.check_exists()
        with self._writing() if repair else contextlib.nullcontext():
            return maintenance.verify(self.gallery, repair=repair, progress=progress)

    def export(self, file: str | Path) -> int:
        """Write ids, paths, labels, embeddings and transformed embeddings to .parquet or .npz.

        Returns the number of images written.
        """
        return maintenance.export(self.gallery, self._current(), Path(file))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        existed = self.gallery.path.exists()
        try:
            with self.gallery.lock():
                yield
        finally:
            if not existed and not self.gallery.exists():
                self.gallery.delete()

    def _settings(self, labels: str | None, *, reembed: bool) -> Settings:
        """The gallery's settings with what may change without embedding again."""
        settings = self.gallery.settings()
        if not reembed:
            self._encoder.check(settings.backbone, self.gallery.path)
        return self._with_asked(settings.model_copy(update={"labels": labels} if labels else {}))

    def _with_asked(self, settings: Settings) -> Settings:
        """Settings with what was asked for in place of what they say."""
        asked = {name: value for name, value in self._asked.items() if value is not None}
        return settings.model_copy(update=asked)

    def _check_asked(self) -> None:
        transforms.parse(self._asked["transform"] or "auto")
        Refinement.of(self._asked["expand"], self._asked["augment"], self._asked["rerank"])

    def _new_settings(self, labels: str, old: Settings | None = None) -> Settings:
        encoder = self._encoder.new(old.backbone if old else None)
        new = Settings(
            backbone=BackboneState.of(encoder.spec), engine=encoder.engine, labels=labels
        )
        if old is not None:
            kept = {"transform", "expand", "augment", "rerank"}
            new = new.model_copy(update=old.model_dump(include=kept))
        return self._with_asked(new)

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

    def _report(
        self, plan: Plan, writer: Writer | None, start: float, settings: Settings | None = None
    ) -> IndexReport:
        tally = writer.tally if writer else None
        encoded, seconds = (tally.encoded, tally.seconds) if tally else (0, 0.0)
        encoder = self._encoder.current
        return IndexReport(
            added=tally.added if tally else 0,
            changed=tally.changed if tally else 0,
            unchanged=plan.unchanged + (tally.touched if tally else 0),
            removed=len(plan.gone),
            failed=plan.failed + (tally.failed if tally else 0),
            reused=tally.reused if tally else 0,
            encoded=encoded,
            seconds=time.monotonic() - start,
            images_per_second=encoded / seconds if seconds else 0.0,
            gallery=self.gallery.path,
            backbone=settings.backbone.name if settings else "",
            engine=encoder.engine if encoder else settings.engine if settings else "",
            notice=encoder.notice if encoder else None,
            failures=tuple(tally.failures) if tally else (),
        )


def _is_one(query: Query | Sequence[Query]) -> bool:
    return isinstance(query, str | Path | Image.Image | np.ndarray)


def _as_paths(paths: Paths) -> list[Path]:
    return [Path(paths)] if isinstance(paths, str | Path) else [Path(p) for p in paths]


def _decode_query(query: Query, encoder: Encoder, crop: Box | None, max_pixels: int) -> np.ndarray:
    source = Path(query) if isinstance(query, str) else query
    preprocessing = encoder.spec.preprocessing
    try:
        return decode(source, preprocessing, crop=crop, max_pixels=max_pixels).pixels
    except ImageError as error:
        name = source if isinstance(source, Path) else "The query image"
        raise ImageError(f"{name}: {error}") from error
