from __future__ import annotations

import os
from pathlib import Path

import pytest

from retrieval.errors import ImgretError
from retrieval.images import find_images
from tests.samples import picture

MADE_BY_MACHINES = ("@tmp", "@Recycle", "@Recently-Snapshot", "System Volume Information",
                    "$RECYCLE.BIN", "lost+found", "__pycache__", "#snapshot", "#recycle",
                    ".snapshot", "~snapshot", "RECYCLER", "FOUND.000", "Config.Msi", "MSOCache",
                    "$WINDOWS.~BT", "Network Trash Folder", "Temporary Items")  # fmt: skip


def names(*roots: Path, **options: object) -> list[str]:
    return [file.path.name for file in find_images(roots, **options)]  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    (root / "sub").mkdir(parents=True)
    picture(0).save(root / "a.jpg")
    picture(1).save(root / "sub" / "b.png")
    return root


def test_images_are_found_in_folders_below_in_a_fixed_order(folder: Path) -> None:
    picture(2).save(folder / "c.webp")
    assert names(folder) == names(folder)
    assert sorted(names(folder)) == ["a.jpg", "b.png", "c.webp"]


def test_an_image_is_told_by_its_content(folder: Path) -> None:
    (folder / "a.jpg").rename(folder / "no-suffix")
    picture(3).save(folder / "odd.dat", "JPEG")
    (folder / "notes.txt").write_text("no image")
    assert sorted(names(folder)) == ["b.png", "no-suffix", "odd.dat"]


def test_a_file_with_an_images_name_is_found_whatever_is_in_it(folder: Path) -> None:
    (folder / "text.jpg").write_text("no image")
    assert "text.jpg" in names(folder)


def test_what_is_known_is_not_opened_again(folder: Path) -> None:
    odd = folder / "odd.dat"
    odd.write_text("was an image once")
    assert "odd.dat" not in names(folder)
    assert "odd.dat" in names(folder, known=lambda of: [odd.name] if of == folder else [])


def test_hidden_files_and_folders_are_skipped_unless_asked_for(folder: Path) -> None:
    (folder / ".hidden").mkdir()
    picture(4).save(folder / ".hidden" / "d.jpg")
    picture(5).save(folder / ".e.jpg")
    assert sorted(names(folder)) == ["a.jpg", "b.png"]
    assert sorted(names(folder, include_hidden=True)) == [".e.jpg", "a.jpg", "b.png", "d.jpg"]


def test_a_hidden_folder_that_is_named_is_searched(folder: Path) -> None:
    folder.rename(folder.with_name(".photos"))
    assert names(folder.with_name(".photos")) == ["a.jpg", "b.png"]


def test_links_are_followed_without_looping(folder: Path, tmp_path: Path) -> None:
    (folder / "sub" / "up").symlink_to(folder)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    picture(6).save(elsewhere / "f.jpg")
    (folder / "linked").symlink_to(elsewhere)
    assert sorted(names(folder)) == ["a.jpg", "b.png", "f.jpg"]


def test_a_broken_link_is_a_failure_with_its_reason(folder: Path) -> None:
    (folder / "gone.jpg").symlink_to(folder / "nothing")
    failed = [file for file in find_images([folder]) if file.error]
    assert [(file.path.name, "link" in str(file.error)) for file in failed] == [("gone.jpg", True)]


def test_a_pipe_never_blocks(folder: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")
    os.mkfifo(folder / "pipe")
    failed = {file.path.name: file.error for file in find_images([folder]) if file.error}
    assert failed == {"pipe.jpg": "not a regular file"}


def test_globs_leave_out_files_and_whole_folders(folder: Path) -> None:
    picture(7).save(folder / "a_thumb.jpg")
    assert sorted(names(folder, exclude=["*_thumb.jpg"])) == ["a.jpg", "b.png"]
    assert sorted(names(folder, exclude=["sub"])) == ["a.jpg", "a_thumb.jpg"]


def test_overlapping_paths_yield_a_file_once(folder: Path) -> None:
    assert sorted(names(folder, folder / "sub", folder / "a.jpg")) == ["a.jpg", "b.png"]


def test_a_file_that_is_named_is_yielded_whatever_its_name(folder: Path) -> None:
    text = folder / "notes.txt"
    text.write_text("no image")
    assert names(text) == ["notes.txt"]


def test_a_name_that_is_not_utf8_is_a_failure(folder: Path) -> None:
    picture(8).save(folder / os.fsdecode(b"\xff.jpg"))
    assert [f.error for f in find_images([folder]) if f.error] == [
        "its name is not valid UTF-8; rename it"
    ]


def test_a_gallery_is_never_searched(folder: Path) -> None:
    (folder / ".imgret").mkdir()
    picture(9).save(folder / ".imgret" / "x.jpg")
    assert sorted(names(folder, include_hidden=True)) == ["a.jpg", "b.png"]


def test_a_path_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImgretError, match="does not exist"):
        names(tmp_path / "nothing")


def passed_over(*roots: Path, **options: object) -> list[str]:
    kinds: list[str] = []
    names(*roots, passed_over=kinds.append, **options)
    return sorted(kinds)


OTHERS = {
    "b.CR3x.psd": b"8BPS\0\1",
    "scan.jp2": b"\0\0\0\x0cjP  \r\n\x87\n",
    "drawing.SVG": b"<svg/>",
    "icon.ico": b"\0\0\1\0",
    "texture.tga": b"\0\0\2",
    "clip.mp4": b"\0\0\0\x18ftypmp42",
    "clip.MOV": b"\0\0\0\x14ftypqt  ",
    "paper.pdf": b"%PDF-1.7",
}


def test_formats_that_are_not_read_are_told_by_their_suffix(folder: Path) -> None:
    for name, begins in OTHERS.items():
        (folder / "sub" / name).write_bytes(begins + bytes(100))
    (folder / "notes.txt").write_text("no image")
    (folder / "table.csv").write_text("path,label")
    assert sorted(names(folder)) == ["a.jpg", "b.png"]
    assert passed_over(folder) == sorted(Path(name).suffix for name in OTHERS)


def test_what_is_not_read_is_told_by_its_content_too(folder: Path) -> None:
    (folder / "layers").write_bytes(b"8BPS\0\1" + bytes(100))
    (folder / "paper.bin").write_bytes(b"%PDF-1.7" + bytes(100))
    assert passed_over(folder) == [".pdf", ".psd"]


def test_what_is_left_out_is_not_passed_over(folder: Path) -> None:
    (folder / "sub" / "x.psd").write_bytes(b"8BPS\0\1")
    (folder / ".hidden.psd").write_bytes(b"8BPS\0\1")
    assert passed_over(folder, exclude=["sub"]) == []
    assert passed_over(folder, exclude=["*.psd"]) == []


def test_folders_that_machines_make_are_hidden(folder: Path) -> None:
    for name in ("@eaDir", ".AppleDouble", "__MACOSX", "@EADIR", ".@__thumb", *MADE_BY_MACHINES):
        below = folder / "sub" / name / "deeper"
        below.mkdir(parents=True)
        picture(6).save(below / "SYNOPHOTO_THUMB_XL.jpg")
        (below / "x.psd").write_bytes(b"8BPS\0\1")
    assert sorted(names(folder)) == ["a.jpg", "b.png"]
    assert passed_over(folder) == []
    assert len(names(folder, include_hidden=True)) == 7 + len(MADE_BY_MACHINES)
    assert len(names(folder / "sub" / "@eaDir")) == 1  # named, it is searched
