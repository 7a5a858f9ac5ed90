"""What publish deletes and writes, worked out of ids and checksums alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retrieval.milvus.changes import RowSums, changes_between

held_rows = st.dictionaries(st.integers(0, 30), st.integers(-(2**62), 2**62), max_size=20)


def sums(rows: dict[int, int]) -> RowSums:
    return RowSums.of(np.array([*rows], np.int64), np.array([*rows.values()], np.int64))


@given(held=held_rows, wanted=held_rows)
def test_the_changes_make_what_is_held_into_what_is_wanted(
    held: dict[int, int], wanted: dict[int, int]
) -> None:
    changes = changes_between(sums(held), sums(wanted))
    after = {id_: sum_ for id_, sum_ in held.items() if id_ not in changes.gone.tolist()}
    after |= {id_: wanted[id_] for id_ in changes.written.tolist()}
    assert after == wanted
    assert changes.new.tolist() == sorted(wanted.keys() - held.keys())
    untouched = {id_ for id_ in held if held[id_] == wanted.get(id_)}
    assert not untouched & {*changes.gone.tolist(), *changes.written.tolist()}
    assert (len(changes) == 0) == (held == wanted)
    assert (sums(held).sha256 == sums(wanted).sha256) == (held == wanted)


def test_a_row_that_the_server_gives_twice_is_one() -> None:
    twice = RowSums.of(np.array([5, 2, 5]), np.array([1, 2, 1]))
    assert twice.ids.tolist() == [2, 5]
    assert twice.sha256 == sums({5: 1, 2: 2}).sha256
