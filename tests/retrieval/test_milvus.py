"""A gallery in the real Milvus server: the answers of the local one, whatever happens between."""

from __future__ import annotations

import re
import shlex
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from benchmarks.milvus_server import MilvusProcess
from imgret import (
    Filter,
    FilterError,
    GalleryChangedError,
    GalleryEmptyError,
    GalleryError,
    Match,
    Retriever,
    ServerError,
)
from imgret.server import ServiceOptions
from retrieval.milvus import MilvusServer, Published, ServedAddress
from retrieval.milvus.collection import HALF_WRITTEN, PROPERTY
from tests.conftest import ROOT, Command
from tests.imgret.server.started import in_thread
from tests.retrieval.filters import ROWS, filters, row
from tests.samples import picture, save_pictures

pytestmark = pytest.mark.slow

HOSTILE = ["\\u0041", "a\x00b", "\x7f\x01", "\u2028", "😀", "\U0010ffff", "{a}", "\\x41", "\ud7ff",
           'x"] or id >= 0 or path in ["', "\ue000", "a%\\", "\r\n",
           "' or id >= 0 or label == '"]  # fmt: skip


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name of its own in the server for each test."""
    return "test_" + "".join(c if c.isalnum() else "_" for c in request.node.name)[:150]


@pytest.fixture
def place(milvus: MilvusProcess, name: str) -> str:
    return f"milvus://127.0.0.1:{milvus.port}/{name}"


@pytest.fixture
def local(tmp_path: Path) -> Retriever:
    """A gallery of 24 pictures in 3 classes."""
    retriever = Retriever(tmp_path / "photos.imgret")
    retriever.index(save_pictures(tmp_path / "pictures"))
    return retriever


def served(local: Retriever, place: str, **asked: Any) -> Retriever:
    return Retriever(f"{place}?gallery={local.gallery.path}", **asked)


def in_server(place: str) -> tuple[MilvusServer, str, Published]:
    """The server of an address, its collection and what that says."""
    server = MilvusServer(ServedAddress.parse(place))
    there = server.collection(server.address.name)
    assert there is not None
    return server, there.name, Published.read_text(there.published, server.address)


def as_told(matches: list[Match]) -> list[tuple[Any, ...]]:
    return [(m.id, m.path, m.label, round(m.score, 4), m.probability, m.outside, m.copies)
            for m in matches]  # fmt: skip


@pytest.fixture(scope="module")
def published(milvus: MilvusProcess, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A gallery of 24 pictures, and where it is published; nothing changes either."""
    folder = tmp_path_factory.mktemp("published")
    retriever = Retriever(folder / "photos.imgret")
    retriever.index(save_pictures(folder / "pictures"))
    place = f"milvus://127.0.0.1:{milvus.port}/published"
    done = retriever.publish(place)
    assert (done.images, done.added, done.anew, done.kind) == (24, 24, True, "hnsw")
    return retriever.gallery.path, place


def both(published: tuple[Path, str], **asked: Any) -> tuple[list[Path], Retriever, Retriever]:
    """Queries, the gallery, and where it is published."""
    path, place = published
    local = Retriever(path, **asked)
    found = sorted(path.parent.glob("pictures/*/*.jpg"))[::5]
    return found, local, served(local, place, **asked)


@pytest.fixture
def queries(local: Retriever) -> list[Path]:
    return sorted(local.gallery.base.glob("pictures/*/*.jpg"))[::5]


@pytest.mark.parametrize("how", [
    {}, {"exclude_self": True}, {"where": "label = 'class1'"}, {"distinct": True, "k": 24},
    {"where": "path like 'pictures/class0/%' or label is null"}, {"min_score": 0.5}, {"k": 100},
    {"where": "label = 'none'"}, {"where": "width > 3 and mtime_ns > 0", "exclude_self": True},
], ids=str)  # fmt: skip
def test_the_matches_are_those_of_the_gallery(
    published: tuple[Path, str], how: dict[str, Any]
) -> None:
    queries, here, there = both(published)
    expected = here.search(queries, **how)
    assert [as_told(m) for m in there.search(queries, **how)] == [as_told(m) for m in expected]


@pytest.mark.parametrize("asked", [{"expand": "3"}, {"rerank": "10"},
                                   {"expand": "2", "rerank": "8"}], ids=str)  # fmt: skip
