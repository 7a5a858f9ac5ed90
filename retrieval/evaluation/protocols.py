"""Labelled embeddings -> an Evaluation, by one of three protocols.

queries         other images are searched for in the gallery
leave-one-out   each image of the gallery is searched for among the others
zero-shot       leave-one-out over the second half of the classes, in sorted order, the transform
                fitted on the first half: the protocol of Cars196 (Oh Song et al. 2016, "Deep metric
                learning via lifted structured feature embedding")

A transform that is fitted to labels (lda, wccn, auto), and an augmented gallery, have seen the
images that are left out one by one. Leave-one-out is then by fifths: the queries of one fifth
search the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from retrieval import transform as transforms
from retrieval.draw import evenly_drawn
from retrieval.errors import ArgumentError, DataError
from retrieval.evaluation.rankings import NOBODY, Ranked, joined_rankings, rank
from retrieval.evaluation.refined import augmented, memory_to_augment
from retrieval.evaluation.results import Evaluation
from retrieval.evaluation.summary import summarise
from retrieval.evaluation.vectors import (
    Apply,
    Bounds,
    Embeddings,
    Labelled,
    applied,
    vectors_of,
)
from retrieval.progress import Progress
from retrieval.refinement import Refinement
from retrieval.text import counted
from retrieval.words import (
    BY_FOLDER,
    DEFAULT_TRANSFORM,
    MEASURED_K,
    MOST_QUERIES,
    VOTERS,
    IntervalOver,
)

FOLDS = 5
MATCHES_SHOWN = 10  # neighbours of each query that are kept at least


@dataclass(frozen=True)
class Images:
    """n embedded images. embeddings: (n, d) float16 or float32, raw. labels: "" for none.

    contents: (n,) int64, content_codes() of the files.
    """

    embeddings: Embeddings
    labels: Sequence[str] | np.ndarray
    contents: np.ndarray
    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.embeddings)


@dataclass(frozen=True)
class SearchMethod:
    """How matches are found: a transform's spec and what follows the search.

    fitted: applied in place of fitting the spec, where it is fitted already.
    """

    transform: str = DEFAULT_TRANSFORM
    refinement: Refinement = field(default_factory=Refinement)
    fitted: Apply | None = None

    @property
    def sees_labels(self) -> bool:
        """Whether labels take part in fitting the transform."""
        return transforms.sees_labels(self.transform)


@dataclass(frozen=True)
class Measured:
    """The figures to measure.

    k: numbers of neighbours, ascending. vote: number of neighbours that vote. most_queries: of
    more, a random sample is evaluated. interval_over: what intervals are for, other "queries" or
    other "classes"; those of zero-shot are always for classes.
    """

    k: tuple[int, ...] = MEASURED_K
    vote: int = VOTERS
    most_queries: int = MOST_QUERIES
    interval_over: IntervalOver = "queries"

    @property
    def shown_k(self) -> int:
        """The k of figures that have only one: 5, or else the middle one."""
        return 5 if 5 in self.k else self.k[len(self.k) // 2]

    @property
    def depth(self) -> int:
        """Number of neighbours kept of each query: metrics at other k need none of them."""
        return max(self.shown_k, self.vote, MATCHES_SHOWN)


def check_contradictions(
    *, queries: bool, zero_shot: bool, labels: str, labels_name: str = "labels"
) -> None:
    """Raise ArgumentError for arguments of a measurement of which one would be ignored.

    queries: whether there are any. labels: where theirs come from, by default their folders.
    """
    if queries and zero_shot:
        raise ArgumentError("zero_shot evaluates the gallery itself. Leave out queries.")
    if not queries and labels != BY_FOLDER:
        raise ArgumentError(
            f"{labels_name} labels the images of queries. Give queries, or leave it out."
        )


def evaluate(
    gallery: Images,
    queries: Images | None = None,
    *,
    method: SearchMethod | None = None,
    measured: Measured | None = None,
    zero_shot: bool = False,
    progress: Progress | None = None,
    bounds: Bounds | None = None,
) -> Evaluation:
    """Evaluate matches of labelled images: queries against the gallery, or the gallery itself.

    bounds: of the memory that vectors and scores take. Raises DataError when there is nothing to
    measure.
    """
    method, measured = method or SearchMethod(), measured or Measured()
    ranked, protocol, rows, notices = rank_images(
        gallery,
        queries,
        method=method,
        measured=measured,
        zero_shot=zero_shot,
        progress=progress,
        bounds=bounds,
    )
    asking = queries or gallery
    return summarise(
        ranked,
        protocol=protocol,
        gallery=len(gallery),
        k=measured.shown_k,
        vote=measured.vote,
        names=label_names(gallery, queries),
        query_paths=[asking.paths[i] for i in rows],
        gallery_paths=gallery.paths,
        interval_over="classes" if zero_shot else measured.interval_over,
        notices=notices,
    )


def rank_images(
    gallery: Images,
    queries: Images | None,
    *,
    method: SearchMethod,
    measured: Measured,
    zero_shot: bool = False,
    progress: Progress | None = None,
    bounds: Bounds | None = None,
) -> tuple[Ranked, str, np.ndarray, list[str]]:
    """Rank images; return rankings, protocol, rows of queries, and what limits the figures."""
    names = label_names(gallery, queries)
    searched, asking = coded(gallery, names), coded(queries or gallery, names)
    rows, notices = _chosen(asking.labels, measured.most_queries)
    run = _Run(gallery, searched, method, measured, progress, bounds or Bounds())
    if queries is not None:
        _check_shared(searched, asking)
        ranked = run.queries(queries, asking, rows)
        return ranked, "queries", rows, notices + run.notices
    if zero_shot:
        ranked, rows = run.zero_shot(rows)
        return ranked, "zero-shot", rows, notices + run.notices
    if len(np.unique(searched.labels[searched.labels >= 0])) == 1:
        notices.append("All labels are the same, so every match is right and no figure says more.")
    if method.sees_labels or method.refinement.augment:
        ranked, rows = run.by_fifths(rows)
        notices.append(
            "The transform or the augmentation has seen every image. So each fifth of the images "
            "was searched for among the other four, with both fitted anew."
        )
        return ranked, "leave-one-out", rows, notices + run.notices
    ranked = run.leave_one_out(rows)
    return ranked, "leave-one-out", rows, notices + run.notices


def label_names(gallery: Images, queries: Images | None = None) -> list[str]:
    """List all labels, sorted; a label's place is its code."""
    labels = {*gallery.labels, *(queries.labels if queries else ())} - {""}
    return sorted(map(str, labels))


