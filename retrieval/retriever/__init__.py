"""Retriever: index a folder, search it by image. The only place that joins the steps.

retriever.py joins them; plan.py and writer.py are one run of index, candidate.py builds an index,
publish.py keeps it in step, current.py opens what is published, snapshot.py is what is searched,
verification.py checks what is stored, duplicates/ groups near-identical images.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrieval.progress import Progress
    from retrieval.retriever.duplicates import DuplicateGroup, DuplicateMember, DuplicateReport
    from retrieval.retriever.reports import GalleryInfo, IndexEstimate, IndexReport, VerifyReport
    from retrieval.retriever.results import Match, QueryResult
    from retrieval.retriever.retriever import Retriever
    from retrieval.retriever.searcher import Query

_PLACES = {  # module -> the names that are loaded from it on first use
    "retrieval.progress": ["Progress"],
    "retrieval.retriever.duplicates": ["DuplicateGroup", "DuplicateMember", "DuplicateReport"],
    "retrieval.retriever.reports": ["GalleryInfo", "IndexEstimate", "IndexReport", "VerifyReport"],
    "retrieval.retriever.results": ["Match", "QueryResult"],
    "retrieval.retriever.retriever": ["Retriever"],
    "retrieval.retriever.searcher": ["Query"],
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}

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


def __getattr__(name: str) -> Any:
    """Load a name on first use: a search needs few of them."""
    place = _PLACE_OF.get(name)
    if place is None:
        raise AttributeError(f"module 'retrieval.retriever' has no attribute {name!r}")
    value = getattr(import_module(place), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the names, loaded or not."""
    return list(__all__)
