"""A filter as a value: read once from text, printable as Lance's SQL and for others."""

from retrieval.gallery.filter.filter import Filter
from retrieval.gallery.filter.named import (
    FAILED,
    INDEXED,
    LABELLED,
    NOTED,
    UNSETTLED,
    ids_below,
    with_ids,
    with_labels,
    with_paths,
)

__all__ = ["FAILED", "INDEXED", "LABELLED", "NOTED", "UNSETTLED", "Filter", "ids_below", "with_ids",
           "with_labels", "with_paths"]  # fmt: skip
