"""The search of a published gallery: neighbours by Milvus, of vectors that are transformed here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from retrieval.errors import ArgumentError, GalleryChangedError
from retrieval.gallery import Filter
from retrieval.milvus.collection import VECTOR, Published
from retrieval.milvus.kinds import INDEXES, MOST_FOUND, RESCORED, search_parameters
from retrieval.milvus.server import MilvusServer
from retrieval.milvus.transform import StoredTransform
from retrieval.sorted_ids import vectors_of_each

COUNTS_KEPT = 64  # numbers of rows that pass
QUERIES_A_CALL = 32
ROWS_KEPT, KEPT_UP_TO = 4096, 1024  # of matches, so that they are not asked for again
HELD_HERE = 2048  # vectors that are compared here, where the server has missed some
ROW_FIELDS = ("path", "label", "has_label", "sha256")


@dataclass(frozen=True)
class SearchedCollection:
    """One collection, and how it is searched. name: its own. written: a time stamp to see."""

    server: MilvusServer
    name: str
    published: Published

    def search(
        self,
        vectors: np.ndarray,
        limit: int,
        *,
        where: str = "",
        passing: int,
        fields: Sequence[str] = (),
    ) -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Find the nearest of (q, d) vectors among the rows that pass.

        Returns (q, limit) scores and ids, padded with -inf and -1, and the rows that were found,
        with the fields. An index that rounds its vectors gives more, which are scored here.
        """
        said, exact = self.published, INDEXES[self.published.kind].exact
        asked = limit if exact else min(MOST_FOUND, max(passing, 1), limit * RESCORED)
        share = passing / max(1, said.rows)
        parameters = search_parameters(said.kind, said.rows, said.effort, asked, share)
        wanted = fields if exact else [*fields, VECTOR]
        scores = np.full((len(vectors), limit), -np.inf, np.float32)
        ids = np.full((len(vectors), limit), -1, np.int64)
        rows: list[dict[str, Any]] = []
        for start in range(0, len(vectors), QUERIES_A_CALL):
            part = vectors[start : start + QUERIES_A_CALL]
            found = self.server.search(
                self.name, part, asked, parameters, where=where, fields=wanted, since=said.written
            )
            for place, hits in enumerate(found, start):
                near = np.array([hit["distance"] for hit in hits], np.float32)
                theirs = np.array([hit["id"] for hit in hits], np.int64)
                if not exact and hits:
                    near = (
                        np.array([h["entity"][VECTOR] for h in hits], np.float32) @ vectors[place]
                    )
                order = np.argsort(-near, kind="stable")[:limit]
                scores[place, : len(order)], ids[place, : len(order)] = near[order], theirs[order]
                rows += [
                    {f: hits[i]["entity"][f] for f in fields} | {"id": hits[i]["id"]}
                    for i in order
                    if fields
                ]
        return np.clip(scores, None, 1.0), ids, rows

    def rows(self, ids: Sequence[int], fields: Sequence[str]) -> dict[int, dict[str, Any]]:
        """Return fields of some ids. Raises GalleryChangedError where one is not there any more."""
        found = self.server.rows(self.name, ids, fields, since=self.published.written)
        if any(id_ not in found for id_ in ids):
            raise GalleryChangedError(
                f"{self.server.address} was published anew while it was searched. Run it again."
            )
        return found


