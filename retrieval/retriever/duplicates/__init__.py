"""Groups of near-identical images, in one gallery or between two.

stored.py      a gallery's rows -> the files that are still what was indexed, best to keep first
opened.py      galleries -> the images that are compared, and the search for their neighbours
embeddings.py  their raw embeddings, in memory or in a scratch file
neighbours.py  raw embeddings -> for each the others above a score, in bounded memory
candidates.py  of many images, through an index
verified.py    what the index names, and the scores of raw embeddings
crowds.py      the neighbours of many images that are nearly one
sampled.py     which index that is: the gallery's own, if it finds near-copies
pixels.py      files -> a hash of their upright RGB pixels
hashes.py      perceptual hashes -> pairs that may be copies
copies.py      these pairs and their pixels -> which image each is a copy of
threshold.py   scores of nearest neighbours -> the least score of a near-duplicate
stars.py       who is like whom -> groups, each around the image to keep
groups.py      joins these
results.py     what is given back
"""

from retrieval.retriever.duplicates.results import (
    DuplicateGroup,
    DuplicateMember,
    DuplicateReport,
)
from retrieval.retriever.duplicates.threshold import Threshold

__all__ = [
    "DuplicateGroup",
    "DuplicateMember",
    "DuplicateReport",
    "Threshold",
]
