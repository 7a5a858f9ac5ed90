"""Maps: points of embeddings, fair samples, the page in a browser."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.manifold import trustworthiness

from retrieval.errors import ImgretError
from retrieval.projection import fair_sample, has_umap, project
from retrieval.report.map import map_page, write_map
from retrieval.retriever import Retriever
from retrieval.retriever.map import GalleryMap, Point
from tests.browser import browser, opened
from tests.conftest import Command
from tests.samples import picture

METHODS = ["tsne", pytest.param("umap", marks=pytest.mark.skipif(not has_umap(), reason="no umap"))]


def clusters(n: int = 90, d: int = 12) -> tuple[np.ndarray, np.ndarray]:
    random, labels = np.random.default_rng(0), np.arange(n) % 3
    x = 3 * random.normal(size=(3, d))[labels] + random.normal(size=(n, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels


@pytest.mark.parametrize("method", METHODS)
def test_what_is_near_stays_near(method: str) -> None:
    x, _ = clusters()
    points = project(x, method)  # type: ignore[arg-type]
    assert points.shape == (90, 2)
    assert points.dtype == np.float32
    assert points.min() >= 0
    assert points.max() <= 1
    assert trustworthiness(x, points, n_neighbors=10) > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_gives_the_same_map(method: str) -> None:
    x, _ = clusters(40)
    np.testing.assert_array_equal(project(x, method, 3), project(x, method, 3))  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 7])
def test_few_and_equal_images_have_points_too(n: int) -> None:
    x, _ = clusters(9)
    for vectors in (x[:n], np.repeat(x[:1], n, axis=0)):
        points = project(vectors, "tsne")
        assert points.shape == (n, 2)
        assert np.isfinite(points).all()


@pytest.mark.skipif(has_umap(), reason="umap-learn is installed")
def test_umap_without_umap_learn_says_how_to_get_it() -> None:
    with pytest.raises(ImgretError, match="pip install"):
        project(clusters()[0], "umap")


@given(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=80), st.integers(1, 90))
def test_a_sample_is_fair_to_every_label(labels: list[str], most: int) -> None:
    rows = fair_sample(labels, most)
    assert len(rows) == min(most, len(labels))
    assert len(set(rows.tolist())) == len(rows)
    drawn = [labels[i] for i in rows]
    if most >= len(set(labels)):
        assert set(drawn) == set(labels)
        for label in set(labels):
            share = most * labels.count(label) / len(labels)
            assert drawn.count(label) < share + 2  # one that each has, and what is rounded up


def test_a_sample_is_in_proportion() -> None:
    labels = ["a"] * 600 + ["b"] * 300 + ["c"] * 100
    drawn = [labels[i] for i in fair_sample(labels, 100)]
    assert [drawn.count(label) for label in "abc"] == pytest.approx([60, 30, 10], abs=1)


@pytest.fixture
def gallery(pictures: Path, weights: Path, tmp_path: Path) -> Retriever:
    retriever = Retriever(tmp_path / "g", backbone=str(weights))
    retriever.index(pictures)
    return retriever


def test_a_gallery_is_drawn_whole_in_part_or_by_a_filter(gallery: Retriever) -> None:
    whole = gallery.map("tsne")
    assert (len(whole.points), whole.total) == (24, 24)
    part = gallery.map("tsne", most_images=9)
    assert (len(part.points), part.total) == (9, 24)
    assert sorted(p.label for p in part.points) == sorted(["class0", "class1", "class2"] * 3)
    some = gallery.map("tsne", where="label = 'class1'")
    assert {p.label for p in some.points} == {"class1"}
    none = gallery.map("tsne", where="label = 'none'")
    assert (len(none.points), none.total) == (0, 0)


def status(document: str) -> str:
    found = re.search(r'id="status"[^>]*>([^<]*)<', document)
    return found[1] if found else ""


@pytest.mark.long
def test_the_page_draws_searches_and_shows_an_image_in_a_browser(
    gallery: Retriever, tmp_path: Path
) -> None:
    browser()
    write_map(tmp_path / "map.html", gallery.map("tsne"))
    assert status(opened(tmp_path / "map.html", tmp_path / "p")) == "24 of 24 points"
    found = opened(tmp_path / "map.html", tmp_path / "p", "#q=class1")
    assert status(found) == "8 of 24 points"
    hovered = opened(tmp_path / "map.html", tmp_path / "p", "#hover=5")
    assert re.search(
        r'id="card" [^>]*style="left[^>]*><div[^>]*><img[^>]*src="data:image/jp', hovered
    )
    assert re.search(r'<a class="name" href="pictures/class[^"]*.jpg">\d+.jpg</a>', hovered)


def test_hostile_names_are_text_on_the_page(tmp_path: Path) -> None:
    browser()
    label = "</script><script>document.title='hacked'</script><img src=x onerror=alert(1)>"
    picture(1).save(tmp_path / "a.png")
    drawn = GalleryMap(
        tmp_path / "g", "tsne", 2,
        (Point(tmp_path / "a.png", label, 0.1, 0.2), Point(Path("gone\udcff.png"), "b", 0.9, 0.8)),
    )  # fmt: skip
    write_map(tmp_path / "map.html", drawn)
    document = opened(tmp_path / "map.html", tmp_path / "p", "#hover=0")
    assert status(document) == "2 of 2 points"
    assert "<title>hacked" not in document
    assert '<img src="x"' not in document
    assert "&lt;/script&gt;" in document


def test_a_page_needs_no_other_file(gallery: Retriever) -> None:
    page = map_page(gallery.map("tsne"))
    assert not re.search(r"(src|href)=[\"']?(https?:|//)", page)


@pytest.mark.long
def test_the_command_writes_the_map(
    imgret: Command, pictures: Path, weights: Path, tmp_path: Path
) -> None:
    imgret("index", pictures, "--backbone", weights)
    done = imgret("map", "--report", "map.html", "--most-images", "10", "--method", "tsne")
    assert done.returncode == 0, done.stderr
    assert "10 of 24" in done.stdout
    assert (tmp_path / "map.html").stat().st_size > 10_000
    if not has_umap():
        assert "UMAP" in imgret("map", "--report", "other.html").stderr
        assert imgret("map", "--report", "x.html", "--method", "umap").returncode == 2
    none = imgret("map", "--report", "none.html", "--where", "label = 'x'")
    assert (none.returncode, none.stdout) == (1, "")
    assert none.stderr.splitlines()[-1] == "imgret: No image passes --where. Give another filter."
    assert "t-SNE" not in none.stderr
    assert not (tmp_path / "none.html").exists()
    missing = imgret("map", "--report", "no/such/folder/map.html", "--method", "tsne")
    assert missing.returncode == 2
    assert "cannot be written" in missing.stderr
