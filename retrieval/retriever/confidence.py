"""Learn when matches are right, from labels or from pictures alone, and keep it with the gallery.

class    by folds of classes (evaluation/open_set.py): an answer has the query's label
picture  without labels: some pictures are searched for by altered versions of themselves, once with
         them in the gallery and once without. What then comes first is the null of nearest
         neighbours. What lies so near to a picture that about one image of the gallery would by
         chance (duplicates/threshold.py) is a version of it, and is left out with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np

from retrieval.arguments import one_of, prior_of, whole
from retrieval.encoder import Encoder
from retrieval.errors import ArgumentError, DataError, GalleryError, GalleryWriteError, ImageError
from retrieval.evaluation import Calibration
from retrieval.evaluation.calibration import Trials, calibrate, joined_trials
from retrieval.evaluation.evidence import evidence
from retrieval.evaluation.open_set import MATCHES, trials_by_class
from retrieval.evaluation.protocols import Images, SearchMethod
from retrieval.files import check_can_make
from retrieval.gallery import Gallery, Settings
from retrieval.gallery.filter import INDEXED
from retrieval.gallery.room import has_room
from retrieval.gallery.settings import CalibrationState
from retrieval.images import DEFAULT_MAX_PIXELS, decode, open_image
from retrieval.progress import Progress
from retrieval.retriever.altered import altered
from retrieval.retriever.duplicates.threshold import estimate_threshold, neighbours_needed
from retrieval.retriever.left_out import LeftOut
from retrieval.retriever.publish import open_to_write
from retrieval.retriever.snapshot import Snapshot
from retrieval.retriever.usable import read_images
from retrieval.text import unwritable
from retrieval.threads import in_time
from retrieval.words import CONSIDERED, MOST_PICTURES, PRIOR_KNOWN, AnswerKind

FEWEST_PICTURES = 20
LEAST_AREA = 0.5  # of chance: below it, probabilities mislead
SAMPLED_FOR_CHANCE, MOST_VERSIONS = 1000, 256
PICTURE_FOLDS = 5
TOO_FEW_BY_CLASS = (
    "There is too little to calibrate by class, which needs three classes or more, some 20 "
    "labelled images that are not copies, and a right match."
)


@dataclass(frozen=True)
class Asked:
    """The arguments of calibrate_gallery(). kind: None is "class" if there are enough labels."""

    kind: AnswerKind | None = None
    prior_known: float = PRIOR_KNOWN
    most_pictures: int = MOST_PICTURES
    max_pixels: int = DEFAULT_MAX_PIXELS

    @classmethod
    def of(
        cls, kind: str | None, prior_known: float, most_pictures: int | None, max_pixels: int
    ) -> Asked:
        """Check a user's arguments. Raises ArgumentError."""
        if kind is not None:
            one_of("by", kind, get_args(AnswerKind))
        if most_pictures is None:
            most_pictures = MOST_PICTURES
        elif kind == "class":
            raise ArgumentError('most_pictures needs by="picture". Give that, or leave it out.')
        else:
            kind = "picture"
        return cls(
            kind,  # type: ignore[arg-type]  # one of them
            prior_of(prior_known),
            whole("most_pictures", most_pictures, least=FEWEST_PICTURES),
            whole("max_pixels", max_pixels),
        )


def calibrate_gallery(
    snapshot: Snapshot,
    encoder_of: Callable[[Snapshot], Encoder],
    asked: Asked,
    progress: Progress | None,
) -> Calibration:
    """Learn when matches are right, and store it; Calibration.notices says what limits it.

    Raises DataError where there is too little to learn from, or what is learnt tells nothing, and
    GalleryWriteError before anything is learnt where it could not be stored.
    """
    _check_can_keep(snapshot.gallery)
    calibration = None
    if asked.kind != "picture":
        images = read_images(snapshot.gallery, snapshot.table)
        method = method_of(snapshot, snapshot.settings)
        calibration = calibrated_by_class(images, method, asked.prior_known, progress)
        if calibration is None and asked.kind == "class":
            raise DataError(f"{TOO_FEW_BY_CLASS} Use --by picture, which needs no labels.")
    notices: list[str] = []
    if calibration is None:
        trials, notices = _trials_by_picture(snapshot, encoder_of(snapshot), asked, progress)
        calibration = calibrate(trials, "picture", asked.prior_known)
    if calibration is None:
        raise DataError(
            "No picture was found by an altered version of itself, so there is nothing to learn "
            "from. Choose another backbone."
        )
    keep_calibration(snapshot, calibration)
    return replace(calibration, notices=tuple(notices))


def method_of(snapshot: Snapshot, asked: Settings) -> SearchMethod:
    """Return how an evaluation searches the gallery, with its own transform if requested."""
    own = asked.transform == snapshot.settings.transform
    state = snapshot.settings.index if own else None
    return SearchMethod(
        transform=state.transform if state else asked.transform,
        refinement=asked.refinement,
        fitted=snapshot.index.transform if own else None,
    )


def calibrated_by_class(
    images: Images, method: SearchMethod, prior_known: float, progress: Progress | None
) -> Calibration | None:
    """Calibrate by folds of classes; None if there is too little to learn from."""
    trials = trials_by_class(images, method, progress=progress)
    return None if trials is None else calibrate(trials, "class", prior_known)


