"""Perceptual hashes -> pairs of images that may be copies of one picture.

Near are hashes that differ in at most BITS_APART bits, or in COARSE_APART of the lowest
frequencies, which are all that a plain picture has. Among up to LARGE_FROM images FAISS's binary
index finds all of them: it counts the bits of every pair, which takes four hours at a million.
Beyond, only the bits of hashes are counted that are equal in one of some samples of bits (Indyk and
Motwani 1998, "Approximate Nearest Neighbors: Towards Removing the Curse of Dimensionality"). Near
coarse hashes always share a sample, since there are more samples than bits apart (Norouzi, Punjani
and Fleet 2012, "Fast Search in Hamming Space with Multi-Index Hashing").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import faiss
import numpy as np

from retrieval.images.perceptual import (
    BITS_APART,
    COARSE_BYTES,
    HASH_BYTES,
    coarse,
    parts,
    turned_hashes,
)

COARSE_APART = 3  # of 63 bits
COARSE_SAMPLES = COARSE_APART + 1
FEWEST_BITS, MOST_BITS = 8, 24  # of a sample: a float32 holds that many
COUNTED_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Pair:
    """Two images whose hashes are near; how the first has to be turned to lie as the second does.

    bits: in which they differ. inner: which of both has to be taken without its border.
    """

    one: int
    other: int
    bits: int
    turn: int
    inner: tuple[bool, bool]


class HashIndex:
    """Hashes of some images, to be searched.

    hashes: by place, as perceptual_hash() makes them. approximate: whether to count only the bits
    of hashes that share a sample.
    """

    def __init__(
        self, hashes: Sequence[bytes], places: Sequence[int], *, approximate: bool = False
    ) -> None:
        self._hashes = hashes
        counts = np.array([len(hashes[place]) // HASH_BYTES for place in places], np.int64)
        held = (hashes[p][: n * HASH_BYTES] for p, n in zip(places, counts.tolist(), strict=True))
        self._bits = np.frombuffer(b"".join(held), np.uint8).reshape(-1, HASH_BYTES)
        self._place = np.repeat(np.asarray(places, np.int64), counts)
        starts = np.repeat(np.cumsum(counts) - counts, counts)
        self._inner = np.arange(len(self._place)) > starts
        kind = _SampledBits if approximate else _AllBits
        self._index: _SampledBits | _AllBits = kind(self._bits)

    def near(self, places: Sequence[int]) -> list[Pair]:
        """For each of places the images that may be copies of it, each once, the nearest hash."""
        asked = [(p, n, part) for p in places for n, part in enumerate(parts(self._hashes[p]))]
        if not asked or not len(self._place):
            return []
        ways = turned_hashes(np.stack([part for _, _, part in asked]))
        found: dict[tuple[int, int], Pair] = {}
        hashes = np.ascontiguousarray(ways.reshape(-1, HASH_BYTES))
        queries, rows = self._each_once(self._index.near(hashes))
        bits = np.bitwise_count(hashes[queries] ^ self._bits[rows]).sum(axis=1)
        turns, queries = np.divmod(queries, len(asked))
        for turn, query, row, apart in zip(turns.tolist(), queries, rows, bits, strict=True):
            one, n, _ = asked[query]
            other = int(self._place[row])
            best = found.get((one, other))
            if other != one and (best is None or apart < best.bits):
                inner = (n == 1, bool(self._inner[row]))
                found[one, other] = Pair(one, other, int(apart), turn, inner)
        return list(found.values())

    def _each_once(self, pairs: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Distinct pairs of rows, sorted."""
        n = len(self._bits)
        return np.divmod(np.unique(np.concatenate([row + query * n for query, row in pairs])), n)


