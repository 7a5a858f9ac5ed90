from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from classify.augmentation import Augmenter, kept_side, mixer
from classify.recipe import Augmentation
from retrieval.images import Preprocessing

SIZE = 32
CPU = torch.device("cpu")
PLAIN = Preprocessing(size=SIZE, mean=(0.0,) * 3, std=(1 / 255,) * 3)  # pixels as they are


def smooth(n: int = 4, side: int = SIZE) -> np.ndarray:
    """Pictures without edges, so that resampling differs little."""
    random = np.random.default_rng(0)
    coarse = torch.from_numpy(random.uniform(40, 215, (n, 3, 4, 4)))
    fine = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 255)
    return fine.permute(0, 2, 3, 1).round().byte().numpy()


def augmented(pixels: np.ndarray, seed: int = 0, **what: object) -> np.ndarray:
    x = Augmenter(Augmentation.model_validate(what), PLAIN)(pixels, seed, CPU)
    assert x.is_contiguous(memory_format=torch.channels_last)
    return x.numpy()


def planes(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(channels_first(pixels))


def channels_first(pixels: np.ndarray) -> np.ndarray:
    return pixels.transpose(0, 3, 1, 2).astype(np.float32)


def test_nothing_asked_for_is_normalisation_alone() -> None:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    pixels = smooth()
    theirs = tv.normalize(torch.from_numpy(channels_first(pixels)) / 255, mean, std)
    preprocessing = Preprocessing(size=SIZE, mean=mean, std=std)
    augmenter = Augmenter(Augmentation(), preprocessing)
    for ours in (augmenter(pixels, 0, CPU), augmenter.plain(pixels, CPU)):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("other", [{}, {"translation": 1e-9}])
def test_a_flip_is_a_mirror_image(other: dict[str, float]) -> None:
    pixels = smooth()
    ours = augmented(pixels, flip=1.0, **other)
    assert ours == pytest.approx(channels_first(pixels)[:, :, :, ::-1], abs=0.02)


def test_about_half_of_the_pictures_are_flipped() -> None:
    pixels = smooth(400, 16)[:, :SIZE, :SIZE]
    preprocessing = Preprocessing(size=16, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    ours = Augmenter(Augmentation(flip=0.5), preprocessing)(pixels, 1, CPU).numpy()
    flipped = np.abs(ours - channels_first(pixels)).max(axis=(1, 2, 3)) > 1
    assert 150 < flipped.sum() < 250


INNER = slice(8, -8)  # away from what lies outside


def fitted(
    ours: np.ndarray, theirs: Callable[..., torch.Tensor], *ranges: np.ndarray
) -> tuple[np.ndarray, float]:
    """The parameters at which torchvision comes closest, and the mean difference there, of 255."""

    def difference(values: np.ndarray) -> float:
        return float(np.abs(theirs(*values).numpy() - ours)[:, INNER, INNER].mean())

    start = min(itertools.product(*ranges), key=lambda values: difference(np.array(values)))
    found = minimize(difference, start, method="Nelder-Mead", options={"xatol": 1e-4})
    return found.x, float(found.fun)


def test_a_rotation_is_torchvisions() -> None:
    pixels = smooth(6)
    angles = []
    for source, picture in zip(planes(pixels), augmented(pixels, seed=5, rotation=40), strict=True):
        turned = partial(tv.rotate, source, interpolation=InterpolationMode.BILINEAR)
        (angle,), difference = fitted(picture, turned, np.arange(-45, 46, 5.0))
        assert difference < 0.1
        angles.append(angle)
    assert np.abs(angles).max() <= 40.01
    assert np.abs(angles).max() > 20
    assert min(angles) < 0 < max(angles)


def affine(source: torch.Tensor, dx: float, dy: float, scale: float, shear: float) -> torch.Tensor:
    return tv.affine(
        source,
        0,
        [dx, dy],
        scale,
        [shear, 0.0],
        InterpolationMode.BILINEAR,  # type: ignore[list-item]
    )


def test_a_translation_is_torchvisions() -> None:
    pixels = smooth(4)
    found = []
    for source, picture in zip(
        planes(pixels), augmented(pixels, seed=2, translation=0.2), strict=True
    ):
        moved = partial(affine, source, scale=1.0, shear=0.0)
        (dx, dy), difference = fitted(picture, moved, *2 * [np.arange(-7, 7.5, 1.0)])
        assert difference < 0.1
        found += [dx, dy]
    assert 0.1 * SIZE < np.abs(found).max() <= 0.2 * SIZE + 0.01
    assert min(found) < 0 < max(found)


@pytest.mark.parametrize(
    ("fill", "padding"), [("zeros", "constant"), ("border", "edge"), ("reflection", "symmetric")]
)
def test_flips_and_translations_alone_move_whole_pixels(fill: str, padding: Any) -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (64, SIZE, SIZE, 3), dtype=np.uint8)
    ours = augmented(pixels, seed=2, flip=0.5, translation=0.125, fill=fill)
    seen = set()
    for picture, found in zip(pixels, ours, strict=True):
        padded = np.pad(picture, ((4, 4), (4, 4), (0, 0)), padding)
        for flip, top, left in itertools.product((1, -1), range(9), range(9)):
            cut = padded[top : top + SIZE, left : left + SIZE][:, ::flip]
            if np.array_equal(channels_first(cut[None])[0], found.round()):
                seen.add((flip, top, left))
                break
        else:
            pytest.fail("it is no flipped and translated copy")
    assert {flip for flip, _, _ in seen} == {1, -1}
    assert {top for _, top, _ in seen} == {left for _, _, left in seen} == set(range(9))


def test_a_zoom_is_torchvisions() -> None:
    pixels = smooth(10)
    scales = []
    for source, picture in zip(planes(pixels), augmented(pixels, seed=3, zoom=0.3), strict=True):

        def zoomed(scale: float, source: torch.Tensor = source) -> torch.Tensor:
            return affine(source, 0.0, 0.0, scale, 0.0)

        (scale,), difference = fitted(picture, zoomed, np.arange(0.7, 1.5, 0.05))
        assert difference < 0.1
        scales.append(scale)
    assert 1 / 1.301 <= min(scales) < 0.9 < 1.1 < max(scales) <= 1 / 0.699


def test_a_shear_is_torchvisions() -> None:
    pixels = smooth(6)
    angles = []
    for source, picture in zip(planes(pixels), augmented(pixels, seed=4, shear=25), strict=True):

        def sheared(angle: float, source: torch.Tensor = source) -> torch.Tensor:
            return affine(source, 0.0, 0.0, 1.0, angle)

        (angle,), difference = fitted(picture, sheared, np.arange(-30, 31, 5.0))
        assert difference < 0.1
        angles.append(angle)
    assert np.abs(angles).max() <= 25.01
    assert min(angles) < 0 < max(angles)


@pytest.mark.parametrize(("fill", "found"), [("zeros", 0), ("border", 90), ("reflection", 90)])
def test_what_lies_outside_of_the_picture_is_filled(fill: str, found: int) -> None:
    grey = np.full((8, SIZE, SIZE, 3), 90, np.uint8)
    ours = augmented(grey, zoom=0.9, fill=fill)
    assert ours[:, :, [0, -1]].min() == pytest.approx(found, abs=0.01)


GEOMETRY = st.fixed_dictionaries(
    {},
    optional={
        "flip": st.floats(0, 1),
        "rotation": st.floats(0, 180),
        "shear": st.floats(0, 60),
        "translation": st.floats(0, 1),
        "zoom": st.floats(0, 0.99),
        "perspective": st.floats(0, 0.99),
        "crop": st.sampled_from([(0.01, 0.1), (0.2, 1.0), (1.0, 1.0)]),
    },
)


@settings(max_examples=40)
@given(GEOMETRY, st.integers(0, 2**32 - 1))
def test_moved_pictures_hold_no_value_that_the_picture_does_not(
    what: dict[str, Any], seed: int
) -> None:
    pixels = smooth(3, 36)
    ours = augmented(pixels, seed=seed, **what)
    assert ours.shape == (3, 3, SIZE, SIZE)
    low, high = (channels_first(pixels).min((2, 3)), channels_first(pixels).max((2, 3)))
    assert (ours.min((2, 3)) >= low - 0.01).all()
    assert (ours.max((2, 3)) <= high + 0.01).all()


def test_a_crop_is_a_part_of_the_picture_of_the_area_and_aspect_asked_for() -> None:
    n, side = 64, 37
    rows, columns = np.mgrid[:side, :side]
    pixels = np.stack([6 * columns, 6 * rows, 0 * rows], axis=-1).astype(np.uint8)
    ours = augmented(np.repeat(pixels[None], n, axis=0), crop=(0.2, 0.6)) / 6
    assert ours.shape == (n, 3, SIZE, SIZE)
    width = (ours[:, 0, 16, -8] - ours[:, 0, 16, 7]) / (SIZE - 15) * SIZE / side
    height = (ours[:, 1, -8, 16] - ours[:, 1, 7, 16]) / (SIZE - 15) * SIZE / side
    assert width * height == pytest.approx(np.clip(width * height, 0.2, 0.6), abs=0.01)
    assert np.ptp(width * height) > 0.3
    assert width / height == pytest.approx(np.clip(width / height, 3 / 4, 4 / 3), abs=0.02)
    middle = np.stack([ours[:, 0, 16, 15:17].mean(1), ours[:, 1, 15:17, 16].mean(1)]) + 0.5
    half = np.stack([width, height]) * side / 2
    assert (middle - half > -0.1).all()
    assert (middle + half < side + 0.1).all()
    assert (np.ptp(middle, axis=1) > side / 4).all()


def test_without_a_crop_larger_pictures_are_made_smaller() -> None:
    ours = augmented(np.full((2, 64, 64, 3), 90, np.uint8))
    assert ours.shape == (2, 3, SIZE, SIZE)
    assert ours == pytest.approx(90)


def test_pictures_are_kept_larger_where_crops_are_cut_from_them() -> None:
    assert kept_side(Augmentation(), 224) == 224
    assert kept_side(Augmentation(crop=(0.5, 1.0)), 224) == 256


@pytest.mark.parametrize(
    ("what", "theirs"),
    [
        ("brightness", tv.adjust_brightness),
        ("contrast", tv.adjust_contrast),
        ("saturation", tv.adjust_saturation),
    ],
)
def test_colours_change_as_torchvisions_do(
    what: str, theirs: Callable[[torch.Tensor, float], torch.Tensor]
) -> None:
    pixels = smooth(5)
    factors = []
    for source, picture in zip(
        planes(pixels), augmented(pixels, seed=1, **{what: 0.4}), strict=True
    ):

        def changed(factor: float, source: torch.Tensor = source) -> torch.Tensor:
            return 255 * theirs(source / 255, factor)

        (factor,), difference = fitted(picture, changed, np.arange(0.6, 1.41, 0.05))
        assert difference < 0.1
        factors.append(factor)
    assert 0.599 <= min(factors) < 1 < max(factors) <= 1.401


def test_a_change_of_hue_keeps_greys_and_brightness() -> None:
    grey = np.full((2, SIZE, SIZE, 3), 120, np.uint8)
    assert augmented(grey, hue=0.5) == pytest.approx(channels_first(grey), abs=0.01)
    pixels = smooth(3)
    ours = augmented(pixels, hue=0.1)
    assert ours.mean(axis=1) == pytest.approx(channels_first(pixels).mean(axis=1), abs=2)
    assert np.abs(ours - channels_first(pixels)).max() > 5


def test_greyscale_is_torchvisions() -> None:
    pixels = smooth()
    theirs = tv.rgb_to_grayscale(torch.from_numpy(channels_first(pixels)), 3).numpy()
    assert augmented(pixels, greyscale=1.0) == pytest.approx(theirs, abs=0.5)


def test_erasing_sets_a_rectangle_to_the_mean() -> None:
    ours = augmented(np.full((8, SIZE, SIZE, 3), 90, np.uint8), erase=1.0)
    shares = (ours == 0).mean(axis=(1, 2, 3))
    assert (shares > 0).all()
    assert shares.max() < 0.5
    for picture in ours:
        rows, columns = np.nonzero(picture[0] == 0)
        area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert area == len(rows)


def test_perspective_moves_corners_and_not_the_middle() -> None:
    pixels = smooth(6)
    ours = augmented(pixels, perspective=0.5)
    difference = np.abs(ours - channels_first(pixels)).mean(axis=(0, 1))
    assert difference[15:17, 15:17].mean() < 4
    assert difference[:4, :4].mean() > 2 * difference[15:17, 15:17].mean()


@pytest.mark.parametrize(
    "what",
    [
        {"flip": 0.5, "rotation": 20, "brightness": 0.3},
        {"rand": "rand-m9-n2"},
        {"crop": (0.3, 1)},
        {"erase": 0.5},
        {"hue": 0.2},
        {"perspective": 0.4},
        {"greyscale": 0.5},
    ],
)
def test_a_seed_decides_the_pictures(what: dict[str, object]) -> None:
    pixels = smooth(8)
    one, same, other = (augmented(pixels, seed=s, **what) for s in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


@pytest.mark.parametrize("what", [{"rand": "rand-m9-n2"}, {"erase": 1.0}])
def test_timms_part_leaves_the_global_generators_as_they_were(what: dict[str, object]) -> None:
    def draw() -> tuple[float, float]:
        return np.random.rand(), random.random()  # noqa: NPY002, S311

    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    expected = draw()
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    augmented(smooth(), **what)
    assert draw() == expected


def test_erasing_is_timms() -> None:
    """By area, aspect and place: one rectangle in a picture, as often as was asked for."""
    erased = augmented(np.full((400, SIZE, SIZE, 3), 90, np.uint8), erase=0.25) == 0
    assert 0.18 < erased.any(axis=(1, 2, 3)).mean() < 0.32
    shares = erased.mean(axis=(1, 2, 3))[erased.any(axis=(1, 2, 3))]
    assert shares.min() > 0.02 - 1 / SIZE
    assert shares.max() < 1 / 3 + 2 / SIZE


@pytest.mark.parametrize("what", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
def test_mixed_labels_are_shares_of_one(what: dict[str, float]) -> None:
    mix = mixer(Augmentation.model_validate(what), 5)
    x, y = mix(torch.rand(8, 3, 16, 16), torch.arange(8) % 5)
    assert x.shape == (8, 3, 16, 16)
    assert y.sum(dim=1).tolist() == pytest.approx([1.0] * 8)
    assert float(y.min()) == 0


def test_mixup_mixes_pictures_as_it_mixes_labels() -> None:
    mix, x, labels = mixer(Augmentation(mixup=1.0), 8), torch.rand(8, 3, 4, 4), torch.arange(8)
    mixed, shares = mix(x.clone(), labels)
    torch.testing.assert_close(mixed, torch.einsum("nm,mchw->nchw", shares, x))


def test_cutmix_takes_as_much_of_a_label_as_of_its_picture() -> None:
    mix, labels = mixer(Augmentation(cutmix=1.0), 8), torch.arange(8)
    mixed, shares = mix(labels.float().view(8, 1, 1, 1).expand(8, 3, 16, 16).clone(), labels)
    own = (mixed == labels.view(8, 1, 1, 1)).float().mean((1, 2, 3))
    torch.testing.assert_close(shares.diagonal(), own)


def test_nothing_is_mixed_unless_it_is_asked_for() -> None:
    assert mixer(Augmentation(), 5) is None
