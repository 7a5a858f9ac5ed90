from __future__ import annotations

import numpy as np
import pytest
import torch
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


def fitted(ours: np.ndarray, make: object, grid: np.ndarray) -> tuple[float, float]:
    """The parameter of torchvision's transform that comes closest, and how close it comes."""
    inner = slice(8, -8)
    differences = [
        float(np.abs(make(value) - ours)[:, inner, inner].mean())  # type: ignore[operator]
        for value in grid
    ]
    best = int(np.argmin(differences))
    return float(grid[best]), differences[best]


def test_a_rotation_is_torchvisions() -> None:
    pixels = smooth(6)
    angles = []
    for n, picture in enumerate(augmented(pixels, seed=5, rotation=40)):
        source = torch.from_numpy(channels_first(pixels[n : n + 1])[0])

        def turned(angle: float, source: torch.Tensor = source) -> np.ndarray:
            return tv.rotate(source, angle, InterpolationMode.BILINEAR).numpy()

        angle, difference = fitted(picture, turned, np.arange(-45, 45.5, 0.5))
        assert difference < 2.5
        angles.append(angle)
    assert max(np.abs(angles)) <= 40.5
    assert min(angles) < 0 < max(angles)


def test_a_translation_is_torchvisions() -> None:
    pixels = smooth(1)
    (picture,) = augmented(pixels, seed=2, translation=0.2)
    source = torch.from_numpy(channels_first(pixels)[0])
    best = min(
        (float(np.abs(moved - picture)[:, 8:-8, 8:-8].mean()), dx, dy)
        for dx in np.arange(-7, 7.1, 0.5)
        for dy in np.arange(-7, 7.1, 0.5)
        if (
            moved := tv.affine(
                source, 0, [dx, dy], 1, [0.0, 0.0], InterpolationMode.BILINEAR
            ).numpy()
        )
        is not None
    )
    assert best[0] < 3.5
    assert max(abs(best[1]), abs(best[2])) <= 0.2 * SIZE + 1


def test_a_zoom_is_torchvisions() -> None:
    pixels = smooth(10)
    scales = []
    for n, picture in enumerate(augmented(pixels, seed=3, zoom=0.3)):
        source = torch.from_numpy(channels_first(pixels[n : n + 1])[0])

        def zoomed(scale: float, source: torch.Tensor = source) -> np.ndarray:
            return tv.affine(
                source, 0, [0, 0], scale, [0.0, 0.0], InterpolationMode.BILINEAR
            ).numpy()

        scale, difference = fitted(picture, zoomed, np.arange(0.7, 1.5, 0.01))
        assert difference < 2.5
        scales.append(scale)
    assert 1 / 1.31 <= min(scales) < 1 < max(scales) <= 1 / 0.69


def test_a_crop_shows_a_part_of_the_picture_at_the_size_asked_for() -> None:
    line = np.broadcast_to(np.linspace(50, 200, 37), (3, 37, 37))
    pixels = np.repeat(line[:, :, :, None], 3, axis=3).round().astype(np.uint8)
    ours = augmented(pixels, crop=(0.2, 0.6))
    assert ours.shape == (3, 3, SIZE, SIZE)
    assert ours.min() >= 49
    assert ours.max() <= 201
    slopes = (ours[:, 0, 16, -8] - ours[:, 0, 16, 8]) / (SIZE - 16) * SIZE / 150
    assert ((slopes > np.sqrt(0.2 * 0.75) - 0.05) & (slopes < 1)).all()


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
def test_colours_change_as_torchvisions_do(what: str, theirs: object) -> None:
    pixels = smooth(5)
    factors = []
    for n, picture in enumerate(augmented(pixels, seed=1, **{what: 0.4})):
        source = torch.from_numpy(pixels[n]).permute(2, 0, 1).float() / 255

        def changed(factor: float, source: torch.Tensor = source) -> np.ndarray:
            return (theirs(source, factor) * 255).numpy()  # type: ignore[operator]

        factor, difference = fitted(picture, changed, np.arange(0.6, 1.405, 0.01))
        assert difference < 1.5
        factors.append(factor)
    assert min(factors) < 1 < max(factors)


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
    [{"flip": 0.5, "rotation": 20, "brightness": 0.3}, {"rand": "rand-m9-n2"}, {"crop": (0.3, 1)}],
)
def test_a_seed_decides_the_pictures(what: dict[str, object]) -> None:
    pixels = smooth(8)
    one, same, other = (augmented(pixels, seed=s, **what) for s in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_randaugment_leaves_the_global_generators_as_they_were() -> None:
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.rand()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    augmented(smooth(), rand="rand-m9-n2")
    assert np.random.rand() == expected  # noqa: NPY002


@pytest.mark.parametrize("what", [{"mixup": 0.4}, {"cutmix": 1.0}])
def test_mixed_labels_are_shares_of_one(what: dict[str, float]) -> None:
    mix = mixer(Augmentation.model_validate(what), 0.0, 5)
    x, y = mix(torch.rand(8, 3, 16, 16), torch.arange(8) % 5)
    assert x.shape == (8, 3, 16, 16)
    assert y.sum(dim=1).tolist() == pytest.approx([1.0] * 8)
    assert mixer(Augmentation(), 0.1, 5) is None
