"""Work in the background: done once a version, kept within bounds, told of its very version."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from imgret.server import ServiceOptions
from imgret.server.jobs import RESULTS_KEPT, Job, JobKey, Jobs
from retrieval.retriever import OpenGallery, Retriever
from tests.imgret.server.started import in_thread, is_problem


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    jobs = Jobs()
    yield jobs
    jobs.end()


@pytest.fixture
def retriever(own: Path) -> Retriever:
    return Retriever(own / ".imgret")


class Counted:
    """Work that counts how often it was done."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, gallery: OpenGallery, progress: object) -> int:
        self.times += 1
        return len(gallery.page().images)


def done(job: Job) -> Any:
    return job.future.result(60)


def version_of(retriever: Retriever) -> str:
    with retriever.open() as gallery:
        return gallery.version


def test_the_same_work_is_done_once(jobs: Jobs, retriever: Retriever) -> None:
    work, key = Counted(), JobKey("own", version_of(retriever), "count")
    assert done(jobs.ask(key, retriever, work)) == 24
    assert done(jobs.ask(key, retriever, work)) == 24
    assert work.times == 1


def test_what_failed_is_done_again(jobs: Jobs, retriever: Retriever) -> None:
    key = JobKey("own", version_of(retriever), "fail")

    def fail(*_: object) -> None:
        raise ValueError("once")

    with pytest.raises(ValueError, match="once"):
        done(jobs.ask(key, retriever, fail))
    jobs.ask(key, retriever, fail)
    assert done(jobs.ask(key, retriever, Counted())) == 24


def test_what_was_asked_for_last_is_kept(jobs: Jobs, retriever: Retriever) -> None:
    version, work = version_of(retriever), Counted()

    def ask(topic: int) -> None:
        done(jobs.ask(JobKey("own", version, topic), retriever, work))

    for topic in range(RESULTS_KEPT):
        ask(topic)
    ask(0)  # so that 1 was not asked for longest
    ask(RESULTS_KEPT)
    assert work.times == RESULTS_KEPT + 1
    ask(0)
    assert work.times == RESULTS_KEPT + 1
    ask(1)
    assert work.times == RESULTS_KEPT + 2


def test_of_a_gallery_the_two_versions_that_were_asked_for_last_stay(
    jobs: Jobs, retriever: Retriever
) -> None:
    work, other = Counted(), Counted()
    done(jobs.ask(JobKey("other", "x", 0), retriever, other))
    versions = []
    for label in ("a", "b", "c"):
        with retriever.open() as gallery:
            id = gallery.page(1).images[0].id
        retriever.relabel({id: label})
        versions.append(version_of(retriever))
        done(jobs.ask(JobKey("own", versions[-1], 0), retriever, work))
    for version in versions[1:]:
        done(jobs.ask(JobKey("own", version, 0), retriever, work))
    assert work.times == 3
    done(jobs.ask(JobKey("own", versions[0], 0), retriever, work))
    assert work.times == 4
    done(jobs.ask(JobKey("other", "x", 0), retriever, other))
    assert other.times == 1


def test_a_result_names_the_version_that_it_is_of(jobs: Jobs, retriever: Retriever) -> None:
    waits, asked = threading.Event(), version_of(retriever)
    jobs.ask(JobKey("own", asked, "wait"), retriever, lambda *_: waits.wait(60))
    late = jobs.ask(JobKey("own", asked, "count"), retriever, Counted())
    with retriever.open() as gallery:
        retriever.remove([gallery.page(1).images[0].path])
    now = version_of(retriever)
    waits.set()
    assert done(late) == 23
    assert late.version == now != asked
    assert jobs.ask(JobKey("own", now, "count"), retriever, Counted()) is late


def until_done(ask: Callable[[], Any]) -> dict[str, Any]:
    until = time.monotonic() + 60
    while (answer := ask()).status_code == 202 and time.monotonic() < until:
        time.sleep(0.05)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_rows_that_are_not_published_yet_are_not_told_of(own: Path) -> None:
    with in_thread(ServiceOptions({"own": own / ".imgret"})) as client:
        listed = client.get("/v1/images").json()
        table = Retriever(own / ".imgret").gallery.open_table()
        table.remove([listed["images"][0]["id"]])  # as `index` commits, which publishes at its end
        told = client.get("/v1/gallery").json()
        assert (told["images"], told["version"]) == (24, listed["version"])
        for path in ("/v1/map", "/v1/duplicates?tier=bytes"):
            found = until_done(lambda path=path: client.get(path))  # type: ignore[misc]
            assert found["version"] == listed["version"]
        drawn = until_done(lambda: client.get("/v1/map"))
        assert drawn["total"] == 24
        assert all(point["id"] is not None for point in drawn["points"])


def test_images_are_listed_by_clusters(own: Path) -> None:
    with in_thread(ServiceOptions({"own": own / ".imgret"})) as client:
        query: dict[str, Any] = {"order": "clusters", "limit": 7}
        first = until_done(lambda: client.get("/v1/images", params=query))
        ids = [image["id"] for image in first["images"]]
        starts, cursor = first["clusters"], first["next"]
        while cursor:
            page = client.get("/v1/images", params={**query, "cursor": cursor}).json()
            assert page["version"] == first["version"]
            ids += [image["id"] for image in page["images"]]
            starts, cursor = starts + page["clusters"], page["next"]
        assert sorted(ids) == [image["id"] for image in client.get("/v1/images").json()["images"]]
        assert sum(start["images"] for start in starts) == first["total"] == 24
        assert starts[0]["first"] == ids[0]
        sizes = [start["images"] for start in starts]
        assert sizes == sorted(sizes, reverse=True)
        few = client.get("/v1/images", params={**query, "where": "label = 'class1'"}).json()
        assert few["total"] == 8
        client.patch(f"/v1/images/{ids[0]}", json={"label": "new"})
        until_done(lambda: client.get("/v1/images", params=query))
        old = client.get("/v1/images", params={**query, "cursor": first["next"]})
        assert is_problem(old, 422)
