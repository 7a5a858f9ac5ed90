"""A run of index that several processes do stores what a run of one process does, whatever dies."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.errors import ArgumentError, BackboneError, GalleryError, ProcessError
from retrieval.retriever import Retriever, crew, driver
from retrieval.retriever.encoders import EncoderChoice
from retrieval.retriever.engine_proof import EngineProof
from retrieval.retriever.parts import DEADLY
from tests.conftest import Command
from tests.retrieval.stored import COLUMNS, age, faults, rows, save_small
from tests.samples import command_environment, picture
from tests.watchdog import until

CLUSTER: dict[str, Any] = {"cluster": "processes", "cluster_workers": 2, "batch_size": 8}
PLAIN: dict[str, Any] = {"batch_size": 8}
PICTURES = 72
# The decoder of BMP crashes, as one may that reads a file made for it; only in processes begun here
CRASHES = """
import os, signal
from pathlib import Path
command = Path("/proc/self/cmdline").read_text()
if {where!r} in command:
    from PIL import BmpImagePlugin
    def crash(self):
        os.kill(os.getpid(), signal.SIGSEGV)
    BmpImagePlugin.BmpImageFile._open = crash
"""
DRIVER = """
import sys
from retrieval.retriever import Retriever, crew, driver
crew.MOST_IN_PART, driver.SECONDS_A_COMMIT = 16, 0.0
Retriever(sys.argv[1]).index(sys.argv[2], cluster="processes", cluster_workers=2, batch_size=8)
"""


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "MOST_IN_PART", 16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Small pictures in two classes, one file that is none and one that is there twice."""
    made = save_small(tmp_path / "p", *(f"{'ab'[n % 2]}/{n:03}.png" for n in range(PICTURES)))
    (made / "a" / "broken.png").write_bytes(b"no picture")
    shutil.copy2(made / "a" / "000.png", made / "b" / "again.png")
    return made


def stored(gallery: Path) -> dict[str, tuple[Any, ...]]:
    """All that is stored by path but the id, embeddings to the bit."""
    names = [name for name in COLUMNS if name not in ("id", "path", "embedding")]
    return {
        path: (
            *(row[name] for name in names),
            np.array([] if row["embedding"] is None else row["embedding"], np.float16).tobytes(),
        )
        for path, row in rows(gallery).items()
    }


def answers(gallery: Path, folder: Path) -> list[list[tuple[str, float]]]:
    files = sorted(folder.glob("*/*[02468].png"))[::8]
    found = Retriever(gallery).search(files, k=7)
    return [[(match.path.name, match.score) for match in matches] for matches in found]


def check_answers(several: Path, one: Path, folder: Path) -> None:
    """Both answer alike once the transform was fitted to all rows, in whichever order these lie.

    After a run that was killed the index was fitted to fewer, as without workers.
    """
    for gallery in (several, one):
        Retriever(gallery).index(folder, refit=True)
    for found, expected in zip(answers(several, folder), answers(one, folder), strict=True):
        assert dict(found) == pytest.approx(dict(expected), abs=1e-5)


def children(process: int, of: str) -> list[int]:
    """Processes that a process has started, by a word of their command."""
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            found += map(int, (task / "children").read_text().split())
    return [child for child in found if of in Path(f"/proc/{child}/cmdline").read_text()]


