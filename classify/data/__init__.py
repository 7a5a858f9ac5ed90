"""Folders of labelled images -> splits -> pixels.

layout.py    which folders are splits, which are classes
labelled.py  class folders -> files and the class of each
groups.py    which files are copies of one another
splits.py    what is trained on, what chooses, what is only tested on
pixels.py    decoded once
kept.py      what each image was for, as it stays with a run
"""

from classify.data.kept import (
    FoundKept,
    KeptImage,
    content_of_split,
    find_kept,
    kept_of,
    listing,
    overwritten,
    read_kept,
    write_kept,
)
from classify.data.labelled import LabelledImages, find_labelled
from classify.data.layout import Split, find_layout, find_tested
from classify.data.pixels import (
    Pixels,
    Verified,
    batches,
    decode_all,
    verify_all,
)
from classify.data.splits import Splits, find_splits, fingerprint
from classify.words import ClassFolders
from retrieval.progress import Progress

__all__ = [
    "ClassFolders",
    "FoundKept",
    "KeptImage",
    "LabelledImages",
    "Pixels",
    "Progress",
    "Split",
    "Splits",
    "Verified",
    "batches",
    "content_of_split",
    "decode_all",
    "find_kept",
    "find_labelled",
    "find_layout",
    "find_splits",
    "find_tested",
    "fingerprint",
    "kept_of",
    "listing",
    "overwritten",
    "read_kept",
    "verify_all",
    "write_kept",
]
