from __future__ import annotations

import io
import json
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import Popen, run

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from retrieval.errors import GalleryError, ImageError, ImgretError, QueryError
from retrieval.gallery import Gallery, IndexState, Settings
from retrieval.retriever import Retriever, current
from retrieval.retriever.snapshot import Snapshot
from tests.samples import picture


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """24 pictures in 3 classes, indexed, with labels."""
    folder = tmp_path_factory.mktemp("searched")
    for n in range(24):
        file = folder / "pictures" / f"class{n % 3}" / f"{n:02}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(n).save(file, quality=95)
    Retriever(folder / ".imgret", backbone=str(weights)).index(folder / "pictures")
    return folder / ".imgret"


@pytest.fixture
def retriever(gallery: Path) -> Retriever:
    return Retriever(gallery)


@pytest.fixture
def own(gallery: Path, tmp_path: Path) -> Retriever:
    """A copy that a test may damage."""
    shutil.copytree(gallery.parent, tmp_path / "own")
    return Retriever(tmp_path / "own" / ".imgret")


def test_a_picture_finds_itself_first(retriever: Retriever, gallery: Path) -> None:
    matches = retriever.search(gallery.parent / "pictures" / "class1" / "04.jpg", k=3)
    assert len(matches) == 3
    assert matches[0].path == gallery.parent / "pictures" / "class1" / "04.jpg"
    assert matches[0].label == "class1"
    assert matches[0].score == pytest.approx(1, abs=2e-3)
    assert matches[0].score >= matches[1].score >= matches[2].score


def test_paths_pictures_and_arrays_find_the_same(retriever: Retriever, gallery: Path) -> None:
    from PIL import Image

    path = gallery.parent / "pictures" / "class1" / "04.jpg"
    image = Image.open(path)
    lists = retriever.search([path, str(path), image, np.asarray(image)], k=4)
    assert [[m.id for m in matches] for matches in lists] == [[m.id for m in lists[0]]] * 4


def test_what_is_no_picture_is_an_image_error(retriever: Retriever, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="uint8"):
        retriever.search(np.zeros((4, 4, 3)))
    with pytest.raises(ImageError, match=r"nothing\.jpg: does not exist"):
        retriever.search(tmp_path / "nothing.jpg")


def test_scores_are_the_cosines_that_scikit_learn_finds(
    retriever: Retriever, tmp_path: Path
) -> None:
    retriever.export(tmp_path / "all.npz")
    stored = np.load(tmp_path / "all.npz", allow_pickle=False)
    queries = stored["embeddings"][:5]
    theirs = NearestNeighbors(n_neighbors=7, metric="cosine").fit(stored["transformed"])
    distances, places = theirs.kneighbors(stored["transformed"][:5])
    found = retriever.search_embeddings(queries * 3.5, k=7)
    assert [[m.id for m in row] for row in found] == stored["ids"][places].tolist()
    scores = np.array([[m.score for m in row] for row in found])
    assert scores == pytest.approx(1 - distances, abs=1e-3)


def test_exports_hold_the_same_in_both_formats(retriever: Retriever, tmp_path: Path) -> None:
    assert retriever.export(tmp_path / "all.npz") == retriever.export(tmp_path / "all.parquet")
    npz = np.load(tmp_path / "all.npz", allow_pickle=False)
    table = pq.read_table(tmp_path / "all.parquet")
    assert table.column_names == ["ids", "paths", "labels", "embeddings", "transformed"]
    assert table["paths"].to_pylist() == npz["paths"].tolist()
    assert table["labels"].to_pylist() == npz["labels"].tolist()
    for name in ("embeddings", "transformed"):
        assert np.array(table[name].to_pylist(), np.float32) == pytest.approx(npz[name])


def test_k_beyond_the_gallery_gives_all(retriever: Retriever) -> None:
    assert len(retriever.search(picture(1), k=500)) == 24


def test_k_below_1_is_refused(retriever: Retriever) -> None:
    with pytest.raises(ImgretError, match="k is 0"):
        retriever.search(picture(1), k=0)


