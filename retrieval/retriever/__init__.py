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
    from retrieval.retriever.facets import FacetCount, Facets
    from retrieval.retriever.image_list import ImagePage
    from retrieval.retriever.open_gallery import OpenGallery
    from retrieval.retriever.originals import GalleryImage
    from retrieval.retriever.queries import Query
    from retrieval.retriever.reports import (
        GalleryInfo,
        IndexEstimate,
        IndexReport,
        ServedInfo,
        VerifyReport,
    )
    from retrieval.retriever.results import Match, QueryResult
    from retrieval.retriever.retriever import Retriever

_PLACES = {  # module -> the names that are loaded from it on first use
    "retrieval.progress": ["Progress"],
    "retrieval.retriever.duplicates": ["DuplicateGroup", "DuplicateMember", "DuplicateReport"],
    "retrieval.retriever.facets": ["FacetCount", "Facets"],
    "retrieval.retriever.image_list": ["ImagePage"],
    "retrieval.retriever.open_gallery": ["OpenGallery"],
    "retrieval.retriever.originals": ["GalleryImage"],
    "retrieval.retriever.reports": [
        "GalleryInfo",
        "IndexEstimate",
        "IndexReport",
        "ServedInfo",
        "VerifyReport",
    ],
    "retrieval.retriever.results": ["Match", "QueryResult"],
    "retrieval.retriever.retriever": ["Retriever"],
    "retrieval.retriever.queries": ["Query"],
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "DuplicateGroup",
    "DuplicateMember",
    "DuplicateReport",
    "FacetCount",
    "Facets",
    "GalleryImage",
    "GalleryInfo",
    "ImagePage",
    "IndexEstimate",
    "IndexReport",
    "Match",
    "OpenGallery",
    "Progress",
    "Query",
    "QueryResult",
    "Retriever",
    "ServedInfo",
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
