"""Searches that leave images out: a query's own file, and copies of its content.

An image is looked at once it is among the nearest, by its row. So a gallery of any size costs as
much as a small one, and what a server holds is not looked for in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MORE_AT_FIRST, TIMES_MORE = 4, 4  # neighbours than are wanted; as many where they are too few

Nearest = tuple[np.ndarray, np.ndarray]
ReadRows = Callable[[np.ndarray, Sequence[str]], list[dict[str, Any]]]


@dataclass(frozen=True)
class LeftOut:
    """What is no match of a query: images by id, by path as it is stored, or by their content.

    contents: SHA-256 of files, hex.
    """

    ids: Collection[int] = ()
    paths: Collection[str] = ()
    contents: Collection[str] = ()

    @property
    def names_files(self) -> bool:
        """Whether rows have to be read to tell."""
        return bool(self.paths or self.contents)


NONE_LEFT_OUT = LeftOut()


class Exclusion:
    """What each query of a search leaves out. rows: of Neighbours."""

    def __init__(self, excluded: Sequence[LeftOut], rows: ReadRows) -> None:
        self._excluded, self._rows = excluded, rows
        self._known: dict[int, tuple[str, str]] = {}

    def search(self, find: Callable[[int], Nearest], k: int) -> Nearest:
        """Find the k nearest of each query that are not left out.

        find: gives (q, n) scores and ids for a number n, padded with -inf and -1.
        """
        spare = max(len(out.ids) + MORE_AT_FIRST * out.names_files for out in self._excluded)
        while True:
            scores, ids = find(k + spare)
            out = self._among(ids)
            cut_short = (out.sum(axis=1) > spare) & (ids[:, -1:] >= 0).any(axis=1)
            if not cut_short.any():
                break
            spare *= TIMES_MORE
        if out.any():
            scores, ids = np.where(out, -np.inf, scores), np.where(out, -1, ids)
            order = np.argsort(-scores, axis=1, kind="stable")
            scores, ids = (np.take_along_axis(a, order, 1) for a in (scores, ids))
        return scores[:, :k], ids[:, :k]

    def _among(self, ids: np.ndarray) -> np.ndarray:
        """Tell which of (q, n) ids their queries leave out."""
        self._read(np.unique(ids[[out.names_files for out in self._excluded]]))
        left_out = np.zeros(ids.shape, bool)
        for row, out in enumerate(self._excluded):
            if out.ids:
                left_out[row] = np.isin(ids[row], list(out.ids))
            if out.names_files:
                files = (self._known.get(id_, ("", "")) for id_ in ids[row].tolist())
                left_out[row] |= [p in out.paths or sha in out.contents for p, sha in files]
        return left_out

    def _read(self, ids: np.ndarray) -> None:
        new = [i for i in ids.tolist() if i >= 0 and i not in self._known]
        rows = self._rows(np.array(new, np.int64), ["path", "sha256"]) if new else []
        self._known |= {i: (r["path"], r["sha256"]) for i, r in zip(new, rows, strict=True)}
