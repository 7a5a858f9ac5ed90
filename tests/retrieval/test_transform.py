from __future__ import annotations

import re
import sys
from subprocess import run

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.linalg import fractional_matrix_power
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from retrieval.errors import ImgretError
from retrieval.transform import (
    KINDS,
    Spec,
    Transform,
    fit,
    parse_spec,
    resolve_spec,
    sees_labels,
    table,
)
from retrieval.transform.table import TransformKind
from tests.pages import DOCS


def embeddings(n: int = 400, d: int = 24, seed: int = 0) -> np.ndarray:
    """Correlated columns of different scale, away from the origin, as real embeddings are."""
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(n, d)) @ random.normal(size=(d, d))
    return (mixed * random.uniform(0.1, 10, d) + random.normal(size=d)).astype(np.float32)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_none_is_the_norm_alone() -> None:
    x = embeddings()
    transform = fit("none", x)
    assert transform.matrix is None
    assert transform.apply(x) == pytest.approx(unit(x), abs=1e-6)


@pytest.mark.parametrize("spec", ["standard", "standard+pca:7", "pca:7", "whiten:7"])
def test_a_fit_is_the_chain_of_scikit_learn(spec: str) -> None:
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    chains = {
        "standard": [StandardScaler()],
        "standard+pca:7": [StandardScaler(), PCA(7, svd_solver="full")],
        "pca:7": [PCA(7, svd_solver="full")],
        "whiten:7": [PCA(7, whiten=True, svd_solver="full")],
    }
    x, new = embeddings(), embeddings(50, seed=1)
    theirs = unit(make_pipeline(*chains[spec]).fit(x.astype(np.float64)).transform(new))
    ours = fit(spec, x).apply(new)
    # the sign of a principal component means nothing, and cosine does not see it
    assert ours @ ours.T == pytest.approx(theirs @ theirs.T, abs=2e-5)


def test_lda_is_scikit_learns() -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    x, new = embeddings(), embeddings(50, seed=1)
    labels = [str(i % 5) for i in range(len(x))]
    theirs = unit(LinearDiscriminantAnalysis().fit(x.astype(float), labels).transform(new))
    ours = fit("lda", x, labels)
    assert ours.d_out == 4
    assert ours.spec == "lda:4"
    assert ours.apply(new) == pytest.approx(theirs, abs=1e-5)


def test_lda_keeps_the_components_asked_for() -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    x, new = embeddings(), embeddings(50, seed=1)
    labels = [str(i % 5) for i in range(len(x))]
    sklearns = LinearDiscriminantAnalysis(n_components=2).fit(x.astype(float), labels)
    assert fit("lda:2", x, labels).apply(new) == pytest.approx(
        unit(sklearns.transform(new)), abs=1e-5
    )
    assert fit("lda:99", x, labels).spec == "lda:4"


