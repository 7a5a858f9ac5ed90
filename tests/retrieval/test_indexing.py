from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.errors import GalleryError, ImgretError
from retrieval.gallery import Gallery, ImageTable
from retrieval.retriever import Retriever
from tests.samples import picture


@pytest.fixture
def retriever(tmp_path: Path, weights: Path, pictures: Path) -> Retriever:
    made = Retriever(tmp_path / ".imgret", backbone=str(weights))
    made.index(pictures)
    return made


def rows(retriever: Retriever) -> dict[str, dict[str, object]]:
    table = retriever.gallery.open_table()
    names = ["id", "path", "sha256", "label", "embedding", "error", "width", "height"]
    return {row["path"]: row for row in table.columns(names).to_pylist()}


def test_a_first_run_adds_all_images(retriever: Retriever, pictures: Path) -> None:
    stored = rows(retriever)
    assert len(stored) == 24
    row = stored["pictures/class1/01.jpg"]
    assert (row["label"], row["width"], row["height"], row["error"]) == ("class1", 80, 60, None)


def test_a_second_run_encodes_nothing(retriever: Retriever, pictures: Path) -> None:
    report = retriever.index(pictures)
    assert (report.added, report.changed, report.unchanged, report.encoded) == (0, 0, 24, 0)
    assert report.found == 24


def test_a_touched_file_keeps_its_row(retriever: Retriever, pictures: Path) -> None:
    file, before = pictures / "class0" / "00.jpg", rows(retriever)
    os.utime(file, (1, 1))
    report = retriever.index(pictures)
    assert (report.unchanged, report.changed, report.encoded) == (24, 0, 0)
    assert rows(retriever) == before
    assert retriever.index(pictures).encoded == 0


def test_a_renamed_file_keeps_its_embedding(retriever: Retriever, pictures: Path) -> None:
    before = rows(retriever)["pictures/class0/00.jpg"]["embedding"]
    (pictures / "class0" / "00.jpg").rename(pictures / "class1" / "new name.jpg")
    report = retriever.index(pictures)
    assert (report.moved, report.added, report.removed, report.encoded) == (1, 0, 0, 0)
    after = rows(retriever)["pictures/class1/new name.jpg"]
    assert (after["embedding"], after["label"], after["width"]) == (before, "class1", 80)


def test_files_that_swap_their_contents_swap_their_embeddings(
    retriever: Retriever, pictures: Path
) -> None:
    one, two = pictures / "class0" / "00.jpg", pictures / "class1" / "01.jpg"
    before = rows(retriever)
    one.rename(pictures / "x")
    two.rename(one)
    (pictures / "x").rename(two)
    os.utime(one)
    os.utime(two)
    report = retriever.index(pictures)
    after = rows(retriever)
    assert (report.changed, report.reused, report.encoded) == (2, 2, 0)
    first, second = "pictures/class0/00.jpg", "pictures/class1/01.jpg"
    assert after[first]["embedding"] == before[second]["embedding"]
    assert after[second]["embedding"] == before[first]["embedding"]


def test_a_changed_file_is_encoded_again(retriever: Retriever, pictures: Path) -> None:
    before = rows(retriever)["pictures/class0/00.jpg"]
    picture(99).save(pictures / "class0" / "00.jpg")
    report = retriever.index(pictures)
    assert (report.changed, report.encoded, report.unchanged) == (1, 1, 23)
    assert rows(retriever)["pictures/class0/00.jpg"]["embedding"] != before["embedding"]
    assert retriever.search(picture(99), k=1)[0].path.name == "00.jpg"


def test_what_is_gone_is_dropped_unless_it_is_to_be_kept(
    retriever: Retriever, pictures: Path
) -> None:
    (pictures / "class0" / "00.jpg").unlink()
    assert retriever.index(pictures, keep_missing=True).removed == 0
    assert len(rows(retriever)) == 24
    assert retriever.index(pictures).removed == 1
    assert len(rows(retriever)) == 23


def test_a_run_leaves_the_rows_of_other_folders_alone(retriever: Retriever, pictures: Path) -> None:
    shutil.rmtree(pictures / "class0")
    assert retriever.index(pictures / "class1").removed == 0
    assert len(rows(retriever)) == 24


def test_what_cannot_be_used_is_a_row_with_its_reason(
    tmp_path: Path, weights: Path, pictures: Path
) -> None:
    (pictures / "empty.jpg").touch()
    (pictures / "text.png").write_text("no image")
    (pictures / "cut.jpg").write_bytes((pictures / "class0" / "00.jpg").read_bytes()[:900])
    retriever = Retriever(tmp_path / ".imgret", backbone=str(weights))
    report = retriever.index(pictures)
    assert (report.added, report.failed) == (24, 3)
    reasons = dict(retriever.info().failures)
    assert reasons["pictures/empty.jpg"] == "empty file"
    assert reasons["pictures/text.png"] == "not an image this program reads"
    assert "truncated" in reasons["pictures/cut.jpg"]


