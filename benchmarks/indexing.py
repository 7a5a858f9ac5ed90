"""images/s of decoding, encoding and the whole index run, beside the plain way."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.photographs import WEIGHTS, photographs
from benchmarks.table import Table, spread

COUNTS = {"small": 1500, "1 MP": 400, "12 MP": 60}
QUICK = {"small": 64, "1 MP": 16, "12 MP": 2}
MALLOC = {  # what imgret sets by mallopt for torch on a CPU, for a plain loop
    "MALLOC_MMAP_THRESHOLD_": "2147483647",
    "MALLOC_TRIM_THRESHOLD_": "2147483647",
    "MALLOC_TOP_PAD_": str(512 << 20),
}


def measure(*, quick: bool) -> list[Table]:
    """Interleaved rounds of each side, as processes."""
    rounds = 1 if quick else 3
    sides = ["decode", "encode", "index", "plain", "plain, same malloc"]
    speed = Table(
        "Indexing",
        f"MobileNetV2 at 224 px, images/s, medians of {rounds} interleaved rounds (least to most). "
        "`d` is decoding alone and `e` encoding alone, each with all cores. `limit` is "
        "1 / (1/d + 1/e). `index` is `Retriever.index` from the first image read to the last row "
        "stored. `plain` is Pillow's full decode and resize in a loop, and torch eager in float32, "
        "batch 32. `same malloc` is that with glibc told to keep freed memory.",
        ["images", "d", "e", "limit", "index", "index / limit", *sides[3:], "index / plain",
         "index / plain, same malloc"],
    )  # fmt: skip
    for size, count in (QUICK if quick else COUNTS).items():
        folder = photographs(size, count)
        rates: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side in sides:
                rates[side].append(_run(side, folder)["rate"])
        m = {side: median(values) for side, values in rates.items()}
        limit = 1 / (1 / m["decode"] + 1 / m["encode"])
        speed.add(
            f"{count} of {size}",
            *(spread(rates[s]) for s in ("decode", "encode")),
            f"{limit:.0f}",
            spread(rates["index"]),
            f"{m['index'] / limit:.2f}",
            *(spread(rates[s]) for s in sides[3:]),
            f"{m['index'] / m['plain']:.1f}",
            f"{m['index'] / m['plain, same malloc']:.1f}",
        )
    return [speed, _memory(quick=quick), _cosines(quick=quick)]


def _memory(*, quick: bool) -> Table:
    table = Table(
        "Memory",
        "Peak resident memory of the process that indexes, torch for the export included, as the "
        "folder grows.",
        ["images of 1 MP", "peak"],
    )
    for count in (16, 32) if quick else (100, 400, 1600):
        peak = _run("index", photographs("1 MP", count))["peak"]
        table.add(str(count), f"{peak / 1e6:.0f} MB")
    return table


def _cosines(*, quick: bool) -> Table:
    from PIL import Image

    from retrieval.backbones import load_backbone
    from retrieval.encoder import open_encoder
    from retrieval.images import decode

    table = Table(
        "Reduced decoding",
        "Cosine between the embeddings of a JPEG decoded at a reduced scale and in full, both "
        "encoded in float32.",
        ["images", "mean", "worst"],
    )
    backbone = load_backbone(str(WEIGHTS))
    p = backbone.spec.preprocessing
    with tempfile.TemporaryDirectory() as cache:
        encoder = open_encoder(
            backbone.spec, lambda: backbone, engine="openvino-fp32", cache=Path(cache)
        )
        for size, count in (QUICK if quick else COUNTS).items():
            if size == "small":
                continue
            reduced, full = [], []
            for file in sorted(photographs(size, count).iterdir()):
                reduced.append(encoder.encode(decode(file, p).pixels[None])[0])
                plain = Image.open(file).resize((p.size, p.size), Image.Resampling.BICUBIC)
                full.append(encoder.encode(np.asarray(plain)[None])[0])
            cosines = (np.stack(reduced) * np.stack(full)).sum(axis=1)
            table.add(f"{count} of {size}", f"{cosines.mean():.4f}", f"{cosines.min():.4f}")
    return table


def _run(side: str, folder: Path) -> dict[str, float]:
    environment = MALLOC if side.endswith("malloc") else {}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.indexing", side, str(folder)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _decode(folder: Path) -> float:
    from retrieval.backbones import load_backbone
    from retrieval.images import find_images
    from retrieval.loader import load_images

    files, preprocessing = (
        list(find_images([folder])),
        load_backbone(str(WEIGHTS)).spec.preprocessing,
    )
    start = time.perf_counter()
    n = sum(item.error is None for item in load_images(files, preprocessing))
    return n / (time.perf_counter() - start)


def _encode(_: Path) -> float:
    from retrieval.backbones import load_backbone
    from retrieval.encoder import cache_folder, open_encoder

    backbone = load_backbone(str(WEIGHTS))
    encoder = open_encoder(backbone.spec, lambda: backbone, cache=cache_folder())
    size = backbone.spec.preprocessing.size
    shape = (encoder.batch_size, size, size, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for _ in range(3):
        encoder.encode(pixels)
    rounds, start = 40, time.perf_counter()
    for _ in range(rounds):
        encoder.encode(pixels)
    return rounds * len(pixels) / (time.perf_counter() - start)


def _index(folder: Path) -> float:
    from retrieval.retriever import Retriever

    with tempfile.TemporaryDirectory() as gallery:
        return Retriever(Path(gallery) / "g", backbone=str(WEIGHTS)).index(folder).images_per_second


def _plain(folder: Path) -> float:
    import timm
    import torch
    from PIL import Image

    network = timm.create_model(f"local-dir:{WEIGHTS}", pretrained=True, num_classes=0).eval()
    mean, std = (torch.tensor(network.pretrained_cfg[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    files = sorted(folder.iterdir())

    def embed(part: list[Path]) -> Any:
        images = [Image.open(f).convert("RGB").resize((224, 224), 3) for f in part]
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
        with torch.inference_mode():
            return network((pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std)

    embed(files[:2])
    start = time.perf_counter()
    for at in range(0, len(files), 32):
        embed(files[at : at + 32])
    return len(files) / (time.perf_counter() - start)


if __name__ == "__main__":
    sides = {"decode": _decode, "encode": _encode, "index": _index, "plain": _plain}
    rate = sides[sys.argv[1].partition(",")[0]](Path(sys.argv[2]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"rate": rate, "peak": peak}))
