"""MobileNetV2: a file of timm's tensors -> OpenVINO's model, without torch, timm or an export.

Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks". Widths and depths are
those of the tensors; strides are the paper's, since no tensor tells them. Batch norms are folded
into the convolutions before them, in float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from retrieval.encoder.openvino_cpu import openvino
from retrieval.errors import BackboneError
from retrieval.images import Preprocessing
from retrieval.text import one_sentence

STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the first block of each stage
NORM_EPSILON = 1e-5  # of batch norms, as timm has it
HIGHEST = 6.0  # of ReLU6


def read_model(weights: Path, preprocessing: Preprocessing) -> Any:
    """The network without its classifier: (n, size, size, 3) uint8 -> (n, dim) float32.

    weights: a safetensors file in float16 or float32, named as timm names a mobilenetv2's tensors.
    Raises BackboneError when it cannot be read, or holds anything else than that network.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(weights)
    except (OSError, SafetensorError, TypeError, LookupError) as error:
        raise BackboneError(
            f"{weights} cannot be read ({one_sentence(error)}). Replace it."
        ) from error
    graph = _Graph(weights, tensors)
    x, pixels = _normalised(preprocessing)
    x = graph.convolution(x, "conv_stem", "bn1", stride=2)
    for stage, stride in enumerate(STRIDES):
        for block in range(graph.blocks(stage)):
            x = graph.block(x, f"blocks.{stage}.{block}", 1 if block else stride)
    x = graph.convolution(x, "conv_head", "bn2")
    graph.check_all_used()
    return _as_model(x, pixels)


class _Graph:
    """Adds layers to a graph from tensors, each of which is used once."""

    def __init__(self, weights: Path, tensors: dict[str, np.ndarray]) -> None:
        self._weights = weights
        self._tensors = tensors

    def blocks(self, stage: int) -> int:
        """How many blocks a stage has, at least one."""
        start = f"blocks.{stage}."
        return max(1, len({k.split(".")[2] for k in self._tensors if k.startswith(start)}))

    def block(self, x: Any, name: str, stride: int) -> Any:
        """An inverted residual; the first stage's has no expansion before it."""
        before, y = x, x
        if f"{name}.conv_pwl.weight" in self._tensors:
            y = self.convolution(y, f"{name}.conv_pw", f"{name}.bn1")
            y = self.convolution(y, f"{name}.conv_dw", f"{name}.bn2", stride=stride)
            y = self.convolution(y, f"{name}.conv_pwl", f"{name}.bn3", clipped=False)
        else:
            y = self.convolution(y, f"{name}.conv_dw", f"{name}.bn1", stride=stride)
            y = self.convolution(y, f"{name}.conv_pw", f"{name}.bn2", clipped=False)
        if stride == 1 and _channels(y) == _channels(before):
            return _operations().add(before, y)
        return y

    def convolution(
        self, x: Any, name: str, norm: str, *, stride: int = 1, clipped: bool = True
    ) -> Any:
        """A convolution, its batch norm, and ReLU6 where clipped."""
        operations, channels = _operations(), _channels(x)
        kernel = self._take(f"{name}.weight")
        per_channel = name.endswith("conv_dw")
        width, *_, side = kernel.shape if kernel.ndim == 4 else (0, 0)
        expected = (channels, 1) if per_channel else (width, channels)
        if kernel.shape != (*expected, side, side) or width == 0 or side % 2 == 0:
            raise self._wrong(f"{name}.weight has the shape {kernel.shape}")
        kernel, shift = self._folded(kernel, norm)
        around = [side // 2] * 2
        if per_channel:
            y = operations.group_convolution(
                x, kernel[:, None], [stride] * 2, around, around, [1, 1]
            )
        else:
            y = operations.convolution(x, kernel, [stride] * 2, around, around, [1, 1])
        y = operations.add(y, shift.reshape(1, -1, 1, 1))
        return operations.clamp(y, 0.0, HIGHEST) if clipped else y

    def check_all_used(self) -> None:
        """Raise BackboneError where a tensor belongs to no layer."""
        left = [key for key in self._tensors if not key.endswith(".num_batches_tracked")]
        if left:
            raise self._wrong(f"{left[0]} has no place")

    def _folded(self, kernel: np.ndarray, norm: str) -> tuple[np.ndarray, np.ndarray]:
        """The kernel with a batch norm in it, and what is added after it."""
        scale, shift, mean, variance = (
            self._take(f"{norm}.{part}")
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        if {x.shape for x in (scale, shift, mean, variance)} != {(len(kernel),)}:
            raise self._wrong(f"{norm} is not of {len(kernel)} channels")
        with np.errstate(all="ignore"):
            scale = scale / np.sqrt(variance + np.float32(NORM_EPSILON))
            kernel, shift = kernel * scale[:, None, None, None], shift - mean * scale
        if not (np.isfinite(kernel).all() and np.isfinite(shift).all()):
            raise self._wrong(f"with {norm} weights are not finite")
        return kernel, shift

    def _take(self, name: str) -> np.ndarray:
        """A tensor in float32."""
        tensor = self._tensors.pop(name, None)
        if tensor is None:
            raise self._wrong(f"it has no {name}")
        if tensor.dtype not in (np.float16, np.float32):
            raise self._wrong(f"{name} is of type {tensor.dtype}")
        return tensor.astype(np.float32)

    def _wrong(self, what: str) -> BackboneError:
        return BackboneError(
            f"{self._weights} does not hold a MobileNetV2 as timm names it: {what}. Replace it."
        )


def _normalised(preprocessing: Preprocessing) -> tuple[Any, Any]:
    """uint8 (n, size, size, 3) -> float32 (n, 3, size, size), and the input itself.

    The same arithmetic as in torch: a pixel less 128 is exact in bfloat16, less the mean it is not.
    """
    operations, p = _operations(), preprocessing
    mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) * 255 for v in (p.mean, p.std))
    pixels = operations.parameter([-1, p.size, p.size, 3], np.uint8, name="pixels")
    planes = operations.transpose(pixels, np.array([0, 3, 1, 2], np.int64))
    centred = operations.subtract(operations.convert(planes, "f32"), np.float32(128))
    scaled = operations.multiply(centred, 1 / std)
    return operations.add(scaled, (128 - mean) / std), pixels


def _as_model(x: Any, pixels: Any) -> Any:
    mean = _operations().reduce_mean(x, np.array([2, 3], np.int64), keep_dims=False)
    return openvino().Model([mean], [pixels], "mobilenetv2")


def _channels(x: Any) -> int:
    return int(x.output(0).partial_shape[1].get_length())


def _operations() -> Any:
    return openvino().opset13
