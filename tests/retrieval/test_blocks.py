"""Rows leave the gallery as numpy's arrays and Python's text; Arrow stays inside."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from retrieval.errors import GalleryError
from retrieval.gallery import Row
from retrieval.gallery.block import Block
from retrieval.gallery.rows import schema, to_arrow
from retrieval.images import PictureFacts
from tests.conftest import ROOT

ARROWS = re.compile(
    r"\.to_pylist\(|\.as_py\(|\.num_rows|RecordBatch|table\.(columns|batches)\(|as_matrix"
)
HALVES = np.array([0.5, -2.0], np.float16)


def row(number: int, embedding: np.ndarray | None, **others: str | None) -> Row:
    facts = PictureFacts(note="cut short") if number == 1 else None
    return Row(
        id=10 * number, path=f"a/{number}.png", root="a", size=5, mtime_ns=7, sha256=f"{number}",
        embedding=embedding, facts=facts, **others,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture
def block() -> Block:
    rows = [row(1, HALVES, label="cat"), row(2, None, error="damaged"), row(3, 2 * HALVES)]
    return Block(to_arrow(rows, schema(2, "", "t")))


def test_columns_are_what_was_stored(block: Block) -> None:
    assert len(block) == 3
    assert block.ids.tolist() == [10, 20, 30]
    assert block.paths == ["a/1.png", "a/2.png", "a/3.png"]
    assert block.roots == ["a", "a", "a"]
    assert block.labels == ["cat", None, None]
    assert block.contents == ["1", "2", "3"]
    assert block.reasons == ["", "damaged", ""]
    assert block.failed.tolist() == [False, True, False]
    assert [facts and facts.note for facts in block.facts] == ["cut short", None, None]
    assert (block.count_distinct("root"), block.count_distinct("id")) == (1, 3)
    assert block.as_dicts()[1]["error"] == "damaged"


def test_texts_of_many_rows_are_read_when_asked_for(block: Block) -> None:
    texts = block.path_texts
    assert (len(texts), texts[1], texts[-1]) == (3, "a/2.png", "a/3.png")
    assert texts[1:] == ["a/2.png", "a/3.png"]


def test_some_rows_are_a_block(block: Block) -> None:
    some = block.at(np.array([2, 0]))
    assert some.ids.tolist() == [30, 10]
    assert some.embeddings.tolist() == [[1.0, -4.0], [0.5, -2.0]]
    assert some.embeddings.dtype == np.float16
    assert len(block.at(np.array([], np.int64))) == 0


def test_a_row_without_an_embedding_has_none_to_give(block: Block) -> None:
    with pytest.raises(GalleryError, match="neither an embedding nor an error"):
        _ = block.embeddings


def test_damage_is_a_wrong_sum_or_embedding_or_nothing_at_all(block: Block) -> None:
    assert block.damaged.tolist() == [False, False, False]
    rows = [row(1, HALVES), row(2, None), row(3, np.array([np.nan, 1], np.float16))]
    table = to_arrow(rows, schema(2, "", "t"))
    assert Block(table).damaged.tolist() == [False, True, True]
    labels = table.schema.get_field_index("label")
    changed = table.set_column(labels, table.schema.field(labels), [["dog", None, None]])
    assert Block(changed).damaged.tolist() == [True, True, True]


def test_no_arrow_leaves_the_gallery() -> None:
    """But for the lists and datasets of others, which are in Parquet."""
    knows = {Path("retrieval/gallery"), Path("retrieval/images/shards")}
    outside = [
        file
        for name in ("retrieval", "classify", "imgret")
        for file in (ROOT / name).rglob("*.py")
        if knows.isdisjoint(file.relative_to(ROOT).parents)
    ]
    assert [
        f"{file.relative_to(ROOT)}:{number}"
        for file in outside
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if ARROWS.search(line)
    ] == []
