"""Retriever: index a folder, search it by image. The only place that joins the steps.

retriever.py joins them; plan.py and writer.py are one run of index, publish.py keeps the index in
step, current.py opens what is published, snapshot.py is what is searched, verification.py checks
what is stored, duplicates/ groups near-identical images.
"""

from retrieval.progress import Progress
from retrieval.retriever.duplicates import DuplicateGroup, DuplicateMember, DuplicateReport
from retrieval.retriever.results import (
    GalleryInfo,
    IndexEstimate,
    IndexReport,
    Match,
    QueryResult,
    VerifyReport,
)
from retrieval.retriever.retriever import Retriever
from retrieval.retriever.searcher import Query

__all__ = [
    "DuplicateGroup",
    "DuplicateMember",
    "DuplicateReport",
    "GalleryInfo",
    "IndexEstimate",
    "IndexReport",
    "Match",
    "Progress",
    "Query",
    "QueryResult",
    "Retriever",
    "VerifyReport",
]