class MilvusNeighbours:
    """The neighbours that a published gallery gives.

    Any number of threads may share one.
    """

    def __init__(self, collection: SearchedCollection, transform: StoredTransform) -> None:
        self._collection = collection
        self._transform = transform
        self._rows: dict[int, dict[str, Any]] = {}
        server, published, name = collection.server, collection.published, collection.name
        count = lambda where: server.count(name, where, since=published.written)  # noqa: E731
        self._count = lru_cache(COUNTS_KEPT)(count)

    @property
    def ntotal(self) -> int:
        """The number of images."""
        return self._collection.published.rows

    @property
    def most(self) -> int:
        """The most neighbours that one search gives."""
        return min(self.ntotal, MOST_FOUND)

    @property
    def d_in(self) -> int:
        """The width of a raw embedding."""
        return self._transform.d_in

    @property
    def d_out(self) -> int:
        """The width of a transformed embedding."""
        return self._transform.d_out

    def transform(self, embeddings: np.ndarray) -> np.ndarray:
        """Transform (n, d_in) raw embeddings to (n, d_out) float32 of unit length."""
        return self._transform.apply(embeddings)

    def search(
        self,
        vectors: np.ndarray,
        k: int,
        *,
        where: Filter | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest of (q, d_out) transformed vectors, best first.

        Takes and returns what the Neighbours of a search do. Raises FilterError for a filter that
        only Lance can tell, and ArgumentError for more neighbours than a server gives.
        """
        expression = "" if where is None else where.to_milvus()
        passing = self._count(expression) if expression else self.ntotal
        wanted = min(k, passing)
        if wanted > MOST_FOUND:
            raise ArgumentError(
                f"Milvus gives at most {MOST_FOUND:,} matches of a query, not {wanted:,}. Give a "
                "smaller k, or search the gallery itself with --gallery PATH."
            )
        scores = np.full((len(vectors), k), -np.inf, np.float32)
        ids = np.full((len(vectors), k), -1, np.int64)
        if wanted and len(vectors):
            fields = ROW_FIELDS if len(vectors) * wanted <= KEPT_UP_TO else ()
            near, found, rows = self._collection.search(
                vectors, wanted, where=expression, passing=passing, fields=fields
            )
            if (found < 0).any() and passing <= HELD_HERE:
                near, found = self._compared(vectors, wanted, expression or "id >= 0")
            scores[:, :wanted], ids[:, :wanted] = near, found
            self._keep(rows)
        return scores, ids

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """Return the transformed vectors of ids of any shape, (..., d_out); zeros for id -1.

        Raises GalleryChangedError for an id that is not there any more.
        """

        def read(wanted: np.ndarray) -> np.ndarray:
            rows = self._collection.rows(wanted.tolist(), [VECTOR])
            return np.array([rows[id_][VECTOR] for id_ in wanted.tolist()], np.float32)

        return vectors_of_each(ids, self.d_out, read)

    def rows(self, ids: np.ndarray, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return some of the columns path, label and sha256 of (n,) ids, in their order.

        Raises GalleryChangedError for an id that is not there any more.
        """
        known = {id_: row for id_ in ids.tolist() if (row := self._rows.get(id_)) is not None}
        others = [id_ for id_ in ids.tolist() if id_ not in known]
        if others:
            known |= self._collection.rows(others, ROW_FIELDS)
        return [{name: _value(known[id_], name) for name in columns} for id_ in ids.tolist()]

    def _compared(
        self, vectors: np.ndarray, limit: int, where: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compare with all rows that pass, which are few."""
        there = self._collection.server.passing(
            self._collection.name, where, since=self._collection.published.written
        )
        ids = np.array([row["id"] for row in there], np.int64)
        held = np.array([row[VECTOR] for row in there], np.float32).reshape(len(ids), self.d_out)
        scores = np.full((len(vectors), limit), -np.inf, np.float32)
        found = np.full((len(vectors), limit), -1, np.int64)
        near = vectors @ held.T
        order = np.argsort(-near, axis=1, kind="stable")[:, :limit]
        scores[:, : order.shape[1]] = np.take_along_axis(near, order, 1)
        found[:, : order.shape[1]] = ids[order]
        return np.clip(scores, None, 1.0), found

    def _keep(self, rows: list[dict[str, Any]]) -> None:
        if len(self._rows) > ROWS_KEPT:
            self._rows = {}
        self._rows |= {int(row["id"]): row for row in rows}


def _value(row: dict[str, Any], name: str) -> str | None:
    """A text as the gallery's row has it."""
    return None if name == "label" and not row["has_label"] else str(row[name])
