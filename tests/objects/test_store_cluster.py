"""Worker processes over images and a gallery in a store: every id once, whatever dies."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from retrieval.objects import ObjectPath
from retrieval.retriever import Retriever, crew
from retrieval.retriever.parts import DEADLY
from tests.objects.conftest import send
from tests.objects.test_store_galleries import stored
from tests.retrieval.stored import save_small
from tests.retrieval.test_cluster import CLUSTER, CRASHES, PLAIN, children, start
from tests.samples import picture
from tests.watchdog import until

PICTURES = 48


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "MOST_IN_PART", 16)


@pytest.fixture
def photos(bucket: ObjectPath, tmp_path: Path) -> ObjectPath:
    folder = save_small(tmp_path / "p", *(f"{'ab'[n % 2]}/{n:03}.png" for n in range(PICTURES)))
    (folder / "a" / "broken.png").write_bytes(b"no picture")
    return send(folder, bucket / "photos")


@pytest.fixture
def plain(photos: ObjectPath, tmp_path: Path) -> Retriever:
    """What one process stores of the same folder."""
    retriever = Retriever(tmp_path / "plain.imgret")
    retriever.index(tmp_path / "p", **PLAIN)
    return retriever


def check(gallery: ObjectPath, plain: Retriever, *, within: float = 0.0) -> None:
    """Every id once, embeddings equal to the bit, answers equal, nothing left over.

    within: how far scores may differ, where rows lie in another order since a run was killed: the
    transform is fitted to their sums.
    """
    retriever = Retriever(str(gallery))
    assert stored(retriever) == stored(plain)
    ids = retriever.gallery.open_table().ids()
    assert len(set(ids.tolist())) == len(ids)
    asked = [picture(n, 32, 24) for n in range(0, PICTURES, 7)]
    found, wanted = (r.search(asked, k=7) for r in (retriever, plain))
    for mine, theirs in zip(found, wanted, strict=True):
        assert [m.path.name for m in mine] == [m.path.name for m in theirs]
        scores = [m.score for m in theirs]
        assert [m.score for m in mine] == pytest.approx(scores, rel=0, abs=within)
    assert retriever.verify().ok
    assert not (gallery / "plans").exists()


def test_workers_over_a_store_store_what_one_process_stores(
    bucket: ObjectPath, photos: ObjectPath, plain: Retriever
) -> None:
    report = Retriever(str(bucket / "g.imgret")).index(str(photos), **CLUSTER)
    assert (report.added, report.failed) == (PICTURES, 1)
    check(bucket / "g.imgret", plain)
    assert Retriever(str(bucket / "g.imgret")).index(str(photos), **CLUSTER).unchanged == PICTURES


def test_a_worker_and_the_driver_may_be_killed(
    bucket: ObjectPath, photos: ObjectPath, plain: Retriever, cache: Path
) -> None:
    gallery = bucket / "g.imgret"
    with start(gallery, photos, cache) as driver:
        until(lambda: len(children(driver.pid, "serve_jobs")) == 2)
        os.kill(children(driver.pid, "serve_jobs")[0], signal.SIGKILL)
        until(lambda: (gallery / "images.lance" / "data").is_dir())
        driver.kill()
    with start(gallery, photos, cache) as again:
        _, said = again.communicate(timeout=240)
    assert again.returncode == 0, said
    Retriever(str(gallery)).index(str(photos), refit=True)  # it may be fitted to those of before
    check(gallery, plain, within=1e-5)


def test_an_image_that_kills_its_worker_is_a_row_with_its_reason(
    bucket: ObjectPath, photos: ObjectPath, plain: Retriever, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(CRASHES.format(where="serve_"))
    picture(1).save(tmp_path / "poison.bmp")
    (photos / "a" / "poison.bmp").write_bytes((tmp_path / "poison.bmp").read_bytes())
    retriever = Retriever(str(bucket / "g.imgret"))
    with monkeypatch.context() as patched:
        patched.syspath_prepend(site)
        report = retriever.index(str(photos), **CLUSTER)
    assert (report.added, report.failed) == (PICTURES, 2)
    assert DEADLY in {reason for _, reason in report.failures}
    found = stored(retriever)
    assert found.pop("poison.bmp")[2] == DEADLY
    assert found == stored(plain)
