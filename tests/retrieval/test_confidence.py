"""Probabilities of matches: evidence by hand, the fit beside scikit-learn's, open sets."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from scipy.optimize import brentq
from sklearn.linear_model import LogisticRegression

from retrieval import metrics
from retrieval.errors import ArgumentError, GalleryError, ImgretError
from retrieval.evaluation import Confidence
from retrieval.evaluation.calibration import STRENGTH, Trials, _logistic, calibrate
from retrieval.evaluation.evidence import Evidence, evidence
from retrieval.evaluation.open_set import density, trials_by_class
from retrieval.evaluation.protocols import Images, SearchMethod, content_codes
from retrieval.refinement import Refinement
from retrieval.retriever import Retriever
from retrieval.retriever.altered import altered
from retrieval.retriever.confidence import keep_calibration
from retrieval.words import CONSIDERED
from tests.samples import drawn, picture

NOT_THERE = -np.inf
A, B, C = 0, 1, 2


def clusters(n: int, classes: int, *, noise: float = 0.5, seed: int = 0, d: int = 24) -> Images:
    """n images around the centres of classes."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = np.random.default_rng(5).normal(size=(classes, d))
    x = centres[labels] + noise * random.normal(size=(n, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return Images(
        x.astype(np.float32),
        [f"class{label:02}" for label in labels],
        content_codes(f"{seed:032x}{i:032x}"[::-1] for i in range(n)),
        [Path(f"{seed}/{i}.jpg") for i in range(n)],
    )


def alone(scores: np.ndarray, classes: np.ndarray) -> Evidence:
    """The evidence for the best match."""
    return evidence((scores[:, :1], classes[:, :1]), (scores, classes))


def without_classes(*of: np.ndarray) -> Evidence:
    """Evidence for matches of which several may be right."""
    none = np.zeros((len(of[0]), CONSIDERED))
    return Evidence(*of, none > 0, none, none, np.ones_like(of[0]))


def test_evidence_is_what_one_counts_by_hand() -> None:
    scores = np.array([[0.9, 0.8, 0.7, 0.6, 0.5], [0.4, NOT_THERE, NOT_THERE, NOT_THERE, 0.0]])
    scores[1, 4] = NOT_THERE
    classes = np.array([[A, B, A, A, A], [C, -1, -1, -1, -1]])
    found = evidence((scores[:, :2], classes[:, :2]), (scores, classes))
    assert found.support[0] == pytest.approx([(0.9 + 0.7 + 0.6) / 3, 0.8])
    assert found.margin[0] == pytest.approx([0.9 - 0.8, 0.8 - 0.9])
    assert found.near[0] == pytest.approx(np.mean([0.9, 0.8, 0.7, 0.6, 0.5]))
    # one neighbour alone: no other class is nearer than it
    assert (found.support[1, 0], found.margin[1, 0], found.near[1]) == (0.4, 0.0, 0.4)
    assert found.scores[1, 1] == NOT_THERE
    assert found.top_support.tolist() == found.support[:, 0].tolist()
    assert found.top_margin.tolist() == found.margin[:, 0].tolist()
    # what was asked for by a filter is held against the same neighbours
    far = evidence((np.array([[0.2]]), np.array([[C]])), (scores[:1], classes[:1]))
    assert (far.support[0, 0], far.margin[0, 0]) == pytest.approx((0.2, 0.2 - 0.9))


def test_a_neighbour_without_a_label_is_a_rival_of_the_best_and_no_match() -> None:
    scores, classes = np.array([[0.9, 0.8, 0.7]]), np.array([[-1, A, B]])
    found = evidence((scores, classes), (scores, classes))
    assert found.scores.tolist() == [[NOT_THERE, 0.8, 0.7]]
    assert found.margin[0, 1:] == pytest.approx([0.8 - 0.7, 0.7 - 0.8])  # of those with one
    assert (found.top_support[0], found.top_margin[0]) == pytest.approx((0.8, 0.8 - 0.9))
    assert found.near[0] == pytest.approx(0.8)
    none = evidence((scores, np.full((1, 3), -1)), (scores, np.full((1, 3), -1)))
    assert (none.top_support.tolist(), none.top_margin.tolist()) == ([-1.0], [-1.0])


def test_classes_share_one_probability() -> None:
    # margins of 0.1, -0.1 and -0.3 and these weights: odds of 2, 0.4 and -1.2
    scores, classes = np.array([[0.7, 0.7, 0.6, 0.4]]), np.array([[A, A, B, C]])
    sure = Confidence((0.0, 0.0, 0.0, 0.0, 500.0), (0.0, 8.0, 0.0, 1.2), 0.0)
    found = evidence((scores, classes), (scores, classes))
    p = sure.probability(found, np.zeros(1), 0.5)[0]
    alone = 1 / (1 + np.exp([-2.0, -0.4, 1.2]))
    power = brentq(lambda t: (alone**t).sum() - 1, 1, 10)
    assert p == pytest.approx((alone**power)[[0, 0, 1, 2]], abs=1e-6)
    assert p[[0, 2, 3]].sum() == pytest.approx(1)
    few = evidence((scores[:, :1], classes[:, :1]), (scores, classes))
    assert sure.probability(few, np.zeros(1), 0.5)[0] == pytest.approx(p[:1])
    pictures = evidence((scores, classes), (scores, classes), one_class=False)
    p = sure.probability(pictures, np.zeros(1), 0.5)[0]
    assert p[1:3] == pytest.approx(alone[:2], abs=1e-5)


@pytest.mark.parametrize("bias", [0.5, 5.0, 400.0])
def test_classes_that_are_equally_near_are_equally_likely(bias: float) -> None:
    scores, classes = np.array([[1.0, 1.0, 1.0]]), np.array([[A, B, C]])
    sure = Confidence((0.0, 0.0, 0.0, 0.0, 500.0), (0.0, 9.0, 0.0, bias), 0.0)
    p = sure.probability(evidence((scores, classes), (scores, classes)), np.zeros(1), 0.5)[0]
    assert p == pytest.approx([1 / 3] * 3, abs=1e-5)


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.floats(-30, 30), st.floats(-9, 9))
@example(7747, 6, 0.0, 3.0)  # one class is only behind the neighbours that are considered
def test_the_probabilities_of_classes_never_sum_to_more_than_one(
    seed: int, n: int, weight: float, bias: float
) -> None:
    random = np.random.default_rng(seed)
    scores = -np.sort(-random.uniform(-1, 1, (4, 40)), axis=1)
    classes = random.integers(-1, n, (4, 40))
    found = evidence((scores, classes), (scores, classes))
    sure = Confidence((0.0, 0.0, 0.0, 0.0, bias), (1.0, abs(weight), 0.5, bias), -1.0)
    p = sure.probability(found, np.zeros(4), 0.9)
    best = [[p[row][classes[row] == c].max(initial=0.0) for c in range(n)] for row in range(4)]
    assert max(map(sum, best)) <= 1 + 1e-6


def test_where_no_match_was_ever_wrong_a_farther_class_is_unlikely() -> None:
    trials = trials_by_class(clusters(200, 4, noise=0.02), SearchMethod("none"))
    assert trials is not None
    told = calibrate(trials, "class")
    assert told is not None
    scores, classes = np.array([[0.68, 0.64]]), np.array([[A, B]])
    found = evidence((scores, classes), (scores, classes))
    confidence = dataclasses.replace(told.confidence, has_answer=(0.0, 0.0, 0.0, 0.0, 5.0), least=0)
    p = confidence.probability(found, np.zeros(1), 0.9)[0]
    assert p[0] > 0.95
    assert p[1] < 0.01


def test_density_leaves_the_own_row_out() -> None:
    x = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    assert density(x[:1], x, np.array([0])) == pytest.approx([(0.6 + 0.0) / 2])


def test_weighted_calibration_error_counts_weights_as_repetitions() -> None:
    p, right = np.array([0.9, 0.9, 0.15, 0.55]), np.array([True, False, False, True])
    weights = np.array([3, 1, 2, 2])
    again = metrics.expected_calibration_error(np.repeat(p, weights), np.repeat(right, weights))
    assert metrics.expected_calibration_error(p, right, weights=weights) == pytest.approx(again)


def test_the_fit_is_the_logistic_regression_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 3)) * [1, 5, 0.1] + [0, 3, 7]
    y = random.random(400) < 1 / (1 + np.exp(-(x[:, 0] - 0.3 * (x[:, 1] - 3))))
    weights = random.random(400) + 0.5
    ours = _logistic(x, y, weights, free=(0, 1, 2))
    z = (x - x.mean(0)) / x.std(0)
    theirs = LogisticRegression(C=STRENGTH, tol=1e-8).fit(z, y, sample_weight=weights)
    np.testing.assert_allclose(
        x @ ours[:3] + ours[3], theirs.decision_function(z), atol=2e-3, rtol=2e-3
    )
    bounded = _logistic(x, y, weights, free=(0,))
    assert bounded[1] == 0  # what would be below 0


