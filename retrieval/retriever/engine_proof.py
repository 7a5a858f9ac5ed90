"""Whether two processes encode alike: one run uses one engine, of one version, with one result."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from importlib import metadata

import numpy as np

from retrieval import __version__
from retrieval.encoder import Encoder
from retrieval.errors import BackboneError

LEAST_ALIKE = 0.9999
"""Least cosine of embeddings of the same pixels by one engine on two machines.

On one machine they are equal to the bit. bf16 and fp32 differ by 5 in 10,000 (docs/decisions.md).
That processors which differ stay below 1 is expected, since they sum in another order, and was not
measured.
"""
LEAST_KIN = 0.99
"""Least cosine of embeddings of the same pixels by two engines, as where a GPU embeds what a CPU is
asked for (retrieval/encoder/engines.py)."""
LIBRARIES = {"openvino": ("openvino",), "torch": ("torch", "timm")}  # by the start of an engine


@dataclass(frozen=True)
class EngineProof:
    """What an encoder is, and what it makes of a fixed picture.

    host: the machine. versions: of the libraries that encode. embedding: (d,) float32.
    """

    host: str
    engine: str
    fingerprint: str
    versions: tuple[tuple[str, str], ...]
    embedding: np.ndarray

    @classmethod
    def of(cls, encoder: Encoder) -> EngineProof:
        """Encode the picture."""
        spec, libraries = encoder.spec, LIBRARIES[encoder.engine.partition("-")[0]]
        return cls(
            host=socket.gethostname(),
            engine=encoder.engine,
            fingerprint=spec.fingerprint,
            versions=(
                ("imgret", __version__),
                *((name, metadata.version(name)) for name in libraries),
            ),
            embedding=encoder.encode(_fixed_picture(spec.preprocessing.size)[None])[0],
        )

    def check_kin(self, other: EngineProof) -> None:
        """Raise BackboneError unless the other embeds alike, if by another engine."""
        alike = float(self.embedding @ other.embedding)
        if self.fingerprint != other.fingerprint or alike < LEAST_KIN:
            raise BackboneError(
                f"The worker on {self.host} embeds a fixed picture otherwise than this machine "
                f"(they agree to {alike:.4f}). Install the same backbone and imgret on both."
            )

    def check(self, other: EngineProof) -> None:
        """Raise BackboneError unless the other encodes as this one does."""
        said = [
            f"{name} {theirs} instead of {ours}"
            for name, ours, theirs in (
                ("the engine", self.engine, other.engine),
                ("weights", self.fingerprint[:12], other.fingerprint[:12]),
                ("versions", _listed(self.versions), _listed(other.versions)),
            )
            if ours != theirs
        ]
        if not said:
            alike = float(self.embedding @ other.embedding)
            if alike >= LEAST_ALIKE:
                return
            said = [f"other numbers: its embedding of a fixed picture agrees to {alike:.4f}"]
        raise BackboneError(
            f"The worker on {other.host} has {' and '.join(said)}, and one run is encoded alike. "
            "Install the same there as here, or name an --engine that all machines have."
        )


def _listed(versions: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions)


def _fixed_picture(size: int) -> np.ndarray:
    """A picture of whole numbers alone, (size, size, 3) uint8, which every machine makes alike."""
    y, x = np.indices((size, size))
    planes = (5 * x + 3 * y, x * y // 16, 7 * (x // 8) + 11 * (y // 8))
    return np.stack(planes, axis=-1).astype(np.uint8)
