"""Crowds: many images that are nearly one picture, as frames of a still camera are.

Each member is near all others, so to ask the index for the neighbours of each costs more than to
compare all members in blocks. So one member, the leader, is searched for wider than it asks. What
is near another member is then near the leader as well, since angles obey the triangle inequality:
of an angle a to the leader, a member has all that is within t of it among what is within a + t of
the leader.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from retrieval.retriever.duplicates.copies import chunks
from retrieval.retriever.duplicates.embeddings import unit_rows
from retrieval.retriever.duplicates.neighbours import GROWTH, Found
from retrieval.retriever.duplicates.verified import VerifiedCandidates

CANDIDATES_HELD = 34  # against each image at first
QUERIES_A_BLOCK = 2048
CROWDS_HELD = 16  # those met last
ROWS_A_PART = 4096  # raw embeddings in memory
PAIRS_AT_ONCE, FEWEST_ROWS = 1 << 23, 64
ANGLE_ROUNDING = 1e-3  # of angles: the cosine of a small one has lost half its digits


@dataclass(frozen=True)
class _Crowd:
    """What is within an angle of a leader. unit: (d,) float32. places: (m,) int32."""

    unit: np.ndarray
    angle: float
    places: np.ndarray

    def holds(self, units: np.ndarray, angles: np.ndarray) -> np.ndarray:
        """Tell of which (q, d) units it has all places within (q,) angles: (q,) bool."""
        return np.asarray(_angles(units @ self.unit) + angles <= self.angle)


class Crowds:
    """Searches for images of which most candidates are near, and remembers the crowds it met."""

    def __init__(self, candidates: VerifiedCandidates) -> None:
        self._candidates = candidates
        self._held: list[_Crowd] = []

    def forget(self) -> None:
        """Forget the crowds, as when other images are searched."""
        self._held.clear()

    def down_to(self, places: np.ndarray, least: np.ndarray) -> Found:
        """Do what NeighbourSearch says. least: (q,) float32."""
        units, angles = unit_rows(self._candidates.embeddings[places]), _angles(least)
        left = np.arange(len(places))
        for crowd in self._held:
            mine = crowd.holds(units[left], angles[left])
            yield from self._compared(crowd, places, units, least, left[mine])
            left = left[~mine]
        k = min(GROWTH * CANDIDATES_HELD, len(self._candidates.places))
        unfinished = [left[:0]]
        for part in chunks(left, QUERIES_A_BLOCK // GROWTH):
            scores, near = self._candidates.of(places[part], k)
            more = (scores >= least[part, None]).sum(axis=1) > k // 2
            more &= k < len(self._candidates.places)
            yield from each_of(part[~more], scores[~more], near[~more])
            unfinished.append(part[more])
        left = np.concatenate(unfinished)
        while len(left):
            crowd = self._around(places[left], units[left], angles[left])
            mine = crowd.holds(units[left], angles[left])
            mine[0] = True
            yield from self._compared(crowd, places, units, least, left[mine])
            left = left[~mine]

    def _around(self, places: np.ndarray, units: np.ndarray, angles: np.ndarray) -> _Crowd:
        """Search around the first image, wide enough for those near it if that is worth it."""
        leader, there = places[:1], len(self._candidates.places)
        apart = _angles(units @ units[0])
        near = apart <= angles
        near[0] = True
        wanted = float((apart + angles)[near].max()) + ANGLE_ROUNDING
        k, most = GROWTH * CANDIDATES_HELD, there
        while True:
            k = min(GROWTH * k, there)
            scores, found = self._candidates.of(leader, k)
            # as many again that are less near were found, so all that are nearer are
            full = math.pi if k == there else float(_angles(scores[:, k // 2])[0])
            if full > angles[0] and most == there:
                most = int(near.sum()) * k  # to search for each of them would take as much
            if full >= wanted or k == there or (full > angles[0] and k >= most):
                break
        angle = min(full, wanted)
        kept = found[0][_angles(scores[0]) <= angle]
        if self._candidates.are_kept(leader)[0]:
            kept = np.append(kept, leader)
        crowd = _Crowd(units[0], angle, kept[kept >= 0].astype(np.int32))
        self._held = [crowd, *self._held][:CROWDS_HELD]
        return crowd

    def _compared(
        self,
        crowd: _Crowd,
        places: np.ndarray,
        units: np.ndarray,
        least: np.ndarray,
        rows: np.ndarray,
    ) -> Found:
        """Hold some rows of places against all of a crowd, in blocks."""
        size = max(FEWEST_ROWS, PAIRS_AT_ONCE // max(1, len(crowd.places)))
        for asked in chunks(rows, size):
            found: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in asked]
            for others in chunks(crowd.places, ROWS_A_PART):
                scores = units[asked] @ unit_rows(self._candidates.embeddings[others]).T
                near = (scores >= least[asked, None]) & (others != places[asked, None])
                for row in range(len(asked)):
                    found[row].append((others[near[row]], scores[row, near[row]]))
            for row, parts in zip(asked.tolist(), found, strict=True):
                ids, theirs = (np.concatenate(part) for part in zip(*parts, strict=True))
                yield row, ids.astype(np.int64), theirs


def each_of(
    rows: np.ndarray, scores: np.ndarray, near: np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Give each row with its places and scores, without those that are not there."""
    for row, known, theirs in zip(rows.tolist(), scores, near, strict=True):
        there = np.isfinite(known)
        yield row, theirs[there], known[there]


def _angles(scores: np.ndarray) -> np.ndarray:
    return np.asarray(np.arccos(np.clip(scores, -1.0, 1.0).astype(np.float64)))