def test_a_filter_gives_k_matches_where_k_exist(retriever: Retriever) -> None:
    matches = retriever.search(picture(1), k=8, where="label = 'class2'")
    assert [m.label for m in matches] == ["class2"] * 8
    assert len(retriever.search(picture(1), k=9, where="label = 'class2'")) == 8
    assert retriever.search(picture(1), where="label = 'none such'") == []


@pytest.mark.parametrize("where", ["label ==", "nothing = 3", "label = 'x", ""])
def test_a_wrong_filter_says_how_to_write_one(retriever: Retriever, where: str) -> None:
    with pytest.raises(ImgretError, match="Write it like"):
        retriever.search(picture(1), where=where)


def test_matches_below_the_least_score_are_left_out(retriever: Retriever) -> None:
    scores = [m.score for m in retriever.search(picture(1), k=24)]
    found = retriever.search(picture(1), k=24, min_score=scores[9])
    assert [m.score for m in found] == scores[:10]
    assert retriever.search(picture(1), min_score=1.01) == []


def test_a_query_leaves_out_its_own_file_and_copies_of_it(own: Retriever) -> None:
    folder = own.gallery.base / "pictures"
    shutil.copy(folder / "class1" / "04.jpg", folder / "a copy's name.jpg")
    own.index(folder)
    names = {m.path.name for m in own.search(folder / "class1" / "04.jpg", k=25)}
    assert {"04.jpg", "a copy's name.jpg"} <= names
    others = own.search(folder / "class1" / "04.jpg", k=23, exclude_self=True)
    assert {m.path.name for m in others} == names - {"04.jpg", "a copy's name.jpg"}


def test_a_mean_leaves_out_each_of_its_files_and_their_copies(own: Retriever) -> None:
    folder = own.gallery.base / "pictures"
    shutil.copy(folder / "class1" / "04.jpg", folder / "a copy's name.jpg")
    own.index(folder)
    asked = [folder / "class1" / "04.jpg", folder / "class0" / "00.jpg"]
    (result,) = own.search_mean(asked, k=25, exclude_self=True)
    names = {m.path.relative_to(folder).as_posix() for m in result.matches}
    assert len(names) == 25 - 3
    assert not names & {"class1/04.jpg", "class0/00.jpg", "a copy's name.jpg"}


def test_a_query_by_its_bytes_leaves_out_its_own_content(own: Retriever) -> None:
    file = own.gallery.base / "pictures" / "class1" / "04.jpg"
    expected = own.search(file, k=3, exclude_self=True)
    content = file.read_bytes()
    with file.open("rb") as opened, Image.open(file) as image:
        for query in (content, bytearray(content), io.BytesIO(content), opened, image):
            assert own.search(query, k=3, exclude_self=True) == expected
    for pixels in (picture(1), np.asarray(picture(1))):
        with pytest.raises(QueryError, match=r"exclude_self needs .*Give a path"):
            own.search(pixels, exclude_self=True)
    with pytest.raises(ImgretError, match="an int is not a picture"):
        own.search([3], exclude_self=True)  # type: ignore[list-item]


def test_one_path_as_text_is_one_query(own: Retriever) -> None:
    file = own.gallery.base / "pictures" / "class1" / "04.jpg"
    for search in (own.search_files, own.search_mean):
        (expected,) = search([file], k=3)
        assert len(expected.matches) == 3
        for path in (file, str(file)):
            assert list(search(path, k=3)) == [expected]
        for wrong in ("", [""], 3, [None]):
            with pytest.raises(ImgretError, match=r"a path is .*Give a path"):
                list(search(wrong, k=3))  # type: ignore[operator]


def test_a_region_is_searched_by(retriever: Retriever) -> None:
    whole = picture(5)
    canvas = picture(77, 200, 150)
    canvas.paste(whole, (50, 40))
    found = retriever.search(canvas, k=1, crop=(50, 40, 80, 60))
    assert found[0].path.name == "05.jpg"


def test_files_that_cannot_be_read_are_results(retriever: Retriever, gallery: Path) -> None:
    good, bad = gallery.parent / "pictures" / "class0" / "00.jpg", gallery / "nothing.jpg"
    found = list(retriever.search_files([good, bad, good], k=2))
    assert [result.error for result in found] == [None, "does not exist", None]
    assert [len(result.matches) for result in found] == [2, 0, 2]


