"""One published state of a gallery, for searching: rows and neighbours of the same version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

from retrieval.errors import GalleryError, QueryError
from retrieval.gallery import Block, Column, Gallery, ImageTable, Settings, facts_of
from retrieval.gallery.filter import INDEXED, Filter
from retrieval.gallery.settings import CalibrationState
from retrieval.images import PictureFacts
from retrieval.refinement import Refinement, k_reciprocal_distances, weighted_mean
from retrieval.retriever.distinct import search_distinct
from retrieval.retriever.left_out import Exclusion, LeftOut
from retrieval.retriever.neighbours import Neighbours
from retrieval.retriever.results import Match
from retrieval.retriever.row_vectors import RowVectors
from retrieval.sorted_ids import distinct
from retrieval.words import CONSIDERED, NO_LABEL, AnswerKind

ORDERS_KEPT = 2
PICTURES_AT_ONCE = 1000
DEEPER_BY_FILTER, FARTHEST = 4, 1024  # a likely match lies no farther than this


class Snapshot:
    """Rows and index of one version; later writes do not change it.

    published: of an index that is not in the gallery's folder, what tells it from others; its rows
    need not be those of table. version: a text that changes with every change.
    """

    def __init__(
        self,
        gallery: Gallery,
        table: ImageTable,
        index: Neighbours,
        settings: Settings,
        row_vectors: RowVectors,
        *,
        published: str = "",
    ) -> None:
        self.gallery = gallery
        self.table = table
        self.index = index
        self.settings = settings
        self.version = f"{table.state_name}{published}"
        self._is_stored = not published
        self._row_vectors = row_vectors
        # remembered, since the rows of a version do not change; without self, which it would keep
        self.ordered = lru_cache(ORDERS_KEPT)(partial(_ordered, table))
        if self.index.d_in != self.table.dim:
            raise GalleryError(
                f"The index of {gallery.path} does not fit its rows. Run `imgret verify --repair`."
            )

    def search(
        self,
        embeddings: np.ndarray,
        k: int,
        *,
        where: Filter | None = None,
        min_score: float | None = None,
        min_confidence: float | None = None,
        prior_known: float | None = None,
        distinct: bool = False,
        excluded: Sequence[LeftOut] | None = None,
        refinement: Refinement | None = None,
    ) -> list[list[Match]]:
        """Find the k nearest rows of each (d,) raw embedding, best first; fewer if fewer pass.

        where: which rows may be matches. min_confidence: least probability. prior_known: share of
        queries that have an answer, by default what the gallery was calibrated for. distinct: one
        match for all copies of a picture. excluded: for each query, what is not its match.
        refinement: by default the gallery's. Raises QueryError for min_confidence and prior_known
        where the gallery has no calibration of this search.
        """
        if distinct:
            deeper = partial(
                self.search, embeddings, where=where, min_score=min_score,
                min_confidence=min_confidence, prior_known=prior_known, excluded=excluded,
                refinement=refinement,
            )  # fmt: skip
            return search_distinct(self._pictures, deeper, k, self.index.most)
        refinement = refinement or self.settings.refinement
        known = self._calibration(refinement)
        if known is None and (min_confidence is not None or prior_known is not None):
            raise QueryError(self._why_no_probability(refinement))
        total = self.index.ntotal
        k = min(k, total)
        depth = k if known is None else min(max(k, CONSIDERED), total)
        most = min(max(k, FARTHEST), total)
        around = None
        if known is not None and where is not None:  # what a filter leaves out still counts
            near = min(CONSIDERED, total)
            around = self.neighbours(embeddings, near, None, excluded, refinement)
        while True:
            scores, ids = self.neighbours(embeddings, depth, where, excluded, refinement)
            probabilities = None
            if known is not None:
                found = scores, ids
                probabilities = self._probabilities(known, found, around or found, prior_known)
            keep = ids >= 0
            if min_score is not None:
                keep &= scores >= min_score
            if min_confidence is not None and probabilities is not None:
                keep &= probabilities >= min_confidence
            enough = min_confidence is None or (keep.sum(axis=1) >= k).all()
            if enough or depth >= most or not self._may_hold_more(known, scores):
                break
            depth = min(DEEPER_BY_FILTER * depth, most)
        keep &= np.cumsum(keep, axis=1) <= k
        if min_confidence is None:
            keep[:, k:] = False
        return self._matches(scores, ids, keep, probabilities)

    def neighbours(
        self,
        embeddings: np.ndarray,
        k: int,
        where: Filter | None = None,
        excluded: Sequence[LeftOut] | None = None,
        refinement: Refinement | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find (q, k) scores and ids of (q, d) raw embeddings; -inf and -1 for none."""
        refinement = refinement or self.settings.refinement
        vectors = self.index.transform(embeddings)
        exclusion = Exclusion(excluded, self.index.rows) if excluded else None

        def search(x: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
            find = partial(self.index.search, x, where=where)
            return find(n) if exclusion is None else exclusion.search(find, n)

        expand, rerank = refinement.expand, refinement.rerank
        if expand:
            scores, ids = search(vectors, expand.n)
            vectors = weighted_mean(vectors, self.index.vectors(ids), scores, expand.alpha)
        scores, ids = search(vectors, max(k, rerank.m if rerank else 0))
        if rerank and len(ids):
            first = ids[:, : rerank.m]
            among = np.concatenate([vectors[:, None], self.index.vectors(first)], axis=1)
            pairs = among @ among.transpose(0, 2, 1)
            distances = k_reciprocal_distances(pairs, rerank, first >= 0)
            order = np.argsort(distances, axis=1, kind="stable")
            scores[:, : rerank.m] = np.take_along_axis(scores[:, : rerank.m], order, 1)
            ids[:, : rerank.m] = np.take_along_axis(first, order, 1)
        return scores[:, :k], ids[:, :k]

    def _calibration(self, refinement: Refinement) -> CalibrationState | None:
        """What is known of when matches of this very search are right."""
        same = refinement == self.settings.refinement
        return self.settings.calibration_of(self.index.ntotal) if same else None

    def _why_no_probability(self, refinement: Refinement) -> str:
        if refinement != self.settings.refinement and self.settings.calibration:
            return (
                f"{self.gallery.path} was calibrated for another search. Leave --expand and "
                "--rerank out, or run `imgret index` with them and then `imgret calibrate`."
            )
        return (
            f"{self.gallery.path} has no calibration of this search, so no match has a "
            "probability. Run `imgret evaluate` on a labelled gallery, or `imgret calibrate` "
            "on any."
        )

    @staticmethod
    def _may_hold_more(known: CalibrationState | None, scores: np.ndarray) -> bool:
        """Whether a match that is farther still could be likely: not below the least score."""
        last = np.where(np.isfinite(scores), scores, -np.inf).min(axis=1)
        return known is not None and bool((last >= known.least).any())

    def _probabilities(
        self,
        known: CalibrationState,
        matches: tuple[np.ndarray, np.ndarray],
        around: tuple[np.ndarray, np.ndarray],
        prior_known: float | None,
    ) -> np.ndarray:
        """The (q, m) probabilities of matches; NaN where one has no label to be right by.

        matches, around: scores and ids, of what is shown and of the nearest of all.
        """
        from retrieval.evaluation import Confidence
        from retrieval.evaluation.evidence import evidence

        confidence = Confidence(known.has_answer, known.is_right, known.least)
        (scores, ids), (near, theirs) = matches, around
        both = self.classes(np.concatenate([ids, theirs], axis=1), known.kind)
        classes, others = both[:, : ids.shape[1]], both[:, ids.shape[1] :]
        found = evidence((scores, classes), (near, others), one_class=known.kind == "class")
        best = np.take_along_axis(theirs, np.argmax(others != NO_LABEL, axis=1)[:, None], 1)[:, 0]
        p = confidence.probability(found, self.density(best), prior_known or known.prior_known)
        return np.where(classes == NO_LABEL, np.nan, p)

    def classes(self, ids: np.ndarray, kind: AnswerKind) -> np.ndarray:
        """The (q, n) whole numbers, equal for ids of one label, or of one content for "picture".

        UNLABELLED for an image without a label, and where there is none.
        """
        wanted = distinct(ids[ids >= 0])
        column = "label" if kind == "class" else "sha256"
        names = [row[column] for row in self.index.rows(wanted, [column])]
        code: dict[str, int] = {}
        codes = np.array(
            [code.setdefault(name, len(code)) if name else NO_LABEL for name in names], np.int64
        )
        if not len(wanted):
            return np.full(ids.shape, NO_LABEL, np.int64)
        found = codes[np.minimum(np.searchsorted(wanted, ids), len(wanted) - 1)]
        return np.where(ids >= 0, found, NO_LABEL)

    def density(self, ids: np.ndarray) -> np.ndarray:
        """The (q,) mean score of the vectors of ids to the ten nearest others; see evidence.py."""
        from retrieval.evaluation.evidence import NEAR, mean_of_best

        wanted, place = np.unique(np.maximum(ids, -1), return_inverse=True)
        scores, found = self.index.search(self.index.vectors(wanted), NEAR + 1)
        scores[found == wanted[:, None]] = -np.inf
        return mean_of_best(scores, NEAR)[place]

    def _matches(
        self,
        scores: np.ndarray,
        ids: np.ndarray,
        keep: np.ndarray,
        probabilities: np.ndarray | None,
    ) -> list[list[Match]]:
        wanted = distinct(ids[keep])
        rows = self._rows(wanted)
        outside = self._outside({id_: row["path"] for id_, row in rows.items()})
        # once an image, since the queries of a batch find the same ones, and a Path costs 20 us
        paths = {id_: self.gallery.full(row["path"]) for id_, row in rows.items()}
        return [
            [
                Match(
                    path=paths[id_],
                    score=float(scores[row, place]),
                    label=rows[id_]["label"],
                    id=id_,
                    probability=_plain(probabilities, row, place),
                    outside=id_ in outside,
                )
                for place, id_ in zip(places, ids[row, places].tolist(), strict=True)
            ]
            for row, places in enumerate(np.flatnonzero(one).tolist() for one in keep)
        ]

    def rows_of(self, ids: np.ndarray, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return some columns of the rows of those of (n,) ids that there are."""
        places = self._row_vectors.found(ids)
        return self.table.take(places[places >= 0].tolist(), columns)

    def embeddings_at(self, ids: np.ndarray) -> np.ndarray:
        """Return the (n, d) float16 raw embeddings of (n,) ids of usable rows."""
        return self.table.embeddings_at(self._row_vectors.places_of(ids))

    def leads_outside(self, path: str) -> bool:
        """Tell whether a stranger's gallery names a file outside of its folder."""
        return not self.table.is_ours and self.gallery.leads_outside(path)

    def _outside(self, paths: Mapping[int, str]) -> set[int]:
        """The ids of matches whose files lie outside of a folder of the user's.

        What a server says of paths counts for no more than what a stranger's gallery does, unless
        the rows say the same.
        """
        if self._is_stored:
            return {id_ for id_, path in paths.items() if self.leads_outside(path)}
        asked = [id_ for id_, path in paths.items() if self.gallery.leads_outside(path)]
        known = self.rows_of(np.array(asked, np.int64), ["id", "path"]) if asked else []
        ours = {row["id"]: row["path"] for row in known} if self.table.is_ours else {}
        return {id_ for id_ in asked if ours.get(id_) != paths[id_]}

    def _rows(self, ids: np.ndarray) -> dict[int, dict[str, Any]]:
        rows = self.index.rows(ids, ["path", "label"])
        return dict(zip(ids.tolist(), rows, strict=True))

    def _pictures(self, ids: np.ndarray) -> dict[int, tuple[str, PictureFacts | None]]:
        """The SHA-256 and the facts of (n,) ids; None for facts of a row that is gone by now."""
        rows: dict[int, dict[str, Any]] = {}
        for start in range(0, len(ids), PICTURES_AT_ONCE):
            part = ids[start : start + PICTURES_AT_ONCE]
            rows |= self.table.rows_by_id(part, ["id", "sha256", "facts"])
        known = {i: (str(row["sha256"]), facts_of(row["facts"])) for i, row in rows.items()}
        gone = np.array([i for i in ids.tolist() if i not in known], np.int64)
        for i, row in zip(gone.tolist(), self.index.rows(gone, ["sha256"]), strict=True):
            known[i] = str(row["sha256"]), None
        return known


def _ordered(
    table: ImageTable,
    where: Filter | None,
    column: Column,
    down: bool,  # noqa: FBT001  private
    last_part: bool,  # noqa: FBT001  private
) -> Block:
    """Usable rows that pass a filter, sorted."""
    passing = INDEXED if where is None else where & INDEXED
    return table.ordered(column, passing, descending=down, last_part=last_part)


def _plain(probabilities: np.ndarray | None, row: int, place: int) -> float | None:
    known = probabilities is not None and np.isfinite(probabilities[row, place])
    return float(probabilities[row, place]) if known and probabilities is not None else None
