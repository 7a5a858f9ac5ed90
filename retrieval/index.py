"""Cosine k-NN in FAISS: raw embeddings in, ids and scores out; the transform is part of the index.

    exact   IndexFlatIP, up to 100,000 vectors: every vector is compared in float32
    ivf     IndexIVFScalarQuantizer in float16, beyond: k-means cells, of which the nearest nprobe
            are searched (Sivic and Zisserman 2003); nprobe is tuned when the index is built, on
            vectors of the gallery held against exact search, to a recall@10 of 0.99

Float16 keeps the ranks of the vectors, so no refinement follows the search of the cells. IVF was
chosen over HNSW since it adds and removes in place and builds several times faster at equal
recall (docs/decisions.md).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import faiss
import numpy as np

from retrieval.errors import GalleryError

Kind = Literal["exact", "ivf"]
Facts = dict[str, int | float | str | bool]
Batches = Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]
Progress = Callable[[str, int, int | None], None]

EXACT_UP_TO = 100_000
RECALL_WANTED = 0.99
TUNED_ON = 500
GPU_MOST_NEIGHBOURS = 2048
ROWS_PER_CELL = 40  # that k-means is trained on
FAISS_ERRORS = (RuntimeError, MemoryError, ValueError, TypeError, AttributeError)


class AffineMap(Protocol):
    """What the index needs of a transform: y = matrix @ x + bias, then the norm."""

    @property
    def d_in(self) -> int:
        """Width of a raw embedding."""

    @property
    def matrix(self) -> np.ndarray | None:
        """(d_out, d_in) float32, or None for the norm alone."""

    @property
    def bias(self) -> np.ndarray | None:
        """(d_out,) float32."""


class Index:
    """A FAISS index over transformed unit vectors, with the id of each.

    changed: whether it differs from the file that it was loaded from. Any number of threads may
    search; add() and remove() want an index loaded with mmap=False, and no search meanwhile.
    """

    def __init__(self, faiss_index: Any, facts: Facts, *, changed: bool) -> None:
        self._index = faiss_index
        self._facts = facts
        self._gpu: Any = None
        self._gpu_tried = False
        self._gpu_turn = threading.Lock()  # FAISS searches on a GPU for one thread at a time
        self.changed = changed

    @classmethod
    def build(
        cls,
        transform: AffineMap,
        batches: Batches,
        n: int,
        *,
        kind: Kind | None = None,
        progress: Progress | None = None,
        seed: int = 0,
    ) -> Index:
        """Build an index of n embeddings.

        batches: called for each pass over them; gives (m,) int64 ids and (m, d_in) float16 or
        float32 embeddings. kind: by default chosen by n.
        """
        kind = kind or choose_kind(n)
        chain, d_out = _chain(transform)
        if kind == "exact":
            inner = faiss.IndexIDMap(faiss.IndexFlatIP(d_out))
        else:
            inner = _trained_ivf(chain, batches, n, d_out, seed)
        index = faiss.IndexPreTransform(inner)
        for step in reversed(chain):
            index.prepend_transform(step)
        index.is_trained = True
        built = cls(index, {"kind": kind, "built_on": n, "recall": 1.0}, changed=True)
        done = 0
        for ids, embeddings in batches():
            built.add(ids, embeddings)
            done += len(ids)
            if progress:
                progress("indexing", done, n)
        if kind == "ivf":
            built._tune(batches, n, seed, progress)
        return built

    @classmethod
    def load(cls, path: Path, facts: Facts, *, mmap: bool = True) -> Index:
        """The index in a file, memory-mapped or, to change it, in memory.

        facts: its settings as save() left them. Raises GalleryError when the file is missing,
        damaged, or not what facts say.
        """
        try:
            if path.stat().st_size != facts.get("bytes"):
                raise ValueError("its size is not the one that was written")
            flags = faiss.IO_FLAG_MMAP_IFC if mmap else 0
            index = cls(faiss.read_index(str(path), flags), dict(facts), changed=False)
            index._check()
        except (OSError, *FAISS_ERRORS) as error:
            reason = str(error).strip().rpartition("\n")[2][-200:] or type(error).__name__
            raise GalleryError(
                f"The index {path} cannot be read ({reason}). Run `imgret verify --repair`: it is "
                "built again without reading an image."
            ) from error
        return index

    def save(self, path: Path) -> None:
        """Write the index beside path, then put it in its place."""
        temporary = path.with_name(f".{path.name}.writing")
        try:
            faiss.write_index(self._index, str(temporary))
            self._facts["bytes"] = temporary.stat().st_size
            temporary.replace(path)
        except (OSError, RuntimeError) as error:
            temporary.unlink(missing_ok=True)
            raise GalleryError(
                f"{path} cannot be written ({error}). Free some space and run `imgret index` again."
            ) from error
        self.changed = False

    @property
    def settings(self) -> Facts:
        """What load() wants to know again: kind, recall, search effort, size of the file."""
        return dict(self._facts)

    @property
    def kind(self) -> str:
        """The kind and its parameters, for a person."""
        if self._facts["kind"] == "exact":
            return "exact"
        return f"ivf, {self._ivf.nlist} cells, {self._facts['nprobe']} searched, float16"

    @property
    def recall(self) -> float | None:
        """recall@10 against exact search, measured on vectors of the gallery when it was built."""
        return float(self._facts["recall"])

    @property
    def ntotal(self) -> int:
        """Vectors it holds."""
        return int(self._index.ntotal)

    @property
    def d_in(self) -> int:
        """Width of a raw embedding."""
        return int(self._index.d)

    @property
    def d_out(self) -> int:
        """Width of a transformed one."""
        return int(self._inner.d)

    @property
    def ids(self) -> np.ndarray:
        """(n,) int64 ids, in no order that means anything."""
        if self._facts["kind"] == "exact":
            return np.array(faiss.vector_to_array(self._inner.id_map))
        lists = self._ivf.invlists
        sizes = [lists.list_size(cell) for cell in range(lists.nlist)]
        parts = [
            np.array(faiss.rev_swig_ptr(lists.get_ids(cell), size))
            for cell, size in enumerate(sizes)
            if size
        ]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def suits(self, n: int) -> bool:
        """Whether its kind is still the right one when it holds n vectors."""
        built_on = int(self._facts["built_on"])
        return self._facts["kind"] == choose_kind(n) and (n <= EXACT_UP_TO or n < 4 * built_on)

    def add(self, ids: np.ndarray, embeddings: np.ndarray) -> None:
        """Add (m, d_in) raw embeddings under (m,) new ids."""
        self._index.add_with_ids(_float32(embeddings), np.ascontiguousarray(ids, np.int64))
        self.changed = True

    def remove(self, ids: np.ndarray) -> int:
        """Drop vectors by id; the number dropped."""
        selector = faiss.IDSelectorBatch(np.ascontiguousarray(ids, np.int64))
        self.changed = True
        removed = int(self._inner.remove_ids(selector))
        self._index.ntotal = self._inner.ntotal
        return removed

    def transform(self, embeddings: np.ndarray) -> np.ndarray:
        """(n, d_in) raw embeddings -> (n, d_out) float32 of unit length."""
        x = _float32(embeddings)
        for step in range(self._index.chain.size()):
            x = self._index.chain.at(step).apply(x)
        return np.asarray(x)

    def search(
        self, embeddings: np.ndarray, k: int, *, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest of (q, d_in) raw embeddings, best first.

        allowed: ids to search among. Returns (q, k) float32 cosine similarities and (q, k) int64
        ids, padded with -inf and -1 where fewer than k exist.
        """
        exist = self.ntotal if allowed is None else len(allowed)
        found = min(k, exist)
        scores = np.full((len(embeddings), k), -np.inf, np.float32)
        ids = np.full((len(embeddings), k), -1, np.int64)
        if found and len(embeddings):
            effort = int(self._facts.get("nprobe", 1))
            few = allowed is not None and len(allowed) < self.ntotal // 5
            s, i = self._search(embeddings, found, allowed, None if few else effort)
            if (i < 0).any():  # the cells searched hold too few
                s, i = self._search(embeddings, found, allowed, None)
            scores[:, :found], ids[:, :found] = np.where(i >= 0, s, -np.inf), i
        return np.clip(scores, None, 1.0), ids

    def _search(
        self, embeddings: np.ndarray, k: int, allowed: np.ndarray | None, nprobe: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """One search; nprobe None searches all cells."""
        x = _float32(embeddings)
        if allowed is None and nprobe is not None and k <= GPU_MOST_NEIGHBOURS:
            with self._gpu_turn:
                gpu = self._on_gpu()
                if gpu is not None:
                    scores, ids = gpu.search(x, k)
                    return scores, ids
        parameters: dict[str, Any] = {}
        if allowed is not None:
            selector = faiss.IDSelectorBatch(np.ascontiguousarray(allowed, np.int64))
            parameters["sel"] = selector
        if self._facts["kind"] == "ivf":
            inner = faiss.SearchParametersIVF(nprobe=nprobe or self._ivf.nlist, **parameters)
        else:
            inner = faiss.SearchParameters(**parameters)
        scores, ids = self._index.search(
            x, k, params=faiss.SearchParametersPreTransform(index_params=inner)
        )
        return scores, ids

    def _on_gpu(self) -> Any:
        """A copy on the first GPU, where faiss is built for one and one is here; else None."""
        if not self._gpu_tried:
            self._gpu_tried = True
            if getattr(faiss, "StandardGpuResources", None) and faiss.get_num_gpus() > 0:
                try:
                    if self._facts["kind"] == "ivf":
                        self._ivf.nprobe = int(self._facts["nprobe"])
                    resources = faiss.StandardGpuResources()
                    self._gpu = resources, faiss.index_cpu_to_gpu(resources, 0, self._index)
                except RuntimeError:  # does not fit, or a kind the GPU has not
                    self._gpu = None
        return None if self._gpu is None else self._gpu[1]

    def _tune(self, batches: Batches, n: int, seed: int, progress: Progress | None) -> None:
        """Search as few cells as give the recall wanted, on TUNED_ON vectors of the gallery."""
        if progress:
            progress("tuning", 0, None)
        ids, queries = _sample(batches, n, TUNED_ON, seed + 1)
        exact = _exact_neighbours(self, batches, ids, queries)
        nlist, nprobe, recall = int(self._ivf.nlist), 4, 0.0
        while True:
            _, found = self._search(queries, exact.shape[1] + 1, None, nprobe)
            recall = _recall(_without_self(found, ids), exact)
            if recall >= RECALL_WANTED or nprobe >= nlist:
                break
            nprobe = min(nlist, nprobe + max(1, nprobe // 2))
        self._facts |= {"nprobe": nprobe, "recall": round(recall, 5)}

    def _check(self) -> None:
        """Raise ValueError when the index is not one of the kinds that build() makes."""
        inner = self._inner
        if self._facts.get("kind") == "exact":
            ok = isinstance(inner, faiss.IndexIDMap) and inner.id_map.size() == inner.ntotal
            ok = ok and isinstance(faiss.downcast_index(inner.index), faiss.IndexFlat)
            ok = ok and faiss.downcast_index(inner.index).ntotal == inner.ntotal
        else:
            ok = isinstance(inner, faiss.IndexIVFScalarQuantizer)
            ok = ok and isinstance(self._facts.get("nprobe"), int)
        if not ok or "recall" not in self._facts or "built_on" not in self._facts:
            raise ValueError("it is of another kind than the gallery says")

    @property
    def _inner(self) -> Any:
        return faiss.downcast_index(self._index.index)

    @property
    def _ivf(self) -> Any:
        return faiss.extract_index_ivf(self._index)


def choose_kind(n: int) -> Kind:
    """The kind for n vectors: exact up to 100,000."""
    return "exact" if n <= EXACT_UP_TO else "ivf"


def _chain(transform: AffineMap) -> tuple[list[Any], int]:
    steps: list[Any] = []
    d_out = transform.d_in
    if transform.matrix is not None and transform.bias is not None:
        d_out = len(transform.matrix)
        linear = faiss.LinearTransform(transform.d_in, d_out, True)  # noqa: FBT003
        faiss.copy_array_to_vector(np.ascontiguousarray(transform.matrix).ravel(), linear.A)
        faiss.copy_array_to_vector(np.ascontiguousarray(transform.bias), linear.b)
        linear.is_trained = True
        steps.append(linear)
    return [*steps, faiss.NormalizationTransform(d_out, 2.0)], d_out


def _trained_ivf(chain: list[Any], batches: Batches, n: int, d: int, seed: int) -> Any:
    cells = int(2 ** np.round(np.log2(4 * np.sqrt(max(n, 64)))))
    cells = max(1, min(cells, n // ROWS_PER_CELL))
    _, x = _sample(batches, n, cells * ROWS_PER_CELL, seed)
    for step in chain:
        x = step.apply(x)
    quantizer = faiss.IndexFlatIP(d)
    ivf = faiss.IndexIVFScalarQuantizer(
        quantizer, d, cells, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    ivf.cp.seed, ivf.cp.min_points_per_centroid = seed + 1, 1
    ivf.train(x)
    return ivf


def _sample(batches: Batches, n: int, m: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """m of the n embeddings, evenly drawn, and their ids."""
    chosen = np.sort(np.random.default_rng(seed).choice(n, min(n, m), replace=False))
    ids, rows, first = [], [], 0
    for batch_ids, embeddings in batches():
        low, high = np.searchsorted(chosen, [first, first + len(batch_ids)])
        ids.append(batch_ids[chosen[low:high] - first])
        rows.append(_float32(embeddings[chosen[low:high] - first]))
        first += len(batch_ids)
    return np.concatenate(ids), np.concatenate(rows)


def _exact_neighbours(
    index: Index, batches: Batches, ids: np.ndarray, queries: np.ndarray, k: int = 10
) -> np.ndarray:
    """(q, k) ids of the true nearest neighbours of vectors of the gallery, themselves left out."""
    x = index.transform(queries)
    best_scores = np.full((len(x), 0), 0, np.float32)
    best_ids = np.full((len(x), 0), 0, np.int64)
    for batch_ids, embeddings in batches():
        scores = x @ index.transform(embeddings).T
        best_scores = np.hstack([best_scores, scores])
        best_ids = np.hstack([best_ids, np.broadcast_to(batch_ids, scores.shape)])
        keep = min(k + 1, best_scores.shape[1])
        order = np.argpartition(-best_scores, keep - 1, axis=1)[:, :keep]
        best_scores = np.take_along_axis(best_scores, order, 1)
        best_ids = np.take_along_axis(best_ids, order, 1)
    order = np.argsort(-best_scores, axis=1, kind="stable")
    return _without_self(np.take_along_axis(best_ids, order, 1), ids)


def _without_self(found: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Drop each query's own id from its row, or the last neighbour where it is not there."""
    keep = found != ids[:, None]
    keep[keep.all(axis=1), -1] = False
    return found[keep].reshape(len(found), -1)


def _recall(found: np.ndarray, exact: np.ndarray) -> float:
    return float((found[:, :, None] == exact[:, None, :]).any(axis=1).mean())


def _float32(embeddings: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(embeddings, dtype=np.float32)
