"""Which index names the candidates: the gallery's own, or one of raw embeddings.

The gallery's transform may keep few numbers, or only what tells labels apart. Then the nearest by
it are any images of a class, and near-copies are missed. So near-copies are made of some embeddings
and sought. Where too few are found, an index is built for this run, of raw embeddings on their
principal components.
"""

from __future__ import annotations

import numpy as np

from retrieval.draw import evenly_drawn
from retrieval.index import GrowingIndex
from retrieval.progress import Progress
from retrieval.retriever.duplicates.embeddings import unit_rows
from retrieval.retriever.duplicates.neighbours import index_of
from retrieval.retriever.duplicates.threshold import (
    LOCAL,
    estimate_threshold,
    local_scores,
    neighbours_needed,
)
from retrieval.retriever.duplicates.verified import VerifiedCandidates
from retrieval.transform import fit

SAMPLED = 256  # images of which near-copies are made
WANTED = 0.98  # of them; 0.99 may look like this by chance
RAW_COMPONENTS, FITTED_ON = 256, 20_000


def best_candidates(
    candidates: VerifiedCandidates, k: int, least: float | None, progress: Progress | None
) -> tuple[VerifiedCandidates, float]:
    """Choose the index that finds near-copies, and tell which share of them it finds.

    k: how many candidates an image has. least: the score of a near-copy; None estimates it.
    """
    share = copies_found(candidates, k, least)
    if share >= WANTED:
        return candidates, share
    raw = _of_raw(candidates, progress)
    raw_share = copies_found(raw, k, least)
    return (raw, raw_share) if raw_share > share else (candidates, share)


def copies_found(candidates: VerifiedCandidates, k: int, least: float | None) -> float:
    """Return which share of near-copies of some images has its image among k candidates.

    A copy differs from its image in the direction in which two other images differ, by just the
    least score. It also counts where most candidates are as near, since more are then sought.
    """
    n = len(candidates.places)
    if n < 3:
        return 1.0
    places = candidates.places[evenly_drawn(n, SAMPLED, seed=3)]
    embeddings = candidates.embeddings[places]
    scores = _scores_of_copies(candidates, places, least)
    x = unit_rows(embeddings)
    order = np.random.default_rng(3).permutation(len(x))
    other = x[order] - x[np.roll(order, 1)]
    other = unit_rows(other - (other * x).sum(axis=1, keepdims=True) * x)
    lengths = np.linalg.norm(embeddings.astype(np.float32), axis=1, keepdims=True)
    copies = scores[:, None] * x + np.sqrt(1 - scores[:, None] ** 2) * other
    found, near = candidates.near(lengths * copies, k)
    crowded = (found >= scores[:, None]).sum(axis=1) > k // 2
    return float(((near == places[:, None]).any(axis=1) | crowded).mean())


def _scores_of_copies(
    candidates: VerifiedCandidates, places: np.ndarray, least: float | None
) -> np.ndarray:
    """The least score of a near-copy of each image, as given or as it would be estimated."""
    if least is not None:
        return np.full(len(places), least, np.float32)
    n = len(candidates.places)
    k = neighbours_needed(n)
    scores, _ = candidates.of(places, 2 * (k + 1))
    scores = np.maximum(scores[:, :k], 0)
    used = np.full(len(places), estimate_threshold(scores, n, n).score, np.float32)
    if k < LOCAL or len(places) < LOCAL:
        return used
    any_others = (np.arange(len(places))[:, None] + np.arange(LOCAL)) % len(places)
    return np.minimum(used, local_scores(scores[:, :LOCAL], any_others, n))


def _of_raw(candidates: VerifiedCandidates, progress: Progress | None) -> VerifiedCandidates:
    """Index the raw embeddings of what is searched, in memory; their places are the ids."""
    embeddings, places = candidates.embeddings, candidates.places
    sample = embeddings[places[evenly_drawn(len(places), FITTED_ON)]]
    index = index_of(embeddings, places, fit(f"pca:{RAW_COMPONENTS}", sample), progress)
    ids = np.arange(len(candidates.ids))
    return VerifiedCandidates(GrowingIndex(index), embeddings, ids, places)
