"""Near-duplicates made of real photographs: recall and precision, raw and transformed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from benchmarks.copies import TURNED, Change, measure_copies
from benchmarks.photographs import WEIGHTS, jpeg, unpacked
from benchmarks.table import Table

FALSE_ALARMS = 10


def _sized(share: float) -> Change:
    """Smaller by a share of each side."""

    def change(image: Image.Image) -> Image.Image:
        size = max(1, round(image.width * share)), max(1, round(image.height * share))
        return jpeg(image.resize(size, Image.Resampling.LANCZOS))

    return change


def _cropped(image: Image.Image) -> Image.Image:
    x, y = round(image.width * 0.025), round(image.height * 0.025)
    return jpeg(image.crop((x, y, image.width - x, image.height - y)))


def _marked(image: Image.Image) -> Image.Image:
    marked = image.copy()
    place = image.width * 0.1, image.height * 0.8
    size = max(10, image.height // 10)
    ImageDraw.Draw(marked).text(place, "(c) example.com", fill="white", font_size=size)
    return jpeg(marked)


CHANGES: dict[str, Change] = {
    "JPEG quality 90": jpeg,
    "JPEG quality 70": lambda image: jpeg(image, 70),
    "JPEG quality 50": lambda image: jpeg(image, 50),
    "resized to 70 %": _sized(0.7),
    "resized to 50 %": _sized(0.5),
    "resized to 25 %": _sized(0.25),
    "5 % cropped": _cropped,
    "10 % brighter": lambda image: jpeg(ImageEnhance.Brightness(image).enhance(1.1)),
    "watermark text": _marked,
    "white border of 4 %": lambda image: jpeg(
        ImageOps.expand(image, round(0.04 * max(image.size)), "white")
    ),
}


COPIES = {name: change for name, change in CHANGES.items() if "cropped" not in name} | TURNED


@dataclass(frozen=True)
class _Photographs:
    """(n, d) float32 unit embeddings of the photographs, and of each with each change."""

    plain: np.ndarray
    changed: dict[str, np.ndarray]

    def gallery(self, picked: np.ndarray, copies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Some photographs and one more version of some, changed by turns: vectors, and which."""
        versions = list(self.changed.values())
        more = [versions[n % len(versions)][i] for n, i in enumerate(copies)]
        vectors = np.concatenate([self.plain[picked], np.array(more).reshape(-1, len(more[0]))])
        return vectors, np.concatenate([picked, copies])


def measure(*, quick: bool) -> list[Table]:
    """Recall by change at equal false alarms, then what the estimated thresholds give."""
    files = sorted((unpacked("cars") / "test").rglob("*.jpg"))[:: 8 if quick else 1]
    with tempfile.TemporaryDirectory() as folder:
        photographs = _embedded(files, Path(folder) / "g")
    copies = measure_copies(files, COPIES)
    return [copies, _by_change(photographs), _by_gallery(photographs)]


def _embedded(files: list[Path], gallery: Path) -> _Photographs:
    from retrieval.retriever import Retriever

    retriever = Retriever(gallery, backbone=str(WEIGHTS))
    retriever.index(files)
    images = [Image.open(file).convert("RGB") for file in files]
    changed = {
        name: retriever.encode([change(image) for image in images])
        for name, change in CHANGES.items()
    }
    return _Photographs(retriever.encode(images), changed)


def _spaces(vectors: np.ndarray) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    from retrieval import transform

    auto = transform.fit(transform.resolve_spec("auto", *vectors.shape), vectors)
    return {"raw": transform.Transform("none", vectors.shape[1]).apply, "transformed": auto.apply}


def _by_change(photographs: _Photographs) -> Table:
    table = Table(
        "Near-duplicates by change",
        f"MobileNetV2, {len(photographs.plain):,} photographs of cars/test: share of the changed "
        "ones that score above the threshold to their original. imgret estimates one threshold. "
        "The other, `10 false`, is the one that 10 of the unchanged photographs reach with another "
        "one. Embeddings are raw, or transformed by auto, which is rca here, since no labels are "
        "given. Some of the 10 are real near-duplicates, as of one photograph under two labels.",
        [
            "change",
            "raw, estimated",
            "transformed, estimated",
            "raw, 10 false",
            "transformed, 10 false",
        ],
    )
    columns: dict[str, list[float]] = {}
    for name, apply in _spaces(photographs.plain).items():
        x = apply(photographs.plain)
        best = np.sort(_others(x).max(axis=1))[::-1]
        scores = [(x * apply(y)).sum(axis=1) for y in photographs.changed.values()]
        false = float(best[min(FALSE_ALARMS, len(best)) - 1])
        for how, threshold in (("estimated", _estimated(x)), ("10 false", false)):
            recalls = [float((s >= threshold).mean()) for s in scores]
            alarms = (best >= threshold).sum()
            columns[f"{name}, {how}"] = [alarms, threshold, *recalls, float(np.mean(recalls))]
    order = [columns[name] for name in table.columns[1:]]
    table.add("false", *(f"{values.pop(0):.0f}" for values in order))
    rows = ["threshold", *photographs.changed, "all"]
    for row, values in zip(rows, zip(*order, strict=True), strict=True):
        table.add(row, *(f"{value:.3f}" for value in values))
    return table


def _by_gallery(photographs: _Photographs) -> Table:
    table = Table(
        "Estimated thresholds",
        "The same photographs, and changed versions of some (the changes by turns). The threshold "
        "is estimated from each gallery without labels. Pairs: precision and recall of pairs of "
        "versions of one photograph above it; false: "
        "pairs of different photographs above it, where the estimate expects about 1 image.",
        ["gallery", "images", "vectors", "threshold", "precision", "recall", "false"],
    )
    n = len(photographs.plain)
    chance = np.random.default_rng(0)
    galleries: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for share in (0.05, 0.3, 1.0):
        copies = chance.choice(n, int(share * n), replace=False)
        galleries[f"all, {share:.0%} with a version"] = np.arange(n), copies
    few = chance.choice(n, min(300, n), replace=False)
    galleries["300, 8 versions each"] = few, np.repeat(few, len(CHANGES))
    for m in (30, 100, 300):
        galleries[f"{m}, 10 % with a version"] = few[:m], few[: m // 10]
    for name, (picked, copies) in galleries.items():
        vectors, which = photographs.gallery(picked, copies)
        for space, apply in _spaces(vectors).items():
            table.add(name, f"{len(vectors):,}", space, *_scored(apply(vectors), which))
    return table


def _scored(x: np.ndarray, which: np.ndarray) -> list[str]:
    scores, threshold = np.triu(_others(x), 1), _estimated(x)
    same = np.triu(which[:, None] == which, 1)
    found = scores >= threshold
    right, false = int((found & same).sum()), int((found & ~same).sum())
    precision = right / (right + false) if right + false else 1.0
    return [f"{threshold:.3f}", f"{precision:.3f}", f"{right / same.sum():.3f}", f"{false}"]


def _others(x: np.ndarray) -> np.ndarray:
    """(n, n) cosine similarities of unit vectors; a vector is not its own neighbour."""
    scores = x @ x.T
    np.fill_diagonal(scores, -1)
    return scores


def _estimated(x: np.ndarray) -> float:
    from retrieval.retriever.duplicates.threshold import neighbours_needed, score_by_chance

    nearest = -np.sort(-_others(x), axis=1)[:, : neighbours_needed(len(x))]
    return score_by_chance(nearest, len(x))
