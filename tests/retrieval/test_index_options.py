"""The options of index in combination: what each does beside the others, on one small folder."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

from retrieval.errors import ImgretError
from retrieval.retriever import Retriever
from retrieval.retriever.request import IndexOptions
from tests.retrieval.stored import age, faults, rows, save_small
from tests.samples import picture

PICTURES = 30
LOST = 22  # more than half, so that it is refused unless an option says otherwise
CASES = list(itertools.product(("", "keep", "drop"), (False, True), (False, True)))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """p with 30 pictures and their gallery; then 22 are lost, one is new, one changed secretly."""
    root = tmp_path_factory.mktemp("options")
    save_small(root / "p", *(f"{n:02}.png" for n in range(PICTURES)))
    Retriever(root / "g.imgret").index(root / "p")
    for n in range(LOST):
        (root / "p" / f"{n:02}.png").unlink()
    save_small(root / "p", "new.png", first=100)
    replace_secretly(root / "p" / "29.png", root / "p" / "28.png")
    return root


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "home"))


def replace_secretly(file: Path, other: Path) -> None:
    """Give a file the pixels of another, padded to its own size, with its own time."""
    size, content = file.stat().st_size, other.read_bytes()
    if len(content) > size:  # the row says what the size was, so the smaller one is padded
        file, other, size, content = other, file, len(content), file.read_bytes()
    file.write_bytes(content + b"\0" * (size - len(content)))
    age(file)


def options(missing: str, *, reembed: bool, checksum: bool) -> IndexOptions:
    return {
        "keep_missing": missing == "keep",
        "drop_missing": missing == "drop",
        "reembed": reembed,
        "checksum": checksum,
    }


@pytest.mark.parametrize(("missing", "reembed", "checksum"), CASES)
def test_each_option_does_its_own_beside_the_others(
    home: Path, missing: str, reembed: bool, checksum: bool
) -> None:
    retriever = Retriever(home / "g.imgret", size=96 if reembed else None)
    before = {path: row["sha256"] for path, row in rows(home / "g.imgret").items()}
    asked = options(missing, reembed=reembed, checksum=checksum)
    if not missing or (reembed and missing == "keep"):
        with pytest.raises(ImgretError, match=rf"{LOST} of them are gone.*--drop-missing"):
            retriever.index(home / "p", **asked)
        kept = {path: row["sha256"] for path, row in rows(home / "g.imgret").items()}
        assert before.items() <= kept.items() or checksum
        assert kept.keys() >= before.keys()
        return
    report = retriever.index(home / "p", **asked)
    after = rows(home / "g.imgret")
    is_dropped = reembed or missing == "drop"  # what is embedded anew must be there
    assert len(after) == PICTURES + 1 - LOST * is_dropped
    assert report.added == 1
    assert report.failed == 0
    changed = {path for path in before.keys() & after if after[path]["sha256"] != before[path]}
    assert len(changed) == (checksum or reembed)
    told = f"files that are gone: {LOST}; --repair drops their rows"
    assert faults(home / "g.imgret") == ([] if is_dropped else [told])


def test_a_run_after_any_other_finds_nothing_to_do(home: Path) -> None:
    retriever = Retriever(home / "g.imgret")
    retriever.index(home / "p", drop_missing=True, checksum=True)
    again = retriever.index(home / "p", checksum=True)
    assert (again.added, again.changed, again.moved, again.removed, again.encoded) == (0,) * 5
    assert again.unchanged == PICTURES + 1 - LOST


def test_rows_that_were_kept_are_found_again_with_their_files(home: Path, original: Path) -> None:
    retriever = Retriever(home / "g.imgret")
    retriever.index(home / "p", keep_missing=True)
    before = {path: row["id"] for path, row in rows(home / "g.imgret").items()}
    save_small(home / "p", *(f"{n:02}.png" for n in range(LOST)))
    report = retriever.index(home / "p")
    assert (report.added, report.encoded, report.removed) == (0, 0, 0)
    assert {path: row["id"] for path, row in rows(home / "g.imgret").items()} == before


def test_a_kept_row_is_told_as_gone_by_a_later_run_without_the_option(home: Path) -> None:
    retriever = Retriever(home / "g.imgret")
    retriever.index(home / "p", keep_missing=True)
    with pytest.raises(ImgretError, match=f"{LOST} of them are gone"):
        retriever.index(home / "p")
    assert len(rows(home / "g.imgret")) == PICTURES + 1


def test_an_estimate_tells_what_the_run_then_does(home: Path) -> None:
    retriever = Retriever(home / "g.imgret")
    for asked in ({"keep_missing": True}, {"drop_missing": True}):
        told = retriever.estimate(home / "p", **asked)  # type: ignore[arg-type]
        assert told.removed == LOST * ("drop_missing" in asked)
        done = retriever.index(home / "p", **asked)  # type: ignore[arg-type]
        assert told.removed == done.removed


def test_hidden_folders_are_left_out_unless_they_are_asked_for(home: Path) -> None:
    save_small(home / "p", ".cache/a.png", "x/.hidden/b.png", first=200)
    retriever = Retriever(home / "g.imgret")
    assert retriever.index(home / "p", drop_missing=True).added == 1
    assert retriever.index(home / "p", include_hidden=True).added == 2
    assert {path for path in rows(home / "g.imgret") if "/." in path} == {
        "p/.cache/a.png", "p/x/.hidden/b.png",
    }  # fmt: skip


def test_labels_of_a_file_are_remembered_and_may_be_given_up(home: Path) -> None:
    labels = home / "labels.csv"
    labels.write_text("path,label\np/25.png,ship\np/26.png,\np/nowhere.png,boat\n")
    retriever = Retriever(home / "g.imgret")
    retriever.index(home / "p", labels=str(labels), drop_missing=True)
    assert {row["label"] for row in rows(home / "g.imgret").values()} == {"ship", None}
    picture(300, 32, 24).save(home / "p" / "27b.png")
    labels.write_text("path,label\np/25.png,ship\np/27b.png,tug\n")
    retriever.index(home / "p")
    assert rows(home / "g.imgret")["p/27b.png"]["label"] == "tug"
    retriever.index(home / "p", labels="folder")
    assert {row["label"] for row in rows(home / "g.imgret").values()} == {"p"}


@pytest.mark.parametrize(("workers", "batch_size"), [(1, 1), (3, 7)])
def test_neither_batches_nor_workers_change_what_is_stored(
    home: Path, workers: int, batch_size: int
) -> None:
    new = Retriever(home / "other.imgret")
    new.index(home / "p", batch_size=batch_size, workers=workers)
    stored = {path: row["embedding"] for path, row in rows(home / "other.imgret").items()}
    old = {path: row["embedding"] for path, row in rows(home / "g.imgret").items()}
    for n in range(LOST, PICTURES - 2):
        path = f"p/{n:02}.png"
        ours, theirs = (np.asarray(of[path], np.float32) for of in (stored, old))
        assert ours @ theirs > 0.998, path
    assert len(stored) == PICTURES + 1 - LOST


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"batch_size": 0}, "batch_size is 0. Give 1 or more"), ({"workers": 1.5}, "workers is 1.5"),
     ({"keep_missing": True, "drop_missing": True}, "keep_missing and drop_missing.*Give one"),
     ({"max_pixels": 0}, "max_pixels is 0"), ({"labels": "nowhere.csv"}, "nowhere.csv")],
)  # fmt: skip
def test_a_wrong_option_changes_nothing(home: Path, asked: IndexOptions, said: str) -> None:
    with pytest.raises(ImgretError, match=said):
        Retriever(home / "g.imgret").estimate(home / "p", **asked)
    before = sorted((file, file.stat().st_mtime_ns) for file in (home / "g.imgret").rglob("*"))
    with pytest.raises(ImgretError, match=said):
        Retriever(home / "g.imgret").index(home / "p", **asked)
    kept = [(file, ns) for file, ns in before if file.suffix in (".toml", ".faiss", ".lance")]
    assert [(file, file.stat().st_mtime_ns) for file, _ in kept] == kept
