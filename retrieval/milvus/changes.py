"""What has to be deleted and written to bring a collection in step with a gallery's rows.

A row is its id and its checksum, which changes with all that is stored of an image.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from retrieval.sorted_ids import IdPlaces, ids_without


@dataclass(frozen=True, eq=False)
class RowSums:
    """Rows by their ids and checksums, (n,) int64 each, in the order of ids; each id once."""

    ids: np.ndarray
    checksums: np.ndarray

    @classmethod
    def of(cls, ids: np.ndarray, checksums: np.ndarray) -> RowSums:
        """Sort rows by id; of two with one id, keep one."""
        order = np.argsort(ids, kind="stable")
        ids, checksums = ids[order], checksums[order]
        first = np.flatnonzero(np.diff(ids, prepend=ids[:1] - 1))
        return cls(ids[first], checksums[first])

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def sha256(self) -> str:
        """What tells these rows from others."""
        pairs = np.stack([self.ids, self.checksums]).astype("<i8")
        return hashlib.sha256(pairs.tobytes()).hexdigest()


@dataclass(frozen=True, eq=False)
class RowChanges:
    """Ids of rows to delete and to write, (n,) int64 each, sorted. new: those of written that are
    not held.
    """

    gone: np.ndarray
    written: np.ndarray
    new: np.ndarray

    def __len__(self) -> int:
        return len(self.gone) + len(self.written)


def changes_between(held: RowSums, wanted: RowSums) -> RowChanges:
    """Compare what is held with what is wanted.

    >>> held = RowSums(np.array([1, 2, 3]), np.array([7, 7, 7]))
    >>> changes_between(held, RowSums(np.array([2, 3, 4]), np.array([7, 8, 9])))
    RowChanges(gone=array([1]), written=array([3, 4]), new=array([4]))
    """
    gone = ids_without(held.ids, wanted.ids)
    places = IdPlaces(held.ids).of(wanted.ids)
    there = places >= 0
    same = np.zeros(len(wanted), bool)
    same[there] = held.checksums[places[there]] == wanted.checksums[there]
    return RowChanges(gone, wanted.ids[~same], wanted.ids[~there])
