"""What a killed command left on this machine, of a gallery in a store, is swept by a later one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieval.claims import new_file
from retrieval.encoder import cache_folder
from retrieval.files import scratch_folder
from retrieval.objects import ObjectPath
from retrieval.retriever import Retriever

MAKES = """
import sys, time
from pathlib import Path
from retrieval.files import replaced
from retrieval.objects import ObjectPath

place = ObjectPath(sys.argv[1]) if "://" in sys.argv[1] else Path(sys.argv[1])
with replaced(place) as made:
    made.write_text("half")
    print(made, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def killed_while_making(place: ObjectPath | Path) -> Path:
    """What a process that makes the content of a place had written when it was killed."""
    with subprocess.Popen(
        [sys.executable, "-c", MAKES, str(place)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        made = Path(process.stdout.readline().strip())
        assert made.read_text() == "half"
        process.send_signal(signal.SIGKILL)
    return made


@pytest.fixture
def living(temporary: Path) -> Iterator[Path]:
    """What a process that lives is making."""
    with scratch_folder(temporary) as made:
        yield made


def test_what_was_being_sent_is_swept_and_not_what_is_still_being_made(
    bucket: ObjectPath, temporary: Path, living: Path
) -> None:
    left = killed_while_making(bucket / "g.imgret" / "lock-progress")
    assert left.is_relative_to(temporary)
    subprocess.run(
        [sys.executable, "-c", MAKES.replace("time.sleep(600)", ""), str(bucket / "a")], check=True
    )
    assert list(temporary.iterdir()) == [living]
    assert (bucket / "a").read_bytes() == b"half"


def test_index_files_that_were_being_fetched_are_swept_of_every_gallery(
    bucket: ObjectPath, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMGRET_CACHE", str(tmp_path / "cache"))
    other = cache_folder() / "fetched" / "of-another-gallery"
    other.mkdir(parents=True)
    left = killed_while_making(other / "index-1.faiss")
    assert left.parent == other
    retriever = Retriever(str(bucket / "g.imgret"))
    retriever.index(pictures)
    living, handle = new_file(other, ".faiss")
    retriever.search(pictures / "class0" / "00.jpg", k=1)
    assert list(other.iterdir()) == [living]
    os.close(handle)
