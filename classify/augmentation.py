"""Pixels -> training pictures, a whole batch at a time, as a recipe's [augmentation] says.

Everything geometric is one matrix a picture and one resampling, or none where whole pixels are
moved; it happens where the network runs. RandAugment, mixup, CutMix and erasing are timm's.
"""

from __future__ import annotations

import math
import random as python_random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.random_erasing import RandomErasing
from torch.nn import functional

from classify.recipe import Augmentation
from retrieval.images import Preprocessing

MARGIN = 8 / 7  # how much larger pictures are kept when random crops are cut from them
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
ASPECT = (3 / 4, 4 / 3)

Mixer = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def kept_side(augmentation: Augmentation, size: int) -> int:
    """Return the side at which training pictures are kept in memory, pixels."""
    return round(size * MARGIN) if augmentation.crop else size


class Augmenter:
    """uint8 pixels -> normalised float32 pictures; the same seed gives the same pictures."""

    def __init__(self, augmentation: Augmentation, preprocessing: Preprocessing) -> None:
        self.augmentation = augmentation
        self.preprocessing = preprocessing
        self.size = preprocessing.size
        self._mean = torch.tensor(preprocessing.mean).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(preprocessing.std).view(1, 3, 1, 1) * 255
        self._rand = _rand_augment(augmentation.rand, preprocessing) if augmentation.rand else None

    def __call__(self, pixels: np.ndarray, seed: int, device: torch.device) -> torch.Tensor:
        """Augment (n, s, s, 3) uint8 to (n, 3, size, size) float32, channels last in memory."""
        a, random = self.augmentation, torch.Generator().manual_seed(seed)
        if self._rand is not None:
            with timm_seeded(seed):
                pixels = np.stack([np.asarray(self._rand(Image.fromarray(p))) for p in pixels])
        x = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)
        x = _moved(x, a, self.size, random)
        x = _coloured(x, a, random)
        x = x.sub_(self._mean.to(device)).div_(self._std.to(device))
        if a.erase:
            with timm_seeded(int(torch.randint(2**31, (), generator=random))):
                x = RandomErasing(a.erase, device=device)(x)  # with the mean
        return x.contiguous(memory_format=torch.channels_last)

    def plain(self, pixels: np.ndarray, device: torch.device) -> torch.Tensor:
        """Normalise (n, size, size, 3) uint8 to (n, 3, size, size) float32, not augmented."""
        x = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float()
        x = x.sub_(self._mean.to(device)).div_(self._std.to(device))
        return x.contiguous(memory_format=torch.channels_last)


def mixer(augmentation: Augmentation, num_classes: int) -> Mixer | None:
    """Make timm's mixup and CutMix: (pictures, labels) -> (pictures, (n, classes)); or None.

    The loss smooths the labels, as it does those that are not mixed.
    """
    if not augmentation.mixes:
        return None
    from timm.data import Mixup

    mix: Mixer = Mixup(
        mixup_alpha=augmentation.mixup,
        cutmix_alpha=augmentation.cutmix,
        label_smoothing=0.0,
        num_classes=num_classes,
    )
    return mix


def _moved(x: torch.Tensor, a: Augmentation, size: int, random: torch.Generator) -> torch.Tensor:
    """Everything geometric: one 3x3 matrix a picture, from places in the result to the source.

    uint8 -> float32. What moves by whole pixels is moved as bytes.
    """
    n = len(x)
    if not any((a.rotation, a.shear, a.zoom, a.perspective, a.crop)):
        if x.shape[-1] != size:
            x = functional.interpolate(x.float(), (size, size), mode="area")
        return (_shifted(x, a, random) if a.flip or a.translation else x).float()
    matrix = _identity(n)
    if a.flip:
        matrix[:, 0, 0] = torch.where(torch.rand(n, generator=random) < a.flip, -1.0, 1.0)
    if a.crop:
        matrix = _crops(n, a.crop, random) @ matrix
    if a.zoom or a.translation:
        moves = _identity(n)
        if a.zoom:
            moves[:, [0, 1], [0, 1]] = (1 + _even(n, a.zoom, random))[:, None].expand(n, 2)
        if a.translation:
            moves[:, 0, 2] = 2 * _even(n, a.translation, random)
            moves[:, 1, 2] = 2 * _even(n, a.translation, random)
        matrix = moves @ matrix
    if a.rotation or a.shear:
        matrix = _turns(n, a, random) @ matrix
    if a.perspective:
        tilts = _identity(n)
        tilts[:, 2, 0] = _even(n, a.perspective, random) / 2
        tilts[:, 2, 1] = _even(n, a.perspective, random) / 2
        matrix = tilts @ matrix
    grid = _grid(matrix, size, x.device)
    return functional.grid_sample(x.float(), grid, padding_mode=a.fill, align_corners=False)


def _shifted(x: torch.Tensor, a: Augmentation, random: torch.Generator) -> torch.Tensor:
    """Flip and translation by whole pixels, which resampling would blur."""
    n, size = len(x), x.shape[-1]
    most = round(a.translation * size)
    columns, rows = torch.arange(size) + torch.randint(-most, most + 1, (2, n, 1), generator=random)
    flipped = torch.rand(n, 1, generator=random) < a.flip
    columns = torch.where(flipped, size - 1 - columns, columns)
    places = (at.to(x.device) for at in (columns, rows))
    (columns, outside_x), (rows, outside_y) = (_inside(at, size, a.fill) for at in places)
    rows, columns = rows[:, :, None], columns[:, None, :]
    picture = torch.arange(n, device=x.device)[:, None, None]
    pixels = x.permute(0, 2, 3, 1).reshape(-1, 3)
    chosen = ((picture * size + rows) * size + columns).view(-1)
    moved = pixels.index_select(0, chosen).view(n, size, size, 3)  # 4 times as fast as x[...]
    if a.fill == "zeros":
        outside = outside_y[:, :, None] | outside_x[:, None, :]
        moved.masked_fill_(outside[..., None], 0)
    return moved.permute(0, 3, 1, 2)


