"""What a gallery answers beside a search: lists, counts, files, and searches by what is stored."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from retrieval.errors import ArgumentError, ImageError, QueryError
from retrieval.retriever import OpenGallery, Retriever
from retrieval.retriever.left_out import LeftOut
from retrieval.retriever.open_gallery import combined
from tests.samples import picture, save_pictures


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures in 3 classes, each of another month, indexed."""
    folder = tmp_path_factory.mktemp("open")
    for n, file in enumerate(sorted(save_pictures(folder / "pictures").rglob("*.jpg"))):
        os.utime(file, (n * 40 * 86400, n * 40 * 86400))
    Retriever(folder / ".imgret").index(folder / "pictures")
    return folder


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Retriever:
    """A copy that a test may change."""
    shutil.copytree(made, tmp_path / "own")
    return Retriever(tmp_path / "own" / ".imgret")


@pytest.fixture
def retriever(made: Path) -> Retriever:
    return Retriever(made / ".imgret")


def listed(gallery: OpenGallery, limit: int, **how: object) -> list[int]:
    ids, after = [], None
    while True:
        page = gallery.page(limit, after=after, **how)  # type: ignore[arg-type]
        ids += [image.id for image in page.images]
        after = page.next
        if after is None:
            assert len(ids) == page.total
            return ids


@pytest.mark.parametrize("order", ["id", "path", "label", "date", "size"])
@pytest.mark.parametrize("descending", [False, True])
def test_pages_of_an_order_make_up_the_whole(
    retriever: Retriever, order: str, descending: bool
) -> None:
    with retriever.open() as gallery:
        whole = gallery.page(1000, order=order, descending=descending)  # type: ignore[arg-type]
        key = {"date": "modified_ns"}.get(order, order)
        values = [getattr(image, key) for image in whole.images]
        assert values == sorted(values, reverse=descending)
        for limit in (1, 5, 24):
            ids = listed(gallery, limit, order=order, descending=descending)
            assert ids == [image.id for image in whole.images]


@pytest.mark.parametrize("descending", [False, True])
def test_the_order_by_name_is_by_the_last_part_of_the_path(
    retriever: Retriever, descending: bool
) -> None:
    with retriever.open() as gallery:
        ids = listed(gallery, 5, order="name", descending=descending)
        known = gallery.images(ids)
        names = [known[id].path.name for id in ids]
        assert names == sorted(names, reverse=descending)
        assert names != [image.path.name for image in gallery.page(order="path").images]


def test_files_of_one_name_are_all_listed(tmp_path: Path) -> None:
    for n, folder in enumerate("abc"):
        (tmp_path / "p" / folder).mkdir(parents=True)
        picture(n).save(tmp_path / "p" / folder / "same.png")
    own = Retriever(tmp_path / ".imgret")
    own.index(tmp_path / "p")
    with own.open() as gallery:
        ids = [image.id for image in gallery.page().images]
        assert listed(gallery, 1, order="name") == ids
        assert listed(gallery, 1, order="name", descending=True) == ids


def test_a_list_heeds_a_filter(retriever: Retriever) -> None:
    with retriever.open() as gallery:
        page = gallery.page(3, where="label = 'class1'")
        assert page.total == 8
        assert {image.label for image in page.images} == {"class1"}
        assert gallery.page(where="label = 'nothing'").images == ()


def test_a_cursor_stays_where_it_was_when_rows_come_and_go(own: Retriever) -> None:
    with own.open() as gallery:
        first = gallery.page(10, order="path")
    own.remove([first.images[0].path, first.images[9].path])
    with own.open() as gallery:
        rest = gallery.page(100, order="path", after=first.next)
    assert rest.total == 22
    assert len(rest.images) == 14
    assert rest.images[0].path > first.images[9].path


def test_images_without_a_label_are_the_last(own: Retriever) -> None:
    with own.open() as gallery:
        ids = [image.id for image in gallery.page().images]
    own.relabel(dict.fromkeys(ids[:5], None))
    for descending in (False, True):
        with own.open() as gallery:
            assert listed(gallery, 2, order="label", descending=descending)[-5:] == ids[:5]


@pytest.mark.parametrize(
    "cursor", ["", "x", "é", "bnVsbA", "W10", "WyJpZCIsZmFsc2UsInQiLDFd", "[" * 30_000]
)
def test_a_cursor_of_something_else_is_refused(retriever: Retriever, cursor: str) -> None:
    with retriever.open() as gallery, pytest.raises(ArgumentError, match="cursor"):
        gallery.page(after=cursor)
    with retriever.open() as gallery:
        other = gallery.page(2, order="path").next
        with pytest.raises(ArgumentError, match="cursor"):
            gallery.page(after=other, order="label")


