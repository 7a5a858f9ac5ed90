"""Which files belong on one side of a split: copies, and optionally near copies."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from retrieval.files import sha256_of
from retrieval.images import ImageFile
from retrieval.progress import Progress


def group_copies(
    files: Sequence[ImageFile], *, near: bool = False, progress: Progress | None = None
) -> np.ndarray:
    """Number files, (n,) int64; copies of one another have the same number.

    Copies are files of the same bytes; with near also what `imgret duplicates` finds: one picture
    saved again, cropped or turned, and pictures of one burst.
    """
    pairs = list(_of_same_bytes(files))
    if near:
        pairs += _near(files, progress)
    if not pairs:
        return np.arange(len(files))
    one, other = np.array(pairs).T
    graph = coo_matrix((np.ones(len(pairs)), (one, other)), shape=(len(files), len(files)))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def content_of(file: ImageFile) -> str:
    """Return the SHA-256 of a file's bytes, hex; "" if it cannot be read."""
    try:
        return sha256_of(file.path)
    except (OSError, ValueError):
        return ""


def _of_same_bytes(files: Sequence[ImageFile]) -> Iterator[tuple[int, int]]:
    """Pair the places of files of the same bytes; only files of one size are read."""
    of_size: dict[int, list[int]] = {}
    for place, file in enumerate(files):
        if file.error is None and file.size:
            of_size.setdefault(file.size, []).append(place)
    for places in of_size.values():
        first: dict[str, int] = {}
        for place in places if len(places) > 1 else ():
            content = content_of(files[place])
            if content and first.setdefault(content, place) != place:
                yield first[content], place


def _near(files: Sequence[ImageFile], progress: Progress | None) -> Iterable[tuple[int, int]]:
    """Pair the places of near copies, by a gallery that is made for this."""
    from retrieval.retriever import Retriever  # takes a second, and few ask for this

    place_of = {file.path.resolve(): place for place, file in enumerate(files)}
    with tempfile.TemporaryDirectory(prefix="imgret-") as folder:
        retriever = Retriever(Path(folder) / "g.imgret", backbone="mini")
        retriever.index(sorted({file.root for file in files}), labels="none", progress=progress)
        found = retriever.duplicates(progress=progress)
    for group in found.groups:
        paths = [member.path.resolve() for member in group.members]
        places = [place_of[path] for path in paths if path in place_of]
        yield from ((places[0], place) for place in places[1:])