def _inside(places: torch.Tensor, size: int, fill: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Where to read each pixel of a line, as grid_sample does, and which lay outside."""
    outside = (places < 0) | (places >= size)
    if fill == "reflection":
        places = torch.where(places < 0, -1 - places, places)
        places = torch.where(places >= size, 2 * size - 1 - places, places)
    return places.clamp(0, size - 1), outside


def _grid(matrix: torch.Tensor, size: int, device: torch.device) -> torch.Tensor:
    """Where each pixel of the result lies in the source: (n, size, size, 2), both from -1 to 1."""
    is_affine = torch.equal(matrix[:, 2], torch.tensor([0.0, 0.0, 1.0]).expand(len(matrix), 3))
    matrix = matrix.to(device)
    if is_affine:
        return functional.affine_grid(
            matrix[:, :2], [len(matrix), 1, size, size], align_corners=False
        )
    line = (2 * torch.arange(size, device=device) + 1) / size - 1
    ones = torch.ones(size, size, device=device)
    points = torch.stack([line.expand(size, size), line[:, None].expand(size, size), ones], dim=-1)
    found = points.view(1, -1, 3) @ matrix.transpose(1, 2)
    return (found[..., :2] / found[..., 2:].clamp(min=0.1)).view(-1, size, size, 2)


def _crops(n: int, area: tuple[float, float], random: torch.Generator) -> torch.Tensor:
    """Random areas and aspects, placed anywhere inside (Szegedy et al. 2015, "Going deeper")."""
    share = area[0] + (area[1] - area[0]) * torch.rand(n, generator=random)
    low, high = math.log(ASPECT[0]), math.log(ASPECT[1])
    aspect = torch.exp(low + (high - low) * torch.rand(n, generator=random))
    width = (share * aspect).sqrt().clamp(max=1)
    height = (share / aspect).sqrt().clamp(max=1)
    matrix = _identity(n)
    for axis, side in enumerate((width, height)):
        matrix[:, axis, axis] = side
        matrix[:, axis, 2] = (1 - side) * (2 * torch.rand(n, generator=random) - 1)
    return matrix


def _turns(n: int, a: Augmentation, random: torch.Generator) -> torch.Tensor:
    angle = torch.deg2rad(_even(n, a.rotation, random))
    shear = torch.tan(torch.deg2rad(_even(n, a.shear, random)))
    matrix = _identity(n)
    matrix[:, 0, 0] = matrix[:, 1, 1] = torch.cos(angle)
    matrix[:, 0, 1], matrix[:, 1, 0] = -torch.sin(angle), torch.sin(angle)
    slant = _identity(n)
    slant[:, 0, 1] = shear
    return matrix @ slant


def _coloured(x: torch.Tensor, a: Augmentation, random: torch.Generator) -> torch.Tensor:
    """Brightness, contrast, saturation and hue, as torchvision's ColorJitter defines them."""
    n, device = len(x), x.device

    def factor(most: float) -> torch.Tensor:
        return (1 + _even(n, most, random)).to(device).view(n, 1, 1, 1)

    if a.brightness:
        x = (x * factor(a.brightness)).clamp(0, 255)
    if a.contrast:
        mean = _grey(x).mean((1, 2, 3), keepdim=True)
        x = torch.lerp(mean, x, factor(a.contrast)).clamp(0, 255)
    if a.saturation:
        x = torch.lerp(_grey(x).expand_as(x), x, factor(a.saturation)).clamp(0, 255)
    if a.hue:
        x = _hue_turned(x, 2 * math.pi * _even(n, a.hue, random).to(device)).clamp(0, 255)
    if a.greyscale:
        grey = (torch.rand(n, generator=random) < a.greyscale).to(device)
        x = torch.where(grey[:, None, None, None], _grey(x).expand_as(x), x)
    return x


def _hue_turned(x: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Colours turned about the grey axis, which is a matrix and close to a change of hue."""
    cos, sin = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    third, root = 1 / 3, math.sqrt(1 / 3)
    ones = torch.full((3, 3), third, device=x.device)
    cross = root * torch.tensor(
        [[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]], device=x.device
    )
    turn = cos * torch.eye(3, device=x.device) + (1 - cos) * ones + sin * cross
    return torch.einsum("nij,njhw->nihw", turn, x)


def _grey(x: torch.Tensor) -> torch.Tensor:
    weights = torch.tensor(LUMA, device=x.device).view(1, 3, 1, 1)
    return (x * weights).sum(1, keepdim=True)


@contextmanager
def timm_seeded(seed: int) -> Iterator[None]:
    """Seed Python's and NumPy's global generators, which timm uses, and restore them."""
    states = python_random.getstate(), np.random.get_state()  # noqa: NPY002
    python_random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        python_random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


def _rand_augment(policy: str, preprocessing: Preprocessing) -> Any:
    from timm.data.auto_augment import rand_augment_transform

    mean = tuple(round(255 * value) for value in preprocessing.mean)
    return rand_augment_transform(policy, {"img_mean": mean})


def _identity(n: int) -> torch.Tensor:
    return torch.eye(3).repeat(n, 1, 1)


def _even(n: int, most: float, random: torch.Generator) -> torch.Tensor:
    return most * (2 * torch.rand(n, generator=random) - 1)