def test_lda_works_with_few_images_a_class_and_more_columns_than_images() -> None:
    centres = np.repeat(embeddings(20, 64), 2, axis=0)
    x = centres + embeddings(40, 64, seed=1) / 100
    transform = fit("lda", np.hstack([x, x, np.ones_like(x)]), [str(i // 2) for i in range(40)])
    y = transform.apply(np.hstack([x, x, np.ones_like(x)]))
    assert transform.d_out <= 19
    nearest = (y @ y.T - 2 * np.eye(40)).argmax(axis=1)
    assert (nearest // 2 == np.arange(40) // 2).all()


def test_lda_with_one_image_a_class_says_so() -> None:
    with pytest.raises(ImgretError, match="more images than classes"):
        fit("lda", embeddings(30), [str(i) for i in range(30)])


def test_lda_of_classes_that_are_the_same_says_so() -> None:
    x = embeddings(50)
    with pytest.raises(ImgretError, match="nothing that tells the classes apart"):
        fit("lda", np.vstack([x, x]), ["a"] * 50 + ["b"] * 50)


def test_lda_leaves_out_what_has_no_label() -> None:
    x = embeddings()
    labels = [str(i % 3) for i in range(300)]
    ours = fit("lda", x, [*labels, *[None] * 100])
    assert ours.matrix == pytest.approx(fit("lda", x[:300], labels).matrix)
    assert ours.fitted_on == 300


@pytest.mark.parametrize("labels", [None, ["a"] * 400, [None] * 400])
def test_lda_without_two_classes_says_so(labels: list[str | None] | None) -> None:
    with pytest.raises(ImgretError, match="needs labelled images of at least two classes"):
        fit("lda", embeddings(), labels)


def clustered(n: int, classes: int, d: int = 24, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Classes apart in the first 4 directions, each spread widely in the last 4."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, d)) * np.r_[np.ones(4), np.zeros(d - 4)]
    spread = np.r_[np.full(d - 4, 0.2), np.full(4, 2.0)]
    codes = random.integers(0, classes, n)
    return np.float32(centres[codes] + random.normal(size=(n, d)) * spread), [
        f"c{c}" for c in codes
    ]


def test_wccn_is_the_inverse_root_of_the_shrunk_covariance_within_classes() -> None:
    x, labels = clustered(300, 10)
    fitted = fit("wccn:24:0.25", x, labels)
    y = x.astype(np.float64)
    names = np.array(labels)
    within = y - np.stack([y[names == name].mean(axis=0) for name in names])
    covariance = within.T @ within / (300 - 10)
    shrunk = 0.75 * covariance + 0.25 * np.trace(covariance) / 24 * np.eye(24)
    expected = fractional_matrix_power(shrunk, -0.5)
    ratio = fitted.matrix / expected
    assert ratio == pytest.approx(np.full((24, 24), ratio[0, 0]), rel=1e-3)
    zero = -fitted.bias @ np.linalg.inv(fitted.matrix).T
    assert zero == pytest.approx(0.8 * 300 / 310 * y.mean(axis=0), abs=1e-4)


def test_rca_is_the_same_of_nearest_neighbours() -> None:
    x, _ = clustered(80, 6)
    fitted = fit("rca:24:0.5", x)
    y = x - 0.8 * 80 / 90 * x.mean(axis=0)
    nearest = NearestNeighbors(n_neighbors=2, metric="cosine").fit(y).kneighbors(y)[1][:, 1]
    differences = (y - y[nearest]) / np.sqrt(2)
    covariance = differences.T @ differences / 80
    shrunk = 0.5 * covariance + 0.5 * np.trace(covariance) / 24 * np.eye(24)
    expected = fractional_matrix_power(shrunk, -0.5)
    ratio = fitted.matrix / expected
    assert ratio == pytest.approx(np.full((24, 24), ratio[0, 0]), rel=1e-2)


@pytest.mark.parametrize("n", [30, 300])
def test_few_rows_and_many_are_one_formula(n: int) -> None:
    """Fewer rows than columns take another way to the same matrix."""
    x, labels = clustered(n, 5, d=60)
    for spec in ("wccn:60:0.3", "rca:60:0.3"):
        one = fit(spec, x, labels).apply(x)
        other = fit(spec, np.vstack([x] * 12), [*labels] * 12).apply(x)
        if spec.startswith("wccn"):  # of the same covariance, but for the degrees of freedom
            assert (one * other).sum(axis=1).min() > 0.97


def test_auto_uses_labels_that_tell_something_and_others_not() -> None:
    x, labels = clustered(400, 12)
    assert fit("auto", x, labels).spec == "wccn:24"
    shuffled = np.random.default_rng(1).permutation(labels).tolist()
    for others in (shuffled, None, [None] * 400, ["one"] * 400, [f"each{n}" for n in range(400)]):
        assert fit("auto", x, others).spec == "rca:24", others and others[:2]


def test_auto_finds_more_of_a_class_than_the_plain_cosine() -> None:
    x, labels = clustered(400, 12)
    queries, truth = clustered(200, 12, seed=0)
    found = {}
    for name, spec, known in (
        ("none", "none", None), ("rca", "auto", None), ("wccn", "auto", labels),
    ):  # fmt: skip
        t = fit(spec, x, known)
        nearest = np.argsort(-(t.apply(queries) @ t.apply(x).T), axis=1)[:, 1:6]
        found[name] = (np.array(labels)[nearest] == np.array(truth)[:, None]).mean()
    assert found["wccn"] > found["none"] + 0.1
    assert found["rca"] >= found["none"] - 0.005


def test_scores_do_not_jump_when_a_gallery_grows() -> None:
    x, _ = clustered(700, 12)
    before = None
    for n in (2, 3, 5, 8, 12, 20, 40, 100, 200, 255, 256, 257, 300, 600, 700):
        t = fit("auto", x[:n])
        scores = (t.apply(x[:2]) @ t.apply(x[:2]).T)[0, 1]
        if before is not None and n - before[0] <= 3:
            assert abs(scores - before[1]) < 0.35, n
        if before is not None and n in (256, 257):
            assert abs(scores - before[1]) < 0.05
        before = n, scores


def test_copies_alone_and_one_image_teach_nothing() -> None:
    x, _ = clustered(1, 1)
    assert fit("auto", x).spec == "none"
    assert fit("auto", np.vstack([x] * 5)).spec == "none"
    two = np.vstack([x, x, -x, -x])
    assert np.isfinite(fit("auto", two, ["a", "a", "b", "b"]).apply(two)).all()


def test_a_wide_gallery_keeps_512_components_and_a_small_one_all() -> None:
    assert resolve_spec("rca", 2047, 1280) == "rca:1280"
    assert resolve_spec("rca", 2048, 1280) == "rca:512"
    assert resolve_spec("wccn:64:0.5", 100, 1280) == "wccn:64:0.5"
    assert resolve_spec("auto", 1, 1280) == "none"
    x, labels = clustered(300, 10)
    narrow, whole = fit("wccn:6", x, labels), fit("wccn:24", x, labels)
    made = whole.apply(x)
    expected = PCA(6).fit(x @ whole.matrix.T).components_
    span = np.linalg.qr((expected @ whole.matrix).T)[0]
    assert np.abs(narrow.matrix.T - span @ (span.T @ narrow.matrix.T)).max() < 1e-2
    assert made.shape[1] == 24


@pytest.mark.parametrize("spec", ["whitening", "PCA:4", "", ":4", "xwhiten:0.5"])
def test_a_wrong_spec_names_the_right_ones(spec: str) -> None:
    with pytest.raises(ImgretError, match=r"Give none, standard, standard\+pca:N"):
        parse_spec(spec)


WHOLE = "Give a whole number from 1 to 99,999"
POWER = "Give a number above 0 and at most 1 with up to 6 decimals, such as 0.75."


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("pca:0", f"The N of the transform pca is 0. {WHOLE}."),
        ("pca:0.5", f"The N of the transform pca is 0.5. {WHOLE}."),
        ("pca:99999999", f"The N of the transform pca is 99999999. {WHOLE}."),
        ("pca:x", f"The N of the transform pca is x. {WHOLE}."),
        ("whiten:0.5:512", f"The N of the transform whiten is 0.5. {WHOLE}."),
        ("whiten:0", f"The N of the transform whiten is 0. {WHOLE}, or a P above 0 and at most 1."),
        ("lda:nan", f"The N of the transform lda is nan. {WHOLE}, or a P above 0 and at most 1."),
        ("lda:-1", f"The N of the transform lda is -1. {WHOLE}, or a P above 0 and at most 1."),
        ("lda:", f"The N of the transform lda is ''. {WHOLE}, or a P above 0 and at most 1."),
        ("whiten:1.5", f"The P of the transform whiten is 1.5. {POWER}"),
        ("whiten:0.0", f"The P of the transform whiten is 0.0. {POWER}"),
        ("lda:512:2.0", f"The P of the transform lda is 2.0. {POWER}"),
        ("lda:512:nan", f"The P of the transform lda is nan. {POWER}"),
        ("whiten:4:2", f"The P of the transform whiten is 2. {POWER}"),
        ("none:3", "'none:3' has too many numbers. Write none."),
        ("auto:4", "'auto:4' has too many numbers. Write auto."),
        ("none:0.5", "'none:0.5' has too many numbers. Write none."),
        ("pca:4:0.5", "'pca:4:0.5' has too many numbers. Write pca:N."),
        ("whiten:4:0.5:1", "'whiten:4:0.5:1' has too many numbers. Write whiten:N[:P]."),
    ],
)
def test_a_wrong_number_is_told_with_what_it_may_be(spec: str, said: str) -> None:
    with pytest.raises(ImgretError) as raised:
        parse_spec(spec)
    assert str(raised.value) == said


def test_more_components_than_there_can_be_are_cut() -> None:
    assert fit("whiten:512", embeddings(30, 24)).d_out <= 24
    assert fit("pca:512", embeddings(10, 24)).d_out <= 9


def test_directions_without_variance_are_not_whitened() -> None:
    x = embeddings(300, 24)
    x[:, 5] = 3
    x[:, 6] = x[:, 7]
    transform = fit("whiten:24", x)
    assert transform.d_out == 22
    assert np.abs(transform.apply(x + 1e-4)).max() <= 1


@pytest.mark.parametrize("spec", ["standard", "standard+pca:4", "whiten:4", "pca:4"])
def test_equal_embeddings_give_numbers(spec: str) -> None:
    x = np.ones((300, 8), np.float32)
    assert np.isfinite(fit(spec, x).apply(x)).all()


@pytest.mark.parametrize("spec", ["none", "standard", "whiten:4", "lda"])
@pytest.mark.parametrize("n", [0, 1])
def test_of_no_or_one_embedding_nothing_is_learnt(spec: str, n: int) -> None:
    assert fit(spec, embeddings(2)[:n], ["a"] * n).spec == "none"


def test_a_zero_embedding_stays_zero() -> None:
    assert (Transform("none", 3).apply(np.zeros((1, 3))) == 0).all()


def test_what_is_not_finite_is_refused() -> None:
    x = embeddings()
    x[3, 3] = np.nan
    with pytest.raises(ValueError, match="not all finite"):
        fit("whiten:4", x)


def test_at_most_max_rows_are_fitted_to() -> None:
    transform, again = (fit("whiten:4", embeddings(), max_rows=200) for _ in range(2))
    other = fit("whiten:4", embeddings(), max_rows=200, seed=1)
    assert transform.fitted_on == 200
    assert (transform.matrix == again.matrix).all()
    assert not np.array_equal(transform.matrix, other.matrix)


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 200), st.integers(2, 16), st.booleans(), st.booleans(), st.integers(0, 99))
def test_the_fold_is_scikit_learns_chain_whatever_the_shape(
    n: int, d: int, standard: bool, whiten: bool, seed: int
) -> None:
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    standard = standard and not whiten
    x, k = embeddings(n, d, seed), min(d, n - 1)  # all components: none is cut off between equals
    steps = [*[StandardScaler()] * standard, PCA(k, whiten=whiten, svd_solver="full")]
    chain = make_pipeline(*steps).fit(x.astype(np.float64))
    variance = chain[-1].explained_variance_
    assume(variance[-1] > 1e-5 * variance[0])
    ours = fit(f"{'standard+' * standard}{'whiten' if whiten else 'pca'}:{k}", x).apply(x)
    theirs = unit(chain.transform(x))
    assert ours @ ours.T == pytest.approx(theirs @ theirs.T, abs=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 60), st.integers(1, 12), st.sampled_from(["standard", "whiten:5", "pca:3"]))
