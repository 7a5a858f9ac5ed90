"""What a worker does with a part of a plan: read, decode, encode and stage its images."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.cluster.workers import Helpers, TellDone
from retrieval.encoder import Encoder
from retrieval.errors import GalleryError
from retrieval.gallery import ImageTable, Row, Settings
from retrieval.gallery.contents import StoredContents
from retrieval.gallery.plans import PlanFile, PlannedFile
from retrieval.gallery.staged import StagedRows, stage_rows
from retrieval.images import ImageFile, Preprocessing
from retrieval.loader import Loaded, load_images, read_undecoded
from retrieval.retriever.batches import encode_batches
from retrieval.retriever.encoders import EncoderChoice
from retrieval.retriever.engine_proof import EngineProof
from retrieval.retriever.probe import find_deadly
from retrieval.retriever.writer import ROWS_PER_COMMIT, row_of_file
from retrieval.threads import default_workers
from retrieval.words import Engine

IMAGES_A_TELL, IMAGES_A_CALL = 32, 16
DEADLY = "ends the process that decodes it; save it again in another format"


@dataclass(frozen=True)
class Part:
    """Files of a plan, at the places from start to end.

    deaths: workers that ended while they did it. is_probed: whether a child looks first for images
    that end a process.
    """

    start: int
    end: int
    deaths: int = 0
    is_probed: bool = False

    def __len__(self) -> int:
        return self.end - self.start

    def halves(self) -> list[Part]:
        """Return both halves."""
        middle = (self.start + self.end) // 2
        return [replace(self, end=middle), replace(self, start=middle)]


@dataclass(frozen=True)
class OddFile:
    """A file whose row is not simply a new one, for the one who commits to decide on.

    place: in the plan. loaded: without pixels. embedding: (d,) float32, None where not encoded.
    """

    place: int
    loaded: Loaded
    embedding: np.ndarray | None


@dataclass
class PartResult:
    """What came of a part.

    staged: the rows of new files. odd: files that have a row, or the content of one. encoded: how
    many went through the backbone for staged rows. failed: places, paths and reasons of new files.
    """

    staged: StagedRows = field(default_factory=StagedRows)
    odd: list[OddFile] = field(default_factory=list)
    encoded: int = 0
    failed: list[tuple[int, str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class PartWork:
    """What all parts of a run have in common.

    table, version: of the rows as they were before the run. plan: the folder of the plan. asked,
    engine, trust: of the EncoderChoice. ours: whether the user wrote the gallery here. batch_size,
    threads, max_pixels: as in Reading.
    """

    table: Path
    version: int
    plan: Path
    settings: Settings
    asked: dict[str, Any]
    engine: Engine | None
    trust: bool
    ours: bool
    batch_size: int | None
    threads: int | None
    max_pixels: int

    def open(self, helpers: Helpers | None = None) -> OpenedParts:
        """Open the encoder and what is stored. Raises BackboneError, GalleryError.

        helpers: processes that decode for this one.
        """
        if not self.plan.is_dir():
            raise GalleryError(
                f"The gallery {self.table.parent} is not on {socket.gethostname()}, where a worker "
                "is. Put images and gallery on a disk that all machines have at the same path."
            )
        choice = EncoderChoice(self.asked, self.engine, trust=self.trust)
        encoder = choice.of(self.settings, ours=self.ours)
        table = ImageTable.open(self.table, self.version)
        return OpenedParts(self, encoder, table, helpers)


class OpenedParts:
    """A worker that is ready to do parts."""

    def __init__(
        self, work: PartWork, encoder: Encoder, table: ImageTable, helpers: Helpers | None
    ) -> None:
        self._work, self._encoder, self._table = work, encoder, table
        self._helpers = helpers
        self._threads = work.threads or default_workers()  # now, while it sees its share of cores
        self._plan = PlanFile(work.plan)
        self._contents = StoredContents.read(table)
        self.facts = EngineProof.of(encoder)

    def do(self, job: Part, tell: TellDone) -> PartResult:
        """Do a part. Raises GalleryError where its rows cannot be written."""
        files, result, rows = self._plan.files(job.start, job.end), PartResult(), []
        encoded = self._encoded(files, probed=job.is_probed)
        for done, (place, loaded, embedding) in enumerate(encoded, 1):
            planned = files[place]
            if planned.is_stored or self._contents.holds(loaded.sha256):
                odd = OddFile(job.start + place, replace(loaded, pixels=None), embedding)
                result.odd.append(odd)
            else:
                row = row_of_file(planned, loaded, embedding, planned.id)
                result.encoded += embedding is not None
                _note_failure(result, job.start + place, row)
                rows.append(row)
            if done % IMAGES_A_TELL == 0:
                tell(done)
        result.staged = stage_rows(self._table, rows)
        return result

    def _encoded(
        self, files: list[PlannedFile], *, probed: bool
    ) -> Iterator[tuple[int, Loaded, np.ndarray | None]]:
        """Give the files with their places and embeddings, first those that no one may decode."""
        work, encoder = self._work, self._encoder
        preprocessing = encoder.spec.preprocessing
        images = [_image(file) for file in files]
        deadly = find_deadly(images, preprocessing, work.max_pixels) if probed else set()
        for place in sorted(deadly):
            yield place, read_undecoded(images[place], DEADLY), None
        places = [place for place in range(len(files)) if place not in deadly]
        batch_size = work.batch_size or encoder.batch_size
        loaded = self._loaded([images[place] for place in places], preprocessing, batch_size)
        left = iter(places)
        for batch in encode_batches(loaded, encoder, batch_size, most=ROWS_PER_COMMIT):
            for item, embedding in batch:
                yield next(left), item, embedding

    def _loaded(
        self, images: Sequence[ImageFile], preprocessing: Preprocessing, batch_size: int
    ) -> Iterator[Loaded]:
        """Load images here, or have the helpers do it; what is known already has no pixels."""
        work, known = self._work, self._contents.holds_embedding
        if self._helpers is None:
            yield from load_images(
                images, preprocessing, is_known=known, max_pixels=work.max_pixels,
                workers=self._threads, ahead=2 * batch_size + 8,
            )  # fmt: skip
            return
        groups = (images[n : n + IMAGES_A_CALL] for n in range(0, len(images), IMAGES_A_CALL))
        load = partial(load_group, preprocessing=preprocessing, max_pixels=work.max_pixels)
        for loaded in chain.from_iterable(self._helpers.map(load, groups)):
            yield replace(loaded, pixels=None) if known(loaded.sha256) else loaded


def load_group(
    images: Sequence[ImageFile], *, preprocessing: Preprocessing, max_pixels: int
) -> list[Loaded]:
    """Load a few images in one thread, for a worker elsewhere."""
    return list(load_images(images, preprocessing, max_pixels=max_pixels, workers=1, ahead=1))


def _image(file: PlannedFile) -> ImageFile:
    return ImageFile(file.file, file.file.parent, file.size, file.mtime_ns, file.error, file.etag)


def _note_failure(result: PartResult, place: int, row: Row) -> None:
    if row.error is not None:
        result.failed.append((place, row.path, row.error))