def test_refinements_and_other_queries_give_the_same(
    published: tuple[Path, str], asked: dict[str, str]
) -> None:
    queries, here, there = both(published, **asked)
    assert [as_told(m) for m in there.search(queries)] == [as_told(m) for m in here.search(queries)]
    mean = [next(r.search_mean(queries, k=3, exclude_self=True)) for r in (here, there)]
    assert as_told(list(mean[0].matches)) == as_told(list(mean[1].matches))
    vectors = here.encode(queries)
    found = [r.search_embeddings(vectors, 4) for r in (here, there)]
    assert [as_told(m) for m in found[0]] == [as_told(m) for m in found[1]]


def test_copies_are_folded_into_one_match(local: Retriever, place: str) -> None:
    query = gone_picture(local)
    for n in range(5):
        shutil.copy(query, query.with_name(f"copy{n}.jpg"))
    local.index(local.gallery.base / "pictures")
    local.publish(place)
    for exclude_self, k in ((False, 3), (True, 3), (False, 40)):
        found = [
            [(m.copies, round(m.score, 4)) for m in r.search(
                query, k=k, distinct=True, exclude_self=exclude_self
            )]
            for r in (local, served(local, place))
        ]  # fmt: skip
        assert found[0] == found[1]
        assert found[1][0][0] == (1 if exclude_self else 6)


def test_probabilities_are_those_of_the_gallery(
    local: Retriever, place: str, queries: list[Path]
) -> None:
    for n in range(40):
        picture(n + 500).save(local.gallery.base / "pictures" / f"class{n % 3}" / f"m{n}.png")
    local.index(local.gallery.base / "pictures")
    local.calibrate("picture", most_pictures=20)
    local.publish(place)
    how: dict[str, Any] = {"k": 5, "min_confidence": 0.01, "where": "label != 'class2'"}
    both = [r.search(queries, **how) for r in (local, served(local, place))]
    assert any(m.probability is not None for matches in both[0] for m in matches)
    for here, there in zip(*both, strict=True):
        assert [m.id for m in here] == [m.id for m in there]
        assert [m.probability for m in here] == pytest.approx(
            [m.probability for m in there], abs=1e-4
        )


def test_what_reads_the_rows_asks_no_server(local: Retriever, tmp_path: Path) -> None:
    there = served(local, "milvus://127.0.0.1:1/photos")
    assert there.evaluate().queries == 24
    assert len(there.map().points) == 24
    assert there.duplicates(tier="bytes").groups == ()
    assert there.export(tmp_path / "all.npz") == 24
    assert there.verify().ok


def test_deleted_relabelled_moved_and_new_images_are_published_again(
    local: Retriever, place: str
) -> None:
    folder = local.gallery.base / "pictures"
    local.publish(place)
    there = served(local, place)
    gone, moved, other = sorted(folder.glob("class0/*.jpg"))[:3]
    known = {m.path: m.id for m in local.search(gone, k=24)}
    gone.unlink()
    moved.rename(moved.with_name("moved.jpg"))
    picture(77).save(folder / "class2" / "new.png")
    local.index(folder)
    local.relabel({known[other]: "Zoë's \"x\\"})
    assert not served(local, place).info().served.current  # type: ignore[union-attr]
    before = {m.path for m in there.search(gone_picture(local), k=100)}
    assert gone in before  # until it is published
    done = local.publish(place)
    assert (done.added, done.changed, done.removed, done.anew) == (1, 2, 1, False)
    for retriever in (there, served(local, place)):
        matches = retriever.search(picture(77), k=100)
        assert as_told(matches) == as_told(local.search(picture(77), k=100))
        assert gone not in {m.path for m in matches}
        assert matches[0].path.name == "new.png"
        (found,) = retriever.search(picture(77), where="label = 'Zoë''s \"x\\'")
        assert found.id == known[other]
    again = local.publish(place)
    assert (again.added, again.changed, again.removed) == (0, 0, 0)
    assert served(local, place).info().served.current  # type: ignore[union-attr]