def test_another_prior_shifts_the_odds_of_an_answer() -> None:
    one = np.array([0.5])
    found = without_classes(*(one[:, None],) * 3, one, one, one)
    sure = Confidence((1.0, 0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 500.0), 0.0)
    p = {q: sure.probability(found, np.zeros(1), q)[0, 0] for q in (0.5, 0.9)}
    assert p[0.5] == pytest.approx(1 / (1 + math.exp(-0.5)))
    assert p[0.9] / (1 - p[0.9]) == pytest.approx(9 * p[0.5] / (1 - p[0.5]), rel=1e-4)


def test_below_the_lowest_score_that_was_right_there_is_no_probability() -> None:
    scores, rest = np.array([[0.31, 0.29, NOT_THERE]]), np.array([[0.31, 0.29, -1.0]])
    one = np.array([0.3])
    found = without_classes(scores, rest, rest, one, one, one)
    sure = Confidence((0.0, 0.0, 0.0, 0.0, 5.0), (0.0, 0.0, 0.0, 5.0), 0.3)
    p = sure.probability(found, np.zeros(1), 0.9)[0]
    assert p[0] > 0.9
    assert p[1:].tolist() == [0.0, 0.0]
    found = without_classes(
        scores - 0.0105, rest, rest, one, one, one
    )  # 0.2995, as another engine rounds
    assert sure.probability(found, np.zeros(1), 0.9)[0, 0] > 0.9


