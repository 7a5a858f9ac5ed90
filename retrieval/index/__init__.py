"""Cosine k-NN in FAISS: raw embeddings in, ids and scores out; the transform is part of the index.

index.py   one index: build, change, search
delta.py   an index whose file stays while it changes: what is new lies beside it
cells.py   the cells of an IVF index, and exact neighbours to hold their search against
stored.py  the vectors and ids that FAISS holds
ahead.py   cells read from the disk before they are searched
search.py  one search of FAISS, with parameters and threads of its own
effort.py  how many cells are searched: learnt, and held against exact search
reach.py   in how many cells neighbours lie, by how near they are
wider.py   the search in as many cells as each query needs
selection.py  which ids a search is among
gathered.py  the vectors of few such ids side by side, once they are asked for often
kind.py    which kind suits a number of vectors
files.py   an index as a file, checked before it is read
size.py    how large that file is, or will be
steps.py   the transform as FAISS runs it
gpu.py     a copy on a GPU
"""

from retrieval.index.cells import Batches
from retrieval.index.delta import Allowed, GrowingIndex
from retrieval.index.files import IndexFacts
from retrieval.index.gathered import ReadVectors
from retrieval.index.index import Index
from retrieval.index.kind import EXACT_UP_TO, Kind, choose_kind
from retrieval.index.size import size_of_new

__all__ = [
    "EXACT_UP_TO",
    "Allowed",
    "Batches",
    "GrowingIndex",
    "Index",
    "IndexFacts",
    "Kind",
    "ReadVectors",
    "choose_kind",
    "size_of_new",
]
