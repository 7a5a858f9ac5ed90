"""An index that changes without its large file being written anew.

What was added since that file was written lies beside it, in a small exact index; of what was
removed since, the ids are left out. All three are searched as one. Once they are more than
MERGED_FROM of the whole, merged() makes one index of them: the main and delta of log-structured
stores (O'Neil et al. 1996, "The log-structured merge-tree"), with two levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from retrieval.errors import GalleryError, GalleryWriteError
from retrieval.files import IndexFiles, read_bounded, sha256_of_bytes, write_atomically
from retrieval.index.files import IndexFacts, check_content
from retrieval.index.gathered import ReadVectors
from retrieval.index.index import Index
from retrieval.index.selection import Selection
from retrieval.index.steps import NormAlone
from retrieval.text import one_sentence, unwritable

MERGED_FROM = 0.05
SMALL = 1_000  # vectors; so few are written whole in a moment
STORED_IDS, ID_BYTES = "<i8", 8


@dataclass(frozen=True)
class Allowed:
    """Ids to search among, in both parts of an index, made ready for any number of searches."""

    main: Selection
    added: Selection

    @property
    def count(self) -> int:
        """How many ids these are."""
        return self.main.count + self.added.count


class GrowingIndex:
    """An Index, what was added since it was written, and what was removed; searched as one.

    main: as its file has it. added: exact, of transformed vectors, or None. removed: (n,) int64
    ids of main, sorted. changed: whether added or removed differ from their files.
    """

    def __init__(
        self, main: Index, added: Index | None = None, removed: np.ndarray | None = None
    ) -> None:
        self.main = main
        self.added = added
        self.removed = np.empty(0, np.int64) if removed is None else removed
        self.changed = False
        self._added_in_file: IndexFacts = {}

    @classmethod
    def load(
        cls, files: IndexFiles, facts: IndexFacts, added: IndexFacts, removed: IndexFacts
    ) -> GrowingIndex:
        """Load an index, memory-mapped. facts, added, removed: as save() left them.

        Raises GalleryError when a file is missing, damaged, or not what they say.
        """
        main = Index.load(files.main, facts)
        beside = Index.load(files.added, added) if added else None
        if beside is not None and beside.d_in != main.d_out:
            raise GalleryError(
                f"The index {files.added} does not fit {files.main}. Run `imgret verify --repair`."
            )
        loaded = cls(main, beside, _load_ids(files.removed, removed, main.ntotal))
        loaded._added_in_file = added
        return loaded

    def save_delta(self, files: IndexFiles) -> None:
        """Write what lies beside the main file."""
        if self.added is not None:
            self.added.save(files.added)
        if len(self.removed):
            try:
                write_atomically(files.removed, self._removed_as_file)
            except OSError as error:
                raise GalleryWriteError(str(unwritable(files.removed, error))) from error
        self.changed, self._added_in_file = False, self.facts[1]

    @property
    def facts(self) -> tuple[IndexFacts, IndexFacts, IndexFacts]:
        """What load() wants to know of the three files; empty for one that is not needed."""
        removed: IndexFacts = {}
        if len(self.removed):
            removed = {
                "ids": len(self.removed), "sha256": sha256_of_bytes(self._removed_as_file)
            }  # fmt: skip
        return self.main.settings, self.added.settings if self.added else {}, removed

    def check_content(self, files: IndexFiles) -> None:
        """Read all of the files that this was loaded from. Raises GalleryError if one changed."""
        self.main.check_content(files.main)
        self.check_beside(files)

    def check_beside(self, files: IndexFiles) -> None:
        """Read all of the file of what was added, as check_content() does."""
        if self._added_in_file:
            check_content(files.added, str(self._added_in_file.get("sha256_of_all")))

    @property
    def kind(self) -> str:
        """The kind and its parameters, for people to read."""
        beside = [f"{n:,} {what}" for n, what in self._beside if n]
        return ", ".join([self.main.kind, *beside])

    @property
    def _beside(self) -> list[tuple[int, str]]:
        return [(self._n_added, "added beside it"), (len(self.removed), "left out")]

    @property
    def recall(self) -> float | None:
        """recall@10 of the main index; what was added is searched exactly."""
        return self.main.recall

    @property
    def ntotal(self) -> int:
        """The number of vectors."""
        return self.main.ntotal + self._n_added - len(self.removed)

    @property
    def _n_added(self) -> int:
        return self.added.ntotal if self.added else 0

    @property
    def d_in(self) -> int:
        """The width of a raw embedding."""
        return self.main.d_in

    @property
    def d_out(self) -> int:
        """The width of a transformed embedding."""
        return self.main.d_out

    @property
    def ids(self) -> np.ndarray:
        """The ids, (n,) int64, in no particular order. Of a large index this reads its file."""
        kept = self.main.ids
        if len(self.removed):
            kept = kept[~np.isin(kept, self.removed)]
        return np.concatenate([kept, self._added_ids])

    @property
    def _added_ids(self) -> np.ndarray:
        return self.added.ids if self.added else np.empty(0, np.int64)

    @property
    def finds_vectors(self) -> bool:
        """Whether vectors() reads little of the file for a few ids."""
        return self.main.settings["kind"] == "exact"

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """Return the transformed vectors of ids of any shape, (..., d_out); zeros for id -1.

        Raises ValueError for an id that it does not hold.
        """
        wanted = np.asarray(ids, np.int64)
        if self.added is None:
            return self.main.vectors(wanted)
        vectors = np.empty((*wanted.shape, self.d_out), np.float32)
        beside = np.isin(wanted, self.added.ids)
        vectors[beside] = self.added.vectors(wanted[beside])
        if not beside.all():
            vectors[~beside] = self.main.vectors(wanted[~beside])
        return vectors

    def add(self, ids: np.ndarray, embeddings: np.ndarray) -> None:
        """Add (m, d_in) raw embeddings under (m,) new ids."""
        vectors = self.main.transform(embeddings)
        if self.added is None:
            self.added = Index.build(NormAlone(self.d_out), lambda: iter(()), 0)
        self.added.add_vectors(ids, vectors)
        self.changed = True

    def remove(self, ids: np.ndarray) -> int:
        """Drop the vectors of (m,) ids that it holds; return how many."""
        gone, before = np.unique(np.asarray(ids, np.int64)), self.ntotal
        if self.added is not None:
            beside = np.isin(gone, self.added.ids)
            self.added.remove(gone[beside])
            gone = gone[~beside]
            if not self.added.ntotal:
                self.added = None
        self.removed = np.union1d(self.removed, gone)
        self.__dict__.pop("_all", None)
        self.changed |= self.ntotal < before
        return before - self.ntotal

    @property
    def is_crowded(self) -> bool:
        """Whether so much lies beside the main index that they should be merged."""
        beside = self._n_added + len(self.removed)
        return beside > (0 if self.main.ntotal <= SMALL else MERGED_FROM * self.main.ntotal)

    @property
    def has_delta(self) -> bool:
        """Whether anything lies beside the main index."""
        return self.added is not None or len(self.removed) > 0

    def size_as_one(self, n: int) -> int:
        """Return the bytes of the file that it would be as one index of n vectors."""
        return int(self.main.settings["head"]) + n * self.main.stored.row_size

    @property
    def size_to_save(self) -> int:
        """The bytes of the files that differ from what is in memory."""
        size = self.main.size if self.main.changed else 0
        if self.changed:
            size += ID_BYTES * len(self.removed) + (self.added.size if self.added else 0)
        return size

    def merged(self, main: Index) -> GrowingIndex | None:
        """Make one index of all; None where it should rather be built anew.

        main: the same as self.main, but in memory, where it can be changed.
        """
        if main.remove(self.removed) != len(self.removed):  # a stranger's list names others
            return None
        if self.added is not None:
            for ids, vectors in self.added.stored.batches():
                main.add_vectors(ids, vectors)
        return GrowingIndex(main) if main.settle() else None

    def transform(self, embeddings: np.ndarray) -> np.ndarray:
        """Transform (n, d_in) raw embeddings to (n, d_out) float32 of unit length."""
        return self.main.transform(embeddings)

    def allow(self, ids: np.ndarray, read: ReadVectors | None = None) -> Allowed:
        """Make (n,) ids that it holds ready to be searched among. read: see GatheredVectors."""
        beside = np.isin(ids, self._added_ids)
        return Allowed(Selection.of(ids[~beside], read), Selection.of(ids[beside]))

    @cached_property
    def _all(self) -> Selection | None:
        return Selection.without(self.removed, self.main.ntotal) if len(self.removed) else None

    def search(
        self, embeddings: np.ndarray, k: int, *, allowed: Allowed | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest of (q, d_in) raw embeddings, best first.

        Returns (q, k) float32 cosine similarities and (q, k) int64 ids, padded with -inf and -1
        where fewer than k exist. Raises ValueError for embeddings of another width.
        """
        return self.search_vectors(self.transform(embeddings), k, allowed=allowed)

    def search_vectors(
        self, x: np.ndarray, k: int, *, allowed: Allowed | None = None, least: float = -1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest of (q, d_out) vectors that are already transformed.

        least: neighbours that score less need not be the right ones.
        """
        among = allowed.main if allowed else self._all
        scores, ids = self.main.search_vectors(x, k, among=among, least=least)
        if self.added is None:
            return scores, ids
        near, theirs = self.added.search_vectors(x, k, among=allowed.added if allowed else None)
        scores, ids = np.hstack([scores, near]), np.hstack([ids, theirs])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)

    @property
    def _removed_as_file(self) -> bytes:
        return self.removed.astype(STORED_IDS).tobytes()


def _load_ids(file: Path, facts: IndexFacts, most: int) -> np.ndarray:
    """The ids that are left out. Raises GalleryError."""
    if not facts:
        return np.empty(0, np.int64)
    try:
        content = read_bounded(file, ID_BYTES * most)
        if sha256_of_bytes(content) != facts.get("sha256"):
            raise ValueError("its content has changed since it was written")
        if len(content) != ID_BYTES * int(facts.get("ids", 0)):
            raise ValueError("it does not hold the ids that were written")
        ids = np.frombuffer(content, STORED_IDS).astype(np.int64)
        if (np.diff(ids) <= 0).any() or (ids < 0).any():
            raise ValueError("it does not hold ids in order")
    except (OSError, ValueError, OverflowError) as error:
        raise GalleryError(
            f"The index {file} cannot be read ({one_sentence(error)}). Run `imgret verify "
            "--repair`, which builds it again without reading an image."
        ) from error
    return ids