def test_a_transformed_embedding_has_unit_length_or_none(n: int, d: int, spec: str) -> None:
    y = fit(spec, embeddings(n, d)).apply(embeddings(9, d, seed=2))
    lengths = np.linalg.norm(y, axis=1)
    assert np.all((np.abs(lengths - 1) < 1e-4) | (lengths == 0))


def test_importing_transform_imports_no_scikit_learn() -> None:
    code = "import sys, retrieval.transform; sys.exit('sklearn' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False).returncode == 0


def test_shrunk_lda_solves_the_generalised_eigenproblem_as_scipy_does() -> None:
    from scipy.linalg import eigh

    random, shrinkage = np.random.default_rng(0), 0.2
    y = np.arange(120) % 5
    x = random.normal(size=(5, 12))[y] + random.normal(size=(120, 12)) @ random.normal(
        size=(12, 12)
    )
    means = np.stack([x[y == c].mean(axis=0) for c in range(5)])
    within = np.cov((x - means[y]).T, bias=True)
    between = np.cov(means[y].T, bias=True)
    shrunk = (1 - shrinkage) * within + shrinkage * np.trace(within) / 12 * np.eye(12)
    _, directions = eigh(between, shrunk)
    theirs = (x - x.mean(axis=0)) @ directions[:, ::-1][:, :4]
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    ours = fit("lda:0.2", x.astype(np.float32), [str(c) for c in y])
    assert ours.spec == "lda:4:0.2"
    z = ours.apply(x)
    np.testing.assert_allclose(z @ z.T, theirs @ theirs.T, atol=1e-3)


