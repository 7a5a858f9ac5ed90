"""JPEGs of three sizes, made of real photographs, in a cache folder outside the repository."""

from __future__ import annotations

import itertools
import os
import random
import tarfile
from io import BytesIO
from pathlib import Path

import platformdirs
from PIL import Image

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("IMGRET_TEST_DATA", ROOT.parent / "shared"))
WEIGHTS = SHARED / "weights" / "mobilenetv2_100.in1k"
CACHE = platformdirs.user_cache_path("imgret-benchmarks")
QUALITY = 90
SIZES = {"small": (224, 224), "1 MP": (1152, 864), "12 MP": (4000, 3000)}
TILE = {"small": 224, "1 MP": 288, "12 MP": 1000}


def jpeg(image: Image.Image, quality: int = 90) -> Image.Image:
    """A picture as JPEG leaves it."""
    stream = BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(BytesIO(stream.getvalue())).convert("RGB")


def unpacked(name: str) -> Path:
    """One of the archives of real images, unpacked."""
    if not (CACHE / name).is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tarfile.open(SHARED / "data" / f"{name}.tar") as archive:
            archive.extractall(CACHE / "unpacking", filter="data")
        (CACHE / "unpacking" / name).rename(CACHE / name)
    return CACHE / name


def cifar_part(*, quick: bool) -> Path:
    """CIFAR-10's first 1,000 training and 200 test images a class; of quick, 20 each."""
    folder = CACHE / ("cifar10-few" if quick else "cifar10-part")
    for split, count in {"train": 1000, "test": 200}.items():
        for source in sorted((unpacked("cifar10") / split).iterdir()):
            target = folder / split / source.name
            target.mkdir(parents=True, exist_ok=True)
            for file in sorted(source.iterdir())[: 20 if quick else count]:
                if not (target / file.name).exists():
                    (target / file.name).symlink_to(file)
    return folder


def photographs(size: str, count: int) -> Path:
    """A folder of count JPEGs: mosaics of photographs of cars, each enlarged to a tile."""
    folder = CACHE / f"{size.replace(' ', '')}-{count}"
    if folder.is_dir():
        return folder
    cars = sorted(unpacked("cars").rglob("*.jpg"))
    chance, (width, height), tile = random.Random(0), SIZES[size], TILE[size]
    chosen = itertools.cycle(chance.sample(cars, len(cars)))  # a picture of one tile is no copy
    making = folder.with_name(f"{folder.name}.making")
    making.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        mosaic = Image.new("RGB", (width, height))
        for x in range(0, width, tile):
            for y in range(0, height, tile):
                part = Image.open(next(chosen)).convert("RGB")
                mosaic.paste(part.resize((tile, tile), Image.Resampling.BICUBIC), (x, y))
        mosaic.save(making / f"{n:05}.jpg", quality=QUALITY)
    making.rename(folder)
    return folder
