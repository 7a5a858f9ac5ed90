"""Rankings and protocols against brute force and cases counted by hand."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from retrieval.errors import ImgretError
from retrieval.evaluation import Evaluation
from retrieval.evaluation.protocols import (
    Images,
    Measured,
    SearchMethod,
    content_codes,
    evaluate,
)
from retrieval.evaluation.rankings import rank
from retrieval.evaluation.refined import augmented
from retrieval.evaluation.vectors import Bounds, Labelled
from retrieval.refinement import Neighbourhood, Refinement
from retrieval.transform import fit


def contents(*names: str) -> np.ndarray:
    return content_codes(hashlib.sha256(name.encode()).hexdigest() for name in names)


def images(
    n: int = 120, classes: int = 6, d: int = 16, seed: int = 0, noise: float = 1.0
) -> Images:
    """Clusters of n points around the centres of classes; two seeds share the centres."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = np.random.default_rng(99).normal(size=(classes, d))
    x = centres[labels] + noise * random.normal(size=(n, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return Images(
        x.astype(np.float32),
        [f"class{label}" for label in labels],
        contents(*(f"{seed}-{i}" for i in range(n))),
        [Path(f"{seed}/{i}.jpg") for i in range(n)],
    )


def plain(gallery: Images, queries: Images | None = None, **options: object) -> Evaluation:
    return evaluate(gallery, queries, method=SearchMethod("none"), **options)  # type: ignore[arg-type]


def test_more_neighbours_than_there_are_is_told() -> None:
    gallery = images(20)
    for k, said in ((19, False), (20, True)):
        notices = plain(gallery, measured=Measured((1, k))).notices
        assert any("19 images can be found for a query" in n for n in notices) == said
        assert any("neighbours count places" in n for n in notices) == said
    fifths = evaluate(gallery, method=SearchMethod("lda"), measured=Measured((1, 18)))
    assert any("images can be found for a query" in notice for notice in fifths.notices)


def test_queries_are_ranked_as_brute_force_ranks_them() -> None:
    gallery, queries = images(seed=0), images(40, seed=1)
    known = NearestNeighbors(n_neighbors=5, metric="cosine").fit(gallery.embeddings)
    distances, nearest = known.kneighbors(queries.embeddings)
    labels = np.array(gallery.labels)[nearest]
    right = labels == np.array(queries.labels)[:, None]
    e = plain(gallery, queries)
    assert e.metric("precision@5").value == pytest.approx(right.mean())
    assert e.metric("recall@5").value == pytest.approx(right.any(axis=1).mean())
    assert e.metric("distance@5").value == pytest.approx(distances.mean(), abs=1e-5)
    np.testing.assert_allclose(e.per_query.distances, distances, atol=1e-5)
    assert (e.protocol, e.gallery, e.queries, e.without_relevant) == ("queries", 120, 40, 0)


def test_the_vote_is_scored_as_scikit_learn_scores_a_nearest_neighbour_classifier() -> None:
    gallery, queries = images(seed=0, noise=1.5), images(60, seed=1, noise=1.5)
    known = KNeighborsClassifier(1, metric="cosine").fit(gallery.embeddings, gallery.labels)
    predicted = known.predict(queries.embeddings)
    p, r, f1, _ = precision_recall_fscore_support(queries.labels, predicted, average="macro")
    vote = plain(gallery, queries, measured=Measured(vote=1)).vote
    assert (vote.precision_macro, vote.recall_macro, vote.f1_macro) == pytest.approx((p, r, f1))
    assert vote.accuracy == pytest.approx(known.score(queries.embeddings, queries.labels))


def test_an_image_is_never_its_own_neighbour_nor_is_its_copy() -> None:
    alone = images(30, noise=2.0)
    twice = Images(
        np.concatenate([alone.embeddings, alone.embeddings]),
        [*alone.labels, *alone.labels],
        np.tile(alone.contents, 2),
        [*alone.paths, *(Path(f"copy/{p}") for p in alone.paths)],
    )
    first, both = plain(alone), plain(twice)
    assert both.metric("precision@1").value == pytest.approx(first.metric("precision@1").value)
    assert all(n.score < 0.9999 for q in both.worst for n in q.neighbours)


def test_queries_without_a_relevant_image_are_counted_apart() -> None:
    gallery, queries = images(), images(12, seed=1)
    odd = Images(
        np.concatenate([queries.embeddings, queries.embeddings[:3] * -1]),
        [*queries.labels, "unknown", "unknown", "unknown"],
        np.append(queries.contents, contents("odd0", "odd1", "odd2")),
        [*queries.paths, *(Path(f"odd/{i}.jpg") for i in range(3))],
    )
    with_odd, without = plain(gallery, odd), plain(gallery, queries)
    assert (with_odd.queries, with_odd.without_relevant) == (12, 3)
    assert with_odd.metrics == without.metrics


def test_a_class_of_one_image_has_no_relevant_one_left_out_of_itself() -> None:
    many = images(20, classes=4)
    one = Images(many.embeddings, ["lonely", *many.labels[1:]], many.contents, many.paths)
    assert plain(one).without_relevant == 1


def test_images_without_a_label_are_neighbours_but_no_queries() -> None:
    many = images(24, classes=3)
    some = Images(many.embeddings, ["", "", *many.labels[2:]], many.contents, many.paths)
    e = plain(some)
    assert e.queries == 22
    assert e.gallery == 24


def test_a_gallery_smaller_than_k_is_evaluated() -> None:
    e = plain(images(4, classes=2))
    assert e.metric("precision@10").value == pytest.approx(0.1)
    assert e.metric("recall@10").value == 1


@pytest.mark.parametrize("held", [0, 1 << 28])
def test_memory_is_spent_on_blocks_and_the_result_is_the_same(held: int) -> None:
    gallery, how = images(), Refinement.of(expand="3", rerank="20")
    whole = evaluate(gallery, method=SearchMethod("none", how))
    bounds = Bounds(cells=400, rows=17, pairs=100, held=held)
    blocks = evaluate(gallery, method=SearchMethod("none", how), bounds=bounds)
    for one, other in zip(blocks.metrics, whole.metrics, strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-6), one.name


def test_zero_shot_looks_at_the_later_classes_with_what_the_first_taught() -> None:
    gallery = images(120, classes=6)
    later = [i for i, label in enumerate(gallery.labels) if label >= "class3"]
    first = [i for i in range(120) if i not in later]
    transform = fit("whiten:8", gallery.embeddings[first])
    x = transform.apply(gallery.embeddings[later])
    scores = x @ x.T
    np.fill_diagonal(scores, -1)
    labels = np.array(gallery.labels)[later]
    right = labels[np.argsort(-scores, axis=1)[:, :5]] == labels[:, None]
    e = evaluate(gallery, method=SearchMethod("whiten:8"), zero_shot=True)
    assert (e.protocol, e.queries) == ("zero-shot", len(later))
    assert e.metric("precision@5").value == pytest.approx(right.mean())


def test_zero_shot_needs_two_classes_to_tell_apart() -> None:
    """Of two, one is fitted to, and every match in the other is right."""
    with pytest.raises(ImgretError, match="needs images of at least three classes"):
        evaluate(images(40, classes=2), zero_shot=True)
    assert evaluate(images(60, classes=3), zero_shot=True).queries == 40


def test_figures_of_one_class_alone_are_said_to_tell_nothing() -> None:
    told = "All labels are the same, so every match is right and no figure says more."
    assert told in evaluate(images(20, classes=1)).notices
    assert told not in evaluate(images(20, classes=2)).notices


def test_a_transform_that_saw_the_labels_is_not_judged_by_what_it_saw() -> None:
    random = np.random.default_rng(0)
    noise = images(200, classes=10, d=64)
    noise = Images(
        random.normal(size=(200, 64)).astype(np.float32), noise.labels, noise.contents, noise.paths
    )
    seen = fit("lda", noise.embeddings, list(noise.labels))
    x = seen.apply(noise.embeddings)
    scores = x @ x.T
    np.fill_diagonal(scores, -1)
    labels = np.array(noise.labels)
    naive = (labels[scores.argmax(axis=1)] == labels).mean()
    honest = evaluate(noise, method=SearchMethod("lda"))
    assert naive > 0.4
    assert honest.metric("precision@1").value < 0.25
    assert "fifth" in honest.notices[0]


def test_by_fifths_the_queries_keep_their_order() -> None:
    gallery = images()
    one = evaluate(gallery, method=SearchMethod("none"))
    other = evaluate(gallery, method=SearchMethod("none", Refinement.of(augment="2")))
    assert one.per_query.queries.tolist() == other.per_query.queries.tolist()


def test_an_augmented_gallery_is_what_a_loop_makes() -> None:
    gallery = images(30)
    vectors = gallery.embeddings
    labelled = Labelled(vectors, np.zeros(30, np.int64), np.arange(30))
    ours = augmented(labelled, Neighbourhood(3, 2.0)).vectors
    for i in range(30):
        scores = vectors @ vectors[i]
        scores[i] = -np.inf
        nearest = np.argsort(-scores)[:3]
        expected = vectors[i] + (scores[nearest, None].clip(0) ** 2 * vectors[nearest]).sum(axis=0)
        np.testing.assert_allclose(ours[i], expected / np.linalg.norm(expected), atol=1e-6)


def test_an_expanded_query_does_not_see_its_own_copy() -> None:
    gallery = images(40)
    labelled = Labelled(gallery.embeddings, np.arange(40) % 6, np.arange(40))
    how = Refinement.of(expand="2")
    ranked = rank(labelled, labelled, ks=(1,), depth=5, refinement=how)
    assert not (ranked.neighbours == np.arange(40)[:, None]).any()


def test_more_queries_than_allowed_are_sampled_and_that_is_said() -> None:
    e = plain(images(), measured=Measured(most_queries=50))
    assert e.queries == 50
    assert "50 of 120" in e.notices[0]


def test_classes_confusions_and_failures_are_those_counted_by_hand() -> None:
    x = np.array([[1, 0], [1, 0.01], [0, 1], [0.01, 1], [1, 0.02]], np.float32)
    gallery = Images(
        x, ["a", "a", "b", "b", "b"], contents(*"01234"),
        [Path(f"{i}.jpg") for i in range(5)],
    )  # fmt: skip
    e = plain(gallery, measured=Measured((1,), vote=1))
    assert [(c.label, c.queries, c.precision) for c in e.classes] == [
        ("b", 3, pytest.approx(2 / 3)),
        ("a", 2, 0.5),
    ][::-1]
    assert [(c.label, c.voted, c.count, c.queries) for c in e.confused] == [
        ("a", "b", 1, 2), ("b", "a", 1, 3)
    ]  # fmt: skip
    assert {str(q.path) for q in e.worst} == {"1.jpg", "4.jpg"}
    assert e.worst[0].neighbours[0].right is False


@pytest.mark.parametrize("labels", [[""] * 10, None])
def test_what_cannot_be_measured_is_said(labels: list[str] | None) -> None:
    gallery = images(10)
    if labels is None:
        other = Images(gallery.embeddings, ["other"] * 10, gallery.contents, gallery.paths)
        with pytest.raises(ImgretError, match="no label in common"):
            plain(gallery, other)
    else:
        with pytest.raises(ImgretError, match="has a label"):
            plain(Images(gallery.embeddings, labels, gallery.contents, gallery.paths))
