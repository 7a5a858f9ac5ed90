"""An id is given once, whichever table its row came from."""

from __future__ import annotations

from pathlib import Path

import lance
import pytest

from retrieval.errors import GalleryError
from retrieval.gallery import Gallery
from retrieval.gallery.rows import IDS_FROM
from retrieval.retriever import Retriever
from tests.retrieval.stored import save_small

ROUNDS = 8


def test_ids_stay_distinct_after_a_reembedding_of_many_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The staged table gave more ids than the table whose rows it replaced."""
    pictures, gallery = tmp_path / "p", tmp_path / "g.imgret"
    save_small(pictures, *(f"{n:02}.png" for n in range(ROUNDS)))
    Retriever(gallery, transform="none").index(pictures)
    with monkeypatch.context() as slow:  # a commit for each image, as a slow network makes
        slow.setattr("retrieval.retriever.writer.ROWS_PER_COMMIT", 1)
        Retriever(gallery, size=96).index(pictures, reembed=True)
    given = set(Gallery(gallery).open_table().ids().tolist())
    for number in range(ROUNDS):
        save_small(pictures, f"new-{number}.png", first=100 + number)
        Retriever(gallery).index(pictures)
        new = set(Gallery(gallery).open_table().ids().tolist()) - given
        assert len(new) == 1
        given |= new
    retriever = Retriever(gallery)
    assert retriever.verify().ok
    for file in pictures.iterdir():
        assert retriever.search(file, k=1)[0].path == file
    assert retriever.remove(list(pictures.glob("new-*"))) == ROUNDS
    assert retriever.info().images == ROUNDS


@pytest.mark.parametrize("first", ["", "-1", "1e3", "9" * 18, "x"])
def test_a_table_whose_ids_begin_nowhere_is_refused(tmp_path: Path, first: str) -> None:
    pictures, gallery = tmp_path / "p", tmp_path / "g.imgret"
    save_small(pictures, "a.png")
    Retriever(gallery).index(pictures)
    dataset = lance.dataset(str(gallery / "images.lance"))
    metadata = {key.decode(): value.decode() for key, value in dataset.schema.metadata.items()}
    metadata[IDS_FROM.decode()] = first
    dataset.update_schema_metadata(metadata, replace=True)
    with pytest.raises(GalleryError, match="its ids begin at no number"):
        Gallery(gallery).open_table(lance.dataset(dataset.uri).version)
