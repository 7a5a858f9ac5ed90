"""Read an index file that anybody may have written: bounded, and checked before use."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import faiss

from retrieval.errors import GalleryError
from retrieval.files import sha256_of
from retrieval.index.reach import Reach

IndexFacts = dict[str, int | float | str | bool]

MOST_CELLS, LEAST_BYTES = 1 << 20, 1 << 30  # that reading a file may loop over and make
READING = threading.Lock()


def check_file(path: Path, facts: IndexFacts) -> None:
    """Raise ValueError if the head of a file is not the one that save() wrote."""
    size, head = path.stat().st_size, facts.get("head")
    if size != facts.get("bytes"):
        raise ValueError("its size has changed since it was written")
    if not isinstance(head, int) or not 0 <= head <= size:
        raise ValueError("its settings do not say how it was written")
    if sha256_of_head(path, head) != facts.get("sha256"):
        raise ValueError("its content has changed since it was written")


def read_index(path: Path, flags: int) -> Any:
    """Read an index by FAISS, with no more memory or loops than a file of this size needs.

    Its limits are those of the process, so they are put back. It counts d x d for a norm too.
    """
    with READING:
        before = (
            faiss.get_deserialization_vector_byte_limit(),
            faiss.get_deserialization_loop_limit(),
        )
        try:
            faiss.set_deserialization_vector_byte_limit(max(path.stat().st_size, LEAST_BYTES) + 1)
            faiss.set_deserialization_loop_limit(MOST_CELLS)
            return faiss.read_index(str(path), flags)
        finally:
            faiss.set_deserialization_vector_byte_limit(before[0])
            faiss.set_deserialization_loop_limit(before[1])


def sha256_of_head(path: Path, head: int) -> str:
    """Hash a file's first bytes; vectors and ids follow, and hashing them would read it all.

    The kernel is told not to read beyond them either.
    """
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        while head > 0 and (chunk := file.read(min(head, 1 << 20))):
            sha256.update(chunk)
            head -= len(chunk)
    return sha256.hexdigest()


def check_structure(index: Any, facts: IndexFacts) -> None:
    """Raise ValueError if an index is not one that build() makes, with every size in place.

    A gallery may come from a stranger, hash and all, and FAISS trusts what it has read.
    """
    if type(index) is not faiss.IndexPreTransform or not _chain_fits(index):
        raise ValueError("it is not an index of imgret")
    inner = faiss.downcast_index(index.index)
    recall, built_on = (facts.get(name) for name in ("recall", "built_on"))
    if facts.get("kind") == "exact":
        fits = _exact_fits(inner)
    else:
        fits = facts.get("kind") == "ivf" and _ivf_fits(inner) and _effort_fits(facts, inner.nlist)
    if not fits or index.ntotal != inner.ntotal or index.metric_type != inner.metric_type:
        raise ValueError("its kind differs from what the gallery says")
    if not isinstance(recall, int | float) or not isinstance(built_on, int):
        raise ValueError("its settings do not say how it was built")


def _chain_fits(index: Any) -> bool:
    width, steps = index.d, steps_of(index)
    for step in steps:
        if type(step) is faiss.LinearTransform:
            sizes = step.A.size() == step.d_in * step.d_out and step.b.size() == step.d_out
            fits = sizes and step.have_bias
        else:
            fits = type(step) is faiss.NormalizationTransform and step.norm == 2
            fits = fits and step.d_in == step.d_out
        if not fits or not step.is_trained or step.d_in != width:
            return False
        width = step.d_out
    return bool(steps) and index.is_trained and index.index is not None and index.index.d == width


def _exact_fits(inner: Any) -> bool:
    if type(inner) is not faiss.IndexIDMap or inner.id_map.size() != inner.ntotal:
        return False
    flat = faiss.downcast_index(inner.index)
    return _flat_fits(flat, inner.d) and flat.ntotal == inner.ntotal and _searchable(inner)


def _ivf_fits(inner: Any) -> bool:
    if type(inner) is not faiss.IndexIVFScalarQuantizer or not _searchable(inner):
        return False
    quantizer, sq = faiss.downcast_index(inner.quantizer), inner.sq
    lists = faiss.downcast_InvertedLists(inner.invlists)
    if not _centres_fit(quantizer, inner.d) or type(lists) is not faiss.ArrayInvertedLists:
        return False
    return (
        _is_half(sq, inner.d)
        and inner.code_size == lists.code_size == sq.code_size
        and quantizer.ntotal == lists.nlist == inner.nlist
        and inner.direct_map.type == faiss.DirectMap.NoMap
        and sum(lists.list_size(cell) for cell in range(lists.nlist)) == inner.ntotal
    )


def _effort_fits(facts: IndexFacts, nlist: int) -> bool:
    first, reach = facts.get("nprobe"), facts.get("reach")
    if not isinstance(first, int) or not isinstance(reach, str):
        return False
    Reach.parse(reach, nlist)
    means = (facts.get("cells"), facts.get("tuned"))
    return 1 <= first <= nlist and all(
        isinstance(n, int | float) and 0 <= n <= nlist for n in means
    )


def _flat_fits(flat: Any, d: int) -> bool:
    return (
        type(flat) in (faiss.IndexFlat, faiss.IndexFlatIP)
        and _searchable(flat)
        and (flat.d, flat.code_size, flat.codes.size()) == (d, 4 * d, 4 * d * flat.ntotal)
    )


def _centres_fit(centres: Any, d: int) -> bool:
    return (
        type(centres) is faiss.IndexScalarQuantizer
        and _searchable(centres)
        and (centres.d, centres.code_size) == (d, 2 * d)
        and _is_half(centres.sq, d)
        and centres.codes.size() == 2 * d * centres.ntotal
    )


def _is_half(sq: Any, d: int) -> bool:
    return bool((sq.d, sq.qtype, sq.code_size) == (d, faiss.ScalarQuantizer.QT_fp16, 2 * d))


def _searchable(index: Any) -> bool:
    return index.is_trained and index.metric_type == faiss.METRIC_INNER_PRODUCT


def steps_of(index: Any) -> list[Any]:
    """Return the transforms in front of an IndexPreTransform, in order."""
    chain = index.chain
    return [faiss.downcast_VectorTransform(chain.at(place)) for place in range(chain.size())]


def check_content(path: Path, known: str) -> None:
    """Read all of a file. Raises GalleryError if its SHA-256 is not the one that is known."""
    try:
        same = sha256_of(path) == known
    except OSError as error:
        raise GalleryError(
            f"The index {path} cannot be read ({error.strerror}). Run `imgret verify --repair`."
        ) from error
    if not same:
        raise GalleryError(
            f"The index {path} has changed since it was written. Run `imgret verify --repair`."
        )