def test_facets_count_what_passes(retriever: Retriever) -> None:
    with retriever.open() as gallery:
        facets = gallery.facets()
        assert facets.total == 24
        assert [(f.value, f.images) for f in facets.labels] == [(f"class{n}", 8) for n in range(3)]
        assert [f.value for f in facets.folders] == [f"pictures/class{n}" for n in range(3)]
        assert len(facets.months) == 24
        assert facets.months[-1].value == "1970-01"
        assert [(f.least, f.below, f.images) for f in facets.sizes] == [
            (0, 100_000, 24), (100_000, 1_000_000, 0), (1_000_000, 10_000_000, 0),
            (10_000_000, None, 0),
        ]  # fmt: skip
        one = gallery.facets("label = 'class2'")
        assert [(f.value, f.images) for f in one.folders] == [("pictures/class2", 8)]
        assert gallery.facets("label = 'nothing'").months == ()


def test_a_picture_is_found_by_its_id_without_being_read(own: Retriever) -> None:
    with own.open() as gallery:
        image = gallery.page(order="path").images[5]
    with own.open() as gallery:
        expected = own.search(image.path, k=6)
    shutil.rmtree(own.gallery.base / "pictures")
    with own.open() as gallery:
        (found,) = gallery.search(gallery.embeddings_of([image.id]), 6)
        (others,) = gallery.search(
            gallery.embeddings_of([image.id]), 6,
            excluded=[LeftOut(contents=[image.sha256])],
        )  # fmt: skip
        with pytest.raises(QueryError, match="No image has the id 5"):
            gallery.embeddings_of([image.id, 5])
    assert [m.id for m in found] == [m.id for m in expected]
    assert [m.id for m in others[:5]] == [m.id for m in expected[1:]]


def test_examples_move_a_query_towards_them_and_away(retriever: Retriever) -> None:
    with retriever.open() as gallery:
        first, liked, other = gallery.embeddings_of([i.id for i in gallery.page(3).images])
        examples = np.stack([liked, other])
        moved = combined(first, examples, [1.0, -0.5])
        assert np.linalg.norm(moved) == pytest.approx(1)
        assert moved @ liked > first @ liked
        assert moved @ other < first @ other
        assert combined(None, examples, [2.0, 0.0]) @ liked == pytest.approx(1, abs=1e-3)
        with pytest.raises(ArgumentError, match="cancel"):
            combined(first, np.stack([first]), [-1.0])


def test_a_search_may_be_refined_in_another_way_than_the_gallery(retriever: Retriever) -> None:
    with retriever.open() as gallery:
        queries = gallery.embeddings_of([gallery.page().images[0].id])
        (plain,) = gallery.search(queries, 5)
        (refined,) = gallery.search(queries, 5, expand="5", rerank="10")
        asked = Retriever(retriever.gallery.path, expand="5", rerank="10")
    (theirs,) = asked.search_embeddings(queries, 5)
    assert [m.id for m in refined] == [m.id for m in theirs]
    assert [m.score for m in plain] != [m.score for m in refined]
    with retriever.open() as gallery, pytest.raises(ArgumentError, match="rerank"):
        gallery.search(queries, 5, rerank="x")


def test_one_answer_is_of_one_version_while_others_write(own: Retriever, tmp_path: Path) -> None:
    with own.open() as gallery:
        before = gallery.page(1000)
        picture(99).save(own.gallery.base / "pictures" / "class0" / "new.jpg")
        Retriever(own.gallery.path).index(own.gallery.base / "pictures")
        Retriever(own.gallery.path).compact()
        assert gallery.page(1000) == before
        assert gallery.facets().total == 24
        assert len(gallery.search(gallery.embeddings_of([before.images[3].id]), 100)[0]) == 24
        with own.open() as newer:
            assert newer.page().total == 25
            assert newer.version != gallery.version


def test_only_what_was_indexed_is_read(own: Retriever, tmp_path: Path) -> None:
    with own.open() as gallery:
        first, second, third, fourth = gallery.page(4).images
        assert gallery.original(first) == first.path.read_bytes()
        content = second.path.read_bytes()
        second.path.write_bytes(b"another")
        with pytest.raises(ImageError, match="has changed"):
            gallery.original(second)
        third.path.unlink()
        with pytest.raises(ImageError, match="not there"):
            gallery.original(third)
        outside = tmp_path / "outside.jpg"
        fourth.path.rename(outside)
        fourth.path.symlink_to(outside)
        with pytest.raises(ImageError, match="outside"):
            gallery.original(fourth)
        second.path.unlink()
        (second.path.parent / "moved.jpg").write_bytes(content)
        second.path.symlink_to("moved.jpg")
        assert gallery.original(second) == content


def test_labels_are_set_by_id(own: Retriever) -> None:
    with own.open() as gallery:
        first, second = gallery.page(2).images
    assert own.relabel({first.id: "new", second.id: second.label, 5: "nobody"}) == 1
    with own.open() as gallery:
        known = gallery.images([first.id, second.id, 5])
    assert [known[first.id].label, known[second.id].label] == ["new", second.label]
    assert set(known) == {first.id, second.id}
    assert Retriever(own.gallery.path).verify().ok
    assert own.search(first.path, k=1, where="label = 'new'")[0].id == first.id