def content_codes(sha256: Iterable[str]) -> np.ndarray:
    """Return (n,) int64 numbers of SHA-256 in hex: their first 60 bits, 0 where there is none."""
    return np.fromiter((int(each[:15] or "0", 16) for each in sha256), np.int64)


class _Run:
    def __init__(
        self,
        images: Images,
        gallery: Labelled,
        method: SearchMethod,
        measured: Measured,
        progress: Progress | None,
        bounds: Bounds,
    ) -> None:
        self.images = images
        self.gallery = gallery
        self.method = method
        self.measured = measured
        self.progress = progress
        self.bounds = bounds
        self.notices: list[str] = []
        self._told: set[str] = set()

    def queries(self, images: Images, queries: Labelled, rows: np.ndarray) -> Ranked:
        whole = np.arange(len(self.images))
        apply = self._fit(whole)
        vectors = applied(apply, images.embeddings, rows)
        return self._rank(replace(queries.rows(rows), vectors=vectors), self._gallery(whole, apply))

    def leave_one_out(self, rows: np.ndarray) -> Ranked:
        whole = np.arange(len(self.images))
        gallery = self._gallery(whole, self._fit(whole))
        return self._rank(gallery.rows(rows), gallery, own=True)

    def by_fifths(self, rows: np.ndarray) -> tuple[Ranked, np.ndarray]:
        """Search for each fifth of the images among the others."""
        fold = folds(self.gallery)
        parts, order = [], []
        for n in range(FOLDS):
            inside, mine = np.flatnonzero(fold != n), rows[fold[rows] == n]
            if not len(mine) or not len(inside):
                continue
            apply = self._fit(inside)
            vectors = applied(apply, self.images.embeddings, mine)
            queries = replace(self.gallery.rows(mine), vectors=vectors)
            part = self._rank(queries, self._gallery(inside, apply))
            parts.append(_renumbered(part, inside))
            order.append(mine)
        if not parts:
            raise DataError(
                "The gallery holds too few different images to evaluate. Index more images."
            )
        back = np.argsort(np.concatenate(order))
        return joined_rankings(parts).rows(back), np.concatenate(order)[back]

    def zero_shot(self, rows: np.ndarray) -> tuple[Ranked, np.ndarray]:
        """Search for the images of the later classes among themselves."""
        classes = np.unique(self.gallery.labels[self.gallery.labels >= 0])
        if len(classes) < 3:
            raise DataError(
                "--zero-shot needs images of at least three classes: some to fit to, and two to "
                "tell apart. Add some, or leave it out."
            )
        first = classes[len(classes) // 2]
        seen = np.flatnonzero((self.gallery.labels >= 0) & (self.gallery.labels < first))
        inside = np.flatnonzero(self.gallery.labels >= first)
        gallery = self._gallery(inside, self._fit(seen, anew=True))
        mine = rows[self.gallery.labels[rows] >= first]
        part = self._rank(gallery.rows(np.searchsorted(inside, mine)), gallery, own=True)
        return _renumbered(part, inside), mine

    def _fit(self, rows: np.ndarray, *, anew: bool = False) -> Apply:
        whole = len(rows) == len(self.images)
        if self.method.fitted and whole and not anew:
            return self.method.fitted
        if self.progress:
            self.progress("fitting", 0, None)
        return fitted(self.images, self.method, rows).apply

    def _gallery(self, rows: np.ndarray, apply: Apply) -> Labelled:
        vectors = vectors_of(self.images.embeddings, rows, apply, self.bounds)
        return replace(self.gallery.rows(rows), vectors=vectors)

    def _rank(self, queries: Labelled, gallery: Labelled, *, own: bool = False) -> Ranked:
        """Rank a gallery, own: of which the queries are a part."""
        self._tell_k(len(gallery) - own)
        if self.method.refinement.augment:
            self._tell_memory(gallery)
            gallery = augmented(gallery, self.method.refinement.augment, self.bounds)
        return rank(
            queries,
            gallery,
            ks=self.measured.k,
            depth=self.measured.depth,
            refinement=self.method.refinement,
            progress=self.progress,
            bounds=self.bounds,
        )

    def _tell_k(self, searched: int) -> None:
        """Say that some figures are of more neighbours than there are."""
        most = max(self.measured.k)
        if most > searched and "k" not in self._told:
            self._told.add("k")
            self.notices.append(
                f"{counted(searched, 'image')} can be found for a query, so figures of {most:,} "
                "neighbours count places with none."
            )

    def _tell_memory(self, gallery: Labelled) -> None:
        """Say what an augmentation will take where the vectors were not held."""
        if "memory" in self._told or isinstance(gallery.vectors, np.ndarray):
            return
        self._told.add("memory")
        need = memory_to_augment(gallery) / 1e9
        self.notices.append(f"The augmentation holds all vectors: {need:.1f} GB of memory.")
        if self.progress:
            self.progress(self.notices[-1], 0, None)


def fitted(
    images: Images, method: SearchMethod, rows: np.ndarray, *, max_rows: int = transforms.FIT_ROWS
) -> transforms.Transform:
    """Fit a method's transform to rows of images, of which at most max_rows are read."""
    spec = transforms.resolve_spec(method.transform, len(rows), images.embeddings.shape[1])
    labels = None
    if method.sees_labels:
        labels = np.array([images.labels[i] for i in rows.tolist()], object)
    chosen = transforms.rows_to_fit(spec, len(rows), labels, max_rows=max_rows)
    some = None if labels is None else [label or None for label in labels[chosen].tolist()]
    return transforms.fit(spec, images.embeddings[rows[chosen]], some, max_rows=max_rows)


def coded(images: Images, names: Sequence[str]) -> Labelled:
    """Code labels as places in names and contents as numbers; vectors are put in later."""
    code = {name: n for n, name in enumerate(names)}
    labels = np.array([code.get(label, NOBODY) for label in images.labels], np.int64)
    return Labelled(np.empty((len(images), 0), np.float32), labels, np.asarray(images.contents))


def _chosen(labels: np.ndarray, most: int) -> tuple[np.ndarray, list[str]]:
    """The rows that are queries: all that have a label, or a random sample of them."""
    rows = np.flatnonzero(labels >= 0)
    if not len(rows):
        raise DataError(
            "None of the images to evaluate has a label. Put each in a folder named after its "
            "class, or index with --labels FILE.csv; `imgret calibrate` needs no labels."
        )
    if len(rows) <= most:
        return rows, []
    chosen = rows[evenly_drawn(len(rows), most)]
    return chosen, [sample_notice(most, len(rows))]


def sample_notice(most: int, queries: int) -> str:
    """Say that only some of the queries were searched for."""
    return f"A random sample of {most:,} of {queries:,} queries was evaluated."


def _check_shared(gallery: Labelled, queries: Labelled) -> None:
    if not np.isin(queries.labels[queries.labels >= 0], gallery.labels).any():
        raise DataError(
            "The queries and the gallery have no label in common, so no match can be right. Name "
            "the folders of both after the same classes, or give --labels FILE.csv."
        )


def folds(images: Labelled, n: int = FOLDS) -> np.ndarray:
    """The (n,) fold of each image, even within each label; copies of one content are in one."""
    contents, first, inverse = np.unique(images.contents, return_index=True, return_inverse=True)
    shuffled = np.random.default_rng(0).permutation(len(contents))
    by_label = shuffled[np.argsort(images.labels[first][shuffled], kind="stable")]
    fold = np.empty(len(contents), np.int64)
    fold[by_label] = np.arange(len(contents)) % n
    return np.asarray(fold[inverse])


def _renumbered(ranked: Ranked, rows: np.ndarray) -> Ranked:
    """Number neighbours by their rows in the whole gallery."""
    known = ranked.neighbours
    return replace(ranked, neighbours=np.where(known >= 0, rows[known], NOBODY))
