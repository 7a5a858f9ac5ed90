"""Rows of images.lance by their places, which is what a query reads of its matches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa


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
