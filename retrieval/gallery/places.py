"""Rows of images.lance by their places, which is what a query reads of its matches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from retrieval.sorted_ids import distinct

FEW_IDS = 1_000  # whose places are sought without reading all ids
PARTS = 16  # of a piece in which ids have gaps
MOST_READ = 1 << 17  # ids of parts with gaps, which are read whole


def rows_at(dataset: Any, places: np.ndarray, names: Sequence[str]) -> pa.Table:
    """Return rows by their (n,) places in whole columns, in the order of places.

    Each fragment is asked for its own: the dataset's take() goes through the rows that were
    removed for each row that it gives, 2.3 ms each at a million rows.
    """
    asked, order = np.unique(places, return_inverse=True)
    parts = [dataset.schema.empty_table().select(list(names))]
    start = 0
    for fragment in dataset.get_fragments():
        end = start + fragment.count_rows()
        first, last = np.searchsorted(asked, [start, end])
        if first < last:
            own = (asked[first:last] - start).tolist()  # Lance takes them ascending
            parts.append(fragment.take(own, columns=list(names)))
        start = end
    rows = pa.array(order.tolist(), pa.int64())  # of an array, Arrow would import numpy.ma to look
    return pa.concat_tables(parts).take(rows)


def places_of_few(dataset: Any, ids: np.ndarray) -> np.ndarray | None:
    """Return the places of (n,) ids in whole columns, or None where all ids have to be read.

    All ids of a million rows are 8 MB. But those of a commit follow each other, and so do commits
    in a piece. So a few ids of each piece tell where an id must be, and it is looked at there.
    """
    wanted = distinct(ids)
    if not 0 < len(wanted) <= FEW_IDS:
        return None
    sizes = np.array([fragment.count_rows() for fragment in dataset.get_fragments()], np.int64)
    ends = np.cumsum(sizes)
    bounds = np.stack([ends - sizes, ends - 1], axis=1)[sizes > 0]
    runs, gaps = _parted(_spans(dataset, bounds), wanted)
    if len(gaps):
        inner = np.linspace(gaps[:, 0], gaps[:, 1], PARTS + 1).astype(np.int64)
        cuts = np.stack([inner[:-1].ravel(), inner[1:].ravel()], axis=1)
        more, gaps = _parted(_spans(dataset, cuts), wanted)
        runs = np.concatenate([runs, more])
    between = [np.arange(first, last + 1) for first, last in gaps[:, :2].tolist()]
    read = np.concatenate([*between, np.empty(0, np.int64)])
    if len(read) > MOST_READ:
        return None
    found = dict(zip(_ids_at(dataset, read).tolist(), read.tolist(), strict=True))
    for first, _, low, high in runs.tolist():
        inside = wanted[(wanted >= low) & (wanted <= high)].tolist()
        found.update((id_, first + id_ - low) for id_ in inside)
    places = np.array([found.get(id_, -1) for id_ in ids.tolist()], np.int64)
    if (places < 0).any() or not np.array_equal(_ids_at(dataset, places), ids):
        return None  # they are in another order
    return places


def _ids_at(dataset: Any, places: np.ndarray) -> np.ndarray:
    return np.asarray(rows_at(dataset, places, ["id"])["id"].to_numpy())


def _spans(dataset: Any, bounds: np.ndarray) -> np.ndarray:
    """Rows of the first and the last place of some spans, (n, 2), with the ids there: (n, 4)."""
    return np.hstack([bounds, _ids_at(dataset, bounds.ravel()).reshape(-1, 2)])


def _parted(spans: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The spans whose ids have no gaps, and of the others those in which a wanted id may lie."""
    whole = spans[:, 3] - spans[:, 2] == spans[:, 1] - spans[:, 0]
    first = np.searchsorted(wanted, spans[:, 2])
    behind = np.searchsorted(wanted, spans[:, 3], side="right")
    return spans[whole], spans[~whole & (first < behind)]