def start(gallery: Path, folder: Path, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", DRIVER, str(gallery), str(folder)],
        env=command_environment(cache), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_workers_store_what_one_process_stores_and_answer_alike(folder: Path) -> None:
    one, several = folder.parent / "one.imgret", folder.parent / "several.imgret"
    told: list[tuple[str, int, int | None]] = []
    plain = Retriever(one).index(folder, **PLAIN)
    shared = Retriever(several).index(folder, progress=lambda *said: told.append(said), **CLUSTER)
    assert shared.gallery == several
    same = ("added", "changed", "moved", "removed", "failed", "engine", "failures")
    assert [getattr(shared, name) for name in same] == [getattr(plain, name) for name in same]
    assert stored(several) == stored(one)
    assert answers(several, folder) == answers(one, folder)
    assert faults(several) == []
    assert not (several / "plans").exists()
    assert told[-1] != told[0]
    assert ("encoding", PICTURES + 2, PICTURES + 2) in told
    assert children(os.getpid(), "serve_jobs") == []


def test_what_changed_moved_was_touched_or_is_gone_comes_out_alike(folder: Path) -> None:
    galleries = [folder.parent / "one.imgret", folder.parent / "several.imgret"]
    for gallery in galleries:
        Retriever(gallery).index(folder, **PLAIN)
    before = {gallery: rows(gallery) for gallery in galleries}
    save_small(folder, *(f"c/{n}.png" for n in range(20)), first=500)  # new
    shutil.copy2(folder / "c" / "0.png", folder / "c" / os.fsdecode(b"odd-\xff.png"))  # no UTF-8
    picture(900, 32, 24).save(folder / "a" / "002.png")  # changed
    age(folder / "a" / "002.png")
    os.utime(folder / "a" / "004.png", (1e9, 1e9 + 5))  # touched
    (folder / "b" / "001.png").rename(folder / "c" / "moved.png")
    shutil.copy2(folder / "b" / "003.png", folder / "c" / "copied.png")
    (folder / "a" / "006.png").unlink()  # gone
    (folder / "b" / "005.png").write_bytes(b"no picture any more")
    age(folder / "b" / "005.png")
    picture(901, 32, 24).save(folder / "a" / "broken.png")  # a picture now
    age(folder / "a" / "broken.png")
    reports = [
        Retriever(gallery).index(folder, labels="none", **how)
        for gallery, how in zip(galleries, (PLAIN, CLUSTER), strict=True)
    ]
    names = ("added", "changed", "moved", "unchanged", "removed", "failed", "reused", "encoded")
    plain, shared = ([getattr(report, name) for name in names] for report in reports)
    assert shared == plain
    assert reports[0].moved == 1
    assert stored(galleries[1]) == stored(galleries[0])
    kept = [
        {path for path, row in rows(gallery).items() if row["id"] == old.get(path, row)["id"]}
        for gallery, old in before.items()
    ]
    assert kept[1] == kept[0]
    assert faults(galleries[1]) == []


def test_all_is_embedded_again_by_workers_as_by_one_process(folder: Path) -> None:
    galleries = [folder.parent / "one.imgret", folder.parent / "several.imgret"]
    for gallery, how in zip(galleries, (PLAIN, CLUSTER), strict=True):
        Retriever(gallery).index(folder, **PLAIN)
        Retriever(gallery, size=96).index(folder, reembed=True, **how)
    assert stored(galleries[1]) == stored(galleries[0])
    assert faults(galleries[1]) == []
    save_small(folder, "c/new.png", first=700)
    assert Retriever(galleries[1]).index(folder).added == 1
    assert faults(galleries[1]) == []


def test_a_part_whose_worker_is_killed_is_done_by_another(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, several = folder.parent / "one.imgret", folder.parent / "several.imgret"
    Retriever(one).index(folder, **PLAIN)
    killed: list[int] = []

    def kill(what: str, done: int, _: int | None) -> None:
        if what == "encoding" and done >= 16 * (1 + 2 * len(killed)) and len(killed) < 2:
            killed.append(children(os.getpid(), "serve_jobs")[0])
            os.kill(killed[-1], signal.SIGKILL)

    report = Retriever(several).index(folder, progress=kill, **CLUSTER)
    assert len(killed) == 2
    assert "A worker has ended (signal 9); another one does its part again." in caplog.messages
    assert (report.added, report.failed) == (PICTURES + 1, 1)
    assert stored(several) == stored(one)
    assert faults(several) == []


def test_the_same_command_continues_after_its_driver_was_killed(folder: Path, cache: Path) -> None:
    one, several = folder.parent / "one.imgret", folder.parent / "several.imgret"
    Retriever(one).index(folder, **PLAIN)
    process = start(several, folder, cache)
    until(lambda: is_there(several, 16))
    workers = children(process.pid, "serve_jobs")
    process.kill()
    process.communicate()
    assert len(workers) == 2
    until(lambda: not any(Path(f"/proc/{worker}/cmdline").exists() for worker in workers), 5)
    assert [path.name for path, _ in Retriever(several).info().leftovers] == ["plans"]
    there = len(rows(several))
    assert there < PICTURES
    report = Retriever(several).index(folder, **CLUSTER)
    assert report.added + report.failed == PICTURES + 2 - there  # the others are not read again
    assert stored(several) == stored(one)
    check_answers(several, one, folder)
    assert faults(several) == []


def test_an_interrupt_ends_the_workers_and_keeps_what_is_whole(folder: Path, cache: Path) -> None:
    several = folder.parent / "several.imgret"
    process = start(several, folder, cache)
    until(lambda: is_there(several, 16))
    workers = children(process.pid, "serve_jobs")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert said.splitlines()[-1] == "KeyboardInterrupt"
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert not (several / "plans").exists()
    there = len(rows(several))
    report = Retriever(several).index(folder, **CLUSTER)
    assert report.added + report.failed == PICTURES + 2 - there
    assert faults(several) == []


def test_a_second_driver_is_told_who_holds_the_gallery(folder: Path) -> None:
    gallery, told = folder.parent / "g.imgret", []

    def second(what: str, done: int, _: int | None) -> None:
        if what == "encoding" and done and not told:
            with pytest.raises(GalleryError) as raised:
                Retriever(gallery).index(folder, **CLUSTER)
            told.append(str(raised.value))

    Retriever(gallery).index(folder, progress=second, **CLUSTER)
    assert f"is being written by process {os.getpid()}" in told[0]
    assert faults(gallery) == []


@pytest.mark.parametrize("where", ["serve_", "serve_jobs"])
def test_an_image_that_kills_its_worker_is_a_row_with_its_reason_and_the_rest_is_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """serve_: a child finds it at once. serve_jobs: only the worker dies, so halves find it."""
    gallery = folder.parent / "g.imgret"
    deadly = ["a/deadly.bmp"] if where == "serve_jobs" else ["a/deadly.bmp", "b/deadly.bmp"]
    for seed, name in enumerate(deadly, 800):
        picture(seed, 32, 24).save(folder / name)
        age(folder / name)
    hook = folder.parent / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(CRASHES.format(where=where))
    with monkeypatch.context() as patched:
        patched.syspath_prepend(hook)
        report = Retriever(gallery).index(folder, **CLUSTER)
    found = rows(gallery)
    assert len(found) == PICTURES + 2 + len(deadly)
    assert sorted(path for path, row in found.items() if row["error"] == DEADLY) == [
        f"p/{name}" for name in deadly
    ]
    assert (report.added, report.failed) == (PICTURES + 1, 1 + len(deadly))
    assert ("p/a/deadly.bmp", DEADLY) in report.failures
    assert faults(gallery) == []
    assert Retriever(gallery).index(folder).added == 0  # which does not decode it


def test_workers_that_always_die_end_the_run_and_blame_no_image(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery, hook = folder.parent / "g.imgret", folder.parent / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import os, sys\nif 'serve_jobs' in open('/proc/self/cmdline').read(): os._exit(9)"
    )
    monkeypatch.syspath_prepend(hook)
    with pytest.raises(ProcessError, match=r"end again and again \(exit code 9\)"):
        Retriever(gallery).index(folder, **CLUSTER)
    assert rows(gallery) == {}


def test_an_encoder_of_another_engine_or_other_numbers_is_refused() -> None:
    proofs = [
        EngineProof.of(EncoderChoice({"size": 64}, engine).new())
        for engine in ("openvino-fp32", "openvino-fp32", "openvino-bf16")
    ]
    proofs[0].check(proofs[1])
    assert (proofs[0].embedding == proofs[1].embedding).all()
    with pytest.raises(BackboneError, match="engine openvino-bf16 instead of openvino-fp32"):
        proofs[0].check(proofs[2])


def test_a_worker_that_encodes_otherwise_is_refused_before_it_works(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its OpenVINO has another version."""
    hook = folder.parent / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "from importlib import metadata\nreal = metadata.version\n"
        "metadata.version = lambda name: '1.0' if name == 'openvino' else real(name)"
    )
    monkeypatch.syspath_prepend(hook)
    with pytest.raises(
        BackboneError, match=r"has versions imgret \S+, openvino 1.0 instead of imgret "
    ):
        Retriever(folder.parent / "g.imgret").index(folder, **CLUSTER)
    assert rows(folder.parent / "g.imgret") == {}


def test_the_engine_of_the_workers_is_kept_with_the_gallery_where_it_is_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where only the workers have a GPU; here they encode in another precision."""
    one, several = folder.parent / "one.imgret", folder.parent / "several.imgret"
    Retriever(one, engine="openvino-fp32").index(folder, **PLAIN)
    here, process = EncoderChoice({}).new().engine, crew.open_crew

    @contextlib.contextmanager
    def elsewhere(*asked: Any) -> Iterator[crew.Crew]:
        with process(*asked) as found:
            yield replace(found, engine="openvino-fp32")

    monkeypatch.setattr(driver, "open_crew", elsewhere)
    report = Retriever(several).index(folder, **CLUSTER)
    assert report.engine == Retriever(several).info().engine == "openvino-fp32"
    assert stored(several) == stored(one)
    if here != "openvino-fp32":
        Retriever(several).index(folder, reembed=True, **CLUSTER)
        assert Retriever(several).info().engine == "openvino-fp32"
    assert faults(several) == []


@pytest.mark.parametrize(
    "asked",
    [
        {"cluster": "slurm"},
        {"cluster": "ray://"},
        {"cluster": "ray:// x"},
        {"cluster_workers": 2},
        {"cluster": "processes", "cluster_workers": 0},
    ],
)
def test_a_wrong_cluster_is_refused(folder: Path, asked: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="Give"):
        Retriever(folder.parent / "g.imgret").index(folder, **asked)


def test_what_is_done_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "MOST_IN_PART", 32)
    folder = save_small(tmp_path / "p", *(f"{n:03}.png" for n in range(64)))
    told: list[tuple[str, int, int | None]] = []
    Retriever(folder.parent / "g.imgret").index(
        folder, progress=lambda *news: told.append(news), **CLUSTER
    )
    encoding = [news for news in told if news[0] == "encoding"]
    assert encoding[-1][1] == encoding[-1][2]
    assert len(encoding) == len(set(encoding))


def test_the_command_indexes_with_workers(folder: Path, imgret: Command) -> None:
    done = imgret("index", "p", "--cluster", "processes", "--cluster-workers", 2)
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["added", str(PICTURES + 1)])
    assert "Encoding" in done.stderr
    assert faults(folder.parent / ".imgret") == []
    wrong = imgret("index", "p", "--cluster", "slurm")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "cluster is 'slurm'. Give processes, ray" in wrong.stderr


@pytest.mark.slow
def test_runs_that_are_killed_at_random_moments_end_as_an_undisturbed_one(
    folder: Path, cache: Path
) -> None:
    """The driver, and in between a worker of it; many small commits of small parts."""
    one, several = folder.parent / "one.imgret", folder.parent / "several.imgret"
    save_small(folder, *(f"{'ab'[n % 2]}/x{n:03}.png" for n in range(300)), first=1000)
    Retriever(one).index(folder, **PLAIN)
    moments, before, kills = random.Random(1), 0, 0  # noqa: S311
    for _ in range(12):
        process = start(several, folder, cache)
        while process.poll() is None and not is_there(several, before + 1):
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 0.3))
        if moments.random() < 0.5:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                for worker in children(process.pid, "serve_jobs")[:1]:
                    os.kill(worker, signal.SIGKILL)
            time.sleep(moments.uniform(0, 0.5))
        process.kill()
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        now = len(rows(several))
        assert now >= before
        before = now
    assert kills >= 4
    assert Retriever(several).index(folder, **CLUSTER).failed == 1
    assert stored(several) == stored(one)
    check_answers(several, one, folder)
    assert faults(several) == []


def is_there(gallery: Path, most: int) -> bool:
    return (gallery / "images.lance").is_dir() and len(rows(gallery)) >= most
