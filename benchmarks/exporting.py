"""The two ways in which a network comes to OpenVINO, side by side."""

from __future__ import annotations

import time
from statistics import median

import torch

from benchmarks.table import Table, spread
from retrieval import backbones
from retrieval.encoder import CONVERSIONS, compiled
from retrieval.encoder.torch_runners import normalised

NETWORKS = (
    "mobilenetv2_100",
    "resnet50",
    "efficientnet_b0",
    "vit_small_patch16_224",
    "swin_tiny_patch4_window7_224",
)


def measure(*, quick: bool) -> list[Table]:
    """Seconds of each conversion, interleaved, and the seconds of a batch by what they made."""
    table = Table(
        "Exporting",
        "Seconds that a network with random weights takes to become OpenVINO's, torch and timm "
        "being loaded: medians (least to most) of interleaved runs. imgret traces it, and takes "
        "`torch.export` where tracing fails. `batch` has seconds of 8 pictures through what each "
        "made.",
        ["network", "traced", "torch.export", "ratio", "batch, traced", "batch, torch.export"],
    )
    for name in ("mobilenetv3_small_050",) if quick else NETWORKS:
        backbone = backbones.load_backbone(f"random:{name}")
        side = backbone.spec.preprocessing.size
        pictures = torch.randint(0, 256, (8, side, side, 3), dtype=torch.uint8)
        seconds: list[list[float]] = [[] for _ in CONVERSIONS]
        batches: list[list[float]] = [[] for _ in CONVERSIONS]
        for _ in range(1 if quick else 5):
            runs = []
            for found, convert in zip(seconds, CONVERSIONS, strict=True):
                start = time.perf_counter()
                model = convert(normalised(backbone), pictures[:2])
                found.append(time.perf_counter() - start)
                runs.append(compiled(model, "fp32"))
            for _ in range(3):
                for found, run in zip(batches, runs, strict=True):
                    start = time.perf_counter()
                    run(pictures.numpy())
                    found.append(time.perf_counter() - start)
        ratio = f"{median(seconds[1]) / median(seconds[0]):.1f}"
        table.add(
            f"`{name}`", *(spread(s, 1) for s in seconds), ratio, *(spread(s, 2) for s in batches)
        )
    return [table]
