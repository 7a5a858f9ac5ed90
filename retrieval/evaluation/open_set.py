"""Labelled images -> trials of which some have no answer: whole classes are left out in turn.

Of each of FOLDS folds the gallery is what is left when a tenth of the classes and a tenth of the
images of the others are taken out. What was taken out are the queries: those of the other classes
have an answer, those of the classes that were left out have none. The same gallery answers both, so
that they differ in nothing else. Of fewer classes than folds one is left out at a time, in turn.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from retrieval import transform as transforms
from retrieval.errors import ImgretError
from retrieval.evaluation.calibration import Trials, joined_trials
from retrieval.evaluation.evidence import CONSIDERED, NEAR, evidence, mean_of_best
from retrieval.evaluation.protocols import (
    Apply,
    Images,
    SearchMethod,
    applied,
    coded,
    folds,
    label_names,
)
from retrieval.evaluation.rankings import (
    Labelled,
    augmented,
    nearest_rows,
)
from retrieval.progress import Progress

CLASS_FOLDS = 10
FEWEST_CLASSES = 3  # of two, one left out leaves nothing to mistake the other for
MOST_TRIALS = 2000  # with an answer, and as many without
FIT_ROWS_A_FOLD = 20_000  # that a transform is fitted to in each fold
MATCHES = 10  # of each query, from which it is learnt when a match is right


def trials_by_class(
    images: Images, method: SearchMethod, *, progress: Progress | None = None, seed: int = 0
) -> Trials | None:
    """Make trials of labelled images, searched by a method; None if there are too few classes.

    The transform and the augmentation are made anew in each fold, without the classes and the
    images that are left out. Images without a label, which may show anything, take no part.
    """
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
        inside = np.flatnonzero(labelled & ~out & (image_fold != n))
        taken = [np.flatnonzero(labelled & ~out & (image_fold == n))]
        if n < parts_of_classes:  # each class is left out again and again, but asked for once
            taken.append(np.flatnonzero(labelled & out))
        asked = np.concatenate(
            [_sample(rows, MOST_TRIALS // CLASS_FOLDS, random) for rows in taken]
        )
        if not len(inside) or not len(asked):
            continue
        try:
            apply = _fitted(images, method, inside)
        except ImgretError:  # too little is left to fit it to
            continue
        there = replace(gallery.rows(inside), vectors=applied(apply, images.embeddings[inside]))
        if method.refinement.augment:
            there = augmented(there, method.refinement.augment)
        queries = replace(gallery.rows(asked), vectors=applied(apply, images.embeddings[asked]))
        parts.append(_tried(queries, there, method, n % parts_of_classes))
    return joined_trials(parts) if parts else None


def density(vectors: np.ndarray, gallery: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(n,) mean score of (n, d) vectors to the ten nearest of a gallery, without their own rows."""
    found = np.empty(len(vectors))
    step = max(1, (1 << 23) // max(1, len(gallery)))
    for start in range(0, len(vectors), step):
        scores = vectors[start : start + step] @ gallery.T
        scores[np.arange(len(scores)), own[start : start + step]] = -np.inf
        k = min(NEAR, scores.shape[1])
        best = -np.partition(-scores, k - 1, axis=1)[:, :k]
        found[start : start + step] = mean_of_best(best, NEAR)
    return found


def _tried(queries: Labelled, gallery: Labelled, method: SearchMethod, fold: int) -> Trials:
    scores, rows = nearest_rows(queries, gallery, CONSIDERED, method.refinement)
    labels = np.where(rows >= 0, gallery.labels[rows], -1)
    right = (labels == queries.labels[:, None])[:, :MATCHES]
    first, place = np.unique(np.maximum(rows[:, 0], 0), return_inverse=True)
    return Trials(
        evidence((scores[:, :MATCHES], labels[:, :MATCHES]), (scores, labels)),
        density(gallery.vectors[first], gallery.vectors, first)[place],
        right,
        np.isin(queries.labels, gallery.labels),
        np.full(len(queries), fold),
    )


def _fitted(images: Images, method: SearchMethod, rows: np.ndarray) -> Apply:
    labels = [images.labels[i] or None for i in rows] if method.sees_labels else None
    embeddings = images.embeddings[rows].astype(np.float32)
    return transforms.fit(method.transform, embeddings, labels, max_rows=FIT_ROWS_A_FOLD).apply


def _sample(rows: np.ndarray, most: int, random: np.random.Generator) -> np.ndarray:
    return rows if len(rows) <= most else np.sort(random.choice(rows, most, replace=False))