def test_the_mean_of_one_image_is_that_image(retriever: Retriever, gallery: Path) -> None:
    path = gallery.parent / "pictures" / "class0" / "00.jpg"
    (mean,) = retriever.search_mean([path, path], k=5)
    assert [m.id for m in mean.matches] == [m.id for m in retriever.search(path, k=5)]


def test_embeddings_of_another_width_are_refused(retriever: Retriever) -> None:
    with pytest.raises(ImgretError, match="have a width of 7"):
        retriever.search_embeddings(np.ones((1, 7), np.float32))


def test_threads_get_the_answers_that_one_gets(retriever: Retriever) -> None:
    alone = [[m.id for m in retriever.search(picture(n), k=5)] for n in range(24)]
    fresh = Retriever(retriever.gallery.path)
    with ThreadPoolExecutor(8) as pool:
        together = list(
            pool.map(lambda n: [m.id for m in fresh.search(picture(n), k=5)], range(24))
        )
    assert together == alone


def test_an_open_retriever_sees_what_is_published_later(own: Retriever) -> None:
    assert own.search(picture(200), k=1)[0].score < 0.99
    picture(200).save(own.gallery.base / "pictures" / "new.png")
    Retriever(own.gallery.path).index(own.gallery.base / "pictures")
    assert own.search(picture(200), k=1)[0].path.name == "new.png"


def test_readers_search_while_a_writer_writes(own: Retriever) -> None:
    stop, wrong = threading.Event(), []

    def search() -> None:
        reader = Retriever(own.gallery.path)
        while not stop.is_set():
            names = [m.path.name for m in reader.search(picture(4), k=1)]
            if names != ["04.jpg"]:
                wrong.append(names)

    thread = threading.Thread(target=search)
    thread.start()
    try:
        for n in range(6):
            picture(300 + n).save(own.gallery.base / "pictures" / f"new{n}.png")
            own.index(own.gallery.base / "pictures")
            (own.gallery.base / "pictures" / f"new{n}.png").unlink()
    finally:
        stop.set()
        thread.join()
    assert wrong == []


def test_a_reader_that_a_writer_overtakes_reads_again_and_leaves_the_lock_alone(
    own: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_time = current.open_published

    def late(gallery: Gallery, state: IndexState, settings: Settings) -> Snapshot:
        monkeypatch.setattr(current, "open_published", in_time)
        picture(300).save(own.gallery.base / "pictures" / "new.png")
        own.index(own.gallery.base / "pictures")
        monkeypatch.setattr(Gallery, "lock", None)
        return in_time(gallery, state, settings)

    monkeypatch.setattr(current, "open_published", late)
    assert Retriever(own.gallery.path).search(picture(300), k=1)[0].path.name == "new.png"


def test_no_gallery_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="is not a gallery"):
        Retriever(tmp_path / "none").search(picture(1))


@pytest.mark.parametrize("damage", ["deleted", "empty", "garbage"])
def test_a_damaged_index_is_built_again_by_itself(own: Retriever, damage: str) -> None:
    before = [m.id for m in own.search(picture(4), k=5)]
    (file,) = own.gallery.path.glob("index-*.faiss")
    size = file.stat().st_size
    file.unlink()
    if damage != "deleted":
        file.write_bytes(b"" if damage == "empty" else np.random.default_rng(0).bytes(size))
    assert [m.id for m in Retriever(own.gallery.path).search(picture(4), k=5)] == before


def test_gallery_toml_can_be_lost(own: Retriever) -> None:
    before = own.info()
    own.gallery.settings_path.unlink()
    assert Retriever(own.gallery.path).search(picture(4), k=1)[0].path.name == "04.jpg"
    assert Retriever(own.gallery.path).info().transform_asked == before.transform_asked


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("format = 2", "format = 99"), "has format 99, but this imgret reads format 2"),
        (("format = 2", "format = "), "is not valid TOML"),
        (("dim = ", 'surprise = "x"\ndim = '), "backbone.surprise"),
        (('weights_sha256 = "', 'weights_sha256 = "../../'), "backbone.weights_sha256"),
    ],
)
def test_settings_that_are_not_ours_are_refused(
    own: Retriever, change: tuple[str, str], said: str
) -> None:
    file = own.gallery.settings_path
    file.write_text(file.read_text().replace(*change))
    with pytest.raises(GalleryError, match=said):
        Retriever(own.gallery.path).search(picture(1))


