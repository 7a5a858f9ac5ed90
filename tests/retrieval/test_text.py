from __future__ import annotations

import errno
import sys
from pathlib import Path

import faiss
import lance
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.text import HIDDEN, one_sentence, remedy, unwritable, visible


@given(st.text(st.characters(blacklist_categories=())))
def test_what_is_visible_is_one_line_without_controls(text: str) -> None:
    shown = visible(text)
    assert HIDDEN.search(shown) is None
    assert len(shown.splitlines()) <= 1
    shown.encode()


@given(st.text(st.characters(whitelist_categories=("L", "N", "P", "S", "Zs"))))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_emoji_and_scripts_that_need_joiners_stay_as_they_are() -> None:
    assert visible("👩‍🔬 می‌خواهم") == "👩‍🔬 می‌خواهم"


SAID = [
    (
        "LanceError(IO): Generic LocalFileSystem error: No space left on device (os error 28), "
        "/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/lance-io-14.0.0/src/object.rs:72:9",
        "LanceError(IO): Generic LocalFileSystem error: No space left on device (os error 28)",
    ),
    (
        "Error in faiss::FileIOWriter::FileIOWriter(const std::string&) at "
        "/project/third-party/faiss/faiss/impl/io.cpp:98: Error: 'f' failed: could not open "
        "/tmp/x.faiss for writing: No space left on device",
        "could not open /tmp/x.faiss for writing: No space left on device",
    ),
    (
        "Check 'util::directory_exists(path)' failed at src/common/util/src/file_util.cpp:42:\n"
        "Can't create the folder /cache",
        "Can't create the folder /cache",
    ),
    (
        "Exception from src/inference/src/cpp/core.cpp:85:\n"
        "Check 'x' failed at src/frontends/ir/src/ir.cpp:12:\nThe file is empty\n",
        "The file is empty",
    ),
    ("std::bad_alloc", "std::bad_alloc"),
    ("", "RuntimeError"),
    (
        "cannot read in /opt/venv/lib/python3.12/site-packages/timm/models/_hub.py:9: wrong header",
        "cannot read wrong header",
    ),
]


@pytest.mark.parametrize(("said", "kept"), SAID, ids=range(len(SAID)))
def test_a_librarys_message_is_its_sentence_alone(said: str, kept: str) -> None:
    assert one_sentence(RuntimeError(said)) == kept


def test_what_faiss_and_lance_really_say_is_cleaned(tmp_path: Path) -> None:
    said = []
    for action in (
        lambda: faiss.read_index(str(tmp_path / "nowhere.faiss")),
        lambda: faiss.write_index(faiss.IndexFlatL2(4), str(tmp_path / "no" / "x.faiss")),
        lambda: faiss.IndexFlatL2(4).search(faiss.rand((1, 4)), 0),
        lambda: lance.dataset(str(tmp_path / "nowhere.lance")),
    ):
        try:
            action()
        except (RuntimeError, ValueError, OSError, AssertionError) as error:
            said.append(one_sentence(error))
    assert len(said) >= 3
    for sentence in said:
        assert not any(part in sentence for part in (".rs", ".cpp", "::", "site-packages", "\n"))


def test_what_cannot_be_written_names_the_file_the_reason_and_what_to_do() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    assert str(unwritable(Path("a.html"), full)) == (
        "a.html cannot be written (No space left on device). Free some space and run the same "
        "command again."
    )
    rust = RuntimeError("Error while serializing: IoError(Os { code: 28, kind: StorageFull })")
    assert "Free some space" in remedy(rust)
    for number in (errno.EACCES, errno.EROFS, errno.ENOENT, errno.EISDIR, errno.EFBIG, errno.EIO):
        assert remedy(OSError(number, "reason")).endswith(".")


def test_no_command_writes_but_by_the_one_way() -> None:
    import imgret

    for file in (Path(imgret.__file__).parent / "commands").glob("*.py"):
        text = file.read_text()
        for way in ("sys.stdout.write", "click.echo", "csv.writer"):
            assert way not in text, (file, way)
    assert sys.stdout
