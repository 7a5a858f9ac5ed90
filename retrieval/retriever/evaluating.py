"""Read labelled images, from a gallery or from folders, and keep what an evaluation learnt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np

from retrieval.arguments import one_of, whole
from retrieval.encoder import Encoder
from retrieval.errors import GalleryError, ImgretError, QueryError
from retrieval.evaluation import Calibration, Evaluation, IntervalOver
from retrieval.evaluation.protocols import Images, Measured, Method, evaluate
from retrieval.gallery import Gallery, ImageTable, Settings
from retrieval.gallery.rows import as_matrix
from retrieval.gallery.settings import CalibrationState
from retrieval.gallery.table import INDEXED
from retrieval.images import ImageFile, find_images
from retrieval.loader import load_images
from retrieval.retriever.indexing import Reading, encode_batches
from retrieval.retriever.results import Progress
from retrieval.retriever.snapshot import Snapshot
from retrieval.retriever.upkeep import open_to_write

FAILURES_NAMED = 5
MOST_NEIGHBOURS = 10_000


def measured_of(
    k: Sequence[int], vote: int, most_queries: int, interval_over: IntervalOver = "queries"
) -> Measured:
    """Arguments of evaluate(), checked. Raises QueryError."""
    several = isinstance(k, Iterable) and not isinstance(k, str | bytes) and len(k) > 0
    if not several:
        raise QueryError(f"k is {k!r}; give one or several in a list, such as [1, 5].")
    ks = {whole("k", one, most=MOST_NEIGHBOURS) for one in k}
    vote = whole("vote", vote, most=MOST_NEIGHBOURS)
    one_of("interval_over", interval_over, get_args(IntervalOver))
    most = whole("most_queries", most_queries)
    return Measured(tuple(sorted(ks)), vote, most, interval_over)


def evaluate_gallery(
    snapshot: Snapshot,
    asked: Settings,
    queries: tuple[Images, list[str]] | None,
    *,
    measured: Measured,
    zero_shot: bool,
    calibrate: bool,
    progress: Progress | None,
) -> Evaluation:
    """Evaluate what is published, searched as asked says, and keep the calibration.

    asked: the gallery's settings, or others to try. queries: embedded, and what is to be said of
    them. The calibration is kept where the gallery was searched for its own images in its own way.
    """
    published = snapshot.settings
    images = read_images(snapshot.gallery, snapshot.table)
    same_transform = asked.transform == published.transform
    own = same_transform and asked.refinement == published.refinement
    state = published.index if same_transform else None
    method = Method(
        transform=state.transform if state else asked.transform,
        refinement=asked.refinement,
        fitted=snapshot.index.transform if same_transform else None,
    )
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
        notices += _keep_calibration(snapshot.gallery, evaluation.calibration, published)
    return replace(evaluation, notices=tuple(notices))


def read_images(gallery: Gallery, table: ImageTable) -> Images:
    """All usable rows of a gallery with their raw embeddings, float16."""
    table.check_finite()
    n = table.count(INDEXED)
    embeddings = np.empty((n, table.dim), np.float16)
    labels: list[str] = []
    contents: list[str] = []
    paths: list[Path] = []
    for batch in table.batches(["embedding", "label", "sha256", "path"]):
        start = len(labels)
        embeddings[start : start + batch.num_rows] = as_matrix(batch["embedding"])
        labels += [label or "" for label in batch["label"].to_pylist()]
        contents += batch["sha256"].to_pylist()
        paths += [gallery.full(path) for path in batch["path"].to_pylist()]
    return Images(embeddings, labels, contents, paths)


def encode_labelled(
    folders: Sequence[Path],
    label_of: Callable[[Path], str | None],
    encoder: Encoder,
    reading: Reading,
    most: int,
) -> tuple[Images, list[str]]:
    """Embed a fair sample of at most `most` images below folders; and what is to be said of it.

    An image that cannot be read is left out and named. Raises ImgretError when none is left.
    """
    found = list(find_images(folders))
    notices = []
    if len(found) > most:
        chosen = np.sort(np.random.default_rng(0).choice(len(found), most, replace=False))
        notices.append(f"A fair sample of {most:,} of {len(found):,} queries was evaluated.")
        found = [found[i] for i in chosen]
    embeddings, loaded, failures = _encoded(found, encoder, reading)
    if failures:
        named = "; ".join(failures[:FAILURES_NAMED])
        more = f" and {len(failures) - FAILURES_NAMED} more" * (len(failures) > FAILURES_NAMED)
        notices.append(f"{len(failures)} queries could not be read: {named}{more}.")
    if not loaded:
        names = ", ".join(map(str, folders))
        raise ImgretError(f"There is no image that can be read below {names}. Give another folder.")
    labels = [label_of(path) or "" for path, _ in loaded]
    images = Images(
        np.stack(embeddings), labels, [sha256 for _, sha256 in loaded], [path for path, _ in loaded]
    )
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


def _keep_calibration(
    gallery: Gallery, calibration: Calibration | None, used: Settings
) -> list[str]:
    """Publish what was learnt of the search that used describes, if it is still the gallery's."""
    if calibration is None:
        return [
            "There are too few queries, or no wrong or no right matches, to tell scores from "
            "probabilities."
        ]
    state = CalibrationState(
        method=used.method,
        scores=calibration.scores,
        probabilities=calibration.probabilities,
    )
    try:
        with gallery.lock():
            settings, _ = open_to_write(gallery)
            if settings.method == used.method:
                gallery.publish(settings.model_copy(update={"calibration": state}))
    except GalleryError as error:
        return [f"The calibration was not kept: {error}"]
    return []
