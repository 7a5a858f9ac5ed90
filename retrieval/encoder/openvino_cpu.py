"""OpenVINO on a CPU: its files, or a model in memory, made ready to run."""

from __future__ import annotations

import ctypes
import os
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.encoder.encoder import Runner
from retrieval.errors import BackboneError
from retrieval.text import one_sentence
from retrieval.words import Engine

HINTS = {"bf16": "bf16", "fp32": "f32"}
CAPABILITIES = "OPTIMIZATION_CAPABILITIES"
CONVERTER = "openvino.tools.ovc"


def openvino() -> Any:
    """Import OpenVINO, and keep it from reporting home.

    It sends usage events to its makers unless its telemetry package is missing on its import.
    """
    with _telemetry_missing():
        import openvino

    return openvino


def converter() -> Any:
    """Import openvino.convert_model, which a command leaves out until it is needed."""
    openvino()
    with _telemetry_missing():
        if sys.modules.get(CONVERTER, ...) is None:
            del sys.modules[CONVERTER]
        from openvino.tools.ovc import convert_model

    return convert_model


def read_network(file: Path, size: int) -> Any:
    """Read an ONNX file for pictures of a side: (n, size, size, 3) uint8 -> (n, dim) float32.

    Raises BackboneError when the file, or what it names beside it, cannot be read.
    """
    try:
        model = openvino().Core().read_model(file)
        model.reshape([-1, size, size, 3])
    except RuntimeError as error:  # whatever is wrong
        raise BackboneError(
            f"{file} cannot be read ({one_sentence(error)}). Install imgret again."
        ) from error
    return model


def precision_of(engine: Engine | None) -> str:
    """Return bf16 or fp32: an engine's, or the best of this processor where none is named."""
    if engine is not None:
        return engine.rpartition("-")[2]
    capabilities = openvino().Core().get_property("CPU", CAPABILITIES)
    return "bf16" if "BF16" in capabilities else "fp32"


def processor() -> str:
    """Return what tells this processor from others: its name and all that it can do."""
    core, told = openvino().Core(), ""
    with suppress(OSError), Path("/proc/cpuinfo").open("rb") as file:
        first = file.read(8192).split(b"\n")  # all of it takes long where there are many cores
        told = next((line.decode() for line in first if line[:5] in (b"flags", b"Featu")), "")
    names = (core.get_property("CPU", name) for name in ("FULL_DEVICE_NAME", CAPABILITIES))
    return " ".join([*map(str, names), told])


def compiled(model: Any, precision: str) -> Runner:
    """Compile a model to what runs it: (n, size, size, 3) uint8 -> (n, dim) float32.

    model: an openvino.Model, or the path of its .xml file. Raises RuntimeError on a damaged file.
    """
    return runner(compile_network(model, precision))


def compile_network(model: Any, precision: str) -> Any:
    """Compile an openvino.Model, or the .xml file of one. Raises RuntimeError on a damaged file."""
    return openvino().Core().compile_model(model, "CPU", _hints(precision))


def import_network(blob: bytes | memoryview, precision: str) -> Any:
    """Return the compiled network that exported these bytes. Raises RuntimeError."""
    content = openvino().Tensor(np.frombuffer(blob, np.uint8))  # a stream would be read in pieces
    try:
        return openvino().Core().import_model(content, "CPU", _hints(precision))
    except TypeError:  # OpenVINO 2025.0 takes streams alone
        return openvino().Core().import_model(BytesIO(blob), "CPU", _hints(precision))


def runner(network: Any) -> Runner:
    """Return what runs a compiled network: (n, size, size, 3) uint8 -> (n, dim) float32."""
    request = network.create_infer_request()

    def run(pixels: np.ndarray) -> np.ndarray:
        return np.array(request.infer([pixels], share_inputs=True)[0])

    _keep_past_forks()
    _running.add(run)
    return run


def _hints(precision: str) -> dict[str, str]:
    return {"INFERENCE_PRECISION_HINT": HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}


@contextmanager
def _telemetry_missing() -> Iterator[None]:
    """Let imports fail to find OpenVINO's telemetry, in here alone."""
    if "openvino_telemetry" in sys.modules:  # another thread's, or one that was imported before
        yield
        return
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop("openvino_telemetry", None)


_running: weakref.WeakSet[Runner] = weakref.WeakSet()


def _keep_for_good() -> None:
    """Never free what runs: that waits for threads, and in a forked process there are none."""
    for run in _running:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(run))


@lru_cache(maxsize=1)
def _keep_past_forks() -> None:
    """Have _keep_for_good() called in every process that is forked from this one."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_keep_for_good)