@pytest.fixture(scope="module")
def learnt() -> Confidence:
    trials = trials_by_class(clusters(400, 20, noise=1.0), SearchMethod("none"))
    assert trials is not None
    found = calibrate(trials, "class")
    assert found is not None
    return found.confidence


@given(
    st.lists(st.floats(-0.2, 0.9), min_size=12, max_size=12),
    st.floats(0, 0.1),
    st.floats(-0.2, 0.9),
)
def test_a_better_score_never_makes_the_best_match_less_likely_to_have_an_answer(
    learnt: Confidence, scores: list[float], more: float, dense: float
) -> None:
    rows = np.sort(np.array([scores]))[:, ::-1]
    classes = np.array([[A] + [B] * 11])
    better = rows.copy()
    better[0, 0] += more
    answer = dataclasses.replace(learnt, is_right=(0.0, 0.0, 0.0, 0.0), least=-2.0)
    p, q = (
        answer.probability(alone(s, classes), np.array([dense]), 0.9)[0, 0] for s in (rows, better)
    )
    assert q >= p - 1e-12


def test_a_class_that_is_left_out_has_no_row_and_copies_are_on_one_side() -> None:
    images = clusters(200, 10)
    twice = Images(
        np.concatenate([images.embeddings] * 2),
        [*images.labels] * 2,
        np.tile(images.contents, 2),
        [*images.paths] * 2,
    )
    trials = trials_by_class(twice, SearchMethod("none"))
    assert trials is not None
    assert not trials.right[~trials.known].any()
    assert trials.evidence.scores.max() < 0.9999  # else a query found itself or its copy
    assert (~trials.known).sum() == len(twice)  # every class was left out once
    assert 0.8 * len(twice) <= trials.known.sum() <= len(twice)


