"""Cosine k-NN in FAISS: raw embeddings in, ids and scores out; the transform is part of the index.

    exact   IndexFlatIP, up to 100,000 vectors: every vector is compared in float32
    ivf     IndexIVFScalarQuantizer in float16, beyond: k-means cells, of which the nearest nprobe
            are searched (Sivic and Zisserman 2003); nprobe is tuned when the index is built, on
            vectors of the gallery held against exact search, to a recall@10 of 0.99

Float16 keeps the ranks of the vectors, so no refinement follows the search of the cells. IVF was
chosen over HNSW since it adds, removes and filters in place (docs/decisions.md).
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import faiss
import numpy as np

from retrieval.errors import GalleryError
from retrieval.index.files import (
    Facts,
    check_file,
    check_structure,
    read,
    sha256_of_head,
    steps_of,
)

Kind = Literal["exact", "ivf"]
Batches = Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]
Progress = Callable[[str, int, int | None], None]

EXACT_UP_TO = 100_000
RECALL_AT, RECALL_WANTED = 10, 0.99
TUNED_ON = 1000
FEW = 0.2  # of all vectors
SAME_SCORE = 1e-4  # what float16 changes in a score; neighbours nearer than this are equal
GPU_MOST_NEIGHBOURS = 2048
ROWS_PER_CELL = 40  # that k-means is trained on
ID_BYTES = 8


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
    search, but none while add() or remove() runs. A mapped index is copied into memory before it
    is changed; its file stays as it is.
    """

    def __init__(
        self, faiss_index: Any, facts: Facts, *, changed: bool, mapped: bool = False
    ) -> None:
        self._index = faiss_index
        self._facts = facts
        self._mapped = mapped
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
        float32 embeddings. kind: by default chosen by n; of nothing, always exact.
        """
        kind = (kind or choose_kind(n)) if n else "exact"
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
            check_file(path, facts)
            loaded = read(path, faiss.IO_FLAG_MMAP_IFC if mmap else 0)
            check_structure(loaded, facts)
        except (OSError, RuntimeError, MemoryError, ValueError) as error:
            reason = str(error).strip().rpartition("\n")[2][-200:] or type(error).__name__
            raise GalleryError(
                f"The index {path} cannot be read ({reason}). Run `imgret verify --repair`: it is "
                "built again without reading an image."
            ) from error
        return cls(loaded, dict(facts), changed=False, mapped=mmap)

    def save(self, path: Path) -> None:
        """Write the index beside path, then put it in its place: readers keep what they have."""
        temporary = path.with_name(f".{path.name}.writing")
        try:
            faiss.write_index(self._index, str(temporary))
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            size = temporary.stat().st_size
            head = size - self.ntotal * (self._code_size + ID_BYTES)
            facts: Facts = {"bytes": size, "head": head, "sha256": sha256_of_head(temporary, head)}
            temporary.replace(path)
        except (OSError, RuntimeError) as error:
            temporary.unlink(missing_ok=True)
            raise GalleryError(
                f"{path} cannot be written ({error}). Free some space and run `imgret index` again."
            ) from error
        self._facts |= facts
        self.changed = False

    @property
    def settings(self) -> Facts:
        """What load() wants to know again: kind, recall, search effort, and of the file its size
        and the SHA-256 of its head, which is all but vectors and ids.
        """
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
        x = self._raw(embeddings)
        self._prepare_change()
        self._index.add_with_ids(x, np.ascontiguousarray(ids, np.int64))
        self.changed = True

    def remove(self, ids: np.ndarray) -> int:
        """Drop vectors by id; the number dropped."""
        self._prepare_change()
        selector = faiss.IDSelectorBatch(np.ascontiguousarray(ids, np.int64))
        removed = int(self._inner.remove_ids(selector))
        self._index.ntotal = self._inner.ntotal
        self.changed |= removed > 0
        return removed

    def _prepare_change(self) -> None:
        """A mapped index in memory of its own (FAISS ends the process otherwise), none on a GPU."""
        if self._mapped:
            self._index = faiss.deserialize_index(faiss.serialize_index(self._index))
            self._mapped = False
        self._gpu, self._gpu_tried = None, False

    def transform(self, embeddings: np.ndarray) -> np.ndarray:
        """(n, d_in) raw embeddings -> (n, d_out) float32 of unit length."""
        return _apply(steps_of(self._index), self._raw(embeddings))

    def search(
        self, embeddings: np.ndarray, k: int, *, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest of (q, d_in) raw embeddings, best first.

        allowed: ids to search among. Returns (q, k) float32 cosine similarities and (q, k) int64
        ids, padded with -inf and -1 where fewer than k exist. Raises ValueError for embeddings
        of another width.
        """
        x = self._raw(embeddings)
        found = min(k, self.ntotal if allowed is None else len(allowed))
        scores = np.full((len(x), k), -np.inf, np.float32)
        ids = np.full((len(x), k), -1, np.int64)
        if found and len(x):
            s, i = self._search(x, found, allowed)
            scores[:, :found], ids[:, :found] = np.where(i >= 0, s, -np.inf), i
        return np.clip(scores, None, 1.0), ids

    def _search(
        self, x: np.ndarray, k: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        nprobe = self._effort(k, self.ntotal if allowed is None else len(allowed))
        answer = None
        if allowed is None and nprobe == self._facts.get("nprobe") and k <= GPU_MOST_NEIGHBOURS:
            answer = self._search_on_gpu(x, k)
        scores, ids = answer or self._search_cells(x, k, nprobe, allowed)
        if nprobe is not None and (ids < 0).any():  # the cells searched hold too few
            scores, ids = self._search_cells(x, k, int(self._ivf.nlist), allowed)
        return scores, ids

    def _effort(self, k: int, among: int) -> int | None:
        """Cells to search, None for exact. It was tuned for 10 neighbours among all vectors; more
        neighbours, or fewer vectors to find them among, lie in proportionally more cells. Where a
        filter leaves few, all cells are searched, which is exact.
        """
        if self._facts["kind"] == "exact":
            return None
        if among < FEW * self.ntotal:
            return int(self._ivf.nlist)
        wider = max(1.0, k / RECALL_AT) * max(1.0, self.ntotal / among)
        return min(int(self._ivf.nlist), math.ceil(int(self._facts["nprobe"]) * wider))

    def _search_cells(
        self, x: np.ndarray, k: int, nprobe: int | None, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """FAISS's search on the CPU, with parameters of its own so that threads do not meet."""
        own: dict[str, Any] = {}
        if allowed is not None:
            own["sel"] = faiss.IDSelectorBatch(np.ascontiguousarray(allowed, np.int64))
        if nprobe is None:
            inner = faiss.SearchParameters(**own)
        else:
            inner = faiss.SearchParametersIVF(nprobe=nprobe, **own)
        scores, ids = self._index.search(
            x, k, params=faiss.SearchParametersPreTransform(index_params=inner)
        )
        return scores, ids

    def _search_on_gpu(self, x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray] | None:
        """The answer of a copy on the first GPU; None without one, or when it fails.

        The transform is applied here: FAISS cannot copy a NormalizationTransform.
        """
        with self._gpu_turn:
            try:
                if not self._gpu_tried:
                    self._gpu_tried = True
                    if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0:
                        resources = faiss.StandardGpuResources()
                        copy = faiss.index_cpu_to_gpu(resources, 0, self._inner)
                        self._gpu = resources, copy
                if self._gpu is None:
                    return None
                scores, ids = self._gpu[1].search(self.transform(x), k)
            except RuntimeError:  # does not fit
                self._gpu = None
                return None
            return scores, ids

    def _tune(self, batches: Batches, n: int, seed: int, progress: Progress | None) -> None:
        """Search as few cells as give the recall wanted, on TUNED_ON vectors of the gallery.

        The mean has to lie two standard errors above it, so that other queries get it as well.
        """
        if progress:
            progress("tuning", 0, None)
        ids, queries = _sample(batches, n, TUNED_ON, seed + 1)
        exact, least = _exact_neighbours(self, batches, ids, queries)
        nlist = int(self._ivf.nlist)
        nprobe = min(4, nlist)
        while True:
            scores, found = self._search_cells(queries, min(n, RECALL_AT + 1), nprobe)
            recalls = _recalls(scores, found, ids, exact, least)
            margin = 2 * recalls.std() / math.sqrt(len(recalls))
            if nprobe == nlist or recalls.mean() - margin >= RECALL_WANTED:
                break
            nprobe = min(nlist, nprobe * 3 // 2)
        self._ivf.nprobe = nprobe  # what a copy on a GPU searches
        self._facts |= {"nprobe": nprobe, "recall": round(float(recalls.mean()), 5)}

    def _raw(self, embeddings: np.ndarray) -> np.ndarray:
        x = _float32(embeddings)
        if x.ndim != 2 or x.shape[1] != self.d_in:
            raise ValueError(f"the index takes (n, {self.d_in}) embeddings, got {x.shape}")
        return x

    @property
    def _code_size(self) -> int:
        """Bytes of a stored vector."""
        inner = self._inner
        return int(inner.code_size if self._facts["kind"] == "ivf" else inner.index.sa_code_size())

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
        faiss.copy_array_to_vector(_float32(transform.matrix).ravel(), linear.A)
        faiss.copy_array_to_vector(_float32(transform.bias), linear.b)
        linear.is_trained = True
        steps.append(linear)
    return [*steps, faiss.NormalizationTransform(d_out, 2.0)], d_out


def _apply(steps: Sequence[Any], x: np.ndarray) -> np.ndarray:
    for step in steps:
        x = step.apply(x)
    return np.asarray(x)


def _trained_ivf(chain: list[Any], batches: Batches, n: int, d: int, seed: int) -> Any:
    cells = int(2 ** np.round(np.log2(4 * np.sqrt(max(n, 64)))))
    cells = max(1, min(cells, n // ROWS_PER_CELL))
    _, x = _sample(batches, n, cells * ROWS_PER_CELL, seed, chain)
    quantizer = faiss.IndexFlatIP(d)
    ivf = faiss.IndexIVFScalarQuantizer(
        quantizer, d, cells, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    ivf.cp.seed, ivf.cp.min_points_per_centroid = seed + 1, 1
    ivf.train(x)
    return ivf


def _sample(
    batches: Batches, n: int, m: int, seed: int, chain: Sequence[Any] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Ids of m of the n embeddings, evenly drawn, and what chain makes of these."""
    chosen = np.sort(np.random.default_rng(seed).choice(n, min(n, m), replace=False))
    ids, rows, first = [], [], 0
    for batch_ids, embeddings in batches():
        low, high = np.searchsorted(chosen, [first, first + len(batch_ids)])
        if high > low:
            ids.append(batch_ids[chosen[low:high] - first])
            rows.append(_apply(chain, _float32(embeddings[chosen[low:high] - first])))
        first += len(batch_ids)
    return np.concatenate(ids), np.concatenate(rows)


def _exact_neighbours(
    index: Index, batches: Batches, ids: np.ndarray, queries: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """True nearest neighbours of vectors of the gallery in float32, themselves left out.

    Returns their (q, k) ids and the (q, 1) score of the last of them; k is RECALL_AT, or less
    where fewer exist.
    """
    x = index.transform(queries)
    best = np.empty((len(x), 0), np.float32)
    best_ids = np.empty((len(x), 0), np.int64)
    for batch_ids, embeddings in batches():
        scores = x @ index.transform(embeddings).T
        scores[ids[:, None] == batch_ids] = -np.inf
        best = np.hstack([best, scores])
        best_ids = np.hstack([best_ids, np.broadcast_to(batch_ids, scores.shape)])
        keep = min(RECALL_AT, best.shape[1])
        order = np.argpartition(-best, keep - 1, axis=1)[:, :keep]
        best, best_ids = np.take_along_axis(best, order, 1), np.take_along_axis(best_ids, order, 1)
    best_ids[np.isneginf(best)] = -1  # the query itself, where the gallery is that small
    return best_ids, np.where(np.isneginf(best), np.inf, best).min(axis=1, keepdims=True)


def _recalls(
    scores: np.ndarray, found: np.ndarray, ids: np.ndarray, exact: np.ndarray, least: np.ndarray
) -> np.ndarray:
    """Share of each query's true neighbours among what a search for one more found: (q,) float64.

    What scores as high as the last true neighbour is as good as it: of equal images any will do.
    """
    other = (found != ids[:, None]) & (found >= 0)
    good = (found[:, :, None] == exact[:, None, :]).any(axis=2) | (scores >= least - SAME_SCORE)
    wanted = (exact >= 0).sum(axis=1)
    return np.minimum((good & other).sum(axis=1), wanted) / np.maximum(wanted, 1)


def _float32(embeddings: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(embeddings, dtype=np.float32)
