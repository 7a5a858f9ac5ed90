"""The least score of a near-duplicate, estimated from a gallery without labels.

Around an image the number of others within a distance r grows as r^m, where m is the local
intrinsic dimension. That is what extreme-value theory says of the lower tail of any smooth
distribution of distances (Amsaleg et al. 2015, "Estimating Local Intrinsic Dimensionality"; Houle
2013). With r_k the distance of the k-th neighbour, an image is expected to have k (t / r_k)^m
others within t by chance, so the whole gallery has

    F(t) = sum over images of k (t / r_k)^m

and the threshold is the t where F(t) = 1: one image in the whole gallery, as in the a-contrario
tests of Desolneux, Moisan and Morel (2000). m and r_k must not be learnt from near-duplicates,
which are not there by chance. So m is the median over images of ln(k / j) / ln(r_k / r_j) with j =
k / 4: j - 1 duplicates of an image do not count. Of several k the most lenient threshold is taken,
since duplicates can only make it stricter.

One threshold for all cannot be right where some images lie close together by nature, as screenshots
do: it would hide the near-duplicates of all others. So each picture has one of its own as well,
from its own r_k and the m of its neighbourhood: the t where k (t / r_k)^m is one in all images. A
pair counts that is below the thresholds of both (local_scores()), or below that of the gallery.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from retrieval.plain import Plain

WINDOWS = (8, 16, 64, 128)  # k
LOCAL = 16  # k of a picture's own threshold
INNER = 4  # k / j
PICTURES_A_BLOCK = 1 << 16
BY_CHANCE = 1.0  # images expected above the threshold though they are no duplicates
FEWEST_SCORES = 2 * WINDOWS[0] + 1  # pictures that an estimate needs
ASSUMED = 0.95
LEAST_THRESHOLD, MOST_THRESHOLD = 0.8, 0.9999  # less: another picture; more: float16's rounding


@dataclass(frozen=True)
class Threshold(Plain):
    """The least cosine similarity of images called similar, and where it is from, in words."""

    score: float
    how: str


def estimate_threshold(scores: np.ndarray, pictures: int, images: int) -> Threshold:
    """Estimate the score that about one of `images` images reaches by chance.

    scores: (q, k) float32, of a sample of the pictures the cosine similarities to their k nearest
    others, best first; k = neighbours_needed(pictures). pictures: how many there are to be near
    to. images: how many are held against them.

    >>> estimate_threshold(np.empty((2, 0)), 2, 2).score
    0.95
    """
    if pictures < FEWEST_SCORES:
        how = f"assumed: too few different pictures ({pictures:,}) to estimate it from"
        return Threshold(ASSUMED, how)
    found = score_by_chance(scores, images)
    score = round(min(max(found, LEAST_THRESHOLD), MOST_THRESHOLD), 4)
    how = (
        f"estimated from the nearest neighbours of {len(scores):,} of {pictures:,} different "
        f"pictures: about one of {images:,} images reaches it by chance"
    )
    if score != round(found, 4):
        how += f", kept between {LEAST_THRESHOLD} and {MOST_THRESHOLD}"
    return Threshold(score, how)


def score_by_chance(scores: np.ndarray, images: int) -> float:
    """Return the score where F(t) = 1, without limits, from scores of enough pictures."""
    distances = np.sqrt(np.clip(2.0 - 2.0 * scores.astype(np.float64), 1e-6, None))
    wide = [k for k in WINDOWS if k <= scores.shape[1]]
    return 1 - max(_chance_distance(distances, k, images) for k in wide) ** 2 / 2


def local_scores(scores: np.ndarray, near: np.ndarray, images: int) -> np.ndarray:
    """For each picture the score that one of `images` images reaches by chance with it.

    scores: (n, k) float32, of all n pictures the cosine similarities to their k nearest others,
    best first. near: (n, k) integers, rows of these others. Returns (n,) float32, kept between
    LEAST_THRESHOLD and MOST_THRESHOLD.
    """
    n, k = scores.shape
    farthest, spread, around = (np.empty(n) for _ in range(3))
    ranks = np.arange(k // INNER, k)  # from 1; the nearer ones may be duplicates
    for part in _blocks(n):
        logs = 0.5 * np.log(np.clip(2.0 - 2.0 * scores[part].astype(np.float64), 1e-6, None))
        farthest[part] = logs[:, -1]
        spread[part] = (logs[:, -1:] - logs[:, ranks - 1]).sum(axis=1)
    for part in _blocks(n):
        around[part] = spread[near[part]].sum(axis=1)
    # of k distances, rising: E ln(r_k / r_j) = (1/j + ... + 1/(k - 1)) / m (Renyi 1953)
    expected = sum(sum(1 / i for i in range(int(j), k)) for j in ranks)
    dimension = expected / np.maximum((spread + around) / (k + 1), 1e-3)
    distance = np.exp(farthest + math.log(BY_CHANCE / (k * images)) / dimension)
    return np.clip(1 - distance**2 / 2, LEAST_THRESHOLD, MOST_THRESHOLD).astype(np.float32)


def neighbours_needed(pictures: int) -> int:
    """Return how many neighbours of each picture an estimate takes: at most half.

    >>> neighbours_needed(10), neighbours_needed(40), neighbours_needed(1_000_000)
    (0, 16, 128)
    """
    return max((k for k in WINDOWS if 2 * k < pictures), default=0)


def _blocks(n: int) -> list[slice]:
    """Return parts of n pictures, so small that their distances take little memory."""
    return [slice(start, start + PICTURES_A_BLOCK) for start in range(0, n, PICTURES_A_BLOCK)]


def _chance_distance(distances: np.ndarray, k: int, images: int) -> float:
    """The t where F(t) is BY_CHANCE, in logarithms: r^m of a large m is no float."""
    outer, inner = np.log(distances[:, k - 1]), np.log(distances[:, k // INNER - 1])
    dimension = math.log(INNER) / max(float(np.median(outer - inner)), 1e-3)
    middle = float(np.median(outer))
    crowding = float(np.logaddexp.reduce(-dimension * (outer - middle))) - math.log(len(outer))
    return math.exp(middle + (math.log(BY_CHANCE / (k * images)) - crowding) / dimension)
