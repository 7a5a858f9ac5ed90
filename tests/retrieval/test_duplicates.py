"""Duplicates: three tiers, groups around the image to keep, a threshold learnt from the gallery."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from retrieval.errors import GalleryError, ImgretError
from retrieval.retriever import DuplicateReport, Retriever
from retrieval.retriever.duplicates.neighbours import index_of, neighbours_down_to
from retrieval.retriever.duplicates.pixels import hash_pixels
from retrieval.retriever.duplicates.stars import stars
from retrieval.retriever.duplicates.threshold import estimate_threshold, neighbours_needed
from tests.samples import picture


@pytest.fixture
def retriever(tmp_path: Path, weights: Path) -> Retriever:
    return Retriever(tmp_path / "g", backbone=str(weights), engine="torch-fp32")


def names(report: DuplicateReport) -> list[tuple[str, list[str]]]:
    return [(group.tier, [m.path.name for m in group.members]) for group in report.groups]


def png(file: Path, image: Image.Image, **options: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, **options)  # type: ignore[arg-type]
    return file


def test_files_of_the_same_bytes_are_a_group(retriever: Retriever, pictures: Path) -> None:
    shutil.copy(pictures / "class1" / "01.jpg", pictures / "class0" / "a copy.jpg")
    retriever.index(pictures)
    report = retriever.duplicates(tier="bytes")
    assert names(report) == [("bytes", ["a copy.jpg", "01.jpg"])]
    assert report.groups[0].representative.tier is None
    (other,) = report.groups[0].others
    assert (other.tier, other.score, other.label) == ("bytes", 1.0, "class1")
    assert (other.width, other.height, other.size) == (80, 60, other.path.stat().st_size)
    assert report.threshold is None
    assert report.images == 25


def test_the_same_picture_in_other_files_is_a_group(retriever: Retriever, pictures: Path) -> None:
    image = picture(90)
    png(pictures / "plain.png", image)
    image.save(pictures / "lossless.webp", lossless=True)
    image.save(pictures / "raw.bmp")
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", "other metadata")
    png(pictures / "notes.png", image, pnginfo=notes)
    retriever.index(pictures)
    (group,) = retriever.duplicates(tier="picture").groups
    assert group.tier == "picture"
    assert {m.path.name for m in group.members} == {
        "plain.png", "lossless.webp", "raw.bmp", "notes.png"
    }  # fmt: skip
    assert group.representative.path.name == "raw.bmp"  # the largest file
    assert {(m.tier, m.score) for m in group.others} == {("picture", 1.0)}


def test_a_jpeg_with_other_metadata_is_the_same_picture(
    retriever: Retriever, pictures: Path
) -> None:
    data = (pictures / "class0" / "03.jpg").read_bytes()
    comment = b"\xff\xfe\x00\x07hello"
    (pictures / "noted.jpg").write_bytes(data[:2] + comment + data[2:])
    retriever.index(pictures)
    assert names(retriever.duplicates(tier="picture")) == [("picture", ["noted.jpg", "03.jpg"])]
    assert names(retriever.duplicates(tier="bytes")) == []


@pytest.mark.parametrize(("orientation", "back"), [(3, 2), (6, 4), (8, 3), (2, 0), (5, 5)])
def test_a_turned_file_and_the_upright_one_are_the_same_picture(
    retriever: Retriever, pictures: Path, orientation: int, back: int
) -> None:
    turns = {
        0: Image.Transpose.FLIP_LEFT_RIGHT,
        2: Image.Transpose.ROTATE_180,
        3: Image.Transpose.ROTATE_270,
        4: Image.Transpose.ROTATE_90,
        5: Image.Transpose.TRANSPOSE,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    png(pictures / "upright.png", picture(90))
    png(pictures / "turned.png", picture(90).transpose(turns[back]), exif=exif.tobytes())
    retriever.index(pictures)
    (group,) = retriever.duplicates(tier="picture").groups
    assert {m.path.name for m in group.members} == {"upright.png", "turned.png"}
    assert {(m.width, m.height) for m in group.members} == {(80, 60)}


def test_a_large_jpeg_that_is_decoded_at_a_reduced_scale_and_its_png_are_the_same_picture(
    retriever: Retriever, pictures: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((1600, 1200)).save(pictures / "large.jpg", quality=80)
    png(pictures / "large.png", Image.open(pictures / "large.jpg"))
    retriever.index(pictures)
    x, y = retriever.encode([pictures / "large.jpg", pictures / "large.png"])
    assert x @ y < 0.9999999  # they are not embedded equally
    assert names(retriever.duplicates(tier="picture")) == [("picture", ["large.png", "large.jpg"])]


def test_each_pixel_and_the_shape_are_part_of_the_hash() -> None:
    tall, wide = (Image.new("RGB", size, "red") for size in ((1000, 2200), (2200, 1000)))
    hashes = {hash_pixels(tall), hash_pixels(wide)}
    for place in ((0, 0), (999, 2199), (0, 1048), (999, 1047)):
        other = tall.copy()
        other.putpixel(place, (255, 0, 1))
        hashes.add(hash_pixels(other))
    assert len(hashes) == 6
    assert hash_pixels(tall.copy()) == hash_pixels(tall)


def test_one_pixel_makes_another_picture(retriever: Retriever, pictures: Path) -> None:
    image = picture(90)
    png(pictures / "one.png", image)
    image.putpixel((3, 3), (1, 2, 3))
    png(pictures / "two.png", image)
    retriever.index(pictures)
    assert names(retriever.duplicates(tier="picture")) == []


def test_similar_images_stand_around_the_largest_with_their_scores(
    retriever: Retriever, pictures: Path
) -> None:
    large = picture(90, 160, 120)
    png(pictures / "large.png", large)
    large.save(pictures / "again.jpg", quality=70)
    large.resize((120, 90)).save(pictures / "small.jpg", quality=90)
    shutil.copy(pictures / "large.png", pictures / "z copy.png")
    retriever.index(pictures)
    near = retriever.search(pictures / "small.jpg", k=1, where="path LIKE '%large.png'")[0].score
    report = retriever.duplicates(threshold=near - 1e-3, where="path NOT LIKE '%class%'")
    (group,) = report.groups
    assert [m.path.name for m in group.members][:2] == ["large.png", "z copy.png"]
    assert {m.path.name: m.tier for m in group.others} == {
        "z copy.png": "bytes", "again.jpg": "similar", "small.jpg": "copy"
    }  # fmt: skip
    assert all(m.score >= near - 1e-3 for m in group.members)
    scores = {m.path.name: m.score for m in group.members}
    assert scores["small.jpg"] == pytest.approx(near, abs=1e-3)
    assert (report.threshold and report.threshold.how) == "as given"


def test_groups_are_sorted_by_tier_and_size(retriever: Retriever, pictures: Path) -> None:
    for n, seed in enumerate([80, 81, 81, 82, 82]):
        shutil.copy(png(pictures / f"{seed}.png", picture(seed)), pictures / f"copy{n}.png")
    picture(80).save(pictures / "80.webp", lossless=True)
    retriever.index(pictures)
    found = [(g.tier, len(g.members)) for g in retriever.duplicates(tier="picture").groups]
    assert found == [("bytes", 3), ("bytes", 3), ("picture", 3)]


def test_no_group_in_a_gallery_of_different_images(retriever: Retriever, pictures: Path) -> None:
    retriever.index(pictures)
    report = retriever.duplicates(threshold=0.9999)
    assert (report.groups, report.images, report.failures) == ((), 24, ())
    assert sum(report.counts["similar"]) == 0


def test_a_gallery_of_one_image_has_no_duplicates(retriever: Retriever, tmp_path: Path) -> None:
    png(tmp_path / "pictures" / "only.png", picture(1))
    retriever.index(tmp_path / "pictures")
    report = retriever.duplicates()
    assert report.groups == ()
    assert report.threshold is not None
    assert report.threshold.score == 0.95
    assert report.threshold.how == ("assumed: too few different pictures (1) to estimate it from")


def test_a_gallery_whose_images_all_failed_has_no_duplicates(
    retriever: Retriever, tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_text("no image")
    retriever.index(tmp_path / "broken.jpg")
    assert retriever.duplicates().groups == ()


@pytest.mark.parametrize("kind", ["bytes", "picture", "similar"])
def test_300_copies_are_one_group(retriever: Retriever, pictures: Path, kind: str) -> None:
    first = png(pictures / "copies" / "000.png", picture(90))
    data = first.read_bytes()
    for n in range(1, 300):
        file = first.with_name(f"{n:03}.png")
        if kind == "bytes":
            file.write_bytes(data)
        elif kind == "picture":
            notes = PngImagePlugin.PngInfo()
            notes.add_text("Comment", str(n))
            picture(90).save(file, pnginfo=notes)
        else:
            image = picture(90)
            image.putpixel((n % 80, n // 80), (0, 0, 0))
            image.save(file)
    retriever.index(pictures)
    report = retriever.duplicates(threshold=0.9, where="path LIKE '%copies%'")
    assert [(g.tier, len(g.members)) for g in report.groups] == [(kind, 300)]
    assert len({m.path for m in report.groups[0].members}) == 300


def test_files_that_are_gone_or_changed_are_named_and_never_the_ones_to_keep(
    retriever: Retriever, pictures: Path
) -> None:
    for n in (1, 2, 3, 4):
        shutil.copy(png(pictures / "a.png", picture(90)), pictures / f"copy{n}.png")
    retriever.index(pictures)
    (pictures / "a.png").unlink()
    png(pictures / "copy1.png", picture(91))
    os.utime(pictures / "copy2.png", ns=(1, 1))
    report = retriever.duplicates(tier="bytes")
    assert names(report) == [("bytes", ["copy3.png", "copy4.png"])]
    assert {Path(path).name: reason for path, reason in report.failures} == {
        "a.png": "does not exist",
        "copy1.png": "changed since it was indexed",
        "copy2.png": "changed since it was indexed",
    }


def test_a_file_that_was_rewritten_behind_its_times_is_found_out_when_decoded(
    retriever: Retriever, pictures: Path
) -> None:
    one = png(pictures / "one.bmp", picture(90))
    picture(90).save(pictures / "two.png")
    shutil.copy(one, pictures / "z copy.bmp")  # the same content as one that cannot be trusted
    retriever.index(pictures)
    before = one.stat()
    data = bytearray(one.read_bytes())
    data[-1] ^= 255
    one.write_bytes(data)
    os.utime(one, ns=(before.st_atime_ns, before.st_mtime_ns))
    report = retriever.duplicates(tier="picture")
    assert report.groups == ()
    assert report.failures == ((str(one), "changed since it was indexed"),)


def test_links_to_one_file_are_one_image(retriever: Retriever, pictures: Path) -> None:
    real = png(pictures / "real.png", picture(90))
    (pictures / "a link.png").symlink_to(real)
    (pictures / "hard.png").hardlink_to(real)
    shutil.copy(real, pictures / "z copy.png")
    retriever.index(pictures)
    (group,) = retriever.duplicates(tier="bytes").groups
    assert len(group.members) == 2
    assert not any(m.path.is_symlink() for m in group.members)


def test_where_narrows_what_is_looked_at(retriever: Retriever, pictures: Path) -> None:
    shutil.copy(pictures / "class1" / "01.jpg", pictures / "class0" / "copy.jpg")
    retriever.index(pictures)
    assert retriever.duplicates(tier="bytes", where="label = 'class1'").groups == ()
    with pytest.raises(ImgretError, match="filter"):
        retriever.duplicates(where="label =")


def test_against_pairs_the_images_of_two_galleries(
    retriever: Retriever, tmp_path: Path, pictures: Path, weights: Path
) -> None:
    train = Retriever(tmp_path / "train", backbone=str(weights), engine="torch-fp32")
    other = tmp_path / "others"
    for n in range(30, 50):
        png(other / f"{n}.png", picture(n))
    shutil.copy(pictures / "class1" / "01.jpg", other / "leak.jpg")
    shutil.copy(other / "30.png", other / "30 copy.png")  # twice there, not here: no group
    picture(40).save(pictures / "same.webp", lossless=True)
    picture(41).save(pictures / "like.jpg", quality=80)
    retriever.index(pictures)
    train.index(other)
    like = retriever.encode([pictures / "like.jpg", other / "41.png"])
    report = retriever.duplicates(against=tmp_path / "train", threshold=float(like[0] @ like[1]))
    pairs = {tuple(m.path.name for m in g.members): g.tier for g in report.groups}
    assert pairs.items() >= {
        ("leak.jpg", "01.jpg"): "bytes", ("40.png", "same.webp"): "picture"
    }.items()  # fmt: skip
    assert any(g.tier == "copy" and "like.jpg" in str(g.members) for g in report.groups)
    for group in report.groups:
        assert group.representative.gallery == tmp_path / "train"
        assert {m.gallery for m in group.members} == {tmp_path / "train", tmp_path / "g"}
    members = {m.path.name for g in report.groups for m in g.members}
    assert not members & {"30.png", "30 copy.png"}


def test_against_an_empty_gallery_or_itself(
    retriever: Retriever, tmp_path: Path, pictures: Path, weights: Path
) -> None:
    retriever.index(pictures)
    (tmp_path / "broken.jpg").write_text("no image")
    empty = Retriever(tmp_path / "empty", backbone=str(weights), engine="torch-fp32")
    empty.index(tmp_path / "broken.jpg")
    assert retriever.duplicates(against=tmp_path / "empty").groups == ()
    with pytest.raises(ImgretError, match="compared with itself"):
        retriever.duplicates(against=tmp_path / "g")


@pytest.mark.parametrize("change", ["weights", "size", "fit"])
def test_against_another_backbone_is_refused(
    retriever: Retriever, tmp_path: Path, pictures: Path, weights: Path, other_weights: Path,
    change: str,
) -> None:  # fmt: skip
    retriever.index(pictures)
    Retriever(
        tmp_path / "other",
        backbone=str(other_weights if change == "weights" else weights),
        size=96 if change == "size" else None,
        fit="pad" if change == "fit" else None,
        engine="torch-fp32",
    ).index(pictures)
    with pytest.raises(GalleryError, match=r"/g was made with .* and .*/other with .*--reembed"):
        retriever.duplicates(against=tmp_path / "other")


def test_a_threshold_that_is_no_cosine_is_refused(retriever: Retriever, pictures: Path) -> None:
    retriever.index(pictures)
    for wrong in (1.5, float("nan")):
        with pytest.raises(ImgretError, match="threshold"):
            retriever.duplicates(threshold=wrong)


def unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def embeddings(n: int, seed: int) -> np.ndarray:
    """Points of 12 dimensions around a common centre, as embeddings of photographs lie."""
    chance = np.random.default_rng(seed)
    return unit(0.5 + chance.normal(0, 1, (n, 12)) @ np.eye(12, 64))


def nearest_scores(x: np.ndarray, k: int) -> np.ndarray:
    scores = x @ x.T
    np.fill_diagonal(scores, -np.inf)
    return -np.sort(-scores, axis=1)[:, :k]


def estimated(x: np.ndarray) -> float:
    scores = nearest_scores(x, neighbours_needed(len(x)))
    return estimate_threshold(scores, len(x), len(x)).score


@pytest.mark.parametrize("n", [30, 100, 1000])
def test_few_images_reach_the_estimated_threshold_by_chance(n: int) -> None:
    above = [
        int((nearest_scores(x, 1) >= estimated(x)).sum())
        for x in (embeddings(n, seed) for seed in range(20))
    ]
    assert 0 < np.mean(above) < 6


@pytest.mark.parametrize("copies", [1, 4, 8])
def test_duplicates_everywhere_do_not_hide_themselves(copies: int) -> None:
    x = embeddings(300, 0)
    noise = np.random.default_rng(1).normal(0, 0.002, (copies, *x.shape))
    threshold = estimated(unit(np.concatenate([x, *(x + noise)])))
    assert estimated(x) - 0.01 < threshold < 0.998  # noise of 0.002 in 64 dimensions leaves 0.9998


def test_the_threshold_grows_with_the_gallery_and_its_density() -> None:
    small, large = estimated(embeddings(100, 0)), estimated(embeddings(2000, 0))
    dense = unit(embeddings(100, 0) + 1)
    assert small < large < 1
    assert estimated(dense) > small


def scores_between(n: int, seed: int, dims: int) -> np.ndarray:
    x = unit(np.random.default_rng(seed).normal(size=(n, dims)) + 0.5)
    return np.asarray(x @ x.T)


def looked_up(scores: np.ndarray, least: float) -> Callable[..., Iterator[tuple[int, ...]]]:
    def neighbours(places: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        for row, place in reversed(list(enumerate(places))):
            ids = np.flatnonzero((scores[place] >= least) & (np.arange(len(scores)) != place))
            yield row, ids, scores[place][ids]

    return neighbours  # type: ignore[return-value]


@given(
    n=st.integers(1, 300), seed=st.integers(0, 99), dims=st.integers(2, 5),
    least=st.floats(0.5, 0.999),
)  # fmt: skip
def test_each_member_is_above_the_threshold_to_its_representative(
    n: int, seed: int, dims: int, least: float
) -> None:
    scores = scores_between(n, seed, dims)
    centre, score = stars(n, np.arange(n), looked_up(scores, least))  # type: ignore[arg-type]
    members = np.flatnonzero(centre != np.arange(n))
    assert (centre[centre] == centre).all()  # an image is in one group; no chains
    assert (centre <= np.arange(n)).all()  # the representative is the one to keep
    assert (scores[members, centre[members]] >= least).all()
    assert np.array_equal(score[members], scores[members, centre[members]])
    centres = np.setdiff1d(np.arange(n), members)
    between = scores[np.ix_(centres, centres)].copy()
    np.fill_diagonal(between, -1)
    assert between.max() < least  # nobody who is near a representative is left alone
    for member in members:  # and each belongs to the nearest of those before it
        assert scores[member, centres[centres < member]].max() == score[member]


@given(n=st.integers(1, 200), seed=st.integers(0, 99), least=st.floats(0.1, 0.99))
def test_all_neighbours_down_to_a_score_are_found(n: int, seed: int, least: float) -> None:
    x = unit(np.random.default_rng(seed).normal(size=(n, 4)) + 0.5)
    index = index_of(x, np.arange(n))
    rows = []
    for row, ids, found in neighbours_down_to(index, x, least):
        rows.append(row)
        assert (
            set(ids[found >= least]) == set(np.flatnonzero(x @ x[row] >= least))
            or np.isclose(x @ x[row], least, atol=1e-5).any()
        )
        assert (np.diff(found) <= 0).all()
    assert sorted(rows) == list(range(n))