def test_a_failed_image_is_tried_again_when_it_changes(
    retriever: Retriever, pictures: Path
) -> None:
    bad = pictures / "bad.png"
    bad.write_text("no image")
    assert retriever.index(pictures).failed == 1
    assert retriever.index(pictures).failed == 1
    picture(50).save(bad)
    report = retriever.index(pictures)
    assert (report.failed, report.changed, len(rows(retriever))) == (0, 1, 25)


def test_an_image_with_too_many_pixels_is_tried_again_when_more_are_allowed(
    retriever: Retriever, pictures: Path
) -> None:
    picture(51, 200, 200).save(pictures / "big.png")
    assert retriever.index(pictures, max_pixels=30_000).failed == 1
    assert retriever.index(pictures).failed == 0


def test_labels_come_from_folders_a_file_or_nowhere(retriever: Retriever, pictures: Path) -> None:
    csv = pictures.parent / "labels.csv"
    csv.write_text("path,label\npictures/class0/00.jpg,special\n")
    report = retriever.index(pictures, labels=str(csv))
    stored = {path: row["label"] for path, row in rows(retriever).items()}
    assert report.encoded == 0
    assert {path for path, label in stored.items() if label} == {"pictures/class0/00.jpg"}
    retriever.index(pictures, labels="none")
    assert not any(row["label"] for row in rows(retriever).values())
    retriever.index(pictures, labels="folder")
    assert rows(retriever)["pictures/class2/02.jpg"]["label"] == "class2"


def test_labels_that_unicode_counts_as_equal_are_one(retriever: Retriever, pictures: Path) -> None:
    composed, apart = "Caf\u00e9", "Cafe\u0301"
    (pictures / "class0").rename(pictures / composed)
    (pictures / "class1").rename(pictures / apart)
    retriever.index(pictures)
    assert {row["label"] for row in rows(retriever).values()} == {composed, "class2"}
    csv = pictures.parent / "labels.csv"
    csv.write_text(f"path,label\npictures/class2/02.jpg,{apart}\n")
    retriever.index(pictures, labels=str(csv))
    assert rows(retriever)["pictures/class2/02.jpg"]["label"] == composed
    found = retriever.search(pictures / "class2" / "02.jpg", k=9, where=f"label = '{apart}'")
    assert [match.label for match in found] == [composed]


def test_gallery_and_images_can_be_moved_together(
    retriever: Retriever, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "moved").mkdir()
    pictures.rename(tmp_path / "moved" / "pictures")
    retriever.gallery.path.rename(tmp_path / "moved" / ".imgret")
    moved = Retriever(tmp_path / "moved" / ".imgret")
    assert moved.search(picture(3), k=1)[0].path.exists()
    report = moved.index(tmp_path / "moved" / "pictures")
    assert (report.unchanged, report.added, report.removed) == (24, 0, 0)