class _AllBits:
    """Finds all hashes that are near, by counting the bits of every pair.

    hashes: (n, HASH_BYTES) uint8.
    """

    def __init__(self, hashes: np.ndarray) -> None:
        self._parts = (
            (_flat_index(hashes), BITS_APART, lambda asked: asked),
            (_flat_index(coarse(hashes)), COARSE_APART, coarse),
        )

    def near(self, hashes: np.ndarray) -> Iterator[np.ndarray]:
        """Give (2, m) rows of (q, HASH_BYTES) hashes, and of the index, that are near."""
        for index, most, part in self._parts:
            limits, _, rows = index.range_search(part(hashes), most + 1)
            queries = np.repeat(np.arange(len(hashes)), np.diff(limits.astype(np.int64)))
            yield np.stack([queries, rows])


def _flat_index(hashes: np.ndarray) -> faiss.IndexBinaryFlat:
    index = faiss.IndexBinaryFlat(8 * hashes.shape[1])
    if len(hashes):
        index.add(np.ascontiguousarray(hashes))
    return index


class _SampledBits:
    """Finds hashes that are near and equal in a sample of their bits. hashes: (n, HASH_BYTES).

    A sample has as many bits as tell n hashes apart, so a random hash shares one with few others.
    """

    def __init__(self, hashes: np.ndarray) -> None:
        size = min(max(len(hashes).bit_length(), FEWEST_BITS), MOST_BITS)
        used = 8 * HASH_BYTES - 1  # the first bit, of the mean brightness, is always 0
        order = 1 + np.random.default_rng(0).permutation(used)
        coarsest = np.random.default_rng(1).permutation(8 * COARSE_BYTES)
        self._whole = _Tables(hashes, BITS_APART, order[: used // size * size], size)
        self._coarse = _Tables(
            coarse(hashes), COARSE_APART, coarsest, 8 * COARSE_BYTES // COARSE_SAMPLES
        )

    def near(self, hashes: np.ndarray) -> Iterator[np.ndarray]:
        """Give (2, m) rows of (q, HASH_BYTES) hashes, and of the index, that are near."""
        yield from self._whole.near(hashes)
        yield from self._coarse.near(coarse(hashes))


class _Tables:
    """Hashes in the order of some of their bits, for each sample of bits once.

    hashes: (n, b) uint8. most: bits that near ones differ in. order: which bits are sampled, the
    first `size` of them by the first table.
    """

    def __init__(self, hashes: np.ndarray, most: int, order: np.ndarray, size: int) -> None:
        self._hashes, self._most = hashes, most
        self._weights = np.zeros((8 * hashes.shape[1], len(order) // size), np.float32)
        place = np.arange(len(order))
        self._weights[order, place // size] = 2.0 ** (place % size)
        keys = np.concatenate([self._keys(part) for part in _split(hashes)], axis=1)
        self._rows = np.stack([np.argsort(each).astype(np.int32) for each in keys])
        self._sorted = np.take_along_axis(keys, self._rows, 1)

    def near(self, hashes: np.ndarray) -> Iterator[np.ndarray]:
        """Give (2, m) rows of hashes and of the index, some of them more than once."""
        for table, keys in enumerate(self._keys(hashes)):
            low = np.searchsorted(self._sorted[table], keys)
            counts = np.searchsorted(self._sorted[table], keys, side="right") - low
            ends = np.cumsum(counts)
            starts = low - (ends - counts)
            for first in range(0, int(ends[-1]), COUNTED_AT_ONCE):
                pair = np.arange(first, min(first + COUNTED_AT_ONCE, int(ends[-1])))
                query = np.searchsorted(ends, pair, side="right")
                row = self._rows[table][starts[query] + pair]
                apart = np.bitwise_count(hashes[query] ^ self._hashes[row]).sum(axis=1)
                yield np.stack([query, row.astype(np.int64)])[:, apart <= self._most]

    def _keys(self, hashes: np.ndarray) -> np.ndarray:
        """The sampled bits of each table as a number: (tables, n) int32."""
        return (np.unpackbits(hashes, axis=1) @ self._weights).T.astype(np.int32)


def _split(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """Some thousand hashes at a time, at least once."""
    for start in range(0, max(len(hashes), 1), COUNTED_AT_ONCE // 16):
        yield hashes[start : start + COUNTED_AT_ONCE // 16]
