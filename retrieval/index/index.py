"""An index over transformed vectors, of one of two kinds.

    exact   IndexFlatIP, up to 100,000 vectors: every vector is compared in float32
    ivf     IndexIVFScalarQuantizer in float16, beyond: k-means cells, of which the nearest are
            searched (Sivic and Zisserman 2003), as many as a query needs; that is learnt when the
            index is built, on vectors of the gallery held against exact search, to a recall of
            0.99, and measured again when the index has changed

Float16 keeps the ranks of the vectors, so no refinement follows the search of the cells. IVF was
chosen over HNSW since it adds, removes and filters in place (docs/decisions.md).
"""

from __future__ import annotations

import math
import threading
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from retrieval.draw import evenly_drawn
from retrieval.errors import GalleryError, GalleryWriteError
from retrieval.files import replaced, sha256_of
from retrieval.index.cells import Batches, exact_neighbours, sample, shrink_centres, trained_ivf
from retrieval.index.effort import RECALL_AT, Known, learnt_effort
from retrieval.index.files import (
    IndexFacts,
    check_content,
    check_file,
    check_structure,
    read_index,
    sha256_of_head,
    steps_of,
)
from retrieval.index.gpu import GpuCopy
from retrieval.index.kind import Kind, choose_kind
from retrieval.index.reach import Reach
from retrieval.index.search import search_index
from retrieval.index.selection import Selection, compares_most
from retrieval.index.size import size_as_file
from retrieval.index.steps import AffineMap, affine_of, apply, chain_of, float32
from retrieval.index.stored import StoredVectors
from retrieval.index.wider import search_wider
from retrieval.progress import Progress
from retrieval.refinement import Neighbourhood, weighted_mean
from retrieval.text import one_sentence, unwritable

TUNED_ON, SETTLED_ON = 1000, 200  # vectors that recall is measured on, at first and later
MOST_EFFORT = 4.0  # times the cells searched at first; then an index that is built anew is faster
LEAST_EFFORT = 8.0  # cells; so few take no time that building would spare
ROWS_A_SEARCH = 4096
FEW = 0.02  # of the vectors: their nearest may lie in any cell, so all are searched at once