@pytest.mark.parametrize("how", [{}, {"transform": "none", "augment": "3"}], ids=str)
def test_an_emptied_gallery_is_published_and_filled_again(
    local: Retriever, place: str, inline: Command, how: dict[str, str]
) -> None:
    folder = local.gallery.base / "pictures"
    if how:
        local = Retriever(local.gallery.path, **how)  # type: ignore[arg-type]
        local.index(folder, refit=True)
    local.publish(place)
    query, there = gone_picture(local), served(local, place)
    assert there.search(query)
    local.remove(folder)
    done = local.publish(place)
    assert (done.images, done.version) == (0, local.gallery.open_table().version)
    assert not local.publish(place).anew
    for asked in ({}, {"where": "label = 'class1'"}, {"distinct": True, "exclude_self": True}):
        for retriever in (there, served(local, place), served(local, place, rerank="8")):
            assert retriever.search(query, **asked) == []
    address = f"{place}?gallery={local.gallery.path}"
    found = inline("query", str(query), "--gallery", address)
    assert (found.returncode, found.stdout) == (1, "")
    info = there.info().served
    assert info is not None
    assert (info.images, info.current) == (0, True)
    local.index(folder)
    assert local.publish(place).added == 24
    for retriever in (there, served(local, place)):
        assert as_told(retriever.search(query)) == as_told(local.search(query))


