"""Matches -> one per picture: copies of one picture are folded into the nearest of them.

Copies are files of the same bytes, and pictures whose perceptual hashes say so; nothing is decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from retrieval.images import PictureFacts
from retrieval.images.perceptual import BITS_APART, parts, turned_hashes
from retrieval.retriever.results import Match

DEEPER_BY_COPIES = 4

PicturesOf: TypeAlias = Callable[[np.ndarray], dict[int, tuple[str, PictureFacts | None]]]


def search_distinct(
    pictures: PicturesOf, search: Callable[[int], list[list[Match]]], k: int, most: int
) -> list[list[Match]]:
    """Find k matches of different pictures per query, each with the number of its copies.

    pictures: (n,) ids -> the SHA-256 and the facts of each. search: a number of matches -> the
    matches of each query. most: the most that it gives. It is asked for ever more until one picture
    more than k is there, so that the last one's copies count.
    """
    depth = min(k + 1, most)
    while True:
        depth = min(DEEPER_BY_COPIES * depth, most)
        found = search(depth)
        known = pictures(np.unique([match.id for matches in found for match in matches]))
        folded = [fold(matches, known) for matches in found]
        pairs = zip(found, folded, strict=True)
        if depth == most or all(len(f) > k or len(m) < depth for m, f in pairs):
            return [each[:k] for each in folded]


def fold(
    matches: Sequence[Match], known: dict[int, tuple[str, PictureFacts | None]]
) -> list[Match]:
    """Keep the first match of each picture, in order; copies: how many show that picture.

    known: by a match's id, the SHA-256 of its content and the facts of its picture.
    """
    kept: list[Match] = []
    pictures: list[_Picture] = []
    contents: dict[str, int] = {}
    for match in matches:
        sha256, facts = known[match.id]
        picture = _Picture(facts)
        place = contents.get(sha256)
        if place is None:
            place = next((n for n, other in enumerate(pictures) if other.is_copy(picture)), None)
        if place is None:
            contents[sha256] = len(kept)
            kept.append(match)
            pictures.append(picture)
        else:
            contents.setdefault(sha256, place)
            kept[place] = replace(kept[place], copies=kept[place].copies + 1)
    return kept


class _Picture:
    """What tells the picture of a match from others."""

    def __init__(self, facts: PictureFacts | None) -> None:
        self._facts = facts
        hashes = parts(facts.perceptual) if facts and facts.frames == 1 else []
        self._hashes = np.stack(hashes) if hashes else None
        self._ways: np.ndarray | None = None

    def is_copy(self, other: _Picture) -> bool:
        """Whether the hashes say that both are one picture."""
        if self._hashes is None or other._hashes is None or self._facts is None:
            return False
        if other._facts is None or self._facts.alpha != other._facts.alpha:
            return False
        if self._ways is None:
            self._ways = turned_hashes(self._hashes)
        apart = np.bitwise_count(self._ways[:, :, None] ^ other._hashes[None, None]).sum(axis=-1)
        return bool(apart.min() <= BITS_APART)
