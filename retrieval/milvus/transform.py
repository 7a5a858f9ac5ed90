"""The transform of what is published, as a file in the gallery: a query needs no index of FAISS."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from retrieval.errors import GalleryError, GalleryWriteError
from retrieval.files import delete, make_folder, read_bounded, sha256_of_bytes, write_atomically
from retrieval.index.index import Index
from retrieval.index.steps import apply, chain_of, float32
from retrieval.text import one_sentence, unwritable

FOLDER = "served"  # of a gallery
TRANSFORMS_KEPT = 4  # transforms that were published; an older one is no longer searched by
HEAD_BYTES = 4096  # bytes before the numbers


@dataclass(frozen=True, eq=False)
class StoredTransform:
    """y = normalise(matrix @ x + bias), applied as the index of FAISS applies it.

    matrix: (d_out, d_in) float32, bias: (d_out,) float32; both None for the norm alone.
    """

    d_in: int
    matrix: np.ndarray | None = None
    bias: np.ndarray | None = None
    _chain: list[Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_chain", chain_of(self)[0])

    @classmethod
    def of(cls, index: Index) -> Self:
        """Return the transform of an index."""
        affine = index.affine
        return cls(index.d_in, *affine) if affine else cls(index.d_in)

    @property
    def d_out(self) -> int:
        """The width of a transformed embedding."""
        return self.d_in if self.matrix is None else len(self.matrix)

    def apply(self, embeddings: np.ndarray) -> np.ndarray:
        """Transform (n, d_in) raw embeddings to (n, d_out) float32 of unit length.

        Raises ValueError for embeddings of another width.
        """
        x = float32(embeddings)
        if x.ndim != 2 or x.shape[1] != self.d_in:
            raise ValueError(f"the transform takes (n, {self.d_in}) embeddings, got {x.shape}")
        return apply(self._chain, x)

    @property
    def sha256(self) -> str:
        """What tells it from others: the SHA-256 of its file."""
        return sha256_of_bytes(self._as_file())

    def save(self, gallery: Path) -> None:
        """Write it into a gallery's folder. Raises GalleryWriteError."""
        folder = gallery / FOLDER
        file = folder / f"{self.sha256}.safetensors"
        try:
            make_folder(folder)
            write_atomically(file, self._as_file())
            others = [other for other in folder.glob("*.safetensors") if other != file]
            others.sort(key=lambda other: other.lstat().st_mtime_ns)
            for other in others[: -(TRANSFORMS_KEPT - 1)]:
                delete(other)
        except OSError as error:
            raise GalleryWriteError(str(unwritable(file, error))) from error

    @classmethod
    def load(cls, gallery: Path, sha256: str, d_in: int, d_out: int) -> Self | None:
        """Read a transform that was saved; None where there is none.

        sha256: its own, 64 hex digits. Raises GalleryError where the file is not what was written.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        file = gallery / FOLDER / f"{sha256}.safetensors"
        try:
            content = read_bounded(file, 4 * d_out * (d_in + 1) + HEAD_BYTES)
            if sha256_of_bytes(content) != sha256:
                raise ValueError("its content has changed since it was written")
            tensors = load(content)
            made = cls(int(tensors["d_in"][0]), tensors.get("matrix"), tensors.get("bias"))
            if (made.d_in, made.d_out) != (d_in, d_out):
                raise ValueError("it has another width")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, SafetensorError) as error:
            raise GalleryError(
                f"{file} cannot be read ({one_sentence(error)}). Delete it, and run `imgret "
                "publish` again."
            ) from error
        return made

    def _as_file(self) -> bytes:
        from safetensors.numpy import save

        tensors = {"d_in": np.array([self.d_in], np.int64)}
        if self.matrix is not None and self.bias is not None:
            tensors |= {"matrix": float32(self.matrix), "bias": float32(self.bias)}
        return save(tensors)