class Index:
    """A FAISS index over transformed unit vectors, with the id of each.

    changed: whether it differs from the file that it was loaded from. Any number of threads may
    search, but none while add() or remove() runs. A mapped index is copied into memory before it
    is changed; its file stays as it is.
    """

    def __init__(
        self, faiss_index: Any, facts: IndexFacts, *, changed: bool, mapped: bool = False
    ) -> None:
        self._index = faiss_index
        self._facts = facts
        self._mapped = mapped
        self._gpu = GpuCopy()
        self._added: list[np.ndarray] = []  # ids, since recall was measured
        self._unsettled = False
        self._settling = threading.Lock()
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
        chain, d_out = chain_of(transform)
        if kind == "exact":
            inner = faiss.IndexIDMap(faiss.IndexFlatIP(d_out))
        else:
            inner = trained_ivf(chain, batches, n, d_out, seed)
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
            shrink_centres(inner)
            built._tune(batches, n, seed, progress)
        built._added, built._unsettled = [], False
        return built

    @classmethod
    def load(cls, path: Path, facts: IndexFacts, *, mmap: bool = True) -> Index:
        """Load the index in a file, memory-mapped or, to change it, in memory.

        facts: its settings as save() left them. Raises GalleryError when the file is missing,
        damaged, or not what facts say.
        """
        try:
            check_file(path, facts)
            loaded = read_index(path, faiss.IO_FLAG_MMAP_IFC if mmap else 0)
            check_structure(loaded, facts)
        except (OSError, RuntimeError, MemoryError, ValueError) as error:
            raise GalleryError(
                f"The index {path} cannot be read ({one_sentence(error)}). Run `imgret verify "
                "--repair`, which builds it again without reading an image."
            ) from error
        return cls(loaded, dict(facts), changed=False, mapped=mmap)

    def save(self, path: Path) -> None:
        """Write the index beside path, then put it in its place: readers keep what they have."""
        self.settle()
        try:
            with replaced(path) as made:
                faiss.write_index(self._index, str(made))
                size = made.stat().st_size
                head = size - self.ntotal * self.stored.row_size
                facts: IndexFacts = {
                    "bytes": size,
                    "head": head,
                    "sha256": sha256_of_head(made, head),
                    "sha256_of_all": sha256_of(made),
                }
        except (OSError, RuntimeError) as error:
            raise GalleryWriteError(str(unwritable(path, error))) from error
        self._facts |= facts
        self.changed = False

    def check_content(self, path: Path) -> None:
        """Read all of the file that this was loaded from. Raises GalleryError if it has changed."""
        check_content(path, str(self._facts.get("sha256_of_all")))

    @property
    def size(self) -> int:
        """The bytes that save() writes."""
        return size_as_file(self._index)

    @property
    def settings(self) -> IndexFacts:
        """What load() wants to know again: kind, recall, search effort, and of the file its size
        and the SHA-256 of its head, which is all but vectors and ids.
        """
        return dict(self._facts)

    @property
    def kind(self) -> str:
        """The kind and its parameters, for people to read."""
        if self._facts["kind"] == "exact":
            return "exact"
        cells = float(self._facts["cells"])
        return f"ivf, {self._ivf.nlist} cells, {cells:.0f} searched on average, float16"

    @property
    def recall(self) -> float | None:
        """recall@10 against exact search, measured on vectors of the gallery; None between a change
        and settle()."""
        return None if self._unsettled else float(self._facts["recall"])

    @property
    def ntotal(self) -> int:
        """The number of vectors."""
        return int(self._index.ntotal)

    @property
    def d_in(self) -> int:
        """The width of a raw embedding."""
        return int(self._index.d)

    @property
    def d_out(self) -> int:
        """The width of a transformed embedding."""
        return int(self._inner.d)

    @property
    def ids(self) -> np.ndarray:
        """The ids, (n,) int64, in no particular order."""
        return self.stored.ids

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """Return the transformed vectors of ids of any shape, (..., d_out); zeros for id -1.

        Raises ValueError for an id that it does not hold.
        """
        return self.stored.of(ids)

    @cached_property
    def stored(self) -> StoredVectors:
        """The vectors as they are stored, until the next change."""
        return StoredVectors(self._inner, mapped=self._mapped)

    def suits(self, n: int) -> bool:
        """Tell whether its kind is still the right one for n vectors."""
        kind = str(self._facts["kind"])
        outgrown = kind == "ivf" and n >= 4 * int(self._facts["built_on"])
        return choose_kind(n, kind) == kind and not outgrown

    def add(self, ids: np.ndarray, embeddings: np.ndarray) -> None:
        """Add (m, d_in) raw embeddings under (m,) new ids."""
        self.add_vectors(ids, self.transform(embeddings))

    def add_vectors(self, ids: np.ndarray, x: np.ndarray) -> None:
        """Add (m, d_out) vectors that are already transformed under (m,) new ids."""
        self._prepare_change()
        self._inner.add_with_ids(float32(x), np.ascontiguousarray(ids, np.int64))
        self._index.ntotal = self._inner.ntotal
        self._added.append(np.array(ids, np.int64))
        self.changed = True

    def remove(self, ids: np.ndarray) -> int:
        """Drop vectors by id; return how many."""
        self._prepare_change()
        selector = faiss.IDSelectorBatch(np.ascontiguousarray(ids, np.int64))
        removed = int(self._inner.remove_ids(selector))
        self._index.ntotal = self._inner.ntotal
        self.changed |= removed > 0
        return removed

    def settle(self, *, seed: int = 0) -> bool:
        """Measure recall again after changes, on vectors that were added and on any.

        As many cells are searched from now on as either needs; the lower recall is told. Returns
        False where that takes so many more that the index should be built anew.
        """
        if not self._unsettled:
            return True
        ids, random = self.ids, np.random.default_rng(seed)
        added = np.concatenate([*self._added, np.empty(0, np.int64)])
        groups = []
        for of in (ids, added[np.isin(added, ids)]):
            if len(of):
                asked = of[evenly_drawn(len(of), SETTLED_ON, seed=random)]
                x = self.vectors(asked)
                groups.append(Known(asked, x, *exact_neighbours(x, asked, self.stored.batches())))
        if groups:
            self._learn(groups, seed)
        self._added, self._unsettled = [], False
        at_first = max(LEAST_EFFORT, float(self._facts["tuned"]))
        return float(self._facts["cells"]) <= MOST_EFFORT * at_first

    def augment(self, how: Neighbourhood) -> None:
        """Replace each vector by the weighted mean of itself and its nearest (refinement.py)."""
        ids = self.ids
        vectors = np.empty((len(ids), self.d_out), np.float32)
        for start in range(0, len(ids), ROWS_A_SEARCH):
            own = ids[start : start + ROWS_A_SEARCH]
            x = self.vectors(own)
            scores, found = self.search_vectors(x, how.n + 1)
            scores[found == own[:, None]] = -np.inf
            nearest = np.argsort(-scores, axis=1, kind="stable")[:, : how.n]
            scores, found = (np.take_along_axis(a, nearest, 1) for a in (scores, found))
            vectors[start : start + len(own)] = weighted_mean(
                x, self.vectors(found), scores, how.alpha
            )
        self._prepare_change()
        self._inner.reset()
        self._inner.add_with_ids(vectors, ids)
        self._index.ntotal = self._inner.ntotal
        self.changed = True

    def _prepare_change(self) -> None:
        """A mapped index in memory of its own (FAISS ends the process otherwise), none on a GPU."""
        if self._mapped:
            self._index = faiss.deserialize_index(faiss.serialize_index(self._index))
            self._mapped = False
        self._gpu = GpuCopy()
        self.__dict__.pop("stored", None)
        self._unsettled = self._facts["kind"] == "ivf"

    def transform(self, embeddings: np.ndarray) -> np.ndarray:
        """Transform (n, d_in) raw embeddings to (n, d_out) float32 of unit length."""
        return apply(steps_of(self._index), self._raw(embeddings))

    @property
    def affine(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The (d_out, d_in) matrix and (d_out,) bias of the transform; None for the norm alone."""
        return affine_of(steps_of(self._index))

    def search(
        self, embeddings: np.ndarray, k: int, *, among: Selection | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest of (q, d_in) raw embeddings, best first.

        among: ids to search among. Returns (q, k) float32 cosine similarities and (q, k) int64
        ids, padded with -inf and -1 where fewer than k exist. Raises ValueError for embeddings
        of another width.
        """
        return self.search_vectors(self.transform(embeddings), k, among=among)

    def search_vectors(
        self, x: np.ndarray, k: int, *, among: Selection | None = None, least: float = -1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest of (q, d_out) vectors that are already transformed.

        least: neighbours that score less need not be the right ones.
        """
        with self._settling:  # else cells that were made for other vectors are searched
            self.settle()
        found = min(k, self.ntotal if among is None else among.count)
        scores = np.full((len(x), k), -np.inf, np.float32)
        ids = np.full((len(x), k), -1, np.int64)
        if found and len(x):
            s, i = self._search(x, found, among, least)
            scores[:, :found], ids[:, :found] = np.where(i >= 0, s, -np.inf), i
        return np.clip(scores, None, 1.0), ids

    def _search(
        self, x: np.ndarray, k: int, among: Selection | None, least: float
    ) -> tuple[np.ndarray, np.ndarray]:
        if self._facts["kind"] == "exact":
            if compares_most(among, self.ntotal):
                self.stored.read_ahead()
            return search_index(self._inner, x, k, None, among)
        gathered = None if among is None else among.gathered
        if gathered and (few := gathered.index(self.stored, len(x))) is not None:
            return search_index(few, x, k, None)
        return self._search_cells(x, k, among, self._reach.down_to(least))

    def _search_cells(
        self, x: np.ndarray, k: int, among: Selection | None, reach: Reach
    ) -> tuple[np.ndarray, np.ndarray]:
        first = int(self._facts["nprobe"])
        answer = self._gpu.search(self._inner, x, k) if among is None else None
        if answer is None:
            share = 1.0 if among is None else among.count / self.ntotal
            wider = math.ceil(first * max(1.0, math.sqrt(k / RECALL_AT / share)))
            first = wider if share > FEW else reach.nlist
            return search_wider(self.stored, x, k, first, reach, among)[:2]
        scores, ids = answer
        more = reach.cells_for(scores[:, -1]) > first
        if more.any():
            scores[more], ids[more], _ = search_wider(self.stored, x[more], k, first, reach)
        return scores, ids

    @cached_property
    def _reach(self) -> Reach:
        return Reach.parse(str(self._facts["reach"]), int(self._inner.nlist))

    def _tune(self, batches: Batches, n: int, seed: int, progress: Progress | None) -> None:
        """Search as few cells as give the recall wanted, on TUNED_ON vectors of the gallery."""
        if progress:
            progress("tuning", 0, None)
        ids, queries = sample(batches, n, TUNED_ON, seed + 1)
        vectors = self.transform(queries)
        transformed = ((of, self.transform(x)) for of, x in batches())
        found = exact_neighbours(vectors, ids, transformed)
        self._learn([Known(ids, vectors, *found)], seed)
        self._facts["tuned"] = self._facts["cells"]

    def _learn(self, groups: list[Known], seed: int) -> None:
        """Search as many cells as give some vectors the recall wanted."""
        effort = learnt_effort(self.stored, groups, seed=seed)
        self._facts |= effort.facts
        self.__dict__.pop("_reach", None)
        self._ivf.nprobe = effort.first  # what a copy on a GPU searches

    def _raw(self, embeddings: np.ndarray) -> np.ndarray:
        x = float32(embeddings)
        if x.ndim != 2 or x.shape[1] != self.d_in:
            raise ValueError(f"the index takes (n, {self.d_in}) embeddings, got {x.shape}")
        return x

    @property
    def _inner(self) -> Any:
        return faiss.downcast_index(self._index.index)

    @property
    def _ivf(self) -> Any:
        return faiss.extract_index_ivf(self._index)
