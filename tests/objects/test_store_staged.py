"""Rows that are staged in a store, and committed there."""

from __future__ import annotations

import json

import pytest

from retrieval.errors import GalleryError
from retrieval.gallery import ImageTable
from retrieval.gallery.staged import commit_staged, reserve_ids, stage_rows
from retrieval.objects import ObjectPath
from tests.retrieval.test_staged import DIM, stored_rows


def test_a_piece_whose_object_is_gone_is_not_committed(bucket: ObjectPath) -> None:
    table = ImageTable.create(bucket / "g.imgret" / "images.lance", DIM, "")
    there, gone = (stage_rows(table, stored_rows(reserve_ids(table, 2))) for _ in range(2))
    commit_staged(table, [there])
    (table.path / "data" / json.loads(gone.pieces[0])["files"][0]["path"]).unlink()
    with pytest.raises(GalleryError, match="Run the same command again"):
        commit_staged(table, [gone])
    assert ImageTable.open(table.path).count() == 2