@pytest.mark.parametrize("spec", ["none", "auto", "lda:0.1", "whiten:8"])
@pytest.mark.parametrize("how", [{}, {"augment": "2"}, {"expand": "2", "rerank": "20"}])
def test_what_no_class_of_the_gallery_shows_is_told_from_what_one_does(
    spec: str, how: dict[str, str]
) -> None:
    images = clusters(500, 25)
    trials = trials_by_class(images, SearchMethod(spec, Refinement.of(**how)))
    assert trials is not None
    found = calibrate(trials, "class")
    assert found is not None
    assert found.area > 0.9
    assert found.area >= found.area_of_score - 0.02
    assert found.error < 0.1
    assert found.known + found.unknown == len(trials.known)


def test_what_is_foreign_to_a_gallery_is_like_nothing_in_it() -> None:
    images = clusters(500, 25)
    trials = trials_by_class(images, SearchMethod("none"))
    assert trials is not None
    told = calibrate(trials, "class")
    assert told is not None
    x, codes = images.embeddings, np.arange(500) % 25
    random = np.random.default_rng(1)
    foreign = random.normal(size=(200, 24)).astype(np.float32)
    foreign /= np.linalg.norm(foreign, axis=1, keepdims=True)
    own = clusters(200, 25, seed=2).embeddings
    shares = []
    for queries in (own, foreign):
        scores = queries @ x.T
        order = np.argsort(-scores, axis=1)[:, :32]
        found = alone(np.take_along_axis(scores, order, 1), codes[order])
        dense = density(x[order[:, 0]], x, order[:, 0])
        shares.append((told.confidence.probability(found, dense, 0.9)[:, 0] >= 0.5).mean())
    assert shares[0] > 0.9
    assert shares[1] <= 0.05


def test_the_error_told_is_that_of_folds_it_was_not_learnt_from() -> None:
    random = np.random.default_rng(0)
    n = 100
    scores = random.random((n, 1))
    support, margin, near = random.random((n, 1)), random.random((n, 1)), random.random(n)
    noise = without_classes(scores, support, margin, support[:, 0], margin[:, 0], near)
    known = np.arange(n) % 2 == 0
    right = (known & (random.random(n) < 0.5))[:, None]
    trials = Trials(noise, random.random(n), right, known, np.arange(n) % 5)
    told = calibrate(trials, "class", 0.5)
    assert told is not None
    own = told.confidence.probability(noise, trials.density, 0.5)[:, 0]
    assert told.brier > ((own - right[:, 0]) ** 2).mean()
    assert told.area < 0.7


def test_too_little_teaches_nothing() -> None:
    for classes in (1, 2):  # of two, one left out leaves nothing to mistake the other for
        assert trials_by_class(clusters(60, classes), SearchMethod("auto")) is None
    few = trials_by_class(clusters(12, 3), SearchMethod("none"))
    assert few is not None
    assert calibrate(few, "class") is None


# galleries


@pytest.fixture
def gallery(tmp_path: Path, weights: Path) -> tuple[Path, Path]:
    """80 pictures in 4 classes that look alike within, and a gallery of them."""
    folder = tmp_path / "pictures"
    for n in range(80):
        file = folder / f"class{n % 4}" / f"{n:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        own = np.asarray(picture(100 + n), float)
        mixed = 0.55 * np.asarray(picture(n % 4), float) + 0.45 * own
        Image.fromarray(mixed.astype(np.uint8)).save(file)
    Retriever(tmp_path / "g", backbone=str(weights), transform="none").index(folder)
    return tmp_path / "g", folder


