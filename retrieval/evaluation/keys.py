"""A score and its row as one number, so that no two are equal and a sort needs no second key.

The upper half of a key are the bits of the score, ordered as numbers are; the lower half is
smaller for a later row. So of equal scores the earlier row comes first.
"""

from __future__ import annotations

import numpy as np

ABSENT = np.int64(np.iinfo(np.int64).min)  # below every score: what is no neighbour
_LOW = np.int64(0xFFFFFFFF)
_MAGNITUDE = np.int32(0x7FFFFFFF)


def keys_of(scores: np.ndarray, first_row: int) -> np.ndarray:
    """Return (q, n) int64 keys of (q, n) float32 scores, which are not kept.

    first_row: of the gallery, that of the first column; there are fewer than 2**32 rows.
    """
    scores += np.float32(0)  # -0 and 0 are equal
    bits = scores.view(np.int32)
    bits ^= (bits >> 31) & _MAGNITUDE
    keys = bits.astype(np.int64)
    keys <<= 32
    keys |= ~np.arange(first_row, first_row + scores.shape[1]) & _LOW
    return keys


def scores_of(keys: np.ndarray) -> np.ndarray:
    """Return the float32 scores of keys, -inf for what is absent."""
    bits = (keys >> 32).astype(np.int32)
    bits ^= (bits >> 31) & _MAGNITUDE
    return np.where(keys == ABSENT, np.float32(-np.inf), bits.view(np.float32))


def rows_of(keys: np.ndarray) -> np.ndarray:
    """Return the int64 rows of keys, -1 for what is absent."""
    return np.where(keys == ABSENT, -1, ~keys & _LOW)