def test_shrunk_lda_tells_classes_apart_where_plain_lda_learns_noise() -> None:
    random = np.random.default_rng(0)
    y = np.arange(120) % 10
    centres = random.normal(size=(10, 100))
    x, other = (centres[y] + 2.5 * random.normal(size=(120, 100)) for _ in range(2))
    names = [str(c) for c in y]

    def right(spec: str) -> float:
        t = fit(spec, x.astype(np.float32), names)
        return float((y[(t.apply(other) @ t.apply(x).T).argmax(axis=1)] == y).mean())

    assert right("lda:0.3") > right("lda") + 0.1


def test_a_power_of_whitening_leaves_that_much_variance() -> None:
    x = (np.random.default_rng(0).normal(size=(500, 6)) * [9, 5, 3, 2, 1, 0.5]).astype(np.float32)
    for power in (1.0, 0.75, 0.25):
        t = fit(f"whiten:4:{power}", x)
        assert t.matrix is not None
        assert t.bias is not None
        deviation = (x @ t.matrix.T + t.bias).std(axis=0)
        plain = fit("pca:4", x)
        assert plain.matrix is not None
        expected = (x @ plain.matrix.T).std(axis=0) ** (1 - power)
        np.testing.assert_allclose(deviation, expected, rtol=5e-3)


