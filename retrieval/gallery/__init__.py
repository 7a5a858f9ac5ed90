"""What is stored: one row per image, transactional, reopened after any crash.

    .imgret/
      gallery.toml            the settings, and which index belongs to which version of the table
      images.lance/           the truth: one row per image (table.py)
      index-<number>.faiss    derived: the transform and vectors, as they were at that version
      index-<number>-added.faiss, -removed.ids   derived: what changed since
      copies/               second copies of the small files on which all rows depend
      plans/                what the workers of a run are to embed, while it runs

A filter (filter/) says which rows are meant; only this folder knows what Lance calls that.
All of it is written under one lock (lock.py), which also says what a failed write means.
Settings also lie in the table itself, so that everything but images.lance can be made again.
"""

from retrieval.gallery.block import Block, Column
from retrieval.gallery.distinct import make_distinct
from retrieval.gallery.filter import Filter
from retrieval.gallery.folder import FOLDER_NAME, Gallery, find_gallery
from retrieval.gallery.lease import read_one_state
from retrieval.gallery.remains import open_without_damaged
from retrieval.gallery.rows import Row, facts_of, storable
from retrieval.gallery.settings import IndexState, Settings
from retrieval.gallery.table import ImageTable
from retrieval.gallery.vacancy import check_vacant

__all__ = [
    "FOLDER_NAME",
    "Block",
    "Column",
    "Filter",
    "Gallery",
    "ImageTable",
    "IndexState",
    "Row",
    "Settings",
    "check_vacant",
    "facts_of",
    "find_gallery",
    "make_distinct",
    "open_without_damaged",
    "read_one_state",
    "storable",
]
