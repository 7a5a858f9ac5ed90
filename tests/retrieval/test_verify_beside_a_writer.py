"""verify, while another process writes to the gallery."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from retrieval.retriever import Retriever
from tests.retrieval.stored import save_small
from tests.samples import command_environment

WRITE = """
import sys
from pathlib import Path
from retrieval.retriever import Retriever, writer
writer.ROWS_PER_COMMIT = 4
gallery, pictures = Path(sys.argv[1]), Path(sys.argv[2])
while True:
    Retriever(gallery).remove(pictures / "b")
    Retriever(gallery).index(pictures, batch_size=4)
    print(flush=True)
"""


def test_a_writer_that_is_at_work_is_no_damage(tmp_path: Path, cache: Path) -> None:
    names = [f"{folder}/{n:02}.png" for folder in "ab" for n in range(12)]
    pictures = save_small(tmp_path / "pictures", *names)
    gallery = tmp_path / "g.imgret"
    Retriever(gallery).index(pictures)
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", WRITE, str(gallery), str(pictures)],
        env=command_environment(cache) | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as writer:
        try:
            assert writer.stdout is not None
            writer.stdout.readline()  # it is under way
            problems = [Retriever(gallery).verify().problems for _ in range(12)]
            assert writer.poll() is None
        finally:
            writer.kill()
    assert problems == [()] * 12
