"""Labels that a user sets by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from retrieval.gallery import Gallery
from retrieval.progress import Progress
from retrieval.retriever.publish import bring_up_index, open_to_write
from retrieval.text import composed


def relabel_rows(
    gallery: Gallery, labels: Mapping[int, str | None], progress: Progress | None
) -> int:
    """Give rows other labels, which last, and publish; return how many there were to change.

    Names that Unicode counts as equal are one label.
    """
    settings, table = open_to_write(gallery, progress)
    wanted = {id: composed(label) if label else None for id, label in labels.items()}
    rows = table.rows_by_id(np.array([*wanted], np.int64), ["id", "label", "label_set"])
    changed = {id for id, row in rows.items() if row["label"] != wanted[id]}
    written = [id for id, row in rows.items() if id in changed or not row["label_set"]]
    if written:
        table.update(
            {
                "id": written,
                "label": [wanted[id] for id in written],
                "label_set": [True] * len(written),
            }
        )
        settings = settings.with_relabelled(len(changed))
        bring_up_index(gallery, table, settings, progress=progress)
    return len(changed)
