"""Labels that a user sets by hand last, whatever index does with their files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lance
import pytest

from retrieval.gallery.rows import LABEL_SET
from retrieval.retriever import Retriever
from tests.samples import picture, save_pictures


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    Retriever(folder / ".imgret").index(save_pictures(folder / "p"))
    return folder


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """24 pictures in 3 classes; 00.jpg is set to "mine" and 03.jpg to none."""
    shutil.copytree(made, tmp_path / "home")
    home = tmp_path / "home"
    set_labels(home)
    return home


def retriever_of(home: Path) -> Retriever:
    return Retriever(home / ".imgret", trust=True)


def labels(home: Path) -> dict[str, str | None]:
    with retriever_of(home).open() as gallery:
        return {image.path.name: image.label for image in gallery.page(1000).images}


def set_labels(home: Path) -> None:
    with retriever_of(home).open() as gallery:
        ids = {image.path.name: image.id for image in gallery.page(1000).images}
    assert retriever_of(home).relabel({ids["00.jpg"]: "mine", ids["03.jpg"]: None}) == 2


def untouched(home: Path) -> None:
    assert (home / "p").is_dir()


def later(file: Path) -> None:
    os.utime(file, (2_000_000_000, 2_000_000_000))


def touched(home: Path) -> None:
    for name in ("00.jpg", "03.jpg"):
        later(home / "p" / "class0" / name)


def moved(home: Path) -> None:
    (home / "p" / "other").mkdir()
    for name in ("00.jpg", "03.jpg"):
        (home / "p" / "class0" / name).rename(home / "p" / "other" / name)


def rewritten(home: Path) -> None:
    for seed, name in ((90, "00.jpg"), (91, "03.jpg")):
        picture(seed).save(home / "p" / "class0" / name)
        later(home / "p" / "class0" / name)


@pytest.mark.parametrize("change", [untouched, touched, moved, rewritten])
@pytest.mark.parametrize("options", [{}, {"checksum": True}, {"labels": "folder"}])
def test_the_next_index_leaves_them(
    home: Path, change: Callable[[Path], None], options: dict[str, Any]
) -> None:
    change(home)
    for _ in range(2):
        retriever_of(home).index(home / "p", **options)
        found = labels(home)
        assert (found["00.jpg"], found["03.jpg"]) == ("mine", None)
        assert found["06.jpg"] == "class0"
    assert retriever_of(home).info().labels_set == 2
    assert retriever_of(home).verify().ok


def test_embedding_anew_leaves_them(home: Path) -> None:
    retriever_of(home).index(home / "p", reembed=True)
    found = labels(home)
    assert (found["00.jpg"], found["03.jpg"], found["06.jpg"]) == ("mine", None, "class0")
    assert retriever_of(home).info().labels_set == 2


def test_labels_from_elsewhere_take_their_place(home: Path) -> None:
    (home / "l.csv").write_text("path,label\np/class0/00.jpg,mine\np/class0/03.jpg,listed\n")
    retriever_of(home).index(home / "p", labels=home / "l.csv")
    found = labels(home)
    assert (found["00.jpg"], found["03.jpg"], found["06.jpg"]) == ("mine", "listed", None)
    assert retriever_of(home).info().labels_set == 0
    retriever_of(home).index(home / "p", labels="folder")
    assert set(labels(home).values()) == {"class0", "class1", "class2"}


@pytest.mark.parametrize("change", [touched, moved, rewritten])
def test_labels_from_elsewhere_take_their_place_of_files_that_changed(
    home: Path, change: Callable[[Path], None]
) -> None:
    change(home)
    retriever_of(home).index(home / "p", labels="none")
    assert set(labels(home).values()) == {None}
    assert retriever_of(home).info().labels_set == 0


def test_a_label_that_is_set_to_what_it_is_lasts_as_well(home: Path) -> None:
    with retriever_of(home).open() as gallery:
        (id,) = [i.id for i in gallery.page(1000).images if i.path.name == "06.jpg"]
    assert retriever_of(home).relabel({id: "class0"}) == 0
    (home / "p" / "class0" / "06.jpg").rename(home / "p" / "class1" / "06.jpg")
    retriever_of(home).index(home / "p")
    assert labels(home)["06.jpg"] == "class0"


def test_repairing_a_damaged_row_leaves_its_label(home: Path) -> None:
    retriever = retriever_of(home)
    table = retriever.gallery.open_table()
    lance.dataset(str(table.path)).update({"checksum": "7"}, "path LIKE '%/00.jpg'")
    report = retriever.verify(repair=True)
    assert any("embedded again: 1" in said for said in report.repaired)
    assert labels(home)["00.jpg"] == "mine"
    assert retriever.info().labels_set == 2
    assert retriever.verify().ok


def test_a_gallery_from_before_opens_is_sound_and_takes_labels(made: Path, tmp_path: Path) -> None:
    home = tmp_path / "old"
    shutil.copytree(made, home)
    lance.dataset(str(home / ".imgret" / "images.lance")).drop_columns(["label_set"])
    retriever = retriever_of(home)
    assert retriever.search(home / "p" / "class0" / "00.jpg", k=1)[0].path.name == "00.jpg"
    assert retriever.info().labels_set == 0
    assert retriever.estimate(home / "p").unchanged == 24
    touched(home)
    retriever.index(home / "p")
    assert retriever.gallery.open_table().lacks(LABEL_SET)
    assert retriever.verify().ok
    set_labels(home)
    retriever.index(home / "p")
    assert labels(home)["00.jpg"] == "mine"
    assert retriever.verify().ok
    picture(77).save(home / "p" / "class1" / "new.png")
    retriever.index(home / "p", reembed=True)
    assert labels(home)["03.jpg"] is None
    assert retriever.verify().ok
