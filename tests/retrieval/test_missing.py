"""The disk is not the truth of one moment: files that are gone, moved, or changed in secret."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from retrieval.errors import DataError, ImgretError
from retrieval.retriever import Retriever
from retrieval.retriever.plan import check_paths
from tests.conftest import Command
from tests.retrieval.stored import rows, save_small
from tests.samples import picture
from tests.watchdog import ends


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """p/big (30 pictures), p/small (4) and q (25), each given by itself, and their gallery."""
    root = tmp_path_factory.mktemp("missing")
    save_small(root / "p", *(f"big/{n:02}.png" for n in range(30)))
    save_small(root / "p", *(f"small/{n:02}.png" for n in range(4)), first=100)
    save_small(root / "q", *(f"{n:02}.png" for n in range(25)), first=200)
    for path in ("p/big", "p/small", "q"):
        Retriever(root / "g.imgret").index(root / path)
    return root


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "home"))


@pytest.fixture
def retriever(home: Path) -> Retriever:
    return Retriever(home / "g.imgret")


def lose(*files: Path) -> None:
    for file in files:
        file.unlink()


def some(folder: Path, n: int) -> list[Path]:
    return sorted(folder.glob("*.png"))[:n]


def check_refused(retriever: Retriever, number: int, **options: object) -> None:
    """index() of all paths raises, with the number, and the rows stay."""
    before = rows(retriever.gallery.path)
    with pytest.raises(ImgretError, match=rf"{number} of them are gone.*--drop-missing"):
        retriever.index([retriever.gallery.base / "p", retriever.gallery.base / "q"], **options)  # type: ignore[arg-type]
    assert rows(retriever.gallery.path) == before


# When that files are gone is not believed


def test_a_path_that_held_rows_and_yields_no_file_is_refused(
    retriever: Retriever, home: Path
) -> None:
    lose(*some(home / "p" / "small", 4))
    before = rows(retriever.gallery.path)
    with pytest.raises(ImgretError, match="small held 4 stored images, and 4 of them are gone"):
        retriever.index(home / "p" / "small")
    assert rows(retriever.gallery.path) == before


def test_the_loss_of_more_than_half_and_at_least_twenty_is_refused(
    retriever: Retriever, home: Path
) -> None:
    lose(*some(home / "p" / "big", 20))
    check_refused(retriever, 20)


@pytest.mark.parametrize(("folder", "lost"), [("p/big", 15), ("p/big", 19), ("p/small", 3)])
def test_the_loss_of_half_or_of_fewer_than_twenty_is_believed(
    retriever: Retriever, home: Path, folder: str, lost: int
) -> None:
    lose(*some(home / folder, lost))
    assert retriever.index(home / folder).removed == lost


def test_an_emptied_folder_below_the_given_path_is_refused(
    retriever: Retriever, home: Path
) -> None:
    lose(*some(home / "q", 25))  # as a mount point is left; q is fewer than half of all
    before = rows(retriever.gallery.path)
    with pytest.raises(ImgretError, match="q held 25 stored images"):
        retriever.index(home)
    assert rows(retriever.gallery.path) == before


def test_an_emptied_folder_that_was_never_given_is_refused(tmp_path: Path) -> None:
    save_small(tmp_path / "p", *(f"disk/{n:02}.png" for n in range(20)))
    save_small(tmp_path / "p", *(f"rest/{n:02}.png" for n in range(60)), first=50)
    retriever = Retriever(tmp_path / "g.imgret")
    retriever.index(tmp_path / "p")
    lose(*some(tmp_path / "p" / "disk", 20))
    with pytest.raises(ImgretError, match="disk held 20 stored images"):
        retriever.index(tmp_path / "p")


def test_a_folder_that_was_deleted_on_purpose_is_believed(tmp_path: Path) -> None:
    save_small(tmp_path / "p", *(f"holiday/{n:02}.png" for n in range(20)))
    save_small(tmp_path / "p", *(f"rest/{n:02}.png" for n in range(60)), first=50)
    retriever = Retriever(tmp_path / "g.imgret")
    retriever.index(tmp_path / "p")
    shutil.rmtree(tmp_path / "p" / "holiday")
    assert retriever.index(tmp_path / "p").removed == 20


def test_a_path_given_earlier_that_lies_below_is_looked_at_too(
    retriever: Retriever, home: Path
) -> None:
    lose(*some(home / "p" / "small", 4))  # 4 of 59 below home, and all of what was given once
    with pytest.raises(ImgretError, match="small held 4 stored images"):
        retriever.index(home)


def test_what_is_new_is_stored_also_where_what_is_gone_is_refused(
    retriever: Retriever, home: Path
) -> None:
    for file in some(home / "q", 25):
        picture(int(file.stem) + 900, 32, 24).save(home / "q" / f"other{file.name}")
        file.unlink()
    with pytest.raises(ImgretError, match=r"(at least \d\d|25) of them are gone"):
        retriever.index(home / "q")
    assert len(rows(retriever.gallery.path)) in (59, 84)
    assert retriever.index(home / "q", drop_missing=True).removed == 25
    assert len(rows(retriever.gallery.path)) == 59


def test_keep_missing_keeps_and_drop_missing_drops(retriever: Retriever, home: Path) -> None:
    lose(*some(home / "q", 25))
    assert retriever.index(home / "q", keep_missing=True).removed == 0
    assert len(rows(retriever.gallery.path)) == 59
    assert retriever.index(home / "q", drop_missing=True).removed == 25
    assert len(rows(retriever.gallery.path)) == 34


def test_a_dry_run_refuses_as_the_run_does(retriever: Retriever, home: Path) -> None:
    lose(*some(home / "q", 25))
    with pytest.raises(ImgretError, match="25 of them are gone"):
        retriever.estimate(home / "q")
    assert retriever.estimate(home / "q", drop_missing=True).removed == 25
    assert retriever.estimate(home / "q", keep_missing=True).removed == 0


def test_a_reembed_refuses_what_is_not_there(home: Path) -> None:
    retriever, before = Retriever(home / "g.imgret", size=64), rows(home / "g.imgret")
    lose(*some(home / "q", 25))
    with pytest.raises(ImgretError, match="25 of them are gone"):
        retriever.index(home / "p", reembed=True)
    shutil.rmtree(home / "q")
    with pytest.raises(ImgretError, match="q does not exist"):
        retriever.index(home / "p", reembed=True)
    assert rows(home / "g.imgret") == before
    assert retriever.index(home / "p", reembed=True, drop_missing=True).encoded == 0
    assert len(rows(home / "g.imgret")) == 34


def test_a_repair_refuses_what_is_not_there(retriever: Retriever, home: Path) -> None:
    lose(*some(home / "q", 25))
    with pytest.raises(ImgretError, match="25 of them are gone"):
        retriever.verify(repair=True)
    assert len(rows(home / "g.imgret")) == 59
    assert retriever.verify(repair=True, drop_missing=True).dropped == 25


@pytest.mark.parametrize(
    "command", [["index", "q"], ["index", "q", "--dry-run"], ["verify", "--repair"]]
)
def test_the_command_line_says_how_many_and_exits_with_2(
    inline: Command, original: Path, tmp_path: Path, command: list[str]
) -> None:
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    lose(*some(tmp_path / "q", 25))
    done = inline(*command, "--gallery", "g.imgret")
    assert done.returncode == 2
    assert "25 of them are gone" in done.stderr
    assert len(rows(tmp_path / "g.imgret")) == 59
    assert inline(*command, "--gallery", "g.imgret", "--drop-missing").returncode == 0


def test_files_that_cannot_be_looked_at_are_not_gone(retriever: Retriever, home: Path) -> None:
    (home / "p" / "small").chmod(0)
    before = os.geteuid()
    try:
        if before == 0:
            os.seteuid(65534)
        assert not retriever.gallery.is_gone("p/small/00.png")
    finally:
        os.seteuid(before)
        (home / "p" / "small").chmod(0o755)


def test_a_path_that_cannot_be_looked_at_is_one_sentence(
    retriever: Retriever, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exists(path: Path) -> bool:  # as Python 3.11 does below a folder of mode 0, but for root
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "exists", exists)
    with pytest.raises(DataError, match=r"small cannot be looked at \(Permission denied\)\. Give"):
        check_paths([home / "p" / "small"])


def test_what_lies_beside_the_gallery_is_below_a_folder_above_it(tmp_path: Path) -> None:
    save_small(tmp_path / "in", *(f"{n}.png" for n in range(3)))
    save_small(tmp_path / "out", *(f"{n}.png" for n in range(3)), first=10)
    retriever = Retriever(tmp_path / "in" / ".imgret")
    retriever.index(tmp_path)
    lose(tmp_path / "in" / "0.png", tmp_path / "out" / "0.png")
    assert retriever.index(tmp_path).removed == 2
    assert retriever.remove(tmp_path) == 4


def test_files_that_are_excluded_now_are_there_and_dropped(
    retriever: Retriever, home: Path
) -> None:
    assert retriever.index(home / "p", exclude=["big/*"]).removed == 30
    assert retriever.index(home / "q", exclude="small/*").removed == 0  # one text is one glob
    assert retriever.index(home / "q", exclude=["*.png"]).removed == 25
    assert len(rows(home / "g.imgret")) == 4


def test_a_path_given_twice_is_counted_twice(retriever: Retriever, home: Path) -> None:
    lose(*some(home / "p" / "small", 1))
    assert retriever.index([home / "p", home / "p" / "small"]).removed == 1


def test_many_paths_are_no_work_each_for_each_row(retriever: Retriever, home: Path) -> None:
    roots = [f"q/{n}.png" for n in range(200_000)]
    with ends():  # looked at one by one, they take hours
        above = retriever.gallery.roots_above(roots)
        assert [n for n in range(20_000) if above(f"q/{n}.png") != [f"q/{n}.png"]] == []


# Moves


def ids_by_content(gallery: Path) -> dict[str, int]:
    return {row["sha256"]: row["id"] for row in rows(gallery).values()}


@pytest.mark.parametrize("given", [["p"], ["p/big", "p/small"], ["p/small", "p/big2", "q"]])
def test_a_renamed_folder_keeps_its_rows(
    retriever: Retriever, home: Path, given: list[str]
) -> None:
    before = ids_by_content(home / "g.imgret")
    target = "p/small/big" if given == ["p/big", "p/small"] else "p/big2"
    (home / "p" / "big").rename(home / target)
    paths = [home / path for path in given if (home / path).exists()]
    report = retriever.index(paths)
    assert (report.moved, report.encoded, report.removed) == (30, 0, 0)
    assert ids_by_content(home / "g.imgret") == before
    assert {Path(path).parent.as_posix() for path in rows(home / "g.imgret")} == {
        target,
        "p/small",
        "q",
    }
    assert retriever.verify().ok


def test_a_file_that_was_moved_to_another_given_path_keeps_its_row(
    retriever: Retriever, home: Path
) -> None:
    before = rows(home / "g.imgret")["q/00.png"]
    (home / "q" / "00.png").rename(home / "p" / "small" / "from q.png")
    report = retriever.index([home / "p", home / "q"])
    assert (report.moved, report.added, report.removed, report.encoded) == (1, 0, 0, 0)
    after = rows(home / "g.imgret")["p/small/from q.png"]
    assert (after["id"], after["root"], after["label"]) == (before["id"], "p", "small")


def test_files_that_swap_their_names_keep_each_its_own_content(
    retriever: Retriever, home: Path
) -> None:
    one, other, spare = (home / "q" / name for name in ("00.png", "01.png", "spare"))
    one.rename(spare)
    other.rename(one)
    spare.rename(other)
    for file in (one, other):
        os.utime(file, (2e9, 2e9))
    assert retriever.index(home / "q").encoded == 0
    for file in (one, other):
        assert retriever.search(file, k=1, exclude_self=False)[0].path == file
    assert retriever.verify().ok


def test_a_copy_stays_a_copy(retriever: Retriever, home: Path) -> None:
    shutil.copy2(home / "q" / "00.png", home / "q" / "copy.png")
    report = retriever.index(home / "q")
    assert (report.moved, report.added, report.encoded) == (0, 1, 0)
    lose(home / "q" / "00.png")
    assert retriever.index(home / "q").removed == 1
    assert "q/copy.png" in rows(home / "g.imgret")


def test_of_two_copies_that_are_gone_each_row_is_moved_once(
    retriever: Retriever, home: Path
) -> None:
    shutil.copy2(home / "q" / "00.png", home / "q" / "copy.png")
    retriever.index(home / "q")
    (home / "q" / "00.png").rename(home / "q" / "x.png")
    (home / "q" / "copy.png").rename(home / "q" / "y.png")
    report = retriever.index(home / "q")
    assert (report.moved, report.added, report.removed) == (2, 0, 0)
    assert len(rows(home / "g.imgret")) == 60


def test_a_file_that_takes_the_name_of_another_leaves_no_ghost(
    retriever: Retriever, home: Path
) -> None:
    (home / "q" / "00.png").replace(home / "q" / "01.png")
    retriever.index(home / "q")
    stored = rows(home / "g.imgret")
    assert "q/00.png" not in stored
    assert len(stored) == 58
    assert retriever.verify().ok
