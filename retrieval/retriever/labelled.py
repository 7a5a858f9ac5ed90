"""Evaluate a gallery by its own labelled images, or by those of folders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from retrieval.arguments import one_of, prior_of, whole
from retrieval.draw import evenly_drawn
from retrieval.encoder import Encoder
from retrieval.errors import ArgumentError, DataError, GalleryError
from retrieval.evaluation import Calibration, Evaluation
from retrieval.evaluation.protocols import (
    Images,
    Measured,
    content_codes,
    evaluate,
    sample_notice,
)
from retrieval.gallery import Settings
from retrieval.images import ImageFile, find_images
from retrieval.loader import load_images
from retrieval.progress import Progress
from retrieval.retriever.batches import encode_batches
from retrieval.retriever.confidence import (
    TOO_FEW_BY_CLASS,
    calibrated_by_class,
    keep_calibration,
    method_of,
)
from retrieval.retriever.snapshot import Snapshot
from retrieval.retriever.usable import read_images
from retrieval.retriever.writer import Reading
from retrieval.text import counted, one_sentence, remedy
from retrieval.words import MOST_NEIGHBOURS, PRIOR_KNOWN, IntervalOver

FAILURES_NAMED = 5


def measured_of(
    k: int | Sequence[int], vote: int, most_queries: int, interval_over: IntervalOver = "queries"
) -> Measured:
    """Check arguments of evaluate(). Raises ArgumentError."""
    several: list[Any] = (
        list(k) if isinstance(k, Iterable) and not isinstance(k, str | bytes) else [k]
    )
    ks = {whole("k", one, most=MOST_NEIGHBOURS) for one in several}
    if not ks:
        raise ArgumentError(f"k is {k!r}. Give one number or more, such as [1, 5].")
    vote = whole("vote", vote, most=MOST_NEIGHBOURS)
    one_of("interval_over", interval_over, get_args(IntervalOver))
    most = whole("most_queries", most_queries)
    return Measured(tuple(sorted(ks)), vote, most, interval_over)


def prior_asked(prior_known: float | None, *, calibrates: bool) -> float | None:
    """Check the prior of a measurement's calibration. Raises ArgumentError where it has none."""
    if prior_known is not None and not calibrates:
        raise ArgumentError(
            "prior_known belongs to the calibration, which queries, zero_shot and "
            "calibrate=False leave out. Leave out one of them."
        )
    return None if prior_known is None else prior_of(prior_known)


def evaluate_gallery(
    snapshot: Snapshot,
    asked: Settings,
    queries: tuple[Images, list[str]] | None,
    *,
    measured: Measured,
    zero_shot: bool,
    calibrate: bool,
    prior_known: float | None,
    progress: Progress | None,
) -> Evaluation:
    """Evaluate what is published, searched as asked says, and calibrate it.

    asked: the gallery's settings, or others to try. queries: embedded, and what is to be said of
    them. calibrate: by class, where the gallery was searched for its own images in its own way and
    is not calibrated by picture. prior_known: by default that of the calibration it has.
    """
    published = snapshot.settings
    images = read_images(snapshot.gallery, snapshot.table)
    own = (asked.transform, asked.refinement) == (published.transform, published.refinement)
    method = method_of(snapshot, asked)
    evaluation = evaluate(
        images,
        queries[0] if queries else None,
        method=method,
        measured=measured,
        zero_shot=zero_shot,
        progress=progress,
    )
    notices = [*evaluation.notices, *(queries[1] if queries else ())]
    if own and calibrate and evaluation.protocol == "leave-one-out":
        known = published.calibration_of(snapshot.index.ntotal)
        if known and known.kind == "picture":
            notices.append(
                "The gallery keeps its calibration by picture. `imgret calibrate --by class` "
                "replaces it."
            )
        else:
            prior = prior_known or (known.prior_known if known else PRIOR_KNOWN)
            calibration = calibrated_by_class(images, method, prior, progress)
            notices += _kept(snapshot, calibration)
            evaluation = replace(evaluation, calibration=calibration)
    return replace(evaluation, notices=tuple(notices))


def _kept(snapshot: Snapshot, calibration: Calibration | None) -> list[str]:
    """Store a calibration; say why if that is impossible: the figures are there all the same."""
    if calibration is None:
        return [TOO_FEW_BY_CLASS]
    try:
        keep_calibration(snapshot, calibration)
    except (GalleryError, DataError) as error:
        return [f"The calibration was not kept: {error}"]
    except OSError as error:  # of no file of the gallery
        return [f"The calibration was not kept: {one_sentence(error)}. {remedy(error)}"]
    return []


def check_labelled(
    folders: Sequence[Path], files: Iterable[ImageFile], label_of: Callable[[Path], str | None]
) -> None:
    """Raise DataError where folders hold no image, or none with a label. files: their images."""
    names, any_there = ", ".join(map(str, folders)), False
    for file in files:
        if label_of(file.path):
            return
        any_there = True
    if not any_there:
        raise DataError(f"There is no image below {names}. Give a folder of images.")
    raise DataError(
        f"None of the images below {names} has a label. Put each in a folder named after its "
        "class, or give a CSV file of their labels."
    )


def encode_labelled(
    folders: Sequence[Path],
    label_of: Callable[[Path], str | None],
    encoder: Encoder,
    reading: Reading,
    most: int,
) -> tuple[Images, list[str]]:
    """Embed a random sample of at most `most` images below folders, with notices on it.

    An image that cannot be read is left out and named. Raises DataError when none is left, and
    before the first is read where none has a label.
    """
    found = list(find_images(folders))
    check_labelled(folders, found, label_of)
    notices = []
    if len(found) > most:
        notices.append(sample_notice(most, len(found)))
        found = [found[i] for i in evenly_drawn(len(found), most)]
    embeddings, loaded, failures = _encoded(found, encoder, reading)
    if failures:
        named = "; ".join(failures[:FAILURES_NAMED])
        more = f" and {len(failures) - FAILURES_NAMED} more" * (len(failures) > FAILURES_NAMED)
        notices.append(
            f"{counted(len(failures), 'query', 'queries')} could not be read: {named}{more}."
        )
    if not loaded:
        names = ", ".join(map(str, folders))
        raise DataError(f"No image below {names} can be read. Give another folder.")
    labels = [label_of(path) or "" for path, _ in loaded]
    contents = content_codes(sha256 for _, sha256 in loaded)
    images = Images(np.stack(embeddings), labels, contents, [path for path, _ in loaded])
    return images, notices


def _encoded(
    files: Sequence[ImageFile], encoder: Encoder, reading: Reading
) -> tuple[list[np.ndarray], list[tuple[Path, str]], list[str]]:
    embeddings: list[np.ndarray] = []
    loaded: list[tuple[Path, str]] = []
    failures: list[str] = []
    batch_size, progress = reading.batch_size or encoder.batch_size, reading.progress
    images = load_images(
        files,
        encoder.spec.preprocessing,
        max_pixels=reading.max_pixels,
        workers=reading.workers,
        ahead=2 * batch_size + 8,
    )
    try:
        for batch in encode_batches(images, encoder, batch_size):
            for item, embedding in batch:
                if embedding is None or not np.isfinite(embedding).all():
                    failures.append(f"{item.file.path} ({item.error or 'no finite embedding'})")
                else:
                    embeddings.append(embedding)
                    loaded.append((item.file.path, item.sha256))
            if progress:
                progress("encoding", len(loaded) + len(failures), len(files))
    finally:
        images.close()
    return embeddings, loaded, failures