def keep_calibration(snapshot: Snapshot, calibration: Calibration) -> None:
    """Publish what was learnt of a search, if it is still the gallery's.

    Raises GalleryError where it is not, and DataError for a calibration that tells nothing.
    """
    if calibration.area < LEAST_AREA:
        raise DataError(
            "Queries with an answer cannot be told from those without (area under the curve "
            f"{calibration.area:.2f}, by chance 0.50). Index more images"
            f"{', use --by picture' * (calibration.kind == 'class')}, or choose another backbone."
        )
    gallery, used, images = snapshot.gallery, snapshot.settings, snapshot.index.ntotal
    state = CalibrationState(
        method=used.method,
        kind=calibration.kind,
        has_answer=calibration.confidence.has_answer,
        is_right=calibration.confidence.is_right,
        least=calibration.confidence.least,
        prior_known=calibration.prior_known,
        queries=calibration.known + calibration.unknown,
        error=calibration.error,
        images=images,
        labels=used.labels,
        next_id=snapshot.table.next_id,
        left=images,
    )
    with gallery.lock():
        settings, _ = open_to_write(gallery)
        if settings.method != used.method or settings.labels != used.labels:
            raise GalleryError(
                f"{gallery.path} was changed during calibration, so the calibration was not kept. "
                "Run `imgret calibrate` again."
            )
        gallery.publish(replace(settings, calibration=state))


def _check_can_keep(gallery: Gallery) -> None:
    """Raise GalleryWriteError where a calibration cannot be stored, before it costs minutes."""
    has_room(gallery.path, 0, "keeping a calibration", must=True)
    try:
        check_can_make(gallery.path)
    except OSError as error:
        raise GalleryWriteError(str(unwritable(gallery.path, error))) from error


def _trials_by_picture(
    snapshot: Snapshot, encoder: Encoder, asked: Asked, progress: Progress | None
) -> tuple[Trials, list[str]]:
    snapshot.gallery.check_followable(snapshot.table)
    rows = snapshot.table.block("id", "path", where=INDEXED)
    ids, paths = rows.ids, rows.paths
    if len(ids) < FEWEST_PICTURES:
        raise _too_few(snapshot.gallery, len(ids))
    random = np.random.default_rng(0)
    order = random.permutation(len(ids))
    least = _by_chance(snapshot, ids[order[:SAMPLED_FOR_CHANCE]])
    parts: list[Trials] = []
    unread = 0
    for place in order.tolist():
        if len(parts) >= asked.most_pictures:
            break
        try:
            path = snapshot.gallery.full(paths[place])
            embeddings = _embeddings(path, encoder, asked.max_pixels, random)
        except ImageError:
            unread += 1
            continue
        same = _versions(snapshot, int(ids[place]), least)
        parts.append(_tried(snapshot, same, embeddings, len(parts) % PICTURE_FOLDS))
        if progress:
            progress("calibrating", len(parts), min(asked.most_pictures, len(ids)))
    if len(parts) < FEWEST_PICTURES:
        raise _too_few(snapshot.gallery, len(parts))
    notices = [f"{unread:,} of the pictures could not be read."] if unread else []
    return joined_trials(parts), notices


def _too_few(gallery: Gallery, pictures: int) -> DataError:
    return DataError(
        f"Calibration needs {FEWEST_PICTURES} pictures that can be read, but {gallery.path} has "
        f"{pictures}. Index more images."
    )


def _embeddings(
    path: Path, encoder: Encoder, max_pixels: int, random: np.random.Generator
) -> np.ndarray:
    """The (3, d) embeddings of the altered versions of a file. Raises ImageError."""
    preprocessing = encoder.spec.preprocessing
    work = partial(open_image, path, target=preprocessing.size, max_pixels=max_pixels)
    try:
        picture, _, _ = in_time(work)
    except TimeoutError as error:
        raise ImageError("it takes too long to decode") from error
    versions = altered(picture, random)
    return encoder.encode(np.stack([decode(v, preprocessing).pixels for v in versions]))


def _tried(snapshot: Snapshot, same: np.ndarray, embeddings: np.ndarray, fold: int) -> Trials:
    """Versions of one picture asked twice: with it in the gallery, and without it."""
    asked = [None, [LeftOut(ids=same.tolist())] * len(embeddings)]
    return joined_trials([_found(snapshot, embeddings, same, left_out, fold) for left_out in asked])


def _by_chance(snapshot: Snapshot, ids: np.ndarray) -> float:
    """The score of two images that about one of the gallery reaches by chance."""
    n = snapshot.index.ntotal
    depth = neighbours_needed(n)
    scores, found = snapshot.index.search(snapshot.index.vectors(ids), depth + 1)
    scores[found == ids[:, None]] = -np.inf
    return estimate_threshold(-np.sort(-scores, axis=1)[:, :depth], n, n).score


def _versions(snapshot: Snapshot, own: int, least: float) -> np.ndarray:
    """Ids of a picture and of all that score least or more with it."""
    vector = snapshot.index.vectors(np.array([own]))
    scores, ids = snapshot.index.search(vector, min(MOST_VERSIONS, snapshot.index.ntotal))
    return np.append(ids[0][(ids[0] != own) & (ids[0] >= 0) & (scores[0] >= least)], own)


def _found(
    snapshot: Snapshot,
    embeddings: np.ndarray,
    same: np.ndarray,
    left_out: Sequence[LeftOut] | None,
    fold: int,
) -> Trials:
    depth = min(CONSIDERED, snapshot.index.ntotal)
    scores, ids = snapshot.neighbours(embeddings, depth, excluded=left_out)
    classes = snapshot.classes(ids, "picture")
    return Trials(
        evidence((scores[:, :MATCHES], classes[:, :MATCHES]), (scores, classes), one_class=False),
        snapshot.density(ids[:, 0]),
        np.isin(ids[:, :MATCHES], same) & (ids[:, :MATCHES] >= 0),
        np.full(len(embeddings), left_out is None),
        np.full(len(embeddings), fold),
    )
