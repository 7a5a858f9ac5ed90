from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from retrieval.images import Preprocessing, decode
from retrieval.images.perceptual import (
    BITS_APART,
    GRID_TURNS,
    HASH_BYTES,
    grey_grid,
    parts,
    perceptual_hash,
    share_inside,
    turned,
    turned_hashes,
)
from retrieval.retriever.duplicates.hashes import HashIndex
from tests.samples import drawn, picture


def apart(one: bytes, other: bytes) -> int:
    """Bits between two pictures, turned and cut as they are nearest."""
    ways, there = turned_hashes(np.stack(parts(one))), np.stack(parts(other))
    return int(np.bitwise_count(ways[:, :, None] ^ there[None, None]).sum(axis=-1).min())


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


CHANGES = {
    "recompressed": lambda i: jpeg(i, 40),
    "half size": lambda i: i.resize((i.width // 2, i.height // 2), Image.Resampling.LANCZOS),
    "quarter size": lambda i: i.resize((i.width // 4, i.height // 4), Image.Resampling.LANCZOS),
    "brighter": lambda i: ImageEnhance.Brightness(i).enhance(1.15),
    "grey": lambda i: i.convert("L").convert("RGB"),
    "turned left": lambda i: i.transpose(Image.Transpose.ROTATE_90),
    "upside down": lambda i: i.transpose(Image.Transpose.ROTATE_180),
    "turned right": lambda i: i.transpose(Image.Transpose.ROTATE_270),
    "mirrored": lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "framed white": lambda i: ImageOps.expand(i, 10, "white"),
    "framed black": lambda i: ImageOps.expand(i, 20, "black"),
    "framed and turned": lambda i: ImageOps.expand(i, 12, "grey").transpose(
        Image.Transpose.TRANSPOSE
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_has_nearly_the_same_hash(change: str) -> None:
    for seed in range(20):
        original = drawn(seed)
        copy = jpeg(CHANGES[change](original), 85)
        assert apart(perceptual_hash(original), perceptual_hash(copy)) <= BITS_APART, seed


def test_different_pictures_differ_in_about_half_of_the_bits() -> None:
    hashes = [perceptual_hash(drawn(seed)) for seed in range(40)]
    pairs = [apart(hashes[a], hashes[b]) for a in range(40) for b in range(a)]
    assert min(pairs) > 1.5 * BITS_APART


def test_the_hash_of_a_turned_picture_follows_from_the_hash() -> None:
    grid = grey_grid(drawn(3))
    ways = turned_hashes(np.stack(parts(perceptual_hash(Image.fromarray(grid)))[:1]))
    for turn, expected in zip(GRID_TURNS, ways, strict=True):
        made = parts(perceptual_hash(Image.fromarray(np.ascontiguousarray(turned(grid, turn)))))
        assert np.bitwise_count(made[0] ^ expected[0]).sum() <= 6


def test_a_fine_picture_of_odd_sides_is_looked_at_the_same_however_it_is_turned() -> None:
    lines = np.full((1101, 851), 255, np.uint8)
    lines[::7, 100:700] = lines[300:900, ::11] = 0
    picture = Image.fromarray(lines)
    for turn, way in (
        (Image.Transpose.ROTATE_180, (0, 1, 1)),
        (Image.Transpose.TRANSPOSE, (1, 0, 0)),
    ):
        apart = grey_grid(picture.transpose(turn)).astype(int) - turned(grey_grid(picture), way)
        assert np.abs(apart).mean() < 16


def test_a_wide_picture_between_the_bars_of_an_upright_screen_is_a_copy() -> None:
    for seed in range(6):
        wide = drawn(seed, 256, 112)
        screen = ImageOps.pad(wide, (270, 480), color="black")
        assert apart(perceptual_hash(wide), perceptual_hash(jpeg(screen, 85))) <= BITS_APART, seed


def test_a_picture_of_one_colour_has_no_hash() -> None:
    assert perceptual_hash(Image.new("RGB", (64, 48), "white")) == b""
    assert parts(b"") == []


def test_a_border_is_known_and_how_much_of_the_picture_it_leaves() -> None:
    framed = ImageOps.expand(drawn(5, 200, 200), 20, "white")
    assert share_inside(perceptual_hash(framed)) == pytest.approx((200 / 240) ** 2, abs=0.02)
    assert len(parts(perceptual_hash(framed))) == 2
    noise = np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8)
    assert len(perceptual_hash(Image.fromarray(noise))) == HASH_BYTES


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_decoding_tells_the_hash_of_the_whole_picture_however_it_is_fitted(fit: str) -> None:
    p = Preprocessing(96, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), fit=fit)  # type: ignore[arg-type]
    found = decode(drawn(1, 640, 240), p).facts.perceptual
    assert apart(found, perceptual_hash(drawn(1, 640, 240))) <= 20
    assert decode(drawn(1), p, crop=(0, 0, 90, 90)).facts.perceptual == b""


def test_the_index_finds_all_pairs_that_counting_bits_finds() -> None:
    images = [drawn(n % 12) if n < 24 else picture(n) for n in range(40)]
    hashes = [perceptual_hash(image) for image in images]
    hashes[7] = b""  # a row without facts
    found = {(p.one, p.other): p.bits for p in HashIndex(hashes, range(40)).near(range(40))}
    expected = {
        (a, b): bits
        for a in range(40)
        for b in range(40)
        if a != b and hashes[a] and hashes[b]
        if (bits := apart(hashes[a], hashes[b])) <= BITS_APART
    }
    assert {pair: bits for pair, bits in found.items() if bits <= BITS_APART} == expected
    assert len(found) >= 22
