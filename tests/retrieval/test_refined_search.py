"""Expansion, augmentation and re-ranking of a gallery's own searches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.index import GrowingIndex, Index
from retrieval.index import kind as kind_module
from retrieval.refinement import (
    Neighbourhood,
    Reranking,
    k_reciprocal_distances,
    weighted_mean,
)
from retrieval.retriever import Retriever
from retrieval.retriever.file_neighbours import FileNeighbours
from retrieval.transform import Transform
from tests.samples import picture


def cells(n: int, d: int) -> tuple[Index, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.normal(size=(n, d)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    ids = random.permutation(10 * n)[:n].astype(np.int64)
    kind = "ivf" if n > 500 else "exact"
    return Index.build(Transform("none", d), lambda: iter([(ids, x)]), n, kind=kind), ids, x


@pytest.mark.parametrize("n", [100, 2000])
def test_an_index_gives_back_the_vectors_of_ids(n: int, tmp_path: Path) -> None:
    index, ids, x = cells(n, 16)
    index.save(tmp_path / "index")
    for known in (index, Index.load(tmp_path / "index", index.settings)):
        asked = np.array([[ids[3], -1], [ids[n - 1], ids[0]]])
        vectors = known.vectors(asked)
        np.testing.assert_allclose(vectors[[0, 1, 1], [0, 0, 1]], x[[3, n - 1, 0]], atol=1e-3)
        assert not vectors[0, 1].any()
    with pytest.raises(ValueError, match="does not hold"):
        index.vectors(np.array([10 * n + 1]))


@pytest.mark.parametrize("n", [100, 2000])
def test_an_augmented_index_holds_the_mean_of_each_vector_and_its_nearest(n: int) -> None:
    index, ids, _ = cells(n, 16)
    stored = index.vectors(ids)
    index.augment(Neighbourhood(2, 1.0))
    assert index.ntotal == n
    scores = stored @ stored.T
    np.fill_diagonal(scores, -np.inf)
    close = 0
    for i in range(0, n, n // 50):
        nearest = np.argsort(-scores[i])[:2]
        expected = weighted_mean(
            stored[i : i + 1], stored[nearest][None], scores[i, nearest][None], 1
        )
        close += np.allclose(index.vectors(ids[i : i + 1])[0], expected[0], atol=2e-3)
    assert close >= (50 if n == 100 else 48)  # ivf searches for neighbours approximately


@pytest.fixture
def gallery(tmp_path: Path, weights: Path) -> tuple[Path, Path]:
    """60 pictures in 3 classes that look alike within, and a gallery of them."""
    folder = tmp_path / "pictures"
    for n in range(60):
        file = folder / f"class{n % 3}" / f"{n:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        mixed = 0.55 * np.asarray(picture(n % 3), float) + 0.45 * np.asarray(
            picture(100 + n), float
        )

        Image.fromarray(mixed.astype(np.uint8)).save(file)
    Retriever(tmp_path / "g", backbone=str(weights), transform="none").index(folder)
    return tmp_path / "g", folder


def test_an_expanded_search_is_the_search_of_the_mean(gallery: tuple[Path, Path]) -> None:
    path, folder = gallery
    query = folder / "class0" / "00.png"
    plain = Retriever(path)
    embedding = plain.encode([query])
    nearest = plain.search(query, k=3)
    vectors = plain.encode([m.path for m in nearest])
    mean = embedding[0] + sum(m.score * v for m, v in zip(nearest, vectors, strict=True))
    expected = plain.search_embeddings(mean, k=5)[0]
    found = Retriever(path, expand="3").search(query, k=5)
    assert [m.path for m in found] == [m.path for m in expected]
    assert [m.score for m in found] == pytest.approx([m.score for m in expected], abs=2e-3)


def test_the_own_image_is_left_out_of_the_expansion_too(gallery: tuple[Path, Path]) -> None:
    path, folder = gallery
    query = folder / "class1" / "01.png"
    for options in ({"expand": "3"}, {"rerank": "20"}, {"expand": "2", "rerank": "10"}):
        found = Retriever(path, **options).search(query, k=59, exclude_self=True)  # type: ignore[arg-type]
        assert query not in [m.path for m in found]
        assert len(found) == 59
        assert len({m.id for m in found}) == 59


def test_re_ranking_changes_the_order_and_nothing_else(gallery: tuple[Path, Path]) -> None:
    path, folder = gallery
    query = folder / "class2" / "02.png"
    plain = Retriever(path).search(query, k=20)
    other = Retriever(path, rerank="20:6:3:0.1").search(query, k=20)
    assert {m.id: round(m.score, 5) for m in plain} == {m.id: round(m.score, 5) for m in other}
    assert [m.id for m in plain] != [m.id for m in other]


def test_the_vectors_of_a_large_gallery_come_from_its_rows(
    gallery: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = gallery
    monkeypatch.setattr(kind_module, "EXACT_UP_TO", 20)
    Retriever(path).index(folder, refit=True)
    index = Retriever(path)._current().index
    assert isinstance(index, FileNeighbours)
    assert index.faiss.kind.startswith("ivf")
    ids = np.append(index.faiss.ids, -1).reshape(1, -1)
    expected = index.faiss.vectors(ids)
    monkeypatch.setattr("retrieval.retriever.file_neighbours.FEW_VECTORS", 1000)
    monkeypatch.setattr(GrowingIndex, "vectors", None)  # it would read the whole file
    np.testing.assert_allclose(index.vectors(ids), expected, atol=2e-3)
    query = folder / "class2" / "02.png"
    assert len(Retriever(path, expand="5", rerank="20").search(query, k=9)) == 9


@pytest.mark.parametrize("augment", ["none", "3"])
def test_a_narrow_filter_of_a_large_gallery_is_searched_without_its_cells(
    augment: str, gallery: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = gallery
    monkeypatch.setattr(kind_module, "EXACT_UP_TO", 20)
    Retriever(path, augment=augment).index(folder, refit=True)
    query = folder / "class0" / "00.png"
    among_all = {m.path.name: m.score for m in Retriever(path).search(query, k=60)}
    where = "path like '%/00.png' or path like '%/03.png' or path like '%/10.png'"
    if augment == "none":  # else the index has other vectors than the rows give
        monkeypatch.setattr("retrieval.index.index.search_wider", None)
    found = Retriever(path).search(query, k=5, where=where)
    assert [m.path.name for m in found] == ["00.png", "03.png", "10.png"]
    assert [m.score for m in found] == pytest.approx(
        [among_all[m.path.name] for m in found], abs=2e-3
    )


@pytest.mark.parametrize(
    ("limits", "kind"), [([50], "exact"), ([40, 70], "ivf"), ([40, 80], "exact")]
)
def test_a_refit_keeps_the_kind_of_an_index_near_the_limit(
    gallery: tuple[Path, Path], limits: list[int], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = gallery
    for limit in limits:
        monkeypatch.setattr(kind_module, "EXACT_UP_TO", limit)
        Retriever(path).index(folder, refit=True)
    assert Retriever(path).info().images == 60
    assert Retriever(path).info().index.startswith(kind)


def test_what_index_was_told_is_kept_with_the_gallery(gallery: tuple[Path, Path]) -> None:
    path, folder = gallery
    Retriever(path, expand="3", augment="2", rerank="20").index(folder)
    settings = Retriever(path).gallery.settings()
    assert (settings.expand, settings.augment, settings.rerank) == ("3", "2", "20")
    assert settings.index is not None
    assert settings.index.augment == "2"
    query = folder / "class0" / "00.png"
    kept = Retriever(path).search(query, k=5)
    given = Retriever(path, expand="3", rerank="20").search(query, k=5)
    assert [m.id for m in kept] == [m.id for m in given]


def test_a_new_image_joins_an_augmented_gallery(gallery: tuple[Path, Path]) -> None:
    path, folder = gallery
    Retriever(path, augment="3").index(folder)
    picture(500).save(folder / "class0" / "new.png")
    Retriever(path).index(folder)
    fresh = path.parent / "fresh"
    Retriever(fresh, backbone=Retriever(path).info().backbone, transform="none", augment="3").index(
        folder
    )
    query = folder / "class0" / "new.png"
    ours, theirs = (Retriever(p).search(query, k=5) for p in (path, fresh))
    assert [m.path for m in ours] == [m.path for m in theirs]


def test_evaluation_is_that_of_the_gallerys_own_searches(gallery: tuple[Path, Path]) -> None:
    path, folder = gallery
    for options in ({}, {"expand": "2"}, {"rerank": "15"}):
        retriever = Retriever(path, **options)  # type: ignore[arg-type]
        right = [
            [m.label == file.parent.name for m in retriever.search(file, k=5, exclude_self=True)]
            for file in sorted(folder.rglob("*.png"))
        ]
        value = retriever.evaluate(calibrate=False).metric("precision@5").value
        assert value == pytest.approx(np.mean(right), abs=0.02), options


def test_a_query_that_cannot_be_read_is_counted_and_named(gallery: tuple[Path, Path]) -> None:
    path, folder = gallery
    (folder / "class0" / "broken.jpg").write_bytes(b"\xff\xd8 no jpeg")
    evaluation = Retriever(path).evaluate(folder)
    assert evaluation.queries == 60
    assert any("broken.jpg" in notice for notice in evaluation.notices)


@pytest.mark.long
def test_a_search_of_few_images_is_re_ranked_among_them_alone(gallery: tuple[Path, Path]) -> None:
    path, folder = gallery
    one = "path LIKE '%class0/0%' OR path LIKE '%class1/0%'"  # fewer than K1
    for file in sorted(folder.rglob("*.png"))[::6]:
        plain = Retriever(path).search(file, k=60, where=one)
        vectors = Retriever(path).encode([file, *(m.path for m in plain)])
        distances = k_reciprocal_distances((vectors @ vectors.T)[None], Reranking(50))[0]
        expected = [plain[n].id for n in np.argsort(distances, kind="stable")]
        found = Retriever(path, rerank="50").search(file, k=60, where=one)
        assert [m.id for m in found] == expected


def test_a_small_gallery_is_re_ranked_as_it_is_evaluated(gallery: tuple[Path, Path]) -> None:
    path, folder = gallery
    Retriever(path).remove([f for f in folder.rglob("*.png") if int(f.stem) >= 12])
    retriever = Retriever(path, rerank="50")
    told = retriever.evaluate(calibrate=False, k=[1, 2, 3]).metric("precision@2").value
    right = [
        [m.label == file.parent.name for m in retriever.search(file, k=2, exclude_self=True)]
        for file in sorted(folder.rglob("*.png"))
        if int(file.stem) < 12
    ]
    assert told == pytest.approx(np.mean(right))
