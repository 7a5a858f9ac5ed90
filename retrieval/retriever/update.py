"""One run of index: a gallery is brought in step with folders and files."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from retrieval import transform as transforms
from retrieval.errors import DataError, GalleryError
from retrieval.gallery import Gallery, ImageTable, Settings, read_one_state
from retrieval.gallery.contents import Contents
from retrieval.gallery.run_progress import noted
from retrieval.gallery.settings import BackboneState, same_labels
from retrieval.gallery.stored_rows import StoredRow, StoredRows
from retrieval.retriever.encoders import EncoderChoice
from retrieval.retriever.gone import check_missing
from retrieval.retriever.info import estimate
from retrieval.retriever.plan import Plan
from retrieval.retriever.publish import bring_up_index, fitted_anew, open_to_write
from retrieval.retriever.reembed import reembed_rows
from retrieval.retriever.removal import CALIBRATION_ENDED, is_calibrated, tell_if_read
from retrieval.retriever.reports import IndexEstimate, IndexReport
from retrieval.retriever.request import IndexRequest
from retrieval.retriever.writer import TaskRunner, Writer, run_tasks
from retrieval.words import BY_FOLDER, SEARCH, Engine

MOST_KINDS = 100  # suffixes of files that are passed over, kept with the gallery


@dataclass(frozen=True)
class _Before:
    """A gallery before the run. was_calibrated: by a calibration that fitted."""

    settings: Settings
    was_calibrated: bool

    def had_other_labels(self, settings: Settings) -> bool:
        """Tell whether labels came from elsewhere where they may have chosen the transform."""
        chosen = transforms.KINDS[transforms.parse_spec(settings.transform).name].stands_for
        return bool(chosen) and not same_labels(settings.labels, self.settings.labels)

    def kept_fit(self, now: Settings) -> str | None:
        """Say that a transform stays which was fitted to labels that have changed."""
        was, state = self.settings.index, now.index
        if state is None or was is None or was.built != state.built:
            return None
        kind = transforms.KINDS[transforms.parse_spec(state.asked).name]
        if kind.labels != "needed" or same_labels(now.labels, self.settings.labels):
            return None
        return f"The transform {state.asked} is still that of the labels before. Give --refit."

    def told(self, now: Settings, table: ImageTable) -> str | None:
        """Say that a calibration does not fit any more."""
        is_lost = self.was_calibrated and not is_calibrated(now, table)
        return CALIBRATION_ENDED if is_lost else None


class Update:
    """What index() does with a gallery that it has locked, and what estimate() reports.

    with_asked: settings with what the user asked for in place of what they say.
    """

    def __init__(
        self,
        gallery: Gallery,
        encoder: EncoderChoice,
        with_asked: Callable[[Settings], Settings],
        request: IndexRequest,
    ) -> None:
        self.gallery = gallery
        self.request = request
        self._encoder = encoder
        self._with_asked = with_asked
        self._engine: Engine | None = None  # of workers, where it is not that of this process
        self._start = time.monotonic()

    def run(self, *, refit: bool, compact: bool = False) -> IndexReport:
        """Embed what is new, drop what is gone, publish. Raises GalleryError, DataError.

        compact: leave no removed row in any file, and nothing beside the index.
        """
        self.request = request = replace(
            self.request, progress=noted(self.gallery.path, self.request.progress)
        )
        had = self.gallery.settings() if self.gallery.exists() else None
        anew = request.reembed or had is None
        settings, table = self._opened()
        before = _Before(had, is_calibrated(had, table)) if had and table else None
        asked = request.labels_for(settings)
        rows = StoredRows.read(table)
        keeps = not request.replaces_labels(had)
        plan = request.plan(self.gallery, rows, asked, table, keeps_set=keeps)
        if not request.keep_missing and not request.drop_missing:
            check_missing(self.gallery, plan, rows, _surely_gone(plan))
        if settings is None or table is None:
            if not plan.tasks:
                return self._report(plan, None)
            settings = self._new_settings(asked)
            table = self.gallery.create(settings)
        contents = Contents.read(table, rows) if plan.tasks else Contents.none()
        writer = Writer.begin(table, contents, self.gallery.is_gone, keeps_set=keeps)
        if plan.tasks:
            encoder = self._encoder.of(settings, ours=table.is_ours)
            self._engine = self._runner(settings)(plan, writer, encoder, request.reading)
            settings = replace(settings, engine=self._engine or settings.engine)
        refused = self._drop_gone(plan, writer, rows)
        kinds = dict(plan.passed_over_by_kind[:MOST_KINDS])
        settings = settings.with_passed_over(list(plan.searched), kinds)
        writer.finish(plan, [] if refused else [row.id for row in plan.gone.values()])
        settings = settings.with_relabelled(writer.tally.relabelled)
        refit = refit or (before is not None and before.had_other_labels(settings))
        now = bring_up_index(
            self.gallery, table, settings, refit=refit, compact=compact, tidy=True,
            progress=request.progress,
        )  # fmt: skip
        if compact:
            tell_if_read(self.gallery, table)
        if refused:
            raise refused
        said = [
            self._encoder.notice(anew=anew),
            fitted_anew(settings.index, now.index, refit=refit),
        ]
        said += [before.kept_fit(now), before.told(now, table)] if before else []
        return self._report(plan, writer, settings, " ".join(filter(None, said)) or None)

    def estimate(self) -> IndexEstimate:
        """Estimate what run() would do; store nothing. Raises GalleryError, DataError."""
        return read_one_state(self._estimated)

    def _estimated(self, leases: contextlib.ExitStack) -> IndexEstimate:
        request = self.request
        settings = self._settings() if self.gallery.exists() else None
        table = self.gallery.open_table() if settings else None
        if settings and table:
            leases.enter_context(table.lease())
            self._check_labels(settings, table)
        asked = request.labels_for(settings)
        rows = StoredRows.read(table)
        if settings and request.reembed:
            settings = self._new_settings(settings.labels, settings)
            request = replace(request, checksum=True)  # every file is read again
        plan = request.plan(self.gallery, rows, asked, table)
        if request.keep_missing:
            plan.gone = {}
        elif not request.drop_missing:
            check_missing(self.gallery, plan, rows, _surely_gone(plan))
        encoder = None
        if plan.tasks:
            ours = table is None or table.is_ours
            encoder = self._encoder.of(settings or self._new_settings(asked), ours=ours)
        return estimate(plan, encoder, request.reading)

    def _drop_gone(self, plan: Plan, writer: Writer, rows: StoredRows) -> DataError | None:
        """Leave in plan.gone what is to be dropped; why that is refused, where it is."""
        plan.gone = {p: r for p, r in plan.gone.items() if p not in writer.found_again}
        if self.request.keep_missing:
            plan.gone = {}
        elif not self.request.drop_missing:
            try:
                check_missing(self.gallery, plan, rows, plan.gone)
            except DataError as error:
                return error
        return None

    def _opened(self) -> tuple[Settings | None, ImageTable | None]:
        """The settings and the table to write to, embedded anew where asked; None where new."""
        if not self.gallery.exists():
            return None, None
        request = self.request
        self._settings()  # refuses what contradicts the gallery
        _, table = open_to_write(self.gallery, request.progress)
        settings = self._settings()
        self._check_labels(settings, table)
        if request.reembed:
            self._encoder.check_loadable(settings.backbone, ours=table.is_ours)
            self.gallery.check_followable(table)
            settings = self._new_settings(settings.labels, settings)
            encoder = self._encoder.of(settings, ours=True)  # the one just chosen
            engine = reembed_rows(
                self.gallery, settings, table, encoder, request.reading,
                drop_missing=request.drop_missing, run=self._runner(settings),
            )  # fmt: skip
            settings = replace(settings, engine=engine or settings.engine)
        return settings, table

    def _runner(self, settings: Settings) -> TaskRunner:
        """What reads, encodes and commits: this process, or workers that it has."""
        asked = self.request.asked_cluster
        if asked is None:
            return run_tasks
        from retrieval.retriever.driver import Team

        return Team(asked, settings, self._encoder).run_tasks

    def _check_labels(self, settings: Settings, table: ImageTable) -> None:
        """Raise GalleryError if an untrusted gallery names a file of labels outside of it."""
        if self.request.labels is not None:
            return
        named = settings.labels not in (BY_FOLDER, "none")
        if named and not table.is_ours and self.gallery.leads_outside(settings.labels):
            raise GalleryError(
                f"{self.gallery.path} names the labels {settings.labels}, outside of its folder, "
                "and you did not write it on this machine. Give --labels, or --trust if you know "
                "where it comes from."
            )

    def _settings(self) -> Settings:
        """The gallery's settings with what may change without embedding again."""
        settings = self.gallery.settings()
        if not self.request.reembed:
            self._encoder.check(settings.backbone, self.gallery.path)
        labels = self.request.labels
        return self._with_asked(replace(settings, labels=str(labels)) if labels else settings)

    def _new_settings(self, labels: str, old: Settings | None = None) -> Settings:
        encoder = self._encoder.new(old.backbone if old else None)
        kept = {name: getattr(old, name) for name in SEARCH} if old else {}
        new = Settings(
            backbone=BackboneState.of(encoder.spec), engine=encoder.engine, labels=labels, **kept
        )
        return self._with_asked(new)

    def _report(
        self,
        plan: Plan,
        writer: Writer | None,
        settings: Settings | None = None,
        notice: str | None = None,
    ) -> IndexReport:
        tally = writer.tally if writer else None
        encoded, seconds = (tally.encoded, tally.seconds) if tally else (0, 0.0)
        encoder = self._encoder.current
        engine = encoder.engine if encoder else settings.engine if settings else ""
        return IndexReport(
            added=tally.added if tally else 0,
            changed=tally.changed if tally else 0,
            moved=tally.moved if tally else 0,
            unchanged=plan.unchanged + (tally.touched if tally else 0),
            removed=len(plan.gone) if writer else 0,
            failed=plan.failed + (tally.failed if tally else 0),
            reused=tally.reused if tally else 0,
            encoded=encoded,
            seconds=time.monotonic() - self._start,
            images_per_second=encoded / seconds if seconds else 0.0,
            gallery=self.gallery.path,
            backbone=settings.backbone.name if settings else "",
            engine=self._engine or engine,
            notice=notice,
            failures=tuple(tally.failures) if tally else (),
            passed_over=plan.passed_over_by_kind,
        )


def _surely_gone(plan: Plan) -> dict[str, StoredRow]:
    """What is gone and, by its size, is none of the files that were found anew."""
    sizes = plan.tasks.new_sizes_among({row.size for row in plan.gone.values()})
    return {path: row for path, row in plan.gone.items() if row.size not in sizes}