def test_repair_writes_lost_settings_again(own: Retriever) -> None:
    own.gallery.settings_path.write_text("garbage = ")
    assert not own.verify().ok
    assert own.verify(repair=True).ok
    assert own.verify().ok
    assert own.search(picture(4), k=1)[0].path.name == "04.jpg"


def test_verify_notices_what_is_wrong_and_repair_mends_it(own: Retriever) -> None:
    assert own.verify().ok
    (own.gallery.base / "pictures" / "class0" / "00.jpg").unlink()
    (file,) = own.gallery.path.glob("index-*.faiss")
    file.write_bytes(file.read_bytes()[:1000])
    report = own.verify()
    assert report.missing == ("pictures/class0/00.jpg",)
    assert len(report.problems) == 2
    assert own.verify(repair=True).ok
    assert own.info().images == 23


def test_a_path_that_leaves_the_gallerys_folder_is_refused(own: Retriever) -> None:
    table = own.gallery.open_table()
    ids = table.columns(["id"])["id"].to_pylist()
    table.update({"id": ids, "path": ["../../secret.jpg"] * len(ids)})
    own.gallery.settings_path.unlink()
    with pytest.raises(GalleryError, match="leaves its folder"):
        Retriever(own.gallery.path).search(picture(1))


def test_remove_drops_files_and_folders(own: Retriever) -> None:
    base = own.gallery.base / "pictures"
    assert own.remove([base / "class0", base / "class1" / "04.jpg"]) == 9
    assert own.remove(base / "class0") == 0
    assert {m.label for m in own.search(picture(1), k=24)} == {"class1", "class2"}
    assert own.verify().ok


@pytest.mark.long
def test_a_second_writer_is_told_who_writes(own: Retriever) -> None:
    code = (
        "import sys; from pathlib import Path; from retrieval.gallery import Gallery\n"
        "with Gallery(Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()"
    )
    from subprocess import PIPE

    holder = Popen(
        [sys.executable, "-c", code, str(own.gallery.path)], stdin=PIPE, stdout=PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(GalleryError, match=f"is being written by process {holder.pid} on"):
            own.index(own.gallery.base / "pictures")
        assert own.search(picture(4), k=1)[0].path.name == "04.jpg"
    finally:
        holder.communicate("")
    assert own.index(own.gallery.base / "pictures").unchanged == 24


def test_a_writer_waits_for_one_that_is_soon_done(own: Retriever) -> None:
    with own.gallery.lock():
        writer = ThreadPoolExecutor(1).submit(own.index, own.gallery.base / "pictures")
        with pytest.raises(TimeoutError):
            writer.result(timeout=0.3)
    assert writer.result().unchanged == 24


def test_rows_can_be_searched_while_the_first_run_has_not_published_them(own: Retriever) -> None:
    before = [m.id for m in own.search(picture(4), k=5)]
    own.gallery.settings_path.unlink()
    for file in own.gallery.path.glob("index-*.faiss"):
        file.unlink()
    with own.gallery.lock():
        assert [m.id for m in Retriever(own.gallery.path).search(picture(4), k=5)] == before
    assert not list(own.gallery.path.glob("index-*.faiss"))


@pytest.mark.long
def test_a_search_with_an_exported_encoder_imports_no_torch(gallery: Path) -> None:
    code = (
        "import sys, json; from imgret import Retriever\n"
        "from pathlib import Path; folder = Path(sys.argv[1])\n"
        "Retriever(folder).search(folder.parent / 'pictures/class0/00.jpg')\n"
        "print(json.dumps([m for m in ('torch', 'timm', 'sklearn') if m in sys.modules]))"
    )
    done = run(
        [sys.executable, "-c", code, str(gallery)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []
