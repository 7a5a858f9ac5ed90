"""A network compiled once: what OpenVINO made of it is kept in the cache, and opened from there."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from retrieval.encoder.encoder import Runner
from retrieval.encoder.openvino_cpu import (
    compile_network,
    compiled,
    import_network,
    openvino,
    processor,
    runner,
)
from retrieval.files import read_bounded, replaced, sha256_of

LARGEST_KEPT = 64 * 2**20  # bytes
DIGEST = hashlib.sha256().digest_size


def open_compiled(
    read: Callable[[], Any],
    precision: str,
    files: Sequence[Path],
    kept: Path,
    identity: str = "",
    *,
    by_time: bool = False,
) -> Runner:
    """Open the compiled network that is kept for this processor; else compile and keep it.

    read: gives what to compile, an openvino.Model or an .xml file, which is made of files and of
    what identity names. kept: where, without a suffix. by_time: whether files are told from others
    by their sizes and times, which is quicker than by their content. A kept one that is damaged, or
    was made of something else or by another OpenVINO, is replaced. Where nothing can be written, or
    files are large, nothing is kept. Raises OSError, and what read and compile_network() raise.
    """
    if sum(file.stat().st_size for file in files) > LARGEST_KEPT:
        return compiled(read(), precision)
    here = processor()
    told = " ".join(map(_stamp if by_time else sha256_of, files))
    made_of = f"{openvino().__version__} {here} {precision} {told} {identity}".encode()
    place = Path(f"{kept}-{hashlib.sha256(here.encode()).hexdigest()[:16]}.blob")
    network = _kept(place, made_of, precision)
    if network is None:
        network = compile_network(read(), precision)
        _keep(place, made_of, network)
    return runner(network)


def _stamp(file: Path) -> str:
    found = file.stat()
    return f"{found.st_size} {found.st_mtime_ns}"


def _kept(file: Path, made_of: bytes, precision: str) -> Any:
    """The compiled network of a file; None where there is none, or one that is not to be used."""
    try:
        content = memoryview(read_bounded(file, LARGEST_KEPT))
    except (OSError, ValueError):
        return None
    if content[:DIGEST] != _digest(made_of, content[DIGEST:]):
        return None
    try:
        return import_network(content[DIGEST:], precision)
    except RuntimeError:  # made for a processor or by an OpenVINO that only seems to be this one
        return None


def _keep(file: Path, made_of: bytes, network: Any) -> None:
    with contextlib.suppress(OSError, RuntimeError):  # the cache is full or read-only
        file.parent.mkdir(parents=True, exist_ok=True)
        with replaced(file, durable=False) as made:
            network.export_model(exported := BytesIO())
            blob = exported.getvalue()
            made.write_bytes(_digest(made_of, blob) + blob)


def _digest(made_of: bytes, blob: bytes | memoryview) -> bytes:
    found = hashlib.sha256(made_of)
    found.update(blob)
    return found.digest()
