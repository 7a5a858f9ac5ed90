"""A network in torch, on a CPU or on CUDA."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING

import numpy as np

from retrieval.backbones import Backbone
from retrieval.encoder.encoder import Encoder, Runner, normalise
from retrieval.errors import BackboneError

if TYPE_CHECKING:
    import torch


def normalised(backbone: Backbone, dtype: torch.dtype | None = None) -> torch.nn.Module:
    """The network as it is run and exported: uint8 (n, h, w, 3) in, float32 embeddings out.

    dtype: what the network computes in, float32 by default.
    """
    import torch

    p, dtype = backbone.spec.preprocessing, dtype or torch.float32
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) * 255 for v in (p.mean, p.std))

    class Normalised(torch.nn.Module):
        scale: torch.Tensor
        shift: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.network = backbone.network.to(dtype)
            # a pixel less 128 is exact in bfloat16, a pixel less the mean is not
            self.register_buffer("scale", 1 / std)
            self.register_buffer("shift", (128 - mean) / std)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            planes = pixels.permute(0, 3, 1, 2).float() - 128
            planes = (planes * self.scale + self.shift).to(dtype)
            embeddings: torch.Tensor = self.network(planes)
            return embeddings.float()

    return Normalised().eval()


def torch_runner(backbone: Backbone) -> Runner:
    """Run a network in float32 on the CPU."""
    import torch

    keep_freed_memory()
    network = normalised(backbone)

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(pixels)).numpy()

    return run


def cuda_runner(backbone: Backbone) -> Runner:
    """In bfloat16 on CUDA. Raises BackboneError where no device is."""
    import torch

    if not torch.cuda.is_available():
        raise BackboneError(
            "This machine has no CUDA device. Leave --engine out, or use openvino-bf16."
        )
    network = normalised(backbone, torch.bfloat16).to("cuda")
    network = network.to(memory_format=torch.channels_last)

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            batch = torch.from_numpy(pixels).pin_memory().to("cuda", non_blocking=True)
            return network(batch).cpu().numpy()

    return run


def keep_freed_memory() -> None:
    """Tell glibc to keep large freed blocks, else torch spends its time in page faults.

    Counts for the whole process, so no import does it: training, predicting and encoding in torch
    do when they begin. Set MALLOC_TOP_PAD_ in the environment to keep it from that.
    MobileNetV2 at batch 32 in eager float32 went from 23-70 to 170 images/s here.
    """
    if not sys.platform.startswith("linux") or "MALLOC_TOP_PAD_" in os.environ:
        return
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    libc.mallopt(mmap_threshold, 2**31 - 1)
    libc.mallopt(trim_threshold, 2**31 - 1)
    libc.mallopt(top_pad, 512 << 20)


def agreement(encoder: Encoder, backbone: Backbone) -> float:
    """Least cosine between the encoder and torch in float32, on four images of 1/f noise."""
    import torch
    from PIL import Image

    size, random = encoder.spec.preprocessing.size, np.random.default_rng(0)
    noise = np.zeros((4, size, size, 3), np.float32)
    for side in (2, 4, 8, 16, 32, 64, 128):
        coarse = random.normal(size=(4, side, side, 3)).astype(np.float32) / np.sqrt(side)
        for image, plane in np.ndindex(4, 3):
            grown = Image.fromarray(coarse[image, :, :, plane]).resize((size, size))
            noise[image, :, :, plane] += np.asarray(grown)
    pixels = np.clip(128 + 60 * noise, 0, 255).astype(np.uint8)
    ours = encoder.encode(pixels)
    with torch.inference_mode():
        theirs = normalised(backbone)(torch.from_numpy(pixels)).numpy()
    return float((ours * normalise(theirs)).sum(axis=1).min())
