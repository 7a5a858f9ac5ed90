"""A gallery's vectors in a Milvus server, for more images than one machine searches.

address.py      milvus://HOST:PORT/NAME?gallery=PATH, and who logs in there
server.py       the server as this package uses it; the only file that knows pymilvus
listener.py     what listens at an address that is no Milvus server
collection.py   what a collection holds, and what it says of itself
kinds.py        which index suits a number of vectors, and how hard it is searched
transform.py    the transform as a file, so that a query needs no index of FAISS
rows.py         a gallery's rows as they are written there
changes.py      what has to be deleted and written to bring a collection in step
publication.py  one run of publish
effort.py       how hard a search has to look for the recall wanted
neighbours.py   the search

The gallery is the truth; all that lies in Milvus can be made again from it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from retrieval.milvus.address import ServedAddress, check_no_address, is_served

if TYPE_CHECKING:
    from retrieval.milvus.collection import Published
    from retrieval.milvus.neighbours import MilvusNeighbours, SearchedCollection
    from retrieval.milvus.publication import (
        Publication,
        PublishOptions,
        publish_rows,
        read_published,
    )
    from retrieval.milvus.rows import PublishedRows
    from retrieval.milvus.server import MilvusServer
    from retrieval.milvus.transform import StoredTransform

_PLACES = {  # module -> the names that are loaded from it on first use
    "collection": ["Published"],
    "neighbours": ["MilvusNeighbours", "SearchedCollection"],
    "publication": ["Publication", "PublishOptions", "publish_rows", "read_published"],
    "rows": ["PublishedRows"],
    "server": ["MilvusServer"],
    "transform": ["StoredTransform"],
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "MilvusNeighbours",
    "MilvusServer",
    "Publication",
    "PublishOptions",
    "Published",
    "PublishedRows",
    "SearchedCollection",
    "ServedAddress",
    "StoredTransform",
    "check_no_address",
    "is_served",
    "publish_rows",
    "read_published",
]


def __getattr__(name: str) -> Any:
    """Load a name on first use: every command asks whether a gallery's place is an address."""
    place = _PLACE_OF.get(name)
    if place is None:
        raise AttributeError(f"module 'retrieval.milvus' has no attribute {name!r}")
    value = getattr(import_module(f"retrieval.milvus.{place}"), name)
    globals()[name] = value
    return value