def test_images_outside_are_stored_by_their_whole_path(
    tmp_path: Path, weights: Path, pictures: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    retriever = Retriever(tmp_path / "elsewhere" / "g", backbone=str(weights))
    retriever.index(pictures)
    assert set(rows(retriever)) == {str(p) for p in pictures.rglob("*.jpg")}


@pytest.mark.parametrize("name", [".", "../pictures", "../link"])
def test_a_folder_is_the_same_however_it_is_named(
    retriever: Retriever, pictures: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (pictures.parent / "link").symlink_to(pictures)
    (pictures / "class0" / "00.jpg").unlink()
    monkeypatch.chdir(pictures)
    report = retriever.index(name)
    assert (report.unchanged, report.added, report.removed) == (23, 0, 1)
    assert retriever.remove(name) == 23


def test_a_gallery_inside_the_indexed_folder_is_not_indexed(weights: Path, pictures: Path) -> None:
    retriever = Retriever(pictures / "my.gallery", backbone=str(weights))
    retriever.index(pictures)
    assert retriever.index(pictures).found == 24


def test_another_backbone_size_or_fit_needs_reembed(
    retriever: Retriever, pictures: Path, other_weights: Path
) -> None:
    path = retriever.gallery.path
    for other in (
        Retriever(path, backbone=str(other_weights)),
        Retriever(path, size=96),
        Retriever(path, fit="pad"),
    ):
        with pytest.raises(GalleryError, match="--reembed"):
            other.index(pictures)


def test_the_same_weights_in_another_folder_are_the_same_backbone(
    retriever: Retriever, pictures: Path, weights: Path, tmp_path: Path
) -> None:
    shutil.copytree(weights, tmp_path / "copy")
    again = Retriever(retriever.gallery.path, backbone=str(tmp_path / "copy"))
    assert again.index(pictures).unchanged == 24


@pytest.mark.long
def test_reembed_embeds_all_rows_again(
    retriever: Retriever, pictures: Path, other_weights: Path
) -> None:
    before = rows(retriever)
    other = Retriever(retriever.gallery.path, backbone=str(other_weights), size=96)
    other.index(pictures / "class0", reembed=True)
    after = rows(other)
    assert set(after) == set(before)
    assert all(after[path]["label"] == before[path]["label"] for path in before)
    assert all(after[path]["embedding"] != before[path]["embedding"] for path in before)
    assert other.info().size == 96
    opened = Retriever(retriever.gallery.path)
    assert opened.search(picture(3), k=1)[0].path.name == "03.jpg"


def test_an_interrupted_reembed_leaves_the_old_rows_and_goes_on(
    retriever: Retriever, pictures: Path, other_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.retriever.writer.ROWS_PER_COMMIT", 8)

    def interrupt(what: str, done: int, total: int | None) -> None:
        if what == "encoding" and done >= 8:
            raise KeyboardInterrupt

    other = Retriever(retriever.gallery.path, backbone=str(other_weights))
    with pytest.raises(KeyboardInterrupt):
        other.index(pictures, reembed=True, batch_size=8, progress=interrupt)
    assert retriever.search(picture(3), k=1)[0].path.name == "03.jpg"
    report = other.index(pictures, reembed=True)
    assert report.unchanged == 24
    assert not (retriever.gallery.path / "reembed").exists()


def test_auto_fits_again_when_images_have_doubled_and_says_that_scores_change(
    retriever: Retriever, pictures: Path
) -> None:
    assert retriever.info().transform == "rca:1024"
    more = pictures / "more"
    more.mkdir()

    def grow(n: int) -> tuple[int, str]:
        for i in range(len(list(more.iterdir())), n - 24):
            picture(1000 + i, 20, 15).save(more / f"{i}.png")
        said = str(retriever.index(pictures).notice)
        return retriever.info().fitted_on, said

    assert grow(40) == (24, "None")
    fitted_on, said = grow(48)
    assert fitted_on == 48
    assert (
        "fitted to 48 images (before: rca:1024), so scores have another scale than before" in said
    )
    assert grow(60) == (48, "None")


def test_auto_says_when_labels_took_part(pictures: Path, tmp_path: Path, weights: Path) -> None:
    for name in ("a", "b"):
        colour = (200, 30, 30) if name == "a" else (30, 30, 200)
        (tmp_path / "two" / name).mkdir(parents=True)
        for n in range(12):
            image = np.asarray(picture(n, 40, 40), np.float32) / 4 + np.array(colour) * 0.75
            Image.fromarray(image.astype(np.uint8)).save(tmp_path / "two" / name / f"{n}.png")
    retriever = Retriever(tmp_path / "g", backbone=str(weights))
    report = retriever.index(tmp_path / "two")
    assert retriever.info().transform == "wccn:1024"
    assert "fitted to 24 images and their labels. Give --transform rca to leave" in str(
        report.notice
    )
    assert retriever.index(tmp_path / "two").notice is None
    report = retriever.index(tmp_path / "two", labels="none")
    assert (report.encoded, retriever.info().transform) == (0, "rca:1024")
    assert "(before: wccn:1024), so scores have another scale than before" in str(report.notice)
    retriever.index(tmp_path / "two", labels="folder")
    assert retriever.info().transform == "wccn:1024"
    without = Retriever(tmp_path / "h", backbone=str(weights), transform="rca")
    assert without.index(tmp_path / "two").notice is None


def test_a_transform_that_keeps_the_labels_of_before_is_told(
    pictures: Path, tmp_path: Path, weights: Path
) -> None:
    rows = [f"{file},{int(file.stem) % 2}" for file in sorted(pictures.rglob("*.jpg"))]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    retriever = Retriever(tmp_path / "g", backbone=str(weights), transform="lda")
    retriever.index(pictures)
    said = "The transform lda is still that of the labels before. Give --refit."
    assert said in str(retriever.index(pictures, labels=tmp_path / "labels.csv").notice)
    assert retriever.index(pictures).notice is None  # once
    refitted = str(retriever.index(pictures, refit=True).notice)
    assert "fitted to 24 images and their labels" in refitted
    assert said not in refitted


def test_another_transform_reads_no_image(retriever: Retriever, pictures: Path) -> None:
    for spec, dim in (("standard+pca:8", 8), ("lda", 2), ("none", 1024)):
        report = Retriever(retriever.gallery.path, transform=spec).index(pictures)
        info = retriever.info()
        assert (report.encoded, info.transform_dim, info.transform_asked) == (0, dim, spec)


def test_a_transform_that_cannot_be_fitted_changes_nothing(
    retriever: Retriever, pictures: Path
) -> None:
    with pytest.raises(ImgretError, match="lda needs labelled images"):
        Retriever(retriever.gallery.path, transform="lda").index(pictures, labels="none")
    assert retriever.search(picture(3), k=1)[0].path.name == "03.jpg"
    assert retriever.info().transform_asked == "auto"
    assert retriever.index(pictures).unchanged == 24


def test_refit_fits_again(retriever: Retriever, pictures: Path) -> None:
    Retriever(retriever.gallery.path, transform="whiten:8").index(pictures)
    picture(60).save(pictures / "one more.png")
    retriever.index(pictures)
    assert retriever.info().fitted_on == 24
    retriever.index(pictures, refit=True)
    assert retriever.info().fitted_on == 25


def test_a_wrong_transform_or_path_leaves_no_gallery(tmp_path: Path, weights: Path) -> None:
    for paths, spec in ((tmp_path, "magic"), (tmp_path / "nothing", "auto")):
        with pytest.raises(ImgretError):
            Retriever(tmp_path / "g", backbone=str(weights), transform=spec).index(paths)
    assert not (tmp_path / "g").exists()
    (tmp_path / "a").mkdir()
    picture(0).save(tmp_path / "one.png")
    retriever = Retriever(tmp_path / "g", backbone=str(weights))
    assert retriever.index(tmp_path / "a" / "..").found == 1


def test_a_folder_of_other_files_becomes_no_gallery(
    tmp_path: Path, weights: Path, pictures: Path
) -> None:
    before = sorted(pictures.rglob("*"))
    with pytest.raises(GalleryError, match="is not a gallery and holds other files, such as"):
        Retriever(pictures, backbone=str(weights)).index(pictures)
    assert sorted(pictures.rglob("*")) == before
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".DS_Store").touch()
    assert Retriever(tmp_path / "empty", backbone=str(weights)).index(pictures).added


def test_a_folder_without_images_makes_no_gallery(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "empty").mkdir()
    report = Retriever(tmp_path / "g", backbone=str(weights)).index(tmp_path / "empty")
    assert report.found == 0
    assert not (tmp_path / "g").exists()


def test_estimate_counts_and_stores_nothing(tmp_path: Path, weights: Path, pictures: Path) -> None:
    retriever = Retriever(tmp_path / "g", backbone=str(weights))
    estimate = retriever.estimate(pictures)
    assert (estimate.new, estimate.probed) == (24, 24)
    assert estimate.seconds is not None
    assert estimate.seconds > 0
    assert not (tmp_path / "g").exists()


def test_old_versions_do_not_pile_up(retriever: Retriever, pictures: Path) -> None:
    first = retriever.info().bytes_images
    for _ in range(6):
        for file in pictures.rglob("*.jpg"):
            os.utime(file, (time.time(), time.time()))
        retriever.index(pictures)
    assert retriever.info().bytes_images < 3 * first
    assert len(list(retriever.gallery.path.glob("index-*.faiss"))) == 1


def test_an_index_is_of_exactly_the_tables_version(retriever: Retriever, pictures: Path) -> None:
    picture(70).save(pictures / "new.png")
    retriever.index(pictures)
    settings = retriever.gallery.settings()
    assert settings.index is not None
    assert settings.index.version == retriever.gallery.open_table().version
    assert retriever.gallery.index_files_of(settings.index).main.is_file()
    assert retriever.verify().ok


def test_ids_are_never_used_twice(retriever: Retriever, pictures: Path) -> None:
    seen = {row["id"] for row in rows(retriever).values()}
    for n in range(3):
        picture(80 + n).save(pictures / "class0" / "00.jpg")
        retriever.index(pictures)
        new = {row["id"] for row in rows(retriever).values()} - seen
        assert len(new) == 1
        seen |= new


def test_a_table_of_another_kind_is_refused(tmp_path: Path) -> None:
    import lance
    import pyarrow as pa

    lance.write_dataset(pa.table({"x": [1]}), str(tmp_path / "g" / "images.lance"))
    with pytest.raises(GalleryError, match="not a table of imgret"):
        Gallery(tmp_path / "g").open_table()
    with pytest.raises(GalleryError, match="cannot be read"):
        ImageTable.open(tmp_path / "nothing.lance")


def test_embeddings_are_unit_vectors_in_float16(retriever: Retriever) -> None:
    ids, vectors = next(iter(retriever.gallery.open_table().embeddings()))
    assert vectors.dtype == np.float16
    assert np.linalg.norm(vectors.astype(np.float32), axis=1) == pytest.approx(1, abs=2e-3)
    assert len(ids) == 24
