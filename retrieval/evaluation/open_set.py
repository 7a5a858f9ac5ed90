"""Labelled images -> trials of which some have no answer: whole classes are left out in turn.

Of each of FOLDS folds the gallery is what is left when a tenth of the classes and a tenth of the
images of the others are taken out. What was taken out are the queries: those of the other classes
have an answer, those of the classes that were left out have none. The same gallery answers both, so
that they differ in nothing else. Of fewer classes than folds one is left out at a time, in turn.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from retrieval.draw import evenly_drawn
from retrieval.errors import ImgretError
from retrieval.evaluation.calibration import Trials, joined_trials
from retrieval.evaluation.evidence import NEAR, evidence, mean_of_best
from retrieval.evaluation.protocols import (
    Images,
    SearchMethod,
    coded,
    fitted,
    folds,
    label_names,
)
from retrieval.evaluation.rankings import nearest_rows
from retrieval.evaluation.refined import augmented
from retrieval.evaluation.tiles import queries_at_once
from retrieval.evaluation.vectors import (
    Bounds,
    Labelled,
    Vectors,
    applied,
    vector_blocks,
    vectors_of,
)
from retrieval.progress import Progress
from retrieval.words import CONSIDERED, NO_LABEL

CLASS_FOLDS = 10
FEWEST_CLASSES = 3  # of two, one left out leaves nothing to mistake the other for
MOST_TRIALS = 2000  # with an answer, and as many without
FIT_ROWS_A_FOLD = 20_000  # that a transform is fitted to in each fold
MATCHES = 10  # of each query, from which it is learnt when a match is right


def trials_by_class(
    images: Images,
    method: SearchMethod,
    *,
    progress: Progress | None = None,
    seed: int = 0,
    bounds: Bounds | None = None,
) -> Trials | None:
    """Make trials of labelled images, searched by a method; None if there are too few classes.

    The transform and the augmentation are made anew in each fold, without the classes and the
    images that are left out. Images without a label stay in it, as neighbours of no class.
    bounds: of the memory that vectors and scores take.
    """
    bounds = bounds or Bounds()
    gallery = coded(images, label_names(images))
    classes = np.unique(gallery.labels[gallery.labels >= 0])
    if len(classes) < FEWEST_CLASSES:
        return None
    random = np.random.default_rng(seed)
    parts_of_classes = min(CLASS_FOLDS, len(classes))
    class_fold = random.permutation(len(classes)) % parts_of_classes
    image_fold, fold_of_label = folds(gallery, CLASS_FOLDS), np.full(classes.max() + 2, -1)
    fold_of_label[classes] = class_fold  # the last is that of no label
    left_out, labelled = fold_of_label[gallery.labels], gallery.labels >= 0
    parts = []
    for n in range(CLASS_FOLDS):
        if progress:
            progress("calibrating", n, CLASS_FOLDS)
        out = left_out == n % parts_of_classes
        inside = np.flatnonzero(~out & (image_fold != n))
        taken = [np.flatnonzero(labelled & ~out & (image_fold == n))]
        if n < parts_of_classes:  # each class is left out again and again, but asked for once
            taken.append(np.flatnonzero(labelled & out))
        most = MOST_TRIALS // CLASS_FOLDS
        asked = np.concatenate([rows[evenly_drawn(len(rows), most, seed=random)] for rows in taken])
        if not len(inside) or not len(asked):
            continue
        try:
            apply = fitted(images, method, inside, max_rows=FIT_ROWS_A_FOLD).apply
        except ImgretError:  # too little is left to fit it to
            continue
        vectors = vectors_of(images.embeddings, inside, apply, bounds)
        there = replace(gallery.rows(inside), vectors=vectors)
        if method.refinement.augment:
            there = augmented(there, method.refinement.augment, bounds)
        queries = replace(gallery.rows(asked), vectors=applied(apply, images.embeddings, asked))
        parts.append(_tried(queries, there, method, n % parts_of_classes, bounds))
    return joined_trials(parts) if parts else None


def density(
    vectors: np.ndarray, gallery: Vectors, own: np.ndarray, bounds: Bounds | None = None
) -> np.ndarray:
    """The (n,) mean scores of vectors to the ten nearest of a gallery, without their own rows."""
    bounds = bounds or Bounds()
    best = np.full((len(vectors), NEAR), -np.inf, np.float32)
    for first, block in vector_blocks(gallery, bounds.rows):
        step = queries_at_once(len(block), bounds)
        for start in range(0, len(vectors), step):
            part = slice(start, start + step)
            scores = vectors[part] @ block.T
            mine = own[part] - first
            inside = np.flatnonzero((mine >= 0) & (mine < len(block)))
            scores[inside, mine[inside]] = -np.inf
            both = np.concatenate([best[part], scores], axis=1)
            best[part] = -np.partition(-both, NEAR - 1, axis=1)[:, :NEAR]
    return mean_of_best(best, NEAR)


def _tried(
    queries: Labelled, gallery: Labelled, method: SearchMethod, fold: int, bounds: Bounds
) -> Trials:
    scores, rows = nearest_rows(queries, gallery, CONSIDERED, method.refinement, bounds)
    labels = np.where(rows >= 0, gallery.labels[rows], NO_LABEL)
    matches = np.argsort(labels == NO_LABEL, axis=1, kind="stable")[:, :MATCHES]
    best, theirs, of = (np.take_along_axis(a, matches, 1) for a in (scores, labels, rows))
    right = theirs == queries.labels[:, None]
    first, place = np.unique(np.maximum(of[:, 0], 0), return_inverse=True)
    return Trials(
        evidence((best, theirs), (scores, labels)),
        density(gallery.vectors[first], gallery.vectors, first, bounds)[place],
        right,
        np.isin(queries.labels, gallery.labels),
        np.full(len(queries), fold),
    )
