"""The order by clusters: what looks alike stands together, the largest cluster first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.errors import ArgumentError
from retrieval.retriever import OpenGallery, Retriever
from retrieval.retriever.clusters import MOST_CLUSTERS, ClusterOrder, number_of_clusters
from tests.samples import picture

KINDS = {"many": 10, "some": 6, "few": 3}


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    """Three pictures, each with noise so and so many times, in one folder."""
    folder = tmp_path_factory.mktemp("clusters")
    (folder / "pictures").mkdir()
    noise = np.random.default_rng(0)
    for seed, (kind, times) in enumerate(KINDS.items()):
        for n in range(times):
            pixels = np.asarray(picture(100 + seed), np.int16)
            pixels = (pixels + noise.integers(-9, 10, pixels.shape)).clip(0, 255)
            name = f"{n}-{kind}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "pictures" / name)
    made = Retriever(folder / ".imgret")
    made.index(folder / "pictures")
    return made


def kinds(gallery: OpenGallery, order: ClusterOrder) -> list[str]:
    images = gallery.images(order.ids)
    return [images[id].path.stem.partition("-")[2] for id in order.ids.tolist()]


def test_what_looks_alike_stands_together_and_the_most_first(retriever: Retriever) -> None:
    with retriever.open() as gallery:
        order = gallery.clusters()
        assert kinds(gallery, order) == [kind for kind, n in KINDS.items() for _ in range(n)]
        assert order.numbers.tolist() == [0] * 10 + [1] * 6 + [2] * 3


def test_within_a_cluster_the_most_typical_is_the_first(retriever: Retriever) -> None:
    with retriever.open() as gallery:
        order = gallery.clusters()
        vectors = gallery.state.index.vectors(order.ids[:10])
        likeness = vectors @ vectors.mean(axis=0)
        assert likeness[:3].mean() > likeness[-3:].mean()


def test_the_same_rows_have_the_same_order(retriever: Retriever) -> None:
    with retriever.open() as gallery:
        one, other = gallery.clusters(), gallery.clusters()
    assert one.ids.tolist() == other.ids.tolist()


def test_pages_make_up_the_order_and_say_where_clusters_begin(retriever: Retriever) -> None:
    with retriever.open() as gallery:
        order = gallery.clusters()
        for descending in (False, True):
            ids: list[int] = []
            starts = []
            while True:
                page = gallery.page_of_clusters(order, 4, start=len(ids), descending=descending)
                if not page.images:
                    break
                ids += [image.id for image in page.images]
                starts += [(start.first, start.images) for start in page.starts]
            whole = order.ids[::-1] if descending else order.ids
            assert ids == whole.tolist()
            sizes = [3, 6, 10] if descending else [10, 6, 3]
            firsts = [ids[0], ids[sizes[0]], ids[sizes[0] + sizes[1]]]
            assert starts == list(zip(firsts, sizes, strict=True))
        with pytest.raises(ArgumentError, match="not that long"):
            gallery.page_of_clusters(order, 4, start=20)


def test_a_filter_leaves_the_order_of_what_passes(retriever: Retriever) -> None:
    with retriever.open() as gallery:
        order = gallery.clusters()
        page = gallery.page_of_clusters(order, 100, where="path LIKE '%/_-%w.png'")
        assert [image.path.stem.partition("-")[2] for image in page.images] == ["few"] * 3
        assert page.total == 3
        assert [start.images for start in page.starts] == [3]
        assert gallery.page_of_clusters(order, where="label = 'nothing'").images == ()


def test_progress_is_told(retriever: Retriever) -> None:
    said: list[tuple[str, int, int | None]] = []
    with retriever.open() as gallery:
        gallery.clusters(lambda *told: said.append(told))
    assert said == [("clustering", 0, 19), ("clustering", 19, 19)]


def test_clusters_grow_with_their_images_up_to_a_bound() -> None:
    numbers = [number_of_clusters(n) for n in range(1, 3_000_000, 9973)]
    assert numbers == sorted(numbers)
    assert numbers[0] == 1
    assert numbers[-1] == MOST_CLUSTERS


def test_one_image_is_one_cluster(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "1.png")
    retriever = Retriever(tmp_path / ".imgret")
    retriever.index(tmp_path / "1.png")
    with retriever.open() as gallery:
        assert gallery.clusters().numbers.tolist() == [0]


def test_an_order_is_given_as_plain_values() -> None:
    order = ClusterOrder(np.array([7, 5]), np.array([0, 1], np.int32))
    assert order.to_dict() == {"ids": [7, 5], "numbers": [0, 1]}