def test_a_gallery_that_never_had_an_image_is_told_as_empty(
    local: Retriever, place: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    other = Retriever(tmp_path / "other.imgret")
    other.index(tmp_path / "bad.jpg")
    with pytest.raises(GalleryEmptyError, match="holds no embedded image"):
        other.publish(place)
    local.publish(place)
    with pytest.raises(GalleryEmptyError, match="holds no embedded image"):
        other.publish(place, replace=True)
    query = gone_picture(local)
    assert as_told(served(local, place).search(query)) == as_told(local.search(query))


def gone_picture(local: Retriever) -> Any:
    return sorted(local.gallery.base.glob("pictures/class0/*.jpg"))[0]


def test_a_refit_is_a_new_collection_and_open_searchers_follow(
    local: Retriever, place: str, queries: list[Path]
) -> None:
    local.publish(place)
    there = served(local, place)
    there.search(queries[0])
    _, before, old = in_server(place)
    Retriever(local.gallery.path, transform="whiten:8").index(
        local.gallery.base / "pictures", refit=True
    )
    assert as_told(there.search(queries[0])) != as_told(local.search(queries[0]))  # the old one
    done = local.publish(place)
    server, after, new = in_server(place)
    assert done.anew
    assert after != before
    assert server.collection(before) is None
    assert old.transform != new.transform
    for retriever in (there, served(local, place)):
        assert as_told(retriever.search(queries[0])) == as_told(local.search(queries[0]))


def test_searches_continue_while_a_refit_is_published(
    local: Retriever, place: str, queries: list[Path]
) -> None:
    local.publish(place)
    there, done = served(local, place), threading.Event()
    before = as_told(local.search(queries[0]))
    answers: list[list[tuple[Any, ...]]] = []
    raised: list[Exception] = []

    def search() -> None:
        try:
            while not done.is_set():
                answers.append(as_told(there.search(queries[0])))
        except Exception as error:  # noqa: BLE001  whatever it is
            raised.append(error)

    searching = threading.Thread(target=search)
    searching.start()
    Retriever(local.gallery.path, transform="whiten:8").index(
        local.gallery.base / "pictures", refit=True
    )
    local.publish(place)
    time.sleep(1)
    done.set()
    searching.join()
    after = as_told(local.search(queries[0]))
    assert raised == []
    assert all(answer in (before, after) for answer in answers)
    assert (answers[0], answers[-1]) == (before, after)


def test_rows_that_the_server_lost_or_has_too_many_are_noticed(
    local: Retriever, place: str, queries: list[Path]
) -> None:
    local.publish(place)
    server, name, said = in_server(place)
    ids = [m.id for m in local.search(queries[0], k=24)]
    server.delete(name, np.array(ids[:3]))
    extra = {"id": 5, "path": "x", "label": "", "has_label": False, "sha256": "", "size": 0,
             "mtime_ns": 0, "checksum": 1, "width": 1, "height": 1,
             "vector": np.ones(said.d_out, np.float32)}  # fmt: skip
    server.write(name, [extra])
    done = local.publish(place)
    assert (done.added, done.removed) == (3, 1)
    assert as_told(served(local, place).search(queries[0])) == as_told(local.search(queries[0]))


def test_rows_that_others_delete_or_release_are_no_match(local: Retriever, place: str) -> None:
    local.publish(place)
    there, (server, name, _) = served(local, place), in_server(place)
    server.delete(name, local.gallery.open_table().ids())
    assert server.count(name) == 0  # waits until that is seen
    assert there.search(picture(1)) == []
    with server._asking() as client:
        client.release_collection(name)
    with pytest.raises(ServerError, match=rf"is not loaded\. .* run `imgret publish {place}`"):
        there.search(picture(1))
    assert local.publish(place).added == 24
    assert as_told(there.search(picture(1))) == as_told(local.search(picture(1)))


def test_a_run_that_had_begun_is_completed_though_nothing_is_new(
    local: Retriever, place: str
) -> None:
    local.publish(place)
    server, name, said = in_server(place)
    server.say(name, {HALF_WRITTEN: "version 9"})
    server.delete(name, np.array([m.id for m in local.search(gone_picture(local), k=2)]))
    server.say(name, {PROPERTY: replace(said, rows=22).as_text()})
    assert local.publish(place).added == 2
    there = server.collection(name)
    assert there is not None
    assert there.unfinished == ""


def test_another_gallery_is_refused_by_name_unless_it_is_to_be_replaced(
    local: Retriever, place: str, tmp_path: Path
) -> None:
    local.publish(place)
    other = other_gallery(tmp_path)
    with pytest.raises(GalleryError, match=r"holds the gallery .*photos\.imgret, not .*--replace"):
        other.publish(place)
    for ask in (lambda r: r.search(picture(3)), Retriever.info):
        with pytest.raises(
            GalleryError, match=r"was published from .*photos\.imgret, not from .* --replace`\."
        ):
            ask(served(other, place))
    assert other.publish(place, replace=True).images == 1
    assert [m.path.name for m in served(other, place).search(picture(3))] == ["one.png"]
    with pytest.raises(GalleryError, match=r"was published from .*other\.imgret"):
        served(local, place).search(picture(3))


def other_gallery(folder: Path) -> Retriever:
    """A gallery of one picture."""
    picture(3).save(folder / "one.png")
    other = Retriever(folder / "other.imgret")
    other.index(folder / "one.png")
    return other


@pytest.mark.parametrize("during", ["publishing", "indexing"])
def test_a_gallery_that_is_published_first_meanwhile_is_not_replaced(
    local: Retriever, place: str, tmp_path: Path, during: str
) -> None:
    other, done = other_gallery(tmp_path), []

    def progress(step: str, _: int, __: int | None) -> None:
        if step == during and not done:
            done.append(local.publish(place))

    with pytest.raises(GalleryError, match=r"holds the gallery .*photos\.imgret, not .*--replace"):
        other.publish(place, progress=progress)
    query = gone_picture(local)
    assert as_told(served(local, place).search(query)) == as_told(local.search(query))
    assert len(collections_of(place)) == 1
    assert other.publish(place, replace=True).images == 1


def test_of_two_galleries_that_are_published_at_once_one_is_refused(
    local: Retriever, place: str, tmp_path: Path
) -> None:
    both, together = [local, other_gallery(tmp_path)], threading.Barrier(2, timeout=60)
    raised: list[GalleryError] = []
    won: list[Retriever] = []

    def publish(retriever: Retriever) -> None:
        try:
            retriever.publish(place, progress=lambda step, done, total: (
                together.wait() if (step, done) == ("publishing", total) else None
            ))  # fmt: skip
            won.append(retriever)
        except GalleryError as error:
            raised.append(error)

    threads = [threading.Thread(target=publish, args=(each,)) for each in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == len(raised) == 1
    assert re.search(r"holds the gallery .*, not .*--replace", str(raised[0]))
    found, expected = (r.search(picture(3)) for r in (served(won[0], place), won[0]))
    assert as_told(found) == as_told(expected)
    assert len(collections_of(place)) == 1


def test_a_name_that_is_taken_meanwhile_is_not_taken_away(local: Retriever, place: str) -> None:
    local.publish(place)
    server, name, _ = in_server(place)
    server.create(f"{server.address.name}_2", 8, 1)
    with pytest.raises(GalleryChangedError, match="was published by another meanwhile"):
        server.switch(f"{server.address.name}_2", None)
    assert in_server(place)[1] == name


def collections_of(place: str) -> list[str]:
    server = MilvusServer(ServedAddress.parse(place))
    return [name for name in server.collections() if name.startswith(f"{server.address.name}_")]


def test_what_the_gallery_no_longer_fits_is_refused_with_the_cure(
    local: Retriever, place: str
) -> None:
    cure = rf"Run `imgret publish {place} --gallery "
    with pytest.raises(GalleryError, match=rf"is not published\. {cure}"):
        served(local, place).search(picture(1))
    local.publish(place)
    server, name, said = in_server(place)
    server.say(name, {PROPERTY: replace(said, version=said.version + 9).as_text()})
    with pytest.raises(GalleryError, match=rf"which has only \d+\. {cure}"):
        served(local, place).search(picture(1))
    server.say(name, {PROPERTY: replace(said, transform="0" * 64).as_text()})
    with pytest.raises(GalleryError, match=rf"does not hold any more\. {cure}"):
        served(local, place).search(picture(1))
    server.say(name, {PROPERTY: '{"format": 1'})
    with pytest.raises(GalleryError, match="cannot be read"):
        served(local, place).search(picture(1))
    server.say(name, {PROPERTY: said.as_text()})
    local.index(local.gallery.base / "pictures", reembed=True)
    with pytest.raises(GalleryError, match=rf"was embedded anew since .*\. {cure}"):
        served(local, place).search(picture(1))
    local.publish(place)
    assert as_told(served(local, place).search(picture(1))) == as_told(local.search(picture(1)))


def test_a_collection_of_others_is_left_alone(local: Retriever, place: str, name: str) -> None:
    server = MilvusServer(ServedAddress.parse(place))
    server.create(name, 8, 1)
    with pytest.raises(GalleryError, match="which imgret did not publish"):
        local.publish(place)
    assert server.collection(name) is not None


@pytest.mark.parametrize("kind", ["ivf_sq8", "hnsw"])
def test_another_kind_is_a_new_collection(local: Retriever, place: str, kind: Any) -> None:
    local.publish(place)
    done = local.publish(place, kind=kind)
    assert (done.kind, done.anew, done.recall) == (kind, kind != "hnsw", 1.0)
    assert local.publish(place).kind == kind  # it stays
    query = gone_picture(local)
    assert as_told(served(local, place).search(query)) == as_told(local.search(query))


def test_a_run_that_was_killed_before_it_had_an_index_is_completed(
    local: Retriever, place: str
) -> None:
    local.publish(place)
    server, name, _ = in_server(place)
    with server._asking() as client:
        client.release_collection(name)
        client.drop_index(name, "vector")
    assert local.publish(place).added == 0
    query = gone_picture(local)
    assert as_told(served(local, place).search(query)) == as_told(local.search(query))


def test_what_is_not_given_stays_as_it_was_published(local: Retriever, place: str) -> None:
    done = local.publish(place, kind="ivf_sq8", shards=2)
    again = local.publish(place)
    assert (again.collection, again.anew, again.added) == (done.collection, False, 0)
    Retriever(local.gallery.path, transform="whiten:8").index(
        local.gallery.base / "pictures", refit=True
    )
    refitted = local.publish(place)
    server, name, said = in_server(place)
    there = server.collection(name)
    assert there is not None
    assert refitted.anew
    assert (said.kind, there.shards) == ("ivf_sq8", 2)
    assert local.publish(place, shards=1).anew


def test_more_replicas_than_there_are_nodes_leave_all_as_it_was(
    local: Retriever, place: str
) -> None:
    refused = r"refuses \(nodes not enough\)\. Give fewer --replicas"
    with pytest.raises(ServerError, match=refused):
        local.publish(place, replicas=2)
    local.publish(place)
    with pytest.raises(ServerError, match=refused):
        local.publish(place, replicas=2)
    query = gone_picture(local)
    assert as_told(served(local, place).search(query)) == as_told(local.search(query))
    assert not local.publish(place).anew


def test_a_hostile_row_leads_nowhere(local: Retriever, place: str) -> None:
    local.publish(place)
    server, name, said = in_server(place)
    query = gone_picture(local)
    known = local.search(query, k=2)
    vectors = served(local, place)._current().index.vectors(np.array([m.id for m in known]))
    for match, vector, path in zip(
        known, vectors, ["/etc/passwd", "../../etc/passwd"], strict=True
    ):
        hostile = {"id": match.id, "path": path, "label": "", "has_label": False, "sha256": "",
                   "size": 0, "mtime_ns": 0, "checksum": 1, "width": 1, "height": 1,
                   "vector": vector}  # fmt: skip
        said = replace(said, written=server.write(name, [hostile]))
        server.say(name, {PROPERTY: said.as_text()})
        if path.startswith("/"):
            assert served(local, place).search(query, k=1)[0].outside
        else:
            with pytest.raises(GalleryError, match="leaves its folder"):
                served(local, place).search(query, k=2)


def test_the_service_answers_from_the_server(published: tuple[Path, str]) -> None:
    queries, here, _ = both(published)
    place = f"{published[1]}?gallery={published[0]}"
    expected = [[m.id for m in found] for found in here.search(queries, k=4)]
    with in_thread(ServiceOptions({"photos": place})) as client:
        sent = [("picture", (query.name, query.read_bytes())) for query in queries]
        answer = client.post("/v1/search", files=sent, data={"k": "4"})
        assert answer.status_code == 200, answer.text
        found = answer.json()["results"]
        assert [[match["id"] for match in each["matches"]] for each in found] == expected
        image = client.get(f"/v1/images/{expected[0][0]}/file")
        assert image.content == here.search(queries[0], k=1)[0].path.read_bytes()
        unreadable = client.post("/v1/search", files=sent[:1], data={"where": "label ilike 'a'"})
        assert unreadable.status_code == 422
        assert "Milvus has no ILIKE" in unreadable.text


def test_the_commands_of_the_guide_run(
    milvus: MilvusProcess, tmp_path: Path, inline: Command
) -> None:
    page = (ROOT / "docs" / "guide" / "milvus.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    (imgret .+)$", page, re.MULTILINE)
    assert [command.split()[1] for command in commands] == ["index", "publish", "query", "info"]
    save_pictures(tmp_path / "photos")
    picture(3).save(tmp_path / "photo.jpg")
    for command in commands:
        asked = shlex.split(command.replace("localhost:19530", f"127.0.0.1:{milvus.port}"))
        done = inline(*asked[1:])
        assert done.returncode == 0, done.stderr
    assert "recall@10 1.0000" in done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def rows_there(milvus: MilvusProcess) -> Any:
    """Rows of any text in a collection; gives the ids that pass an expression."""
    server = MilvusServer(ServedAddress.parse(f"milvus://127.0.0.1:{milvus.port}/filtered"))
    rows = ROWS + [row(60 + n, text, text if n % 2 else None) for n, text in enumerate(HOSTILE)]
    server.create("filtered", 4, 1)
    server.build("filtered", "hnsw", 100)
    server.load("filtered", 1)
    columns = ("id", "path", "sha256", "size", "mtime_ns", "width", "height")
    since = server.write("filtered", [
        {name: r[name] for name in columns} | {"label": r["label"] or "", "checksum": 0,
         "has_label": r["label"] is not None, "vector": np.ones(4, np.float32)} for r in rows
    ])  # fmt: skip

    def passing(wanted: Filter) -> tuple[list[int], list[int]]:
        found = server.passing("filtered", wanted.to_milvus(), since=since)
        return sorted(r["id"] for r in found), sorted(r["id"] for r in rows if wanted.accepts(r))

    return passing


@given(wanted=filters())
@settings(max_examples=600, suppress_health_check=list(HealthCheck))
def test_milvus_finds_the_rows_that_the_filter_accepts(rows_there: Any, wanted: Filter) -> None:
    try:
        found, accepted = rows_there(wanted)
    except FilterError:
        return
    assert found == accepted


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_text_is_quoted_exactly(rows_there: Any, text: str) -> None:
    quoted = "'" + text.replace("'", "''") + "'"
    pattern = "'" + "".join(f"\\{c}" if c in "\\%_" else c for c in text).replace("'", "''") + "%'"
    conditions = [f"path {how} {quoted}" for how in ("=", "!=", ">")]
    conditions += [f"path in ({quoted}, 'q')", f"label != {quoted}"]
    conditions += [f"path {how} {pattern}" for how in ("like", "not like")]
    for condition in conditions:
        found, accepted = rows_there(Filter.parse(condition))
        assert found == accepted, condition