def test_a_search_gives_the_probability_of_its_own_evidence(gallery: tuple[Path, Path]) -> None:
    path, folder = gallery
    query = folder / "class0" / "00.png"
    assert Retriever(path).search(query)[0].probability is None
    for option in ("min_confidence", "prior_known"):
        with pytest.raises(ImgretError, match="imgret calibrate"):
            Retriever(path).search(query, **{option: 0.5})  # type: ignore[arg-type]
    calibration = Retriever(path).calibrate()
    assert calibration.kind == "class"
    all_matches = Retriever(path).search(query, k=80, exclude_self=True)
    scores = [m.score for m in all_matches][:32]
    labels = [m.label for m in all_matches][:32]
    top = all_matches[0]
    of_top = [m.score for m in Retriever(path).search(top.path, k=11, exclude_self=True)][:10]
    alone = {}  # what the classes have for themselves
    weights = np.array(calibration.confidence.is_right)
    for label in set(labels):
        own = [s for s, n in zip(scores, labels, strict=True) if n == label]
        others = max(s for s, n in zip(scores, labels, strict=True) if n != label)
        seen = [np.mean(own[:3]), own[0] - others, np.mean(scores[:10]), 1.0]
        alone[label] = 1 / (1 + math.exp(-(seen @ weights)))
    given = np.array([*alone.values()])
    power = 1.0 if given.sum() <= 1 else brentq(lambda t: (given**t).sum() - 1, 1, 1e6)
    first = [s for s, n in zip(scores, labels, strict=True) if n == labels[0]]
    apart = first[0] - max(s for s, n in zip(scores, labels, strict=True) if n != labels[0])
    of_query = [np.mean(first[:3]), apart, np.mean(scores[:10]), np.mean(of_top), 1.0]
    has_answer = 9 * math.exp(of_query @ np.array(calibration.confidence.has_answer))
    for rank in range(10):
        p = has_answer / (1 + has_answer) * alone[labels[rank]] ** power
        assert all_matches[rank].probability == pytest.approx(p, abs=1e-3)
    few = Retriever(path).search(query, k=3, exclude_self=True)
    assert [m.probability for m in few] == [m.probability for m in all_matches[:3]]


def test_min_confidence_leaves_out_and_a_prior_moves(gallery: tuple[Path, Path]) -> None:
    path, folder = gallery
    query = folder / "class0" / "00.png"
    Retriever(path).calibrate(prior_known=0.8)
    plain = Retriever(path).search(query, k=80)
    sure = Retriever(path).search(query, k=80, min_confidence=0.6)
    assert [m.id for m in sure] == [m.id for m in plain if (m.probability or 0) >= 0.6]
    assert 0 < len(sure) < 80
    fewer = Retriever(path).search(query, k=len(sure), min_confidence=0.6)
    assert [m.id for m in fewer] == [m.id for m in sure]  # k where k pass, wherever they are
    as_told = Retriever(path).search(query, k=80, prior_known=0.8)
    assert as_told == plain
    rare = Retriever(path).search(query, k=80, prior_known=0.01)
    assert all(
        (r.probability or 0) < (m.probability or 0)
        for r, m in zip(rare, plain, strict=True)
        if m.probability
    )
    for wrong in (0, 1, 1.5, float("nan"), "x"):
        with pytest.raises(ArgumentError, match="prior_known"):
            Retriever(path).search(query, prior_known=wrong)  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="prior_known"):
            Retriever(path).calibrate(prior_known=wrong)  # type: ignore[arg-type]


