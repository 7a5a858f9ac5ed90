"""Copies of real photographs by perceptual hash: ours beside imagededup's and czkawka's."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image

from benchmarks.photographs import jpeg
from benchmarks.table import Table
from retrieval.images.perceptual import (
    BITS_APART,
    HASH_BYTES,
    parts,
    perceptual_hash,
    turned_hashes,
)
from retrieval.retriever.duplicates.copies import Look, is_one_picture

Change = Callable[[Image.Image], Image.Image]
TURNED: dict[str, Change] = {
    "turned by 90 degrees": lambda image: jpeg(image.transpose(Image.Transpose.ROTATE_90)),
    "turned by 180 degrees": lambda image: jpeg(image.transpose(Image.Transpose.ROTATE_180)),
    "turned by 270 degrees": lambda image: jpeg(image.transpose(Image.Transpose.ROTATE_270)),
    "mirrored": lambda image: jpeg(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
}
METHODS = {
    "imagededup PHash, at most 10 of 64 bits": (lambda i: imagehash.phash(i, 8), 10),
    "imagededup DHash, at most 10 of 64 bits": (lambda i: imagehash.dhash(i, 8), 10),
    "imagededup PHash, equal": (lambda i: imagehash.phash(i, 8), 0),
    "imagededup DHash, equal": (lambda i: imagehash.dhash(i, 8), 0),
    "czkawka Gradient 16, High: at most 5 of 256 bits": (lambda i: imagehash.dhash(i, 16), 5),
    "czkawka Gradient 16, Medium: at most 15": (lambda i: imagehash.dhash(i, 16), 15),
}


@dataclass(frozen=True)
class _Looked:
    """One picture: our hashes, what of it is compared, and the others' hashes as bits."""

    ours: list[np.ndarray]
    look: Look
    others: dict[str, np.ndarray]


def measure_copies(files: list[Path], changes: dict[str, Change]) -> Table:
    """False pairs among the photographs, and by change the share of copies that is found."""
    names = [None, *changes]
    with ProcessPoolExecutor() as pool:
        looked = list(pool.map(partial(_look, changes=list(changes)), files, chunksize=16))
    seen = {name: [each[n] for each in looked] for n, name in enumerate(names)}
    plain = seen.pop(None)
    table = Table(
        "Copies by perceptual hash",
        f"{len(files):,} photographs of cars/test. false: pairs of different photographs that are "
        "called copies (those that are one photograph under two labels count too). Then the share "
        "of the changed photographs that is found from the unchanged one. The default of "
        "imagededup is 10 bits, and those of czkawka are its presets for hashes of 16. By default "
        "neither looks for turned pictures. Hashes are by imagehash, which computes them as these "
        "do.",
        ["method", "false", *changes],
    )
    found = [agree(plain[n], each[n]) for each in seen.values() for n in range(len(files))]
    shares = np.array(found).reshape(len(changes), -1).mean(axis=1)
    table.add("imgret, tier copy", str(_false(plain)), *(f"{share:.4f}" for share in shares))
    for name, (_, limit) in METHODS.items():
        bits = np.stack([each.others[name] for each in plain])
        apart = (bits[:, None] != bits[None]).sum(axis=-1)
        false = int(np.triu(apart <= limit, 1).sum())
        shares = [
            (np.stack([e.others[name] for e in each]) != bits).sum(axis=1) <= limit
            for each in seen.values()
        ]
        table.add(name, f"{false:,}", *(f"{share.mean():.4f}" for share in shares))
    return table


def false_pairs(plain: list[_Looked]) -> list[tuple[int, int]]:
    """Pairs of photographs that are called copies."""
    rows = [(n, h) for n, each in enumerate(plain) for h in each.ours]
    bits = np.unpackbits(np.stack([h for _, h in rows]), axis=1).astype(np.float32) * 2 - 1
    candidates = set()
    for ways in turned_hashes(np.stack([h for _, h in rows])):
        apart = (8 * HASH_BYTES - (np.unpackbits(ways, axis=1) * 2.0 - 1) @ bits.T) / 2
        for a, b in np.argwhere(apart <= BITS_APART):
            if rows[a][0] < rows[b][0]:
                candidates.add((rows[a][0], rows[b][0]))
    return [(a, b) for a, b in sorted(candidates) if agree(plain[a], plain[b])]


def look(file: Path, changes: list[Change]) -> list[_Looked]:
    """A photograph and what each change makes of it."""
    image = Image.open(file).convert("RGB")
    return [_looked(image), *(_looked(change(image)) for change in changes)]


def agree(one: _Looked, other: _Looked) -> bool:
    """As find_duplicates() decides: the nearest hashes, then the pixels."""
    if not one.ours or not other.ours:
        return False
    ways = turned_hashes(np.stack(one.ours))
    apart = np.bitwise_count(ways[:, :, None] ^ np.stack(other.ours)[None, None]).sum(axis=-1)
    turn, a, b = np.unravel_index(int(apart.argmin()), apart.shape)
    if apart[turn, a, b] > BITS_APART:
        return False
    return is_one_picture(one.look, other.look, int(turn), (a == 1, b == 1))


def _look(file: Path, changes: list[str]) -> list[_Looked]:
    from benchmarks.duplicates import COPIES

    return look(file, [COPIES[name] for name in changes])


def _looked(image: Image.Image) -> _Looked:
    others = {name: method(image).hash.ravel() for name, (method, _) in METHODS.items()}
    return _Looked(parts(perceptual_hash(image)), Look.of(image), others)


def _false(plain: list[_Looked]) -> int:
    return len(false_pairs(plain))