@given(
    st.sampled_from(["whiten", "lda"]),
    st.none() | st.integers(1, 4096),
    st.none() | st.sampled_from([0.05, 0.5, 0.75, 1.0]),
)
def test_a_spec_is_read_as_it_is_written(name: str, n: int | None, power: float | None) -> None:
    assert str(parse_spec(str(Spec(name, n, power)))) == str(Spec(name, n, power))


def test_a_transform_is_added_by_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def halved(
        asked: Spec, x: np.ndarray, labels: np.ndarray | None, seed: int
    ) -> tuple[Spec, np.ndarray, np.ndarray]:
        assert labels is not None
        matrix = 0.5 * np.eye(x.shape[1])[: asked.components]
        return asked, matrix, np.zeros(len(matrix))

    entry = TransformKind("halved", ":N", halved, lambda n, _, d: min(n or 3, d), labels="needed")
    monkeypatch.setitem(KINDS, "halved", entry)
    x = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    fitted = fit("halved:4", x, ["a", "b"] * 10)
    assert (fitted.spec, fitted.d_out) == ("halved:4", 4)
    np.testing.assert_allclose(
        fitted.apply(x), x[:, :4] / np.linalg.norm(x[:, :4], axis=1, keepdims=True), rtol=1e-5
    )
    assert sees_labels("halved:4")
    with pytest.raises(ImgretError, match="needs labelled images"):
        fit("halved", x)
    with pytest.raises(ImgretError, match=r"'halved:4:0\.5' has too many numbers"):
        fit("halved:4:0.5", x)


def test_the_lists_for_readers_name_every_transform() -> None:
    listed = re.findall(r"^([a-z+]+)[:\[\w\]]*(?= {2})", table.__doc__ or "", re.MULTILINE)
    _, _, guide = (DOCS / "guide/tune.md").read_text(encoding="utf-8").partition("## Transforms\n")
    cells = re.findall(r"^\| (`.*?) \|", guide.partition("\n## ")[0], re.MULTILINE)
    specs = [spec for cell in cells for spec in re.findall(r"`([a-z+]+)", cell)]
    assert listed == list(KINDS)
    assert list(dict.fromkeys(specs)) == list(KINDS)


def test_a_whole_power_needs_no_full_stop() -> None:
    assert parse_spec("whiten:4:1") == Spec("whiten", 4, 1.0)
    assert parse_spec("lda:1") == Spec("lda", 1, None)  # one number alone is N


@given(st.integers(1, 99_999) | st.none(), st.integers(1, 10**6).map(lambda n: n / 10**6))
def test_a_spec_is_read_back_from_its_own_text(n: int | None, power: float) -> None:
    spec = Spec("whiten", n, power)
    assert parse_spec(str(spec)) == spec