@pytest.mark.long
def test_without_labels_versions_of_a_picture_are_told_from_its_neighbours(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n in range(60):
        drawn(n).save(folder / f"{n:02}.png")
    retriever = Retriever(tmp_path / "g", backbone="mini")
    retriever.index(folder, labels="none")
    with pytest.raises(ImgretError, match="imgret calibrate"):
        retriever.evaluate()
    with pytest.raises(ImgretError, match="three classes or more"):
        retriever.calibrate("class")
    told = retriever.calibrate(most_pictures=30)
    assert (told.kind, told.known, told.unknown) == ("picture", 90, 90)
    assert told.area > 0.9
    assert "shows the same thing" in retriever.info().confidence
    # versions that nothing was learnt from: of another picture, by another method
    turned = drawn(59).rotate(4, resample=Image.Resampling.BICUBIC, fillcolor=(128, 128, 128))
    found = retriever.search(turned)[0]
    strange = retriever.search(drawn(1000))[0]
    assert found.path.name == "59.png"
    assert (found.probability or 0) > (strange.probability or 0)
    assert (strange.probability or 0) < 0.5


def test_files_that_are_gone_are_passed_over_and_too_few_are_said(
    tmp_path: Path, weights: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n in range(22):
        drawn(n).save(folder / f"{n:02}.png")
    retriever = Retriever(tmp_path / "g", backbone=str(weights))
    retriever.index(folder)
    (folder / "00.png").unlink()
    told = retriever.calibrate("picture")
    assert told.known == 21 * 3
    assert told.notices == ("1 of the pictures could not be read.",)
    (folder / "01.png").unlink()
    (folder / "02.png").unlink()
    with pytest.raises(ImgretError, match="has 19"):
        retriever.calibrate("picture")
    assert retriever.info().confidence  # what was learnt before is still there


def test_altered_versions_are_other_pictures_of_the_same_thing() -> None:
    versions = altered(drawn(1), np.random.default_rng(0))
    assert [v.size for v in versions] == [(192, 144), (128, 96), (256, 192)]
    assert [v.mode for v in versions] == ["RGB"] * 3
    tiny = altered(Image.new("RGB", (1, 1)), np.random.default_rng(0))
    assert [v.size for v in tiny] == [(1, 1)] * 3


def test_probabilities_are_those_of_this_search_or_none(gallery: tuple[Path, Path]) -> None:
    path, folder = gallery
    query = folder / "class0" / "00.png"
    Retriever(path).evaluate()
    assert Retriever(path, expand="3").search(query)[0].probability is None
    picture(501).save(folder / "class0" / "another.png")
    Retriever(path).index(folder)
    assert Retriever(path).search(query)[0].probability is not None
    assert Retriever(path).search(query, distinct=True)[0].probability is not None
    Retriever(path, transform="whiten:8").index(folder)
    assert Retriever(path).search(query)[0].probability is None
    assert Retriever(path).info().confidence == ""


def test_an_evaluation_of_something_else_keeps_nothing(gallery: tuple[Path, Path]) -> None:
    path, folder = gallery
    Retriever(path, transform="whiten:8").evaluate()
    Retriever(path).evaluate(zero_shot=True)
    Retriever(path).evaluate(folder)
    Retriever(path).evaluate(calibrate=False)
    Retriever(f"milvus://127.0.0.1:1/photos?gallery={path}").evaluate()
    assert Retriever(path).gallery.settings().calibration is None
    assert Retriever(path).evaluate().calibration is not None
    assert Retriever(path).gallery.settings().calibration is not None


def test_a_forged_calibration_is_refused(gallery: tuple[Path, Path]) -> None:
    path, folder = gallery
    Retriever(path).calibrate()
    file = path / "gallery.toml"
    text = file.read_text()
    for forged in (
        text.replace("has_answer = [", "has_answer = [7.0, "),
        text.replace("least = ", "least = 9"),
        text.replace("prior_known = 0.9", "prior_known = 1.0"),
        text.replace("is_right = [\n", "is_right = [\n    nan,\n").replace("nan,\n    ", "nan, #"),
    ):
        assert forged != text
        file.write_text(forged)
        with pytest.raises(GalleryError, match="calibration"):
            Retriever(path).search(folder / "class0" / "00.png")


def test_a_probability_does_not_hang_on_what_else_was_asked_for(gallery: tuple[Path, Path]) -> None:
    path, folder = gallery
    query = folder / "class0" / "00.png"
    Retriever(path).calibrate()
    found = {m.id: m.probability for m in Retriever(path).search(query, k=80)}
    for k in (1, 10, 40):
        assert all(found[m.id] == m.probability for m in Retriever(path).search(query, k=k))
    for label in ("class0", "class3"):
        for m in Retriever(path).search(query, k=5, where=f"label = '{label}'"):
            assert m.probability == pytest.approx(found[m.id], abs=1e-6)


def test_what_is_no_longer_so_is_forgotten(gallery: tuple[Path, Path]) -> None:
    path, folder = gallery
    query = folder / "class0" / "00.png"
    Retriever(path).calibrate()
    Retriever(path).index(folder, labels="none")
    assert Retriever(path).search(query)[0].probability is None  # there are no labels now
    Retriever(path).index(folder, labels="folder")
    Retriever(path).calibrate()
    for n in range(100):
        drawn(n, 64, 64).save(folder / "class0" / f"new{n}.png")
    Retriever(path).index(folder)
    assert Retriever(path).info().confidence == ""  # more than twice as many images


def test_a_calibration_by_class_is_forgotten_once_the_labels_are_others(
    gallery: tuple[Path, Path], tmp_path: Path
) -> None:
    path, folder = gallery
    files, table = sorted(folder.rglob("*.png")), tmp_path / "labels.csv"

    def relabel(others: int) -> None:
        names = [file.parent.name for file in files]
        names[:others] = names[40 : 40 + others]
        rows = [f"{file},{name}" for file, name in zip(files, names, strict=True)]
        table.write_text("\n".join(["path,label", *rows]))
        Retriever(path).index(folder, labels=str(table))

    relabel(0)
    Retriever(path).calibrate()
    relabel(4)
    assert Retriever(path).search(files[0])[0].probability is not None  # few are others
    relabel(12)
    assert Retriever(path).search(files[0])[0].probability is None
    Retriever(path).calibrate()
    assert Retriever(path).search(files[0])[0].probability is not None


def test_a_calibration_ends_with_the_images_that_it_was_learnt_from(
    gallery: tuple[Path, Path],
) -> None:
    path, folder = gallery
    retriever = Retriever(path, transform="none")
    retriever.calibrate()
    before = sorted(folder.rglob("*.png"))
    for n, file in enumerate(before):
        drawn(1000 + n, 64, 64).save(file.with_name(f"new{n}.png"))
    assert retriever.index(folder).notice is None  # twice as many
    retriever.remove(before[: len(before) // 2])
    assert retriever.info().confidence
    for file in before[: len(before) // 2 + 1]:
        file.unlink()
    told = retriever.index(folder).notice
    assert told is not None
    assert told.startswith("The calibration was learnt from other images, labels or scores, so")
    assert retriever.info().confidence == ""
    assert retriever.index(folder).notice is None  # told once


def test_files_that_change_again_and_again_count_once(gallery: tuple[Path, Path]) -> None:
    path, folder = gallery
    Retriever(path).calibrate()
    files = sorted(folder.rglob("*.png"))
    for seed in (0, 100, 200):
        for n, file in enumerate(files[:30]):
            drawn(2000 + seed + n, 64, 64).save(file)
        Retriever(path).index(folder)
    assert Retriever(path).info().confidence  # 50 of 80 are as they were
    for n, file in enumerate(files[30:41]):
        drawn(3000 + n, 64, 64).save(file)
    assert "calibration was learnt from other" in str(Retriever(path).index(folder).notice)


def test_a_refused_run_leaves_a_calibration(gallery: tuple[Path, Path]) -> None:
    path, folder = gallery
    Retriever(path).calibrate()
    kept = folder.rename(folder.with_name("away"))
    folder.mkdir()
    with pytest.raises(ImgretError, match="gone"):
        Retriever(path).index(folder)
    folder.rmdir()
    kept.rename(folder)
    assert Retriever(path).info().confidence


def test_the_same_labels_by_another_name_change_nothing(
    gallery: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = gallery
    rows = [f"{file},{file.parent.name}" for file in sorted(folder.rglob("*.png"))]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    monkeypatch.chdir(tmp_path)
    Retriever(path, transform="auto").index(folder, labels="labels.csv")
    Retriever(path).calibrate()
    assert Retriever(path).index(folder, labels=tmp_path / "labels.csv").notice is None
    assert Retriever(path).info().confidence
    other = (tmp_path / "labels.csv").rename(tmp_path / "other.csv")
    said = str(Retriever(path).index(folder, labels=other).notice)
    assert "fitted to 80 images" in said
    assert "The calibration was learnt from other" in said


def test_removing_most_images_says_that_a_calibration_ends(
    gallery: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    path, folder = gallery
    Retriever(path).calibrate()
    files = sorted(folder.rglob("*.png"))
    Retriever(path).remove(files[:40])
    assert "calibration" not in caplog.text
    Retriever(path).remove(files[40:41])
    assert "The calibration was learnt from other images" in caplog.text


def test_images_that_move_to_other_classes_end_a_calibration(gallery: tuple[Path, Path]) -> None:
    path, folder = gallery
    Retriever(path).calibrate()
    for file in sorted((folder / "class0").iterdir())[:12]:
        file.rename(folder / "class1" / file.name)
    Retriever(path).index(folder)
    assert Retriever(path).info().confidence == ""


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"zero_shot": True, "queries": "pictures"}, "zero_shot evaluates the gallery itself"),
        ({"labels": "labels.csv"}, "labels labels the images of queries"),
        ({"prior_known": 0.5, "zero_shot": True}, "prior_known belongs to the calibration"),
        ({"prior_known": 0.5, "calibrate": False}, "prior_known belongs to the calibration"),
    ],
)
def test_an_argument_that_would_be_ignored_is_refused(
    gallery: tuple[Path, Path], asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(ImgretError, match=said):
        Retriever(gallery[0]).evaluate(**asked)


def test_a_number_of_pictures_asks_for_pictures(gallery: tuple[Path, Path]) -> None:
    retriever = Retriever(gallery[0])
    assert retriever.calibrate().kind == "class"
    assert retriever.calibrate(most_pictures=20).kind == "picture"
    with pytest.raises(ArgumentError, match='most_pictures needs by="picture"'):
        retriever.calibrate("class", most_pictures=20)


def test_a_calibration_that_tells_nothing_is_not_kept(
    tmp_path: Path, gallery: tuple[Path, Path]
) -> None:
    path, _ = gallery
    retriever = Retriever(path)
    snapshot = retriever._current()
    sound = retriever.calibrate()
    with pytest.raises(
        ImgretError, match=r"by chance 0\.50\)\. Index more images, use --by picture"
    ):
        keep_calibration(snapshot, dataclasses.replace(sound, area=0.49))
    noise = tmp_path / "noise"
    random = np.random.default_rng(0)
    for n in range(60):  # classes that no picture shows
        (noise / f"c{n % 6}").mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (48, 48, 3), np.uint8)
        Image.fromarray(pixels).save(noise / f"c{n % 6}" / f"{n}.png")
    strange = Retriever(tmp_path / "strange", backbone="mini", transform="none")
    strange.index(noise)
    with pytest.raises(ImgretError, match="cannot be told from those without"):
        strange.calibrate("class")
    assert not strange.info().confidence


@pytest.mark.long
def test_evaluate_keeps_what_calibrate_was_asked_for(gallery: tuple[Path, Path]) -> None:
    path, _ = gallery
    Retriever(path).calibrate(prior_known=0.3)
    assert "30 %" in Retriever(path).info().confidence
    Retriever(path).evaluate()
    assert "30 %" in Retriever(path).info().confidence
    Retriever(path).calibrate("picture")
    told = Retriever(path).evaluate()
    assert any("by picture" in notice for notice in told.notices)
    assert "shows the same thing" in Retriever(path).info().confidence


def test_a_search_that_was_not_calibrated_says_which_was(gallery: tuple[Path, Path]) -> None:
    path, folder = gallery
    Retriever(path).calibrate()
    with pytest.raises(ImgretError, match="calibrated for another search"):
        Retriever(path, expand="3").search(folder / "class0" / "00.png", min_confidence=0.5)


def test_a_gallery_that_changed_meanwhile_keeps_nothing(gallery: tuple[Path, Path]) -> None:
    path, folder = gallery
    changed = []

    def meanwhile(*_: object) -> None:
        if not changed:
            changed.append(True)
            Retriever(path, transform="whiten:8").index(folder)

    with pytest.raises(GalleryError, match="changed during calibration"):
        Retriever(path).calibrate(progress=meanwhile)
    assert Retriever(path).gallery.settings().calibration is None


@pytest.mark.parametrize("spec", ["whiten", "pca:8"])
def test_a_transform_has_not_seen_what_is_left_out(spec: str) -> None:
    """Whitening nearly as many images as dimensions tells those it saw from all others."""
    images = clusters(90, 9, noise=2.0, d=96)
    trials = trials_by_class(images, SearchMethod(spec))
    assert trials is not None
    told = calibrate(trials, "class")
    assert told is None or told.area < 0.95


def test_weights_stay_within_what_a_gallery_takes() -> None:
    scores = np.full((60, 1), 0.5)
    scores[::2] += 1e-8
    flat = without_classes(scores, scores, scores, scores[:, 0], scores[:, 0], scores[:, 0])
    known = np.arange(60) % 2 == 0
    trials = Trials(flat, scores[:, 0], known[:, None], known, np.arange(60) % 5)
    told = calibrate(trials, "class")
    assert told is not None
    assert max(map(abs, told.confidence.has_answer + told.confidence.is_right)) < 1e6
