"""Rankings in blocks of any size are those of one plain sort of all scores."""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from retrieval import metrics
from retrieval.evaluation.keys import ABSENT, keys_of, rows_of, scores_of
from retrieval.evaluation.open_set import density, trials_by_class
from retrieval.evaluation.protocols import (
    Images,
    Measured,
    SearchMethod,
    content_codes,
    evaluate,
)
from retrieval.evaluation.rankings import nearest_rows, rank
from retrieval.evaluation.relevant import FEW_RELEVANT
from retrieval.evaluation.vectors import Bounds, Labelled, Transformed
from retrieval.gallery.filter import INDEXED
from retrieval.refinement import Refinement
from retrieval.retriever import Retriever
from retrieval.retriever.usable import StoredEmbeddings, read_images
from tests.samples import picture

NAN_IS_EQUAL = {"rtol": 1e-12, "atol": 0, "equal_nan": True}


def unchanged(x: np.ndarray) -> np.ndarray:
    return x


def streamed(gallery: Labelled) -> Labelled:
    vectors = Transformed(gallery.vectors, np.arange(len(gallery)), unchanged)
    return Labelled(vectors, gallery.labels, gallery.contents)


def sorted_whole(
    queries: Labelled, gallery: Labelled, ks: tuple[int, ...], depth: int
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Values, neighbours, their labels and scores by a stable sort of every score."""
    own = queries.contents[:, None] == gallery.contents[None]
    scores = np.where(own, -np.inf, queries.vectors @ gallery.vectors.T)
    order = np.argsort(-scores, axis=1, kind="stable")
    scores = np.take_along_axis(scores, order, 1)
    there = np.isfinite(scores)
    found = np.where(there, gallery.labels[order], -1)
    totals = (found == queries.labels[:, None]).sum(axis=1)
    missing = max(0, max(depth, *ks, len(gallery)) - len(gallery))
    pad = ((0, 0), (0, missing))
    deep = np.pad(found, pad, constant_values=-1)
    values = {f"precision@{k}": metrics.precision_at_k(queries.labels, deep, k) for k in ks}
    values |= {f"recall@{k}": metrics.recall_at_k(queries.labels, deep, k) for k in ks}
    values["MAP@R"] = metrics.average_precision_at_r(queries.labels, deep, totals)
    values["R-precision"] = metrics.r_precision(queries.labels, deep, totals)
    values["mAP"] = metrics.average_precision(queries.labels, found, totals)
    values |= {f"nDCG@{k}": metrics.ndcg_at_k(queries.labels, deep, totals, k) for k in ks}
    rows = np.pad(np.where(there, order, -1), pad, constant_values=-1)
    scores = np.pad(scores, pad, constant_values=-np.inf)
    return values, rows[:, :depth], deep[:, :depth], scores[:, :depth]


@st.composite
def labelled(draw: st.DrawFn, least_label: int = -1) -> Labelled:
    """Small whole numbers, whose products are exact and often equal; copies; rows unlabelled."""
    n = draw(st.integers(1, 60))
    whole = st.lists(st.integers(-2, 2), min_size=3 * n, max_size=3 * n)
    vectors = np.array(draw(whole), np.float32).reshape(n, 3)
    labels = draw(st.lists(st.integers(least_label, 3), min_size=n, max_size=n))
    contents = draw(st.lists(st.integers(0, draw(st.integers(1, 80))), min_size=n, max_size=n))
    return Labelled(vectors, np.array(labels), np.array(contents))


UNIT = np.array([*np.ndindex(2, 2, 2, 2)], np.float32) - 0.5  # their products are exact too


@st.composite
def unit_vectors(draw: st.DrawFn, least_label: int = -1) -> Labelled:
    some = draw(labelled(least_label))
    rows = st.lists(st.integers(0, 15), min_size=len(some), max_size=len(some))
    return Labelled(UNIT[draw(rows)], some.labels, some.contents)


BOUNDS = st.builds(
    Bounds,
    cells=st.integers(1, 500),
    rows=st.integers(1, 70),
    pairs=st.integers(1, 200),
)


@pytest.mark.long
@settings(deadline=None, max_examples=150)
@given(labelled(0), labelled(), BOUNDS, st.booleans(), st.integers(1, 80), st.integers(1, 70))
def test_blocks_of_any_size_give_what_one_stable_sort_gives(
    queries: Labelled, gallery: Labelled, bounds: Bounds, read: bool, k: int, depth: int
) -> None:
    ks = tuple(sorted({1, 5, k}))
    values, rows, labels, scores = sorted_whole(queries, gallery, ks, depth)
    searched = streamed(gallery) if read else gallery
    ranked = rank(queries, searched, ks=ks, depth=depth, bounds=bounds)
    assert list(ranked.values) == list(values)
    for name, each in values.items():
        np.testing.assert_allclose(ranked.values[name], each, **NAN_IS_EQUAL, err_msg=name)
    np.testing.assert_array_equal(ranked.neighbours, rows)
    np.testing.assert_array_equal(ranked.found, labels)
    np.testing.assert_array_equal(ranked.scores, scores)
    found, nearest = nearest_rows(queries, searched, depth, bounds=bounds)
    np.testing.assert_array_equal(nearest, rows)
    np.testing.assert_array_equal(found, scores)


@settings(deadline=None, max_examples=40)
@given(unit_vectors(0), unit_vectors(), BOUNDS, st.sampled_from(["3", "20", "50:5:2:0.5"]))
def test_re_ranking_is_the_same_in_blocks(
    queries: Labelled, gallery: Labelled, bounds: Bounds, rerank: str
) -> None:
    how = Refinement.of(rerank=rerank)
    whole = rank(queries, gallery, ks=(1, 5), depth=10, refinement=how)
    parts = rank(queries, streamed(gallery), ks=(1, 5), depth=10, refinement=how, bounds=bounds)
    for name, each in whole.values.items():
        np.testing.assert_allclose(parts.values[name], each, **NAN_IS_EQUAL, err_msg=name)
    np.testing.assert_array_equal(parts.neighbours, whole.neighbours)
    first = whole.found[:, :5] == queries.labels[:, None]
    np.testing.assert_allclose(whole.values["precision@5"], first.mean(axis=1))


@settings(deadline=None, max_examples=40)
@given(labelled(), BOUNDS, st.data())
def test_density_is_the_same_in_blocks(
    gallery: Labelled, bounds: Bounds, data: st.DataObject
) -> None:
    own = np.array(data.draw(st.lists(st.integers(0, len(gallery) - 1), min_size=1)))
    vectors = gallery.vectors[own]
    scores = (vectors @ gallery.vectors.T).astype(np.float64)
    scores[np.arange(len(own)), own] = -np.inf
    best = [sorted(row[np.isfinite(row)])[::-1][:10] for row in scores]
    expected = [np.mean(row) if row else -1.0 for row in best]
    read = density(vectors, streamed(gallery).vectors, own, bounds)
    np.testing.assert_allclose(read, expected)


@given(
    st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=50),
    st.integers(0, 2**32 - 51),
)
def test_keys_are_ordered_as_scores_are_and_of_equals_the_earlier_row_is_greater(
    values: list[float], first: int
) -> None:
    scores = np.array([values], np.float32)
    keys = keys_of(scores.copy(), first)
    np.testing.assert_array_equal(scores_of(keys), scores)
    np.testing.assert_array_equal(rows_of(keys)[0], first + np.arange(len(values)))
    np.testing.assert_array_equal(np.argsort(-keys[0]), np.argsort(-scores[0], kind="stable"))
    assert (keys > ABSENT).all()
    assert scores_of(np.array([ABSENT])) == -np.inf
    assert rows_of(np.array([ABSENT])) == -1


@given(st.lists(st.booleans(), min_size=1, max_size=80), st.integers(1, 90))
def test_metrics_by_ranks_are_those_of_scikit_learn_and_of_the_whole_ranking(
    relevant: list[bool], k: int
) -> None:
    right = np.array(relevant)
    found = metrics.ranking_scores(np.flatnonzero(right) + 1, [k])
    falling = -np.arange(len(right))[None].astype(float)
    if right.any():
        assert found["mAP"] == pytest.approx(average_precision_score(right, falling[0]))
        if len(right) > 1:
            gain = ndcg_score(right[None].astype(float), falling, k=k)
            assert found[f"nDCG@{k}"] == pytest.approx(gain)
        r = int(right.sum())
        assert found["R-precision"] == pytest.approx(right[:r].mean())
    else:
        assert np.isnan([found["mAP"], found["MAP@R"], found["R-precision"]]).all()
    assert found[f"precision@{k}"] == pytest.approx(right[:k].sum() / k)
    assert found[f"recall@{k}"] == right[:k].any()


def clusters(n: int, classes: int, d: int = 16) -> Images:
    random = np.random.default_rng(0)
    labels = np.arange(n) % classes
    x = random.normal(size=(classes, d))[labels] + random.normal(size=(n, d))
    x[n // 2 : n // 2 + 5] = x[:5]
    return Images(
        (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16),
        [f"class{label}" if label else "" for label in labels],
        content_codes(hashlib.sha256(str(i % (n - 3)).encode()).hexdigest() for i in range(n)),
        [Path(f"{i}.jpg") for i in range(n)],
    )


SMALL = Bounds(cells=700, rows=37, pairs=300, held=0)


@pytest.mark.parametrize("zero_shot", [False, True])
@pytest.mark.parametrize("transform", ["none", "wccn", "rca"])
@pytest.mark.parametrize(
    "how", [{}, {"expand": "3"}, {"rerank": "20"}, {"augment": "2:2.0"}], ids=str
)
def test_a_protocol_gives_the_same_whether_vectors_are_held_or_read(
    how: dict[str, str], transform: str, zero_shot: bool
) -> None:
    images, method = clusters(200, 5), SearchMethod(transform, Refinement.of(**how))
    whole = evaluate(images, method=method, zero_shot=zero_shot)
    read = evaluate(images, method=method, zero_shot=zero_shot, bounds=SMALL)
    assert len(images) // 5 > FEW_RELEVANT  # so that some are counted by a sort
    for one, other in zip(read.metrics, whole.metrics, strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-4), one.name
    assert read.per_query.queries.tolist() == whole.per_query.queries.tolist()
    np.testing.assert_allclose(read.per_query.distances, whole.per_query.distances, atol=1e-5)


def test_an_augmentation_past_the_bound_tells_the_memory_it_takes_before_it_starts() -> None:
    told: list[str] = []
    method = SearchMethod("none", Refinement.of(augment="2"))

    def progress(what: str, done: int, total: int | None) -> None:
        told.append(what)

    images = clusters(200, 5)
    read = evaluate(images, method=method, bounds=SMALL, progress=progress)
    sentence = "The augmentation holds all vectors: 0.0 GB of memory."
    assert read.notices.count(sentence) == told.count(sentence) == 1
    assert told.index(sentence) < told.index("ranking")
    assert sentence not in evaluate(images, method=method).notices


def test_trials_are_the_same_whether_vectors_are_held_or_read() -> None:
    images, method = clusters(200, 5), SearchMethod("wccn")
    whole, read = trials_by_class(images, method), trials_by_class(images, method, bounds=SMALL)
    assert whole is not None
    assert read is not None
    np.testing.assert_array_equal(read.right, whole.right)
    np.testing.assert_allclose(read.density, whole.density, atol=1e-5)
    np.testing.assert_allclose(read.evidence.scores, whole.evidence.scores, atol=1e-5)


def test_a_stored_gallery_is_evaluated_alike_whether_it_is_held_or_read(
    tmp_path: Path, weights: Path
) -> None:
    for n in range(16):
        file = tmp_path / f"class{n % 3}" / f"{n:02}.png"
        file.parent.mkdir(exist_ok=True)
        picture(n).save(file)
    file.write_bytes(b"no picture")
    shop = Retriever(tmp_path / "shop.imgret", backbone=str(weights), transform="none")
    shop.index(tmp_path)
    table = shop.gallery.open_table()
    held, read = read_images(shop.gallery, table), read_images(shop.gallery, table, held=0)
    assert isinstance(read.embeddings, StoredEmbeddings)
    assert len(read) == 15
    rows = np.arange(len(read))[::-3]
    np.testing.assert_array_equal(read.embeddings[rows], held.embeddings[rows])
    expected = table.columns(["path", "label", "embedding"], INDEXED)
    np.testing.assert_array_equal(held.embeddings, np.stack(expected["embedding"].to_numpy()))
    assert list(read.labels) == expected["label"].to_pylist()
    assert read.paths[0:2] == [shop.gallery.full(path) for path in expected["path"].to_pylist()[:2]]
    one, other = (evaluate(i, method=SearchMethod("none"), bounds=SMALL) for i in (held, read))
    assert one.metrics == other.metrics
    assert one.worst == other.worst


@pytest.mark.long
@pytest.mark.parametrize("held", [0, 1 << 28])
def test_memory_does_not_grow_with_queries_times_rows(held: int) -> None:
    n, queries = 20_000, 2_000  # 160 MB of scores
    random = np.random.default_rng(0)
    images = Images(
        random.normal(size=(n, 16)).astype(np.float16),
        np.array([f"class{i % 500}" for i in range(n)], object),
        np.arange(n),
        [Path(f"{i}.jpg") for i in range(n)],
    )
    bounds = Bounds(cells=1 << 20, rows=4096, held=held)
    tracemalloc.start()
    try:
        measured = Measured(most_queries=queries)
        evaluate(images, method=SearchMethod("none"), measured=measured, bounds=bounds)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100e6
