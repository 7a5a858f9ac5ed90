"""One published state of a gallery, for searching: rows and index of the same version."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from retrieval.errors import GalleryError, ImgretError
from retrieval.gallery import Gallery, ImageTable
from retrieval.gallery.table import INDEXED, LANCE_ERRORS, first_sentence
from retrieval.index import Index
from retrieval.retriever.results import Match


class Snapshot:
    """Rows and index of one version; later writes do not change it."""

    def __init__(self, gallery: Gallery, table: ImageTable, index: Index) -> None:
        self.gallery = gallery
        self.table = table
        self.index = index
        if self.index.d_in != self.table.dim:
            raise GalleryError(f"The index of {gallery.path} does not fit its rows.")

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """Sorted ids and the place of each in the table."""
        ids = self.table.columns(["id"])["id"].to_numpy()
        order = np.argsort(ids)
        return ids[order], order

    def search(
        self,
        embeddings: np.ndarray,
        k: int,
        *,
        where: str | None = None,
        min_score: float | None = None,
        excluded: Sequence[np.ndarray] | None = None,
    ) -> list[list[Match]]:
        """The k nearest rows of each (d,) raw embedding, best first; fewer where fewer pass.

        where: Lance's filter syntax. excluded: for each query, the ids that are not its matches.
        """
        allowed = None if where is None else ids_passing(self.table, where)
        spare = max((len(ids) for ids in excluded), default=0) if excluded else 0
        k = min(k, self.index.ntotal)
        scores, ids = self.index.search(embeddings, k + spare, allowed=allowed)
        keep = ids >= 0
        if min_score is not None:
            keep &= scores >= min_score
        for row, left_out in enumerate(excluded or ()):
            keep[row] &= ~np.isin(ids[row], left_out)
        keep &= np.cumsum(keep, axis=1) <= k
        return self._matches(scores, ids, keep)

    def same_content(self, sha256: str, path: str) -> np.ndarray:
        """Ids of the rows with this content or this path."""
        quoted = path.replace("'", "''")
        found = self.table.columns(["id"], f"sha256 = '{sha256}' OR path = '{quoted}'")
        return np.asarray(found["id"].to_numpy())

    def _matches(self, scores: np.ndarray, ids: np.ndarray, keep: np.ndarray) -> list[list[Match]]:
        wanted = np.unique(ids[keep])
        rows = self._rows(wanted)
        matches: list[list[Match]] = []
        for row in range(len(ids)):
            found = zip(scores[row][keep[row]], ids[row][keep[row]], strict=True)
            matches.append(
                [
                    Match(
                        path=self.gallery.full(rows[int(i)]["path"]),
                        score=float(score),
                        label=rows[int(i)]["label"],
                        id=int(i),
                    )
                    for score, i in found
                ]
            )
        return matches

    def _rows(self, ids: np.ndarray) -> dict[int, dict[str, Any]]:
        known, order = self._places
        at = np.minimum(np.searchsorted(known, ids), max(len(known) - 1, 0))
        if len(ids) and (len(known) == 0 or (known[at] != ids).any()):
            raise GalleryError(
                f"The index of {self.gallery.path} names rows that are not there. "
                "Run `imgret verify --repair`."
            )
        rows = self.table.take(order[at].tolist(), ["path", "label"]) if len(ids) else []
        return {int(i): row for i, row in zip(ids, rows, strict=True)}


def ids_passing(table: ImageTable, where: str) -> np.ndarray:
    """Ids of the usable rows that pass a filter in Lance's syntax. Raises ImgretError."""
    try:
        return table.ids_where(f"({where}) AND {INDEXED}")
    except OSError:
        raise
    except LANCE_ERRORS as error:
        raise ImgretError(
            f"The filter {where!r} cannot be used ({first_sentence(error)}). Write it like "
            "\"label = 'BMW M3' AND width >= 640\", over the columns id, path, root, size, "
            "mtime_ns, sha256, width, height and label."
        ) from error
