"""imgret's own encoder beside MobileNetV2 and beside two floors, and its speed."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from benchmarks.agreement import agreement
from benchmarks.photographs import CACHE, WEIGHTS, cifar_part, unpacked
from benchmarks.table import Table, spread

TRANSFORMS = ("none", "auto")
ENCODERS = {
    "mini": {"backbone": "mini"},
    "MobileNetV2, 224 px": {"backbone": str(WEIGHTS), "size": 224},
    "floor: colours and HOG": {},
    "floor: random weights": {"backbone": "random:mobilenetv2_100", "size": 152},
}
SIDE, BINS, CELL, DIRECTIONS = 128, 4, 16, 9  # of the floor that needs no network
ROUNDS, BATCH = 9, 32


def measure(*, quick: bool) -> list[Table]:
    """Matches on pictures that mini was not trained on, and images/s."""
    sets = {
        "cars": unpacked("parts" if quick else "cars"),
        "CIFAR-10": cifar_part(quick=quick),
        "parts": unpacked("parts"),
    }
    if (CACHE / "clothing").is_dir():
        sets["clothing"] = CACHE / "clothing"
    tables = [_matches(sets), _speed(3 if quick else ROUNDS)]
    if (CACHE / "samples").is_dir() and not quick:
        networks = {kind: setting for kind, setting in ENCODERS.items() if setting}
        tables.insert(1, agreement(CACHE / "samples", networks, "MobileNetV2, 224 px"))
    return tables


def _matches(sets: dict[str, Path]) -> Table:
    from retrieval.evaluation.protocols import SearchMethod, evaluate

    lacking = "" if "clothing" in sets else " Clothing was not at hand, so it was left out."
    table = Table(
        "mini: matches",
        "P@5 with its bootstrap 95 % interval. Galleries are the training images, queries the test "
        "images: cars (4,858 and 1,632 photographs, 196 models), CIFAR-10 (10,000 and 2,000), "
        "parts (400 and 40 renders, 4 classes), clothing (3,068 and 372 photographs, 10 classes). "
        "`share` is that of MobileNetV2's P@5 under the same transform. Colours and HOG: a "
        "histogram of 64 colours and scikit-image's "
        f"histogram of oriented gradients at {SIDE} px, each of unit length.{lacking}",
        ["images", "transform", "encoder", "P@5", "share", "P@1"],
    )
    for name, folder in sets.items():
        embedded = {
            kind: [_images(folder / split, setting) for split in ("train", "test")]
            for kind, setting in ENCODERS.items()
        }
        for transform in TRANSFORMS:
            found = {
                kind: evaluate(gallery, queries, method=SearchMethod(transform))
                for kind, (gallery, queries) in embedded.items()
            }
            best = found["MobileNetV2, 224 px"].metric("precision@5").value
            for kind, evaluation in found.items():
                p5, p1 = (evaluation.metric(f"precision@{k}") for k in (5, 1))
                value = f"{p5.value:.3f} [{p5.low:.3f}, {p5.high:.3f}]"
                table.add(name, transform, kind, value, f"{p5.value / best:.2f}", f"{p1.value:.3f}")
    return table


def _images(folder: Path, setting):  # type: ignore[no-untyped-def]
    """Labelled embeddings of a folder; of no backbone, colours and HOG."""
    from retrieval.comparison.embeddings import embed_folder
    from retrieval.settings import EmbeddingSettings

    encoding = EmbeddingSettings(**(setting or ENCODERS["mini"]))
    images = embed_folder(folder, encoding, CACHE / "experiments").images
    if setting:
        return images
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        found = list(pool.map(_colours_and_gradients, images.paths, chunksize=64))
    return replace(images, embeddings=np.stack(found))


def _colours_and_gradients(path: Path) -> np.ndarray:
    from skimage.feature import hog

    with Image.open(path) as file:
        pixels = np.asarray(file.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    bins = (pixels // (256 // BINS)).reshape(-1, 3) @ [BINS * BINS, BINS, 1]
    colours = np.sqrt(np.bincount(bins, minlength=BINS**3))
    gradients = hog(pixels, DIRECTIONS, (CELL, CELL), (2, 2), channel_axis=-1, feature_vector=True)
    parts = [part / max(float(np.linalg.norm(part)), 1e-9) for part in (colours, gradients)]
    return np.concatenate(parts).astype(np.float32)


def _speed(rounds: int) -> Table:
    from retrieval import backbones
    from retrieval.encoder import cache_folder, open_encoder

    table = Table(
        "mini: speed",
        f"images/s of encoding alone, batches of {BATCH}, in turns: median, least and most of "
        f"{rounds} rounds. ratio: the median of the rounds' ratios to MobileNetV2.",
        ["encoder", "engine", "images/s", "ratio"],
    )
    encoders = {}
    for kind in ("mini", "MobileNetV2, 224 px"):
        setting = ENCODERS[kind]
        backbone = backbones.load_backbone(str(setting["backbone"]), size=setting.get("size"))  # type: ignore[arg-type]
        encoders[kind] = open_encoder(backbone.spec, lambda b=backbone: b, cache=cache_folder())
    rates: dict[str, list[float]] = {kind: [] for kind in encoders}
    for turn in range(rounds + 1):
        for kind, encoder in encoders.items():
            side = encoder.spec.preprocessing.size
            pixels = np.random.default_rng(turn).integers(0, 256, (BATCH, side, side, 3), np.uint8)
            start = time.perf_counter()
            for _ in range(4):
                encoder.encode(pixels)
            if turn:
                rates[kind].append(4 * BATCH / (time.perf_counter() - start))
    slow = rates["MobileNetV2, 224 px"]
    for kind, encoder in encoders.items():
        ratio = median(a / b for a, b in zip(rates[kind], slow, strict=True))
        table.add(kind, encoder.engine, spread(rates[kind]), f"{ratio:.2f}")
    return table
