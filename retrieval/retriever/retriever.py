"""The Retriever: a gallery, the encoder that made it, and the index that searches it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from retrieval.arguments import Paths, as_paths, path_of
from retrieval.gallery import Filter, Gallery, check_vacant
from retrieval.images import DEFAULT_MAX_PIXELS
from retrieval.milvus import ServedAddress, check_no_address, is_served
from retrieval.progress import Progress
from retrieval.retriever.encoders import EncoderChoice
from retrieval.retriever.forked import in_own_process, unpickled
from retrieval.retriever.publish import bring_up_index, open_to_write
from retrieval.retriever.searcher import Searcher
from retrieval.words import (
    BY_FOLDER,
    EMBEDDING,
    MEASURED_K,
    MOST_ON_MAP,
    MOST_QUERIES,
    PRIOR_KNOWN,
    SEARCH,
    VOTERS,
    AnswerKind,
    Engine,
    IntervalOver,
    ProjectionMethod,
    SettingsAsked,
    Tier,
    given,
)

if TYPE_CHECKING:  # a method imports what it alone needs, so that a search starts soon
    from retrieval.evaluation import Calibration, Evaluation
    from retrieval.milvus import Publication
    from retrieval.retriever.duplicates import DuplicateReport
    from retrieval.retriever.map import GalleryMap
    from retrieval.retriever.reports import GalleryInfo, IndexEstimate, IndexReport, VerifyReport
    from retrieval.retriever.request import IndexOptions
    from retrieval.retriever.served import PublishAsked
    from retrieval.retriever.snapshot import Snapshot
    from retrieval.retriever.update import Update


class Retriever(Searcher):
    """Index folders of images into a gallery and search it by image.

    gallery: its folder, which the first index() makes. Where it was published, an address such as
    milvus://host:19530/photos?gallery=photos.imgret, to search it there. engine: what runs the
    backbone; by default the best one here. trust: use what a gallery that this user did not write
    here names outside of its own folder: images, labels and backbones.

    The settings (SettingsAsked) say how a new gallery is made. backbone, size, fit, pool and views
    must agree with a gallery that is there already, unless index(reembed=True) replaces its
    embeddings. index() stores transform, expand, augment and rerank with the gallery; search() and
    evaluate() use those given here, or else the gallery's.

    Several threads may share a Retriever. Raises TypeError for an unknown argument; the first call
    of a method refuses wrong values.
    """

    def __init__(
        self,
        gallery: str | Path = ".imgret",
        *,
        engine: Engine | None = None,
        trust: bool = False,
        **asked: Unpack[SettingsAsked],
    ) -> None:
        known = SettingsAsked.__annotations__
        if unknown := next((name for name in asked if name not in known), None):
            raise TypeError(
                f"Retriever() has no argument {unknown!r}; it takes gallery, engine, trust and "
                f"{', '.join(known)}."
            )
        embedding = given(asked, EMBEDDING)
        if isinstance(embedding.get("backbone"), os.PathLike):
            embedding["backbone"] = os.fspath(embedding["backbone"])
        encoder = EncoderChoice(embedding, engine, trust=trust)
        address = None
        if isinstance(gallery, str) and is_served(gallery):
            address = ServedAddress.parse(gallery)
            gallery = address.gallery or ".imgret"
        place = Gallery(path_of("gallery", gallery, stores=True))
        super().__init__(place, encoder, given(asked, SEARCH), address)

    def __reduce__(self) -> tuple[Callable[..., Retriever], tuple[Any, ...]]:
        """Pickle the gallery's path and the arguments; the copy opens the gallery anew."""
        return unpickled, (type(self), *self.arguments())

    @in_own_process
    def index(
        self,
        paths: Paths,
        *,
        refit: bool = False,
        compact: bool = False,
        progress: Progress | None = None,
        **options: Unpack[IndexOptions],
    ) -> IndexReport:
        """Bring the gallery in step with folders and files: embed new images, drop deleted ones.

        refit: fit the transform anew. compact: do what compact() does, too. options: labels,
        exclude, include_hidden, keep_missing, drop_missing, checksum, reembed, batch_size, workers,
        max_pixels, cluster and cluster_workers, see IndexOptions.
        Commits as it goes: after an interrupt or a crash the same call continues where it stopped.
        Raises GalleryError (another writer, another backbone), BackboneError, and DataError for
        paths or labels that cannot be read, or where so many files are gone that a drive may not
        be mounted.
        """
        update = self._update(paths, progress, **options)
        with self._writing():
            return update.run(refit=refit, compact=compact)

    @in_own_process
    def estimate(
        self, paths: Paths, *, progress: Progress | None = None, **options: Unpack[IndexOptions]
    ) -> IndexEstimate:
        """Estimate what index() would do; store nothing. Takes and raises what index() does."""
        return self._update(paths, progress, **options).estimate()

    def _update(
        self, paths: Paths, progress: Progress | None, **options: Unpack[IndexOptions]
    ) -> Update:
        from retrieval.retriever.request import IndexRequest
        from retrieval.retriever.update import Update

        self._check_asked()
        request = IndexRequest.of(paths, progress, **options)
        return Update(self.gallery, self._encoder, self._with_asked, request)

    @in_own_process
    def evaluate(
        self,
        queries: Paths | None = None,
        *,
        labels: str = BY_FOLDER,
        zero_shot: bool = False,
        k: int | Sequence[int] = MEASURED_K,
        vote: int = VOTERS,
        most_queries: int = MOST_QUERIES,
        interval_over: IntervalOver = "queries",
        calibrate: bool = True,
        prior_known: float | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        progress: Progress | None = None,
    ) -> Evaluation:
        """Measure matches by labels: of the gallery's images among themselves, or of queries.

        queries: folders of labelled images that are not in the gallery; labels: theirs, as in
        index(). zero_shot: evaluate the second half of the classes, with the transform fitted to
        the first. k: of precision@k, recall@k and nDCG@k. vote: neighbours that vote for a label.
        most_queries: of more, a random sample is evaluated. interval_over: what the 95 % intervals
        are for, other "queries" of these classes or other "classes", as with zero_shot. calibrate:
        where the gallery is searched for its own images, also do what calibrate(by="class") does,
        unless it is calibrated by picture or an address was given. prior_known: by default that of
        its calibration, or 0.9. Another transform or refinement than the gallery's is tried without
        reading an image.
        Raises DataError when there is nothing to measure, and ArgumentError for arguments that
        contradict each other.
        """
        from retrieval.evaluation.protocols import check_contradictions
        from retrieval.retriever import labelled
        from retrieval.retriever.labels import labels_from
        from retrieval.retriever.writer import Reading

        self._check_asked()
        check_contradictions(queries=queries is not None, zero_shot=zero_shot, labels=labels)
        calibrates = calibrate and queries is None and not zero_shot
        if prior_known is not None and calibrates:
            check_no_address(self.address, self.gallery.path)
        keeps = calibrates and self.address is None
        prior = labelled.prior_asked(prior_known, calibrates=calibrates)
        measured = labelled.measured_of(k, vote, most_queries, interval_over)
        reading = Reading.asked(None, None, max_pixels, progress)
        asked = None if queries is None else as_paths(queries)

        def made(state: Snapshot) -> Evaluation:
            self.gallery.check_followable(state.table)
            embedded = None
            if asked is not None:
                embedded = labelled.encode_labelled(
                    asked, labels_from(labels), self._encoder_of(state), reading,
                    measured.most_queries,
                )  # fmt: skip
            return labelled.evaluate_gallery(
                state, self._with_asked(state.settings), embedded, measured=measured,
                zero_shot=zero_shot, calibrate=keeps, prior_known=prior, progress=progress,
            )  # fmt: skip

        return self._from_one(made, tries=True)

    @in_own_process
    def calibrate(
        self,
        by: AnswerKind | None = None,
        *,
        prior_known: float = PRIOR_KNOWN,
        most_pictures: int | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        progress: Progress | None = None,
    ) -> Calibration:
        """Learn when matches are right and store it, so that from now on a Match has a probability.

        by: what makes a match right. With "class" it has the query's label, which is learnt by
        leaving classes out. With "picture" it shows the same thing, which is learnt without labels
        from at most most_pictures (200) pictures and altered versions of them. The default is
        "class" where there are enough labels and most_pictures is not given. prior_known: share of
        queries that have an answer in the gallery. Raises DataError where there is too little to
        learn from, or what is learnt tells nothing, ArgumentError for most_pictures with "class".
        """
        from retrieval.retriever import confidence

        self._check_asked()
        asked = confidence.Asked.of(by, prior_known, most_pictures, max_pixels)
        check_no_address(self.address, self.gallery.path)
        return self._from_one(
            lambda state: confidence.calibrate_gallery(state, self._encoder_of, asked, progress)
        )

    @in_own_process
    def duplicates(
        self,
        *,
        against: str | Path | None = None,
        threshold: float | None = None,
        tier: Tier = "similar",
        where: str | Filter | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        progress: Progress | None = None,
    ) -> DuplicateReport:
        """Find groups of near-identical images, in this gallery or between it and another one.

        against: the other gallery; each group then has images of both, and keeps one of the other.
        tier: the most lenient to look for: the same "bytes", the same "picture", a "copy", or
        "similar". threshold: least cosine similarity of similar images, by default estimated.
        where: which rows of this gallery to look at. No file is changed, and the report names those
        that are gone. Raises GalleryError, and ArgumentError for a wrong argument.
        """
        from retrieval.retriever.duplicates.groups import find_duplicates

        other = None if against is None else Gallery(path_of("against", against, stores=True))
        if other is not None:
            other.trusted = self.gallery.trusted
        return find_duplicates(
            self.gallery, other, threshold=threshold, tier=tier, where=Filter.of(where),
            max_pixels=max_pixels, progress=progress,
        )  # fmt: skip

    @in_own_process
    def map(
        self,
        method: ProjectionMethod = "tsne",
        *,
        most_images: int = MOST_ON_MAP,
        where: str | Filter | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> GalleryMap:
        """Place the gallery's images in two dimensions; a random sample of more than most_images.

        method: "tsne", or "umap" where umap-learn is installed. where: which rows to place. Raises
        ArgumentError for "umap" without it, and DataError where the gallery holds no image.
        """
        from retrieval.retriever.map import MapAsked, map_gallery

        asked = MapAsked.of(method, most_images, where, seed)
        return self._from_one(lambda state: map_gallery(state, asked, progress))

    @in_own_process
    def info(self) -> GalleryInfo:
        """Describe the gallery in figures. Raises GalleryError."""
        from retrieval.retriever.info import describe

        return describe(self.gallery, self.address)

    @in_own_process
    def remove(
        self,
        paths: Paths,
        *,
        progress: Progress | None = None,
        on_absent: Callable[[Path], object] = lambda _: None,
    ) -> int:
        """Drop the rows of images, and of all images below folders; return how many.

        When this returns, no search finds them any more. They are gone from the disk, too, unless
        large files hold them, somebody reads, or it has no room to write files anew: then a line
        in the log says so, and compact() erases them. The count includes rows that an interrupted
        call had dropped. on_absent: told each path that has no row. Raises GalleryError.
        """
        from retrieval.retriever.removal import remove_rows, without_rows

        self.gallery.check_exists()
        asked = as_paths(paths)
        with self._writing():
            dropped = remove_rows(self.gallery, asked, progress)
        for path in without_rows(self.gallery, asked, dropped.values()):
            on_absent(path)
        return len(dropped)

    @in_own_process
    def relabel(self, labels: Mapping[int, str | None], *, progress: Progress | None = None) -> int:
        """Set the labels of images, by id; return how many had another one.

        They last: index() leaves them, until it takes labels from elsewhere than before. Raises
        GalleryError.
        """
        from retrieval.retriever.new_labels import relabel_rows

        self.gallery.check_exists()
        with self._writing():
            return relabel_rows(self.gallery, labels, progress)

    @in_own_process
    def compact(self, *, progress: Progress | None = None) -> None:
        """Merge what changes have left beside the large files, and erase removed rows from them.

        What another command reads meanwhile stays until the next one that writes: a line in the log
        says so. Raises GalleryError, and GalleryWriteError where the disk has no room for it.
        """
        from retrieval.retriever.removal import tell_if_read

        self.gallery.check_exists()
        with self._writing():
            settings, table = open_to_write(self.gallery, progress)
            bring_up_index(self.gallery, table, settings, compact=True, progress=progress)
            tell_if_read(self.gallery, table)

    @in_own_process
    def verify(
        self,
        *,
        repair: bool = False,
        drop_missing: bool = False,
        progress: Progress | None = None,
    ) -> VerifyReport:
        """Check every stored byte, that index and rows agree, and that the files exist.

        repair: embed damaged rows again from their files, build what is derived again, and drop
        the rows whose files are gone. drop_missing: drop them even where so many are gone that a
        drive may not be mounted. Raises GalleryError, and DataError where that is refused.
        """
        from retrieval.retriever import verification
        from retrieval.retriever.writer import Reading

        self.gallery.check_exists()
        reading = Reading(progress=progress)
        if not repair:
            return verification.verify_beside_writers(self.gallery, reading)
        with self._writing():
            return verification.repair(
                self.gallery, self._encoder, reading, drop_missing=drop_missing
            )

    @in_own_process
    def export(self, file: str | Path) -> int:
        """Write ids, paths, labels, embeddings and transformed embeddings to .parquet or .npz.

        Returns the number of images written. Raises ArgumentError for another suffix, WriteError
        where the file cannot be written, and GalleryError.
        """
        from retrieval.retriever.export import export_gallery

        to = path_of("file", file)
        return self._from_one(lambda state: export_gallery(self.gallery, state, to))

    @in_own_process
    def publish(
        self, address: str, *, progress: Progress | None = None, **options: Unpack[PublishAsked]
    ) -> Publication:
        """Bring what a Milvus server holds at an address in step with the gallery.

        address: such as milvus://host:19530/photos. options: kind, shards, replicas and replace,
        see PublishAsked. After an interrupt or a crash the same call ends in the right state.
        Raises ArgumentError, ServerError, and GalleryError where another gallery is published.
        """
        from retrieval.retriever.served import publish_gallery, publish_options

        return publish_gallery(self.gallery, address, publish_options(options), progress)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        check_no_address(self.address, self.gallery.path)
        check_vacant(self.gallery)
        existed = self.gallery.path.exists()
        try:
            with self.gallery.lock():
                yield
        finally:
            if not existed and not self.gallery.exists():
                self.gallery.delete()
