"""A gallery as points on a map."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from retrieval.arguments import one_of, whole
from retrieval.errors import DataError
from retrieval.gallery.filter import INDEXED, Filter
from retrieval.plain import Plain
from retrieval.progress import Progress
from retrieval.projection import fair_sample, project, seconds_to_project
from retrieval.retriever.snapshot import Snapshot
from retrieval.words import ProjectionMethod

SOON_DRAWN = 10_000  # images
MOST_SEED = (1 << 32) - 1

_log = logging.getLogger("imgret")


@dataclass(frozen=True)
class Point(Plain):
    """One image of a map, x and y in [0, 1]."""

    path: Path
    label: str
    x: float
    y: float


@dataclass(frozen=True)
class GalleryMap(Plain):
    """Images in two dimensions. total: images of the gallery, of which points may be a sample."""

    gallery: Path
    method: ProjectionMethod
    total: int
    points: tuple[Point, ...]


@dataclass(frozen=True)
class MapAsked:
    """What to draw, checked: at most `most` of the images that pass a filter."""

    method: ProjectionMethod
    most: int
    where: Filter | None
    seed: int

    @classmethod
    def of(
        cls, method: ProjectionMethod, most: int, where: str | Filter | None, seed: int
    ) -> MapAsked:
        """Check the arguments of Retriever.map(). Raises ArgumentError."""
        one_of("method", method, get_args(ProjectionMethod))
        where = Filter.of(where)
        most = whole("most_images", most)
        return cls(method, most, where, whole("seed", seed, least=0, most=MOST_SEED))


def map_gallery(
    snapshot: Snapshot, asked: MapAsked, progress: Progress | None = None
) -> GalleryMap:
    """Project what is asked for; only theirs are transformed and held in memory.

    There are no points where none passes the filter. Raises DataError when the gallery holds no
    image, or the method's library is not installed.
    """
    method, where, seed = asked.method, asked.where, asked.seed
    snapshot.gallery.check_followable(snapshot.table)
    stored = snapshot.table.block("id", "path", "label", where=INDEXED)
    ids = stored.ids
    rows = np.arange(len(ids))
    if not len(ids):
        raise DataError("The gallery holds no image to draw. Index some images.")
    if where is not None:
        rows = np.flatnonzero(np.isin(ids, snapshot.table.ids_passing(where)))
    if not len(rows):
        return GalleryMap(snapshot.gallery.path, method, 0, ())
    labels = [label or "" for label in stored.labels]
    chosen = rows[fair_sample([labels[i] for i in rows], asked.most, seed)]
    vectors = _vectors(snapshot, ids[chosen])
    if progress:
        progress("projecting", 0, None)
    _say_how_long(vectors, method)
    points = project(vectors, method, seed)
    paths = stored.path_texts
    return GalleryMap(
        gallery=snapshot.gallery.path,
        method=method,
        total=len(rows),
        points=tuple(
            Point(snapshot.gallery.full(paths[i]), labels[i], float(x), float(y))
            for i, (x, y) in zip(chosen.tolist(), points, strict=True)
        ),
    )


def _vectors(snapshot: Snapshot, ids: np.ndarray) -> np.ndarray:
    """The (n, d_out) float32 transformed embeddings of ids, in their order."""
    order = np.argsort(ids)
    vectors = np.zeros((len(ids), snapshot.index.d_out), np.float32)
    for found, embeddings in snapshot.table.embeddings(ids):
        rows = order[np.searchsorted(ids, found, sorter=order)]
        vectors[rows] = snapshot.index.transform(embeddings)
    return vectors


def _say_how_long(vectors: np.ndarray, method: ProjectionMethod) -> None:
    """Tell in the log how long a large map takes, before it is begun."""
    if len(vectors) > SOON_DRAWN:
        minutes = math.ceil(seconds_to_project(vectors, method) / 60)
        _log.warning("Drawing %s images takes about %d min.", f"{len(vectors):,}", minutes)
