"""The Retriever: a gallery, the encoder that made it, and the index that searches it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from retrieval.arguments import number, one_of, whole
from retrieval.backbones import Fit
from retrieval.encoder import Engine
from retrieval.errors import GalleryError, ImgretError
from retrieval.evaluation import AnswerKind, Calibration, Evaluation, IntervalOver
from retrieval.evaluation.calibration import PRIOR_KNOWN
from retrieval.evaluation.protocols import MOST_QUERIES
from retrieval.gallery import Filter, Gallery, ImageTable, Settings
from retrieval.gallery.settings import BackboneState
from retrieval.images import DEFAULT_MAX_PIXELS
from retrieval.progress import Progress
from retrieval.projection import ProjectionMethod
from retrieval.retriever import confidence, labelled, verification
from retrieval.retriever.duplicates import TIERS, DuplicateReport, Tier, find_duplicates
from retrieval.retriever.encoders import EncoderChoice
from retrieval.retriever.export import export_gallery
from retrieval.retriever.forked import in_own_process
from retrieval.retriever.gone import check_missing
from retrieval.retriever.info import describe, estimate
from retrieval.retriever.map import GalleryMap, map_gallery
from retrieval.retriever.plan import (
    MOST_OF_A_STRANGER,
    Plan,
    StoredRow,
    check_paths,
    labels_from,
    make_plan,
    read_rows,
)
from retrieval.retriever.publish import bring_up_index, fitted_anew, open_to_write
from retrieval.retriever.reembed import forget_staged, reembed_rows
from retrieval.retriever.removal import published_rows, rows_below
from retrieval.retriever.results import (
    GalleryInfo,
    IndexEstimate,
    IndexReport,
    VerifyReport,
)
from retrieval.retriever.searcher import Searcher
from retrieval.retriever.writer import Reading, Writer, run_tasks

if TYPE_CHECKING:
    from retrieval.pool import Pool, Views

MOST_SEED = (1 << 32) - 1
MOST_KINDS = 100  # suffixes of files that are passed over, kept with the gallery

Paths: TypeAlias = str | Path | Sequence[str | Path]


class Retriever(Searcher):
    """Index folders of images into a gallery and search it by image.

    gallery: the gallery's folder; it is made by the first index(). The other parameters say how
    a new gallery is made, and must agree with one that is there already: backbone is mini (the
    default: imgret's own, small, in the package), another short name (mobilenetv2, resnet50,
    efficientnet-b7), a timm name, "hf-hub:user/model" or a folder; size the side of its input in
    pixels; fit how a picture becomes a square; pool and views what retrieval/pool.py has;
    transform one of none, standard, standard+pca:N, whiten:N, lda, auto; engine what runs the
    backbone. expand, augment and rerank say what follows a search, as retrieval/refinement.py has
    it: index() keeps them with the gallery, search() and evaluate() use those given here or else
    the gallery's.
    trust: use what a gallery that this user did not write here names outside of its own folder:
    images, labels and backbones. Several threads may share a Retriever.
    """

    def __init__(
        self,
        gallery: str | Path = ".imgret",
        *,
        backbone: str | os.PathLike[str] | None = None,
        size: int | None = None,
        fit: Fit | None = None,
        pool: Pool | None = None,
        views: Views | None = None,
        transform: str | None = None,
        expand: str | None = None,
        augment: str | None = None,
        rerank: str | None = None,
        engine: Engine | None = None,
        trust: bool = False,
    ) -> None:
        asked = {"transform": transform, "expand": expand, "augment": augment, "rerank": rerank}
        name = os.fspath(backbone) if isinstance(backbone, os.PathLike) else backbone
        encoder = EncoderChoice(name, size, fit, pool, views, engine, trust=trust)
        super().__init__(Gallery(Path(gallery)), encoder, asked)

    def __reduce__(self) -> tuple[Callable[..., Retriever], tuple[Any, ...]]:
        """Pickled by its gallery's path and what was asked for; opened anew where it arrives."""
        return _unpickled, (type(self), *self.arguments())

    @in_own_process
    def index(
        self,
        paths: Paths,
        *,
        labels: str | None = None,
        exclude: Sequence[str] = (),
        include_hidden: bool = False,
        keep_missing: bool = False,
        drop_missing: bool = False,
        checksum: bool = False,
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
        embed all stored images again with this backbone, size or fit. keep_missing: keep the rows
        of files that are gone. drop_missing: drop them also where so many are gone that a drive
        may not be mounted, which is refused otherwise. checksum: compare the content of files whose
        size and time are unchanged. Commits as it goes: after an interrupt or a crash the same
        call goes on where it stopped.
        Raises GalleryError (another writer, another backbone), BackboneError, ImgretError.
        """
        start = time.monotonic()
        folders = _as_paths(paths)
        check_paths(folders)
        self._check_asked()
        reading = Reading.asked(batch_size, workers, max_pixels, progress)
        with self._writing():
            anew = reembed or not self.gallery.exists()
            settings, table = self._opened(
                labels, reading, reembed=reembed, drop_missing=drop_missing
            )
            asked = labels or (settings.labels if settings else "folder")
            rows = read_rows(table)
            plan = make_plan(
                self.gallery, rows, folders, _labels_from(asked, labels, table), exclude=exclude,
                include_hidden=include_hidden, checksum=checksum, progress=progress,
            )  # fmt: skip
            if not keep_missing and not drop_missing:
                check_missing(self.gallery, plan, rows, _surely_gone(plan))
            if settings is None or table is None:
                if not plan.tasks:
                    return self._report(plan, None, start)
                settings = self._new_settings(asked)
                table = self.gallery.create(settings)
            writer = Writer(table, rows, self.gallery.is_gone)
            if plan.tasks:
                run_tasks(plan, writer, self._encoder.of(settings, ours=table.is_ours), reading)
            plan.gone = {p: r for p, r in plan.gone.items() if p not in writer.found_again}
            refused = None
            if keep_missing:
                plan.gone = {}
            elif not drop_missing:
                refused = self._refused(plan, rows)
            kinds = dict(plan.passed_over_by_kind[:MOST_KINDS])
            settings = settings.with_passed_over(list(plan.searched), kinds)
            writer.finish(plan, [] if refused else [row.id for row in plan.gone.values()])
            now = bring_up_index(self.gallery, table, settings, refit=refit, progress=progress)
            if refused:
                raise refused
        said = [self._encoder.notice(anew=anew), fitted_anew(settings.index, now.index)]
        notice = " ".join(filter(None, said)) or None
        return self._report(plan, writer, start, settings, notice)

    def _refused(self, plan: Plan, rows: dict[str, StoredRow]) -> ImgretError | None:
        """Why rows whose files are gone are not dropped, where they are not."""
        try:
            check_missing(self.gallery, plan, rows, plan.gone)
        except ImgretError as error:
            return error
        return None

    def _opened(
        self, labels: str | None, reading: Reading, *, reembed: bool, drop_missing: bool
    ) -> tuple[Settings | None, ImageTable | None]:
        """The settings and the table to write to, embedded anew where asked; None where new."""
        if not self.gallery.exists():
            return None, None
        self._settings(labels, reembed=reembed)  # refuses what contradicts the gallery
        _, table = open_to_write(self.gallery, reading.progress)
        settings = self._settings(labels, reembed=reembed)
        if labels is None:
            self._check_labels(settings, table)
        if reembed:
            self._encoder.check_loadable(settings.backbone, ours=table.is_ours)
            self.gallery.check_followable(table)
            settings = self._new_settings(settings.labels, settings)
            encoder = self._encoder.of(settings, ours=True)  # the one just chosen
            reembed_rows(self.gallery, settings, table, encoder, reading, drop_missing=drop_missing)
        return settings, table

    @in_own_process
    def estimate(
        self,
        paths: Paths,
        *,
        labels: str | None = None,
        exclude: Sequence[str] = (),
        include_hidden: bool = False,
        keep_missing: bool = False,
        drop_missing: bool = False,
        checksum: bool = False,
        reembed: bool = False,
        batch_size: int | None = None,
        workers: int | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        progress: Progress | None = None,
    ) -> IndexEstimate:
        """What index() with the same arguments would do; stores nothing."""
        folders = _as_paths(paths)
        self._check_asked()
        reading = Reading.asked(batch_size, workers, max_pixels)
        settings = self._settings(labels, reembed=reembed) if self.gallery.exists() else None
        table = self.gallery.open_table() if settings else None
        if settings and table and labels is None:
            self._check_labels(settings, table)
        asked = labels or (settings.labels if settings else "folder")
        rows = read_rows(table)
        if settings and reembed:
            settings = self._new_settings(settings.labels, settings)
            rows = {path: replace(row, settled=False) for path, row in rows.items()}
        plan = make_plan(
            self.gallery, rows, folders, _labels_from(asked, labels, table), exclude=exclude,
            include_hidden=include_hidden, checksum=checksum, progress=progress,
        )  # fmt: skip
        if keep_missing:
            plan.gone = {}
        elif not drop_missing:
            check_missing(self.gallery, plan, rows, _surely_gone(plan))
        encoder = None
        if plan.tasks:
            ours = table is None or table.is_ours
            encoder = self._encoder.of(settings or self._new_settings(asked), ours=ours)
        return estimate(plan, encoder, reading)

    @in_own_process
    def evaluate(
        self,
        queries: Paths | None = None,
        *,
        labels: str = "folder",
        zero_shot: bool = False,
        k: Sequence[int] = (1, 5, 10),
        vote: int = 5,
        most_queries: int = MOST_QUERIES,
        interval_over: IntervalOver = "queries",
        calibrate: bool = True,
        prior_known: float | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        progress: Progress | None = None,
    ) -> Evaluation:
        """How good matches are, by labels: of the gallery's images among themselves, or of queries.

        queries: folders of labelled images that are not in the gallery; labels: theirs, as in
        index(). zero_shot: by the classes of the second half, the transform fitted to the first.
        most_queries: of more, a fair sample is evaluated. interval_over: what the 95 % intervals
        are about, other "queries" of these classes or other "classes", as for zero_shot. calibrate:
        where the gallery is searched for its own images, do what calibrate(by="class") does, too,
        unless it is calibrated by picture. prior_known: by default that of its calibration, or 0.9.
        Another transform or refinement than the gallery's is tried without reading an image.
        Raises ImgretError when there is nothing to measure.
        """
        self._check_asked()
        measured = labelled.measured_of(k, vote, most_queries, interval_over)
        reading = Reading.asked(None, None, max_pixels, progress)
        snapshot = self._current()
        self.gallery.check_followable(snapshot.table)
        embedded = None
        if queries is not None:
            embedded = labelled.encode_labelled(
                _as_paths(queries),
                labels_from(labels),
                self._encoder.for_queries(snapshot.settings, ours=snapshot.table.is_ours),
                reading,
                measured.most_queries,
            )
        return labelled.evaluate_gallery(
            snapshot,
            self._with_asked(snapshot.settings),
            embedded,
            measured=measured,
            zero_shot=zero_shot,
            calibrate=calibrate,
            prior_known=None if prior_known is None else confidence.prior_of(prior_known),
            progress=progress,
        )

    @in_own_process
    def calibrate(
        self,
        by: AnswerKind | None = None,
        *,
        prior_known: float = PRIOR_KNOWN,
        most_pictures: int = confidence.MOST_PICTURES,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        progress: Progress | None = None,
    ) -> Calibration:
        """Learn when matches are right and keep it, so that from now on a Match has a probability.

        by: "class", that a match has the query's label, learnt from folds of classes that are left
        out; or "picture", that it shows the same thing, learnt without labels from at most
        most_pictures pictures and altered versions of them. By default by class where labels do.
        prior_known: share of queries that have an answer in the gallery. Raises ImgretError where
        there is too little to learn from.
        """
        self._check_asked()
        asked = confidence.Asked.of(by, prior_known, most_pictures, max_pixels)
        snapshot = self._current()
        return confidence.calibrate_gallery(snapshot, self._encoder_of, asked, progress)

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
        """Groups of near-identical images, here or between here and another gallery.

        tier: the most lenient looked for: same "bytes", same "picture", "similar". See
        find_duplicates. Raises GalleryError, ImgretError; a file that is gone is in the report.
        """
        one_of("tier", tier, TIERS)
        where = Filter.of(where)
        if threshold is not None:
            threshold = number("threshold", threshold, least=-1, most=1)
        max_pixels = whole("max_pixels", max_pixels)
        other = None if against is None else Gallery(Path(against))
        if other is not None:
            other.trusted = self.gallery.trusted
        return find_duplicates(
            self.gallery, other, threshold=threshold, tier=tier, where=where,
            max_pixels=max_pixels, progress=progress,
        )  # fmt: skip

    @in_own_process
    def map(
        self,
        method: ProjectionMethod = "tsne",
        *,
        most_images: int = 5_000,
        where: str | Filter | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> GalleryMap:
        """The gallery's images in two dimensions; of more than most_images a fair sample.

        method: "tsne", or "umap" where umap-learn is installed. Raises ImgretError.
        """
        one_of("method", method, get_args(ProjectionMethod))
        where = Filter.of(where)
        most = whole("most_images", most_images)
        seed = whole("seed", seed, least=0, most=MOST_SEED)
        return map_gallery(
            self._current(), method, most=most, where=where, seed=seed, progress=progress
        )

    @in_own_process
    def info(self) -> GalleryInfo:
        """The gallery in figures."""
        return describe(self.gallery)

    @in_own_process
    def remove(self, paths: Paths, *, progress: Progress | None = None) -> int:
        """Drop the rows of these images and of all below these folders; the number dropped.

        When this returns none of them is found by a search any more, and they are gone from the
        disk. It counts those, too, that an interrupted call had dropped without coming so far.
        """
        self.gallery.check_exists()
        with self._writing():
            before = published_rows(self.gallery, _as_paths(paths))
            settings, table = open_to_write(self.gallery, progress)
            ids = rows_below(self.gallery, table, _as_paths(paths))
            version = table.version
            table.remove(ids)
            table.forget_removed()  # also what an interrupted call had removed
            forget_staged(self.gallery, table)
            if table.version != version:
                bring_up_index(self.gallery, table, settings, progress=progress)
        return len({*before, *ids})

    @in_own_process
    def verify(
        self,
        *,
        repair: bool = False,
        drop_missing: bool = False,
        progress: Progress | None = None,
    ) -> VerifyReport:
        """Check every byte that is stored, that index and rows agree, that the files are there.

        repair: embed damaged rows again from their files, build what is derived again, and drop
        the rows whose files are gone; drop_missing: also where so many are gone that a drive may
        not be mounted. Raises GalleryError, ImgretError.
        """
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

        Returns the number of images written.
        """
        return export_gallery(self.gallery, self._current(), Path(file))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        existed = self.gallery.path.exists()
        try:
            with self.gallery.lock():
                yield
        finally:
            if not existed and not self.gallery.exists():
                self.gallery.delete()

    def _check_labels(self, settings: Settings, table: ImageTable) -> None:
        """Raise GalleryError where a stranger's gallery names a file of labels outside of it."""
        named = settings.labels not in ("folder", "none")
        if named and not table.is_ours and self.gallery.leads_outside(settings.labels):
            raise GalleryError(
                f"{self.gallery.path} names the labels {settings.labels}, outside of its folder, "
                "and was not written by you on this machine. Give --labels, or --trust if you "
                "know where it comes from."
            )

    def _settings(self, labels: str | None, *, reembed: bool) -> Settings:
        """The gallery's settings with what may change without embedding again."""
        settings = self.gallery.settings()
        if not reembed:
            self._encoder.check(settings.backbone, self.gallery.path)
        return self._with_asked(settings.model_copy(update={"labels": labels} if labels else {}))

    def _new_settings(self, labels: str, old: Settings | None = None) -> Settings:
        encoder = self._encoder.new(old.backbone if old else None)
        new = Settings(
            backbone=BackboneState.of(encoder.spec), engine=encoder.engine, labels=labels
        )
        if old is not None:
            kept = {"transform", "expand", "augment", "rerank"}
            new = new.model_copy(update=old.model_dump(include=kept))
        return self._with_asked(new)

    def _report(
        self,
        plan: Plan,
        writer: Writer | None,
        start: float,
        settings: Settings | None = None,
        notice: str | None = None,
    ) -> IndexReport:
        tally = writer.tally if writer else None
        encoded, seconds = (tally.encoded, tally.seconds) if tally else (0, 0.0)
        encoder = self._encoder.current
        return IndexReport(
            added=tally.added if tally else 0,
            changed=tally.changed if tally else 0,
            moved=tally.moved if tally else 0,
            unchanged=plan.unchanged + (tally.touched if tally else 0),
            removed=len(plan.gone) if writer else 0,
            failed=plan.failed + (tally.failed if tally else 0),
            reused=tally.reused if tally else 0,
            encoded=encoded,
            seconds=time.monotonic() - start,
            images_per_second=encoded / seconds if seconds else 0.0,
            gallery=self.gallery.path,
            backbone=settings.backbone.name if settings else "",
            engine=encoder.engine if encoder else settings.engine if settings else "",
            notice=notice,
            failures=tuple(tally.failures) if tally else (),
            passed_over=plan.passed_over_by_kind,
        )


def _unpickled(kind: type[Retriever], gallery: Path, asked: dict[str, Any]) -> Retriever:
    return kind(gallery, **asked)


def _labels_from(
    asked: str, given: str | None, table: ImageTable | None
) -> Callable[[Path], str | None]:
    """labels_from() of those asked for; a file that only a stranger's gallery names is bounded."""
    strange = given is None and table is not None and not table.is_ours
    return labels_from(asked, MOST_OF_A_STRANGER) if strange else labels_from(asked)


def _surely_gone(plan: Plan) -> dict[str, StoredRow]:
    """What is gone and, by its size, is none of the files that were found anew."""
    sizes = {task.file.size for task in plan.tasks if task.stored is None}
    return {path: row for path, row in plan.gone.items() if row.size not in sizes}


def _as_paths(paths: Paths) -> list[Path]:
    return [Path(paths)] if isinstance(paths, str | Path) else [Path(p) for p in paths]
