"""What may follow the first search: query expansion, augmentation of the gallery, re-ranking.

expand    N[:ALPHA]       a query becomes the weighted mean of itself and its N nearest (Chum et al.
                          2007, "Total recall"; weights score**ALPHA: Radenović et al. 2019)
augment   N[:ALPHA]       so does each image of the gallery, once (Turcot and Lowe 2009, "Better
                          matching with fewer features"; Arandjelović and Zisserman 2012)
rerank    M[:K1:K2:W]     the M nearest in the order of their k-reciprocal neighbours (Zhong et al.
                          2017, "Re-ranking person re-identification with k-reciprocal encoding")

All take unit vectors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from retrieval.errors import ArgumentError

NUMBER = r"\d{1,3}(?:\.\d{1,4})?"
MEAN = re.compile(rf"([1-9]\d{{0,2}})(?::({NUMBER}))?")
RERANK = re.compile(rf"([1-9]\d{{0,2}})(?::([1-9]\d{{0,2}}):([1-9]\d{{0,2}}):({NUMBER}))?")
ALPHA, K1, K2, WEIGHT = 1.0, 20, 6, 0.3


@dataclass(frozen=True)
class Neighbourhood:
    """A weighted mean with the n nearest: weights are score**alpha, that of the vector itself 1."""

    n: int
    alpha: float = ALPHA


@dataclass(frozen=True)
class Reranking:
    """The m nearest by k-reciprocal neighbours. k1, k2, weight: as in the paper, weight its lambda,
    the share of the original distance.
    """

    m: int
    k1: int = K1
    k2: int = K2
    weight: float = WEIGHT


@dataclass(frozen=True)
class Refinement:
    """What follows the first search; None is nothing."""

    expand: Neighbourhood | None = None
    augment: Neighbourhood | None = None
    rerank: Reranking | None = None

    @classmethod
    def of(
        cls, expand: str | None = None, augment: str | None = None, rerank: str | None = None
    ) -> Refinement:
        """Read specs; None and "none" are nothing. Raises ArgumentError.

        >>> Refinement.of(expand="3", rerank="50")
        Refinement(expand=Neighbourhood(n=3, alpha=1.0), augment=None, rerank=Reranking(m=50, ...
        """
        return cls(
            expand=_neighbourhood("expand", expand),
            augment=_neighbourhood("augment", augment),
            rerank=_reranking(rerank),
        )


def _neighbourhood(name: str, spec: str | None) -> Neighbourhood | None:
    if spec in (None, "none"):
        return None
    found = MEAN.fullmatch(str(spec))
    if not found:
        raise ArgumentError(
            f"{name} is {spec!r}. Give none, N or N:ALPHA, such as 3:1.0, with N from 1 to 999 "
            "and ALPHA below 1000, with up to 4 decimals."
        )
    return Neighbourhood(int(found[1]), float(found[2] or ALPHA))


def _reranking(spec: str | None) -> Reranking | None:
    if spec in (None, "none"):
        return None
    found = RERANK.fullmatch(str(spec))
    if not found or (found[4] and float(found[4]) > 1):
        raise ArgumentError(
            f"rerank is {spec!r}. Give none, M or M:K1:K2:W, such as 100:20:6:0.3, with "
            "whole numbers from 1 to 999, and W between 0 and 1."
        )
    if found[2] is None:
        return Reranking(int(found[1]))
    return Reranking(int(found[1]), int(found[2]), int(found[3]), float(found[4]))


def weighted_mean(
    vectors: np.ndarray, neighbours: np.ndarray, scores: np.ndarray, alpha: float
) -> np.ndarray:
    """Return each vector's weighted mean with its neighbours, of unit length.

    vectors: (n, d). neighbours: (n, m, d). scores: (n, m) their cosine similarities, -inf for
    none; those below 0 weigh nothing. Returns (n, d) float32.
    """
    weights = np.where(scores > 0, np.maximum(scores, 0) ** alpha, 0).astype(np.float32)
    mean = vectors + np.einsum("nm,nmd->nd", weights, neighbours)
    lengths = np.linalg.norm(mean, axis=1, keepdims=True)
    return np.asarray(mean / np.where(lengths == 0, 1, lengths), np.float32)


def k_reciprocal_distances(
    similarities: np.ndarray, reranking: Reranking, there: np.ndarray | None = None
) -> np.ndarray:
    """Return distances of a query to its candidates by the neighbours that they share.

    similarities: (b, 1 + m, 1 + m) cosine similarities among a query, which comes first, and its m
    candidates. there: (b, m) bool, false where a candidate only fills a place: it is nobody's
    neighbour. Returns (b, m) float32: (1 - weight) Jaccard + weight (1 - score), infinite for what
    is not there. Neighbours are looked for among the candidates alone, not in the whole gallery as
    in the paper.
    """
    s = np.asarray(similarities, np.float32)
    present = np.ones(s.shape[:2], bool)
    if there is not None:
        present[:, 1:] = there
    own = 4 * np.eye(s.shape[1], dtype=np.float32)  # each is its own nearest, though it has copies
    order = np.argsort(-np.where(present[:, None, :], s, -4) - own, axis=2, kind="stable")
    reciprocal = _reciprocal(order, reranking.k1, present)
    half = _reciprocal(order, max(1, round(reranking.k1 / 2)), present)
    shared = reciprocal @ half.transpose(0, 2, 1)
    similar = reciprocal * (shared > 2 / 3 * half.sum(axis=2)[:, None, :])
    encoding = np.where(reciprocal + similar @ half > 0, np.exp(s - 1), 0)
    encoding /= encoding.sum(axis=2, keepdims=True)
    if reranking.k2 > 1:
        nearest = _nearest(order, reranking.k2, present)
        encoding = nearest @ encoding / nearest.sum(axis=2, keepdims=True)
    common = np.minimum(encoding[:, :1], encoding[:, 1:]).sum(axis=2)
    jaccard = 1 - common / (2 - common)
    weight = np.float32(reranking.weight)
    distances = (1 - weight) * jaccard + weight * (1 - s[:, 0, 1:])
    return np.asarray(np.where(present[:, 1:], distances, np.float32(np.inf)))


def _nearest(order: np.ndarray, k: int, present: np.ndarray) -> np.ndarray:
    """The (b, s, s) float32, 1 where j is among the k first of i, and there; each has itself."""
    mask = np.zeros(order.shape, np.float32)
    np.put_along_axis(mask, order[:, :, :k], 1, axis=2)
    itself = np.eye(order.shape[1], dtype=bool)
    return np.asarray(np.where(itself, 1, mask * present[:, None, :]), np.float32)


def _reciprocal(order: np.ndarray, k: int, present: np.ndarray) -> np.ndarray:
    """1 where i and j are among each other's k nearest, themselves not counted."""
    nearest = _nearest(order, k + 1, present)
    return nearest * nearest.transpose(0, 2, 1)
