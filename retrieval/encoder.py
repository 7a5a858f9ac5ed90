"""A backbone on an engine: (n, size, size, 3) uint8 RGB -> (n, dim) float32.

Embeddings have unit length. Engines, best first: torch in bfloat16 on CUDA; OpenVINO on a CPU, in
bfloat16 where the processor has it; torch in float32 where OpenVINO cannot convert the network.
OpenVINO takes the uint8 pixels themselves, since normalisation is part of what is exported, and
the exported file needs neither torch nor timm. What each engine is worth is measured by
benchmarks/ and stands in docs/benchmarks.md.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import platformdirs

from retrieval.backbones import Backbone, BackboneSpec
from retrieval.errors import BackboneError

if TYPE_CHECKING:
    import torch

Engine = Literal["openvino-bf16", "openvino-fp32", "torch-cuda-bf16", "torch-fp32"]
ENGINES: tuple[Engine, ...] = ("openvino-bf16", "openvino-fp32", "torch-cuda-bf16", "torch-fp32")
EXPORTED = ("model.xml", "model.bin")
_EXPORTING = threading.Lock()  # torch.export is not made for several threads
AGREEMENT = {"bf16": 0.99, "fp32": 0.9999}  # least cosine with torch on noise; photos agree better


class Runner(Protocol):
    """What runs the network: uint8 pixels in, float32 embeddings out."""

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """(n, size, size, 3) uint8 -> (n, dim) float32."""
        ...


class Encoder:
    """Encodes batches of pixels with one backbone on one engine.

    spec: the backbone. engine: the engine in use. notice: why it is not the first choice, or
    None. Several threads may share an encoder; they take turns.
    """

    def __init__(
        self, spec: BackboneSpec, engine: Engine, run: Runner, notice: str | None = None
    ) -> None:
        self.spec = spec
        self.engine = engine
        self.notice = notice
        self._run = run
        self._turn = threading.Lock()

    @property
    def batch_size(self) -> int:
        """Images a batch that keep this engine busy without filling the memory."""
        at_224 = 256 if self.engine == "torch-cuda-bf16" else 32
        scale = (224 / self.spec.preprocessing.size) ** 2
        return max(1, min(at_224, int(at_224 * scale)))

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """(n, size, size, 3) uint8 -> (n, dim) float32 of unit length."""
        with self._turn:
            embeddings = self._run(np.ascontiguousarray(pixels))
        return normalise(embeddings)


def normalise(embeddings: np.ndarray) -> np.ndarray:
    """Rows of (n, d) scaled to unit length, float32; zeros stay zeros.

    Transforms fitted to unit embeddings find slightly better neighbours than those fitted to raw
    ones, and float16 holds them whatever the backbone's scale (docs/decisions.md).
    """
    x = np.asarray(embeddings, np.float32)
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(lengths == 0, 1, lengths))


def open_encoder(
    spec: BackboneSpec,
    load: Callable[[], Backbone],
    *,
    engine: Engine | None = None,
    cache: Path,
    insist: bool = True,
) -> Encoder:
    """The encoder of a backbone on the given engine, or on the best that runs it here.

    load: gives the network; called only where no export of it lies in cache. insist: whether
    another engine will not do. Raises BackboneError when the engine insisted on cannot run the
    network, or when load gives another network than spec.
    """
    if engine is not None and not insist and not _runs_here(engine):
        engine = None
    if engine in (None, "openvino-bf16", "openvino-fp32"):
        exported = _opened(spec, _precision(engine), cache)
        if exported is not None:
            return exported
    backbone = load()
    if backbone.spec.fingerprint != spec.fingerprint:
        raise BackboneError(
            f"The weights of {spec.name} are not those that were used before "
            f"({backbone.spec.weights_sha256[:12]} instead of {spec.weights_sha256[:12]}). "
            "Bring the old weights back, or index again with --reembed."
        )
    import torch

    if engine == "torch-cuda-bf16" or (engine is None and torch.cuda.is_available()):
        return Encoder(spec, "torch-cuda-bf16", _cuda_runner(backbone))
    if engine == "torch-fp32":
        return Encoder(spec, "torch-fp32", _torch_runner(backbone))
    with _EXPORTING:
        return _exported_encoder(backbone, engine, cache, insist=insist)


def exported_encoder(spec: BackboneSpec, engine: Engine, cache: Path) -> Encoder | None:
    """The encoder from an export in cache, without torch; None where there is none."""
    is_openvino = engine.startswith("openvino") and _runs_here(engine)
    return _opened(spec, _precision(engine if is_openvino else None), cache)


def _opened(spec: BackboneSpec, precision: str, cache: Path) -> Encoder | None:
    """The encoder from an export; None where there is none, or none that can be read."""
    folder = _export_folder(spec, precision, cache)
    if not _is_whole(folder):
        return None
    try:
        return _openvino_encoder(spec, folder, precision)
    except RuntimeError:  # what OpenVINO raises on a damaged file
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _is_whole(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / "encoder.json").read_text())["bytes"]
        return all((folder / name).stat().st_size == sizes[name] for name in EXPORTED)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _export_folder(spec: BackboneSpec, precision: str, cache: Path) -> Path:
    size = spec.preprocessing.size
    return cache / "encoders" / f"{spec.fingerprint[:32]}-{size}-{precision}"


def cache_folder() -> Path:
    """Where exports are kept: IMGRET_CACHE, or imgret's folder in the user's cache."""
    return Path(os.environ.get("IMGRET_CACHE") or platformdirs.user_cache_path("imgret"))


def _runs_here(engine: Engine) -> bool:
    if engine == "torch-cuda-bf16":
        import torch

        return torch.cuda.is_available()
    return engine != "openvino-bf16" or _precision(None) == "bf16"


def _precision(engine: Engine | None) -> str:
    if engine is not None:
        return engine.rpartition("-")[2]
    return "bf16" if "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "fp32"


def _exported_encoder(
    backbone: Backbone, engine: Engine | None, cache: Path, *, insist: bool
) -> Encoder:
    """Export with OpenVINO, in the first precision that agrees with torch; else run torch."""
    spec, first = backbone.spec, _precision(engine)
    try:
        _check_writable(cache / "encoders")
    except OSError as error:
        with tempfile.TemporaryDirectory(prefix="imgret-") as folder:
            encoder = _exported_encoder(backbone, engine, Path(folder), insist=insist)
        encoder.notice = encoder.notice or (
            f"{cache} cannot be written ({error.strerror}), so that {spec.name} is exported again "
            "in each run. Name a folder that can be with IMGRET_CACHE."
        )
        return encoder
    reason = ""
    for precision in [first] if engine and insist else dict.fromkeys([first, "fp32"]):
        export = _export_folder(spec, precision, cache)
        try:
            _export(backbone, export)
            encoder = _openvino_encoder(spec, export, precision)
            cosine = _agreement(encoder, backbone)
        except Exception as error:  # noqa: BLE001  torch.export and OpenVINO raise all kinds
            reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
            shutil.rmtree(export, ignore_errors=True)
            continue
        if cosine >= AGREEMENT[precision]:
            return encoder
        reason = f"{precision} embeddings agree with torch to cosine {cosine:.4f} only"
        shutil.rmtree(export, ignore_errors=True)
    if engine and insist:
        raise BackboneError(
            f"{engine} cannot run {spec.name} ({reason}). Use --engine torch-fp32 or leave it out."
        )
    notice = f"OpenVINO cannot run {spec.name} ({reason}); torch runs it, more slowly."
    return Encoder(spec, "torch-fp32", _torch_runner(backbone), notice)


def _check_writable(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _export(backbone: Backbone, folder: Path) -> None:
    """Write the network, its normalisation included, as OpenVINO reads it; atomically."""
    import torch

    if _is_whole(folder):
        return
    openvino, spec = _openvino(), backbone.spec
    size = spec.preprocessing.size
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.export.export(
        _normalised(backbone), (example,), dynamic_shapes=({0: batch},), strict=False
    )
    model = openvino.convert_model(program)
    model.reshape([-1, size, size, 3])
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        openvino.save_model(model, made / "model.xml", compress_to_fp16=False)
        sizes = {name: (made / name).stat().st_size for name in EXPORTED}
        facts = {"name": spec.name, "fingerprint": spec.fingerprint, "bytes": sizes}
        (made / "encoder.json").write_text(json.dumps(facts, indent=1))
        try:
            if not _is_whole(folder):
                shutil.rmtree(folder, ignore_errors=True)
            made.replace(folder)
        except OSError:  # another process made it meanwhile
            if not _is_whole(folder):
                raise


def _openvino_encoder(spec: BackboneSpec, folder: Path, precision: str) -> Encoder:
    model = _core().compile_model(
        folder / "model.xml",
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": {"bf16": "bf16", "fp32": "f32"}[precision],
            "PERFORMANCE_HINT": "LATENCY",
        },
    )
    request = model.create_infer_request()

    def run(pixels: np.ndarray) -> np.ndarray:
        return np.array(request.infer([pixels], share_inputs=True)[0])

    engine: Engine = "openvino-bf16" if precision == "bf16" else "openvino-fp32"
    return Encoder(spec, engine, run)


def _openvino() -> Any:
    # openvino sends a usage event to its makers on import unless this package is missing
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _core() -> Any:
    return _openvino().Core()


def _normalised(backbone: Backbone, dtype: torch.dtype | None = None) -> torch.nn.Module:
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


def _torch_runner(backbone: Backbone) -> Runner:
    import torch

    keep_freed_memory()
    network = _normalised(backbone)

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(pixels)).numpy()

    return run


def _cuda_runner(backbone: Backbone) -> Runner:
    import torch

    if not torch.cuda.is_available():
        raise BackboneError("No CUDA device is here. Leave --engine out, or use openvino-bf16.")
    network = _normalised(backbone, torch.bfloat16).to("cuda")
    network = network.to(memory_format=torch.channels_last)

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            batch = torch.from_numpy(pixels).pin_memory().to("cuda", non_blocking=True)
            return network(batch).cpu().numpy()

    return run


def keep_freed_memory() -> None:
    """Tell glibc to keep large freed blocks, else torch spends its time in page faults.

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


def _agreement(encoder: Encoder, backbone: Backbone) -> float:
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
        theirs = _normalised(backbone)(torch.from_numpy(pixels)).numpy()
    return float((ours * normalise(theirs)).sum(axis=1).min())
