"""Paths that came before are known, whatever they are, at few bytes each."""

from __future__ import annotations

import tracemalloc

import hypothesis
from hypothesis import strategies as st

from retrieval.retriever.seen_paths import SeenPaths

PATHS = 20_000


class Crowded(str):
    """A path whose first hash is that of all others."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 0


@hypothesis.given(st.lists(st.text(st.characters(exclude_categories=()), max_size=2)))
def test_a_path_is_new_once_also_where_first_hashes_are_equal(paths: list[str]) -> None:
    seen, crowded, known = SeenPaths(), SeenPaths(), set[str]()
    for path in paths:
        assert seen.add(path) == crowded.add(Crowded(path)) == (path not in known)
        known.add(path)


def test_many_paths_stay_known_at_few_bytes_each() -> None:
    tracemalloc.start()
    try:
        seen = SeenPaths()
        assert all(seen.add(f"s3://bucket/of/pictures/{n:09}.jpg") for n in range(PATHS))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert not any(seen.add(f"s3://bucket/of/pictures/{n:09}.jpg") for n in range(PATHS))
    assert held / PATHS < 49
