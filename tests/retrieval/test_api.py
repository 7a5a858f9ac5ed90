"""The objects of the API behave as Python's do: forked, pickled, given NumPy's numbers, as JSON."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle  # noqa: TID251  a user's DataLoader does
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.errors import ArgumentError, BackboneError, GalleryError, ImgretError, QueryError
from retrieval.gallery import Settings
from retrieval.plain import plain
from retrieval.retriever import Retriever
from retrieval.retriever.snapshot import Snapshot
from tests.conftest import ROOT
from tests.samples import command_environment, picture

N = 48


def save(folder: Path, n: int) -> list[Path]:
    folder.mkdir(parents=True)
    files = [folder / f"{place:02}.png" for place in range(n)]
    for place, file in enumerate(files):
        picture(place).save(file)
    return files


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 pictures in two classes, indexed at 64 px by mini; no test changes it."""
    folder = tmp_path_factory.mktemp("api")
    for place in range(N):
        file = folder / "pictures" / f"class{place % 2}" / f"{place:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(place).save(file)
    Retriever(folder / ".imgret", size=64).index(folder / "pictures")
    return folder


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(made, tmp_path / "own")
    return tmp_path / "own"


def files_of(folder: Path) -> list[Path]:
    return sorted((folder / "pictures").rglob("*.png"), key=lambda file: file.name)


def script(made: Path, cache: Path, code: str, cwd: Path | None = None) -> str:
    """What a Python process of its own prints; `r` is a Retriever that has searched already."""
    before = (
        "import multiprocessing as mp, os, sys, threading\nfrom pathlib import Path\n"
        "from imgret import Retriever\n"
        "folder = Path(sys.argv[1]); r = Retriever(folder / '.imgret')\n"
        "def work(n): return r.search(folder / f'pictures/class{n % 2}/{n:02}.png', k=1)"
        "[0].path.stem\n"
        "assert work(0) == '00'\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", before + code, str(made)],
        capture_output=True, text=True, timeout=300, cwd=cwd or made,
        env=command_environment(cache) | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def is_running(process: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


# --- fork


@pytest.mark.long
def test_a_pool_of_forked_processes_answers(made: Path, cache: Path) -> None:
    code = (
        "if __name__ == '__main__':\n"
        "    with mp.get_context('fork').Pool(2) as pool:\n"
        "        print(pool.map_async(work, range(6)).get(timeout=50), work(7))\n"
    )
    assert script(made, cache, code).strip() == "['00', '01', '02', '03', '04', '05'] 07"


@pytest.mark.long
def test_what_gunicorn_loads_before_it_forks_answers_in_threads_of_each_worker(
    made: Path, cache: Path
) -> None:
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "workers = []\n"
        "for first in (1, 9):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        with ThreadPoolExecutor(4) as threads:\n"
        "            found = list(threads.map(work, range(first, first + 8)))\n"
        "        os.write(1, (' '.join(found) + '\\n').encode())\n"
        "        sys.exit(3)\n"  # as a worker ends that has nothing more to do
        "    workers.append(pid)\n"
        "print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in workers])\n"
    )
    lines = sorted(script(made, cache, code).splitlines())
    assert lines == ["01 02 03 04 05 06 07 08", "09 10 11 12 13 14 15 16", "[3, 3]"]


@pytest.mark.long
def test_a_forked_child_takes_every_kind_of_picture_and_ends_with_its_helper(
    made: Path, cache: Path, tmp_path: Path
) -> None:
    code = (
        "import io, numpy as np, torch\nfrom PIL import Image\n"
        "from retrieval.errors import ImageError, QueryError\n"
        "def main():\n"
        "    os.chdir(folder / 'pictures/class1')\n"  # relative paths are the child's
        "    image = Image.open('05.png'); array = np.asarray(image); data = open('05.png', 'rb')\n"
        "    given = ['05.png', data.read(), data, Image.open('05.png'), array,\n"
        "             torch.from_numpy(array.copy()),\n"
        "             torch.from_numpy(array.copy()).permute(2, 0, 1)]\n"
        "    print([r.search(one, k=1)[0].path.stem for one in given])\n"
        "    print(len(r.search((one for one in given), k=np.int64(2))), len(r.encode(given)))\n"
        "    for wrong in (None, torch.zeros(3), io.StringIO('x'), 'nothing.png'):\n"
        "        try: r.search(wrong)\n"
        "        except (ImageError, QueryError) as error: print(type(wrong).__name__, error)\n"
        "    (found,) = r.search_files([Path('05.png')], k=2)\n"
        "    print(found.query, len(found.matches))\n"
        "    print(Path(f'/proc/{os.getpid()}/task/{os.getpid()}/children').read_text())\n"
        "    sys.stdout.flush()\n"
        "child = mp.get_context('fork').Process(target=main); child.start(); child.join(50)\n"
        "print(child.exitcode)\n"
    )
    lines = script(made, cache, code).splitlines()
    assert lines[0] == str(["05"] * 7)
    assert lines[1] == "7 7"
    assert [line.split(" ")[0] for line in lines[2:6]] == ["NoneType", "Tensor", "StringIO", "str"]
    assert "binary mode" in lines[4]
    assert lines[6] == "05.png 2"
    assert lines[8] == "0"
    deadline = time.monotonic() + 20
    while is_running(int(lines[7])):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.long
def test_a_call_that_is_given_up_in_a_forked_child_leaves_no_answer_for_the_next_one(
    made: Path, cache: Path
) -> None:
    code = (
        "def main():\n"
        "    def stop(*said): raise FileNotFoundError\n"
        "    try: r.evaluate(progress=stop)\n"
        "    except FileNotFoundError: print('given up')\n"
        "    print(work(7))\n"
        "child = mp.get_context('fork').Process(target=main); child.start(); child.join(50)\n"
        "print(child.exitcode)\n"
    )
    assert script(made, cache, code).split("\n")[:-1] == ["given up", "07", "0"]


@pytest.mark.long
def test_a_forked_child_runs_no_code_of_the_folder_that_it_is_in(
    made: Path, cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "retrieval").mkdir()
    (tmp_path / "retrieval" / "__init__.py").write_text("open('was_run', 'w')")
    (tmp_path / "numpy.py").write_text("open('was_run', 'w')")
    code = (
        f"sys.path = [entry for entry in sys.path if entry]; os.chdir({str(tmp_path)!r})\n"
        "child = mp.get_context('fork').Process(target=lambda: print(work(3), flush=True))\n"
        "child.start(); child.join(50)\n"
    )
    assert script(made, cache, code) == "03\n"
    assert not (tmp_path / "was_run").exists()


def test_a_retriever_that_has_done_nothing_before_the_fork_works_in_the_child(
    made: Path, cache: Path
) -> None:
    code = (
        "import sys, os\nfrom imgret import Retriever\nr = Retriever(sys.argv[1] + '/.imgret')\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    found = r.search(sys.argv[1] + '/pictures/class0/00.png', k=1)\n"
        "    print(found[0].path.stem, flush=True)\n"
        "    os._exit(0)\n"
        "print(os.waitpid(pid, 0)[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(made)], capture_output=True, text=True,
        timeout=300, env=command_environment(cache) | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("00\n0\n", "")


# --- pickle


def test_a_retriever_is_pickled_by_its_path_and_what_was_asked(made: Path) -> None:
    asked: dict[str, Any] = {
        "size": 64, "fit": "squash", "pool": "own", "views": "none", "engine": "openvino-fp32",
        "expand": "3", "rerank": "none", "trust": True,
    }  # fmt: skip
    before = Retriever(made / ".imgret", **asked)
    query = files_of(made)[3]
    expected = [m.id for m in before.search(query, k=5)]
    for again in (pickle.loads(pickle.dumps(before)), copy.copy(before), copy.deepcopy(before)):  # noqa: S301
        assert again.arguments() == before.arguments()
        assert asked.items() <= again.arguments()[1].items()
        assert [m.id for m in again.search(query, k=5)] == expected


def test_a_kind_of_retriever_stays_one_when_it_is_pickled(made: Path) -> None:
    again = pickle.loads(pickle.dumps(Changing(made / ".imgret", size=64)))  # noqa: S301
    assert type(again) is Changing
    assert again.search(files_of(made)[1], k=1)[0].path.stem == "01"


def test_matches_and_reports_are_pickled(made: Path) -> None:
    retriever = Retriever(made / ".imgret")
    matches = retriever.search(files_of(made)[0], k=3)
    assert pickle.loads(pickle.dumps(matches)) == matches  # noqa: S301
    info = retriever.info()
    assert pickle.loads(pickle.dumps(info)) == info  # noqa: S301


# --- whole numbers

NUMBERS = [np.int64, np.int32, np.uint8]


@pytest.mark.parametrize("number", NUMBERS)
def test_numpys_integers_are_integers_wherever_one_is_taken(
    own: Path, number: Callable[[int], Any]
) -> None:
    files = files_of(own)
    many = np.int64(10_000_000)
    r = Retriever(own / ".imgret", size=number(64))
    box: Any = tuple(map(number, (0, 0, 40, 30)))
    expected = [m.id for m in Retriever(own / ".imgret").search(files[2], 3, crop=(0, 0, 40, 30))]
    found = r.search(files[2], number(3), crop=box, max_pixels=many)
    assert [m.id for m in found] == expected
    vectors = r.encode(files[:2], crop=box, max_pixels=many)
    assert [len(one) for one in r.search_embeddings(vectors, number(3))] == [3, 3]
    assert len(next(r.search_files(files[:1], number(3), crop=box, max_pixels=many)).matches) == 3
    assert len(next(r.search_mean(files[:2], number(3), max_pixels=many)).matches) == 3
    reading: dict[str, Any] = {
        "batch_size": number(4), "workers": number(1), "max_pixels": many
    }  # fmt: skip
    assert r.estimate(own / "pictures", **reading).unchanged == N
    assert r.index(own / "pictures", **reading).unchanged == N
    ks = np.array([1, 5], np.dtype(number))
    said = r.evaluate(k=ks, vote=number(3), most_queries=np.int64(100), max_pixels=many)
    assert said.to_dict() == r.evaluate(k=(1, 5), vote=3, most_queries=100).to_dict()
    assert r.evaluate(k=5, vote=3).to_dict() == r.evaluate(k=[5], vote=3).to_dict()
    assert len(r.map(most_images=number(20), seed=number(1)).points) == 20
    assert r.duplicates(max_pixels=many).images == N


@pytest.mark.parametrize(
    ("name", "value"),
    [(n, v) for n in ("k", "max_pixels") for v in (0, -1, 1.5, None, "3", np.float32(2))],
)
def test_what_is_no_whole_number_is_refused_by_its_name(made: Path, name: str, value: Any) -> None:
    r, file = Retriever(made / ".imgret"), files_of(made)[0]
    calls: list[Callable[[], object]] = [
        lambda: r.search(file, **{name: value}),
        lambda: list(r.search_files([file], **{name: value})),
        lambda: list(r.search_mean([file], **{name: value})),
    ]
    for call in calls:
        with pytest.raises(ImgretError, match=f"^{name} "):
            call()


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("index", {"batch_size": 0}),
        ("index", {"batch_size": 2.5}),
        ("index", {"workers": -1}),
        ("index", {"max_pixels": "many"}),
        ("estimate", {"workers": 0}),
        ("estimate", {"max_pixels": 0}),
        ("evaluate", {"vote": 0}),
        ("evaluate", {"vote": 1.5}),
        ("evaluate", {"most_queries": 0}),
        ("evaluate", {"k": (0,)}),
        ("evaluate", {"k": (1.5,)}),
        ("evaluate", {"k": ()}),
        ("map", {"most_images": 0}),
        ("map", {"most_images": "x"}),
        ("map", {"seed": -1}),
        ("map", {"method": "pca"}),
        ("duplicates", {"max_pixels": 0}),
        ("duplicates", {"tier": "same"}),
        ("duplicates", {"threshold": float("nan")}),
        ("duplicates", {"threshold": "0.9"}),
        ("search", {"min_score": float("nan")}),
        ("search", {"min_score": "0.5"}),
        ("search", {"min_confidence": 1.5}),
        ("search", {"crop": (0, 0, 10)}),
        ("search", {"crop": (0.5, 0, 10, 10)}),
        ("search", {"crop": "all"}),
    ],
)
def test_an_argument_that_is_none_is_refused_by_its_name(
    made: Path, call: str, arguments: dict[str, Any]
) -> None:
    r = Retriever(made / ".imgret")
    given: dict[str, tuple[Any, ...]] = {"search": (files_of(made)[0],)}
    given |= dict.fromkeys(("index", "estimate"), (made / "pictures",))
    (name,) = arguments
    with pytest.raises(ImgretError, match=f"^{name} "):
        getattr(r, call)(*given.get(call, ()), **arguments)


def test_no_queries_have_no_answers(made: Path) -> None:
    r = Retriever(made / ".imgret")
    assert r.search([]) == []
    assert list(r.search_files([])) == []
    assert r.encode([]).shape == (0, 1280)
    assert r.search_embeddings(np.empty((0, 1280), np.float32)) == []
    with pytest.raises(ImgretError, match="at least one"):
        list(r.search_mean([]))


@pytest.mark.parametrize("part", ["not ", "(", "- ", "'"])
def test_a_filter_without_end_is_refused_in_a_short_sentence(made: Path, part: str) -> None:
    for n in (1_000, 100_000):
        with pytest.raises(ImgretError, match=r"^The filter") as raised:
            Retriever(made / ".imgret").search(files_of(made)[0], where=f"{part * n}true")
        assert len(str(raised.value)) < 900


# --- what contradicts the gallery, and what there is not


def searches(r: Retriever, folder: Path) -> list[Callable[[], object]]:
    file = files_of(folder)[0]
    vectors = np.ones((1, 1280), np.float32)
    return [
        lambda: r.search(file),
        lambda: r.search_embeddings(vectors),
        lambda: list(r.search_files([file])),
        lambda: list(r.search_mean([file])),
        lambda: r.encode([file]),
        lambda: r.evaluate(calibrate=False),
        lambda: r.index(folder / "pictures"),
        lambda: r.estimate(folder / "pictures"),
    ]


CONTRADICTING = [
    {"size": 96}, {"size": np.int64(96)}, {"fit": "crop"}, {"pool": "gem"}, {"views": "flip"},
    {"backbone": "mobilenetv2"}, {"backbone": "resnet50.a1_in1k"}, {"backbone": "random:mini"},
    {"backbone": "hf-hub:timm/resnet50.a1_in1k"},
]  # fmt: skip


@pytest.mark.parametrize("asked", CONTRADICTING, ids=str)
def test_what_contradicts_the_gallery_raises_in_a_search_as_in_index(
    made: Path, asked: dict[str, Any]
) -> None:
    said = set()
    for call in searches(Retriever(made / ".imgret", **asked), made):
        with pytest.raises(GalleryError, match=r"was made with .*--reembed") as raised:
            call()
        said.add(str(raised.value))
    assert len(said) == 1
    assert Retriever(made / ".imgret").info().images == N


def test_two_contradictions_are_one_sentence(made: Path) -> None:
    with pytest.raises(GalleryError) as raised:
        Retriever(made / ".imgret", backbone="mobilenetv2", pool="gem").encode([made])
    said = r"with the backbone \S+ and --pool own, not with mobilenetv2\S+ and --pool gem\."
    assert re.search(said, str(raised.value))


def test_a_backbone_that_does_not_exist_is_told_before_the_gallerys(made: Path) -> None:
    with pytest.raises(BackboneError) as raised:
        Retriever(made / ".imgret", backbone="nothere").encode([made])
    assert str(raised.value) == (
        "There is no backbone named 'nothere'. Give a name that `imgret backbones` lists, or a "
        "folder."
    )


@pytest.mark.parametrize("asked", [{"transform": "none"}, {"augment": "3"}], ids=str)
def test_a_search_by_another_transform_is_refused_and_evaluate_tries_it(
    made: Path, asked: dict[str, str]
) -> None:
    r = Retriever(made / ".imgret", **asked)  # type: ignore[arg-type]
    file = files_of(made)[0]
    vectors = np.ones((1, 1280), np.float32)
    for call in (
        lambda: r.search(file), lambda: r.search_embeddings(vectors),
        lambda: list(r.search_files([file])), lambda: list(r.search_mean([file])), r.map,
    ):  # fmt: skip
        with pytest.raises(GalleryError, match=r"not with (none|3)\. Index with it, or try it"):
            call()
    assert r.encode([file]).shape == (1, 1280)
    assert r.evaluate(calibrate=False).queries == N
    with pytest.raises(GalleryError, match="Index with it"):
        r.search(file)


@pytest.mark.parametrize("gallery", ["", 5, None, b"x", ["g"]], ids=str)
def test_what_is_no_path_of_a_gallery_is_told(gallery: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^gallery is .*\. Give a path\.$"):
        Retriever(gallery)


def test_one_image_is_encoded_as_it_is_searched_by(made: Path) -> None:
    r, file = Retriever(made / ".imgret"), files_of(made)[0]
    assert np.array_equal(r.encode(str(file)), r.encode([file]))
    assert np.array_equal(r.encode(file), r.encode([file]))


def test_the_width_of_embeddings_is_told_before_what_they_hold(made: Path) -> None:
    r = Retriever(made / ".imgret")
    for value in (0, np.nan):
        with pytest.raises(QueryError, match="have a width of 3, but those"):
            r.search_embeddings(np.full((1, 3), value, np.float32))
        with pytest.raises(QueryError, match=r"all zeros|NaN"):
            r.search_embeddings(np.full((1, 1280), value, np.float32))


def test_an_argument_that_a_search_does_not_have_is_told_with_its_method(made: Path) -> None:
    r: Any = Retriever(made / ".imgret")
    for name, query in (("search", "x"), ("search_embeddings", [1.0]), ("search_files", ["x"]),
                        ("search_mean", ["x"])):  # fmt: skip
        with pytest.raises(TypeError, match=rf"Retriever\.{name}\(\) has no argument 'foo'; "):
            list(getattr(r, name)(query, foo=1))


MISSPELT = [
    {"backbone": "mobilnetv2"}, {"backbone": "./no/such/folder"}, {"backbone": ""},
    {"fit": "squish"}, {"pool": "mean"}, {"views": "mirror"}, {"engine": "torch"},
    {"size": 0}, {"size": -64}, {"size": 64.0}, {"size": "64"}, {"size": 1 << 20},
    {"transform": "whitten"}, {"transform": "whiten:x"}, {"transform": ""},
    {"expand": "many"}, {"augment": "0"}, {"rerank": "1:2"}, {"fit": ""}, {"backbone": 7},
]  # fmt: skip


@pytest.mark.parametrize("asked", MISSPELT, ids=str)
def test_what_is_misspelt_raises_in_a_search_as_in_index(made: Path, asked: dict[str, Any]) -> None:
    for call in searches(Retriever(made / ".imgret", **asked), made):
        with pytest.raises(ImgretError):
            call()


@pytest.mark.parametrize("asked", MISSPELT, ids=str)
def test_what_is_misspelt_makes_no_new_gallery(tmp_path: Path, asked: dict[str, Any]) -> None:
    save(tmp_path / "pictures", 1)
    with pytest.raises((ImgretError, BackboneError)):
        Retriever(tmp_path / "new", **asked).index(tmp_path / "pictures")
    assert not (tmp_path / "new").exists()


# --- embeddings


@pytest.mark.parametrize(
    ("embeddings", "said"),
    [
        (np.full((1, 1280), np.nan), "NaN or infinite"),
        (np.where(np.arange(1280) == 7, np.inf, 1.0), "NaN or infinite"),
        (np.zeros((2, 1280)), "all zeros"),
        (np.stack([np.ones(1280), np.zeros(1280)]), "all zeros"),
        (np.ones((2, 1279)), "a width of 1279"),
        (np.ones((1, 1, 1280)), "shape"),
        (np.ones(()), "width|shape"),
        (np.ones((1280, 0)), "shape"),
        (np.ones((1, 1280), np.complex64), "not numbers"),
        (["a"] * 1280, "not numbers"),
        ([[1.0], [1.0, 2.0]], "not numbers"),
        (None, "not numbers|width|NaN"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_embeddings_that_are_none_raise(made: Path, embeddings: Any, said: str) -> None:
    with pytest.raises(ImgretError, match=said):
        Retriever(made / ".imgret").search_embeddings(embeddings)


@pytest.mark.parametrize("scale", [1e-200, 1e200, -1.0, 1])
def test_embeddings_of_any_length_and_type_are_searched(made: Path, scale: float) -> None:
    r = Retriever(made / ".imgret")
    (vector,) = r.encode(files_of(made)[5:6])
    expected = [m.id for m in r.search_embeddings(vector * np.sign(scale), k=5)[0]]
    for given in (vector * np.float64(scale), (vector * np.float64(scale)).tolist()):
        assert [m.id for m in r.search_embeddings(given, k=5)[0]] == expected


# --- as JSON


def test_every_report_goes_through_json(own: Path) -> None:
    shutil.copy(files_of(own)[0], own / "pictures" / "class0" / "copy.png")
    (own / "pictures" / "bad.png").write_bytes(b"no image")
    (own / "pictures" / "film.mov").write_bytes(b"film")
    r = Retriever(own / ".imgret")
    files = files_of(own)
    reports: list[Any] = [
        r.estimate(own / "pictures"),
        r.index(own / "pictures"),
        r.info(),
        r.verify(),
        r.evaluate(),
        r.search(files[0], k=2)[0],
        *r.search_files([files[0], own / "pictures" / "bad.png"], k=2, distinct=True),
        *r.search_mean(files[:2], k=2),
        r.map(most_images=10),
        r.duplicates(),
    ]
    for report in reports:
        told = report.to_dict()
        assert set(told) == {field.name for field in dataclasses.fields(report)}
        assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert reports[-1].groups
    assert {m["path"] for m in reports[-1].to_dict()["groups"][0]["members"]} == {
        str(own / "pictures" / "class0" / name) for name in ("00.png", "copy.png")
    }
    match = r.search(files[0], k=1)[0].to_dict()
    assert match["path"] == str(files[0])
    assert type(match["score"]) is float


def test_what_classify_gives_goes_through_json() -> None:
    from classify.evaluation import ClassifierReport
    from classify.explain import Explained, Explanation
    from classify.leaderboard import LeaderboardRow
    from classify.predictor import Prediction
    from classify.run import Epoch, RunFacts
    from classify.samples import Samples
    from retrieval.comparison.recipes import Experiment
    from retrieval.comparison.tuner import Step, Tuning

    for kind in (
        ClassifierReport,
        Epoch,
        RunFacts,
        Prediction,
        LeaderboardRow,
        Samples,
        Explanation,
    ):
        assert hasattr(kind, "to_dict")
    heat = np.zeros((2, 2), np.float32)
    one = Explained("m", "a", np.float64(0.5), "a", heat.astype(np.uint8), heat)  # type: ignore[arg-type]
    assert json.loads(json.dumps(Explanation(Path("x"), None, (one,)).to_dict()))["models"][0][
        "heat"
    ] == [[0.0, 0.0], [0.0, 0.0]]
    step = Step("size=64", float("nan"), 0.1, 0.01, kept=True, seconds=1.0)
    told = Tuning(Experiment(), (step,), 5, 10, 2, 0.5, 2, 0.5, 0.6, 0.4, 0.7).to_dict()
    assert json.loads(json.dumps(told, allow_nan=False))["recipe"]["k"] == 5
    assert told["steps"][0]["precision"] is None


def test_plain_knows_what_reports_are_made_of() -> None:
    given = {Path("a"): {1}, "n": np.int64(1), "b": np.bool_(True), "x": np.array([np.inf, 1.0])}
    assert plain(given) == {"a": [1], "n": 1, "b": True, "x": [None, 1.0]}
    assert json.dumps(plain(Path("\udcff.png")))


# --- one opened state


class Changing(Retriever):
    """Does something else once between encoding and searching; as another process would."""

    then: Callable[[], object] | None = None

    def _encoded(self, *args: Any, **kwargs: Any) -> np.ndarray:
        embeddings = super()._encoded(*args, **kwargs)
        then, self.then = self.then, None
        if then:
            then()
        return embeddings


def names(lists: list[list[Any]]) -> list[str]:
    return [matches[0].path.name for matches in lists]


@pytest.mark.parametrize("asked", [{"size": 96}, {"fit": "crop"}], ids=str)
def test_a_reembed_between_encoding_and_searching_is_noticed(
    own: Path, asked: dict[str, Any]
) -> None:
    files = files_of(own)
    r = Changing(own / ".imgret")
    r.search(files[0])
    r.then = lambda: Retriever(own / ".imgret", **asked).index(own / "pictures", reembed=True)
    assert names(r.search(files, k=1)) == [file.name for file in files]
    assert r.then is None
    scores = [matches[0].score for matches in r.search(files, k=1)]
    assert min(scores) > 0.99


def test_a_reembed_in_the_middle_of_a_stream_is_noticed(own: Path) -> None:
    files = files_of(own)
    found = Retriever(own / ".imgret").search_files(files, k=1)
    results = [next(found)]
    other = Retriever(own / ".imgret", size=96)
    other.index(own / "pictures", reembed=True)
    results += found
    assert [result.matches[0].path.name for result in results] == [file.name for file in files]
    assert [result.query for result in results] == files
    assert min(result.matches[0].score for result in results) > 0.99


@pytest.mark.long
def test_other_weights_of_the_same_width_are_noticed_by_fingerprint(
    tmp_path: Path, weights: Path, other_weights: Path
) -> None:
    files = save(tmp_path / "pictures", 24)
    gallery = tmp_path / ".imgret"
    Retriever(gallery, backbone=str(weights)).index(tmp_path / "pictures")
    r, before = Changing(gallery), Retriever(gallery).info()
    r.search(files[0])

    def reembed() -> None:
        Retriever(gallery, backbone=str(other_weights)).index(tmp_path / "pictures", reembed=True)

    r.then = reembed
    assert names(r.search(files, k=1)) == [file.name for file in files]
    assert min(matches[0].score for matches in r.search(files, k=1)) > 0.99
    after = Retriever(gallery).info()
    assert (after.dim, after.size) == (before.dim, before.size)
    assert after.weights_sha256 != before.weights_sha256


def test_a_retriever_that_asks_for_the_old_weights_is_told_so_after_a_reembed(own: Path) -> None:
    r = Changing(own / ".imgret", size=64)
    r.search(files_of(own)[0])
    r.then = lambda: Retriever(own / ".imgret", size=96).index(own / "pictures", reembed=True)
    with pytest.raises(GalleryError, match="--size 96, not with --size 64"):
        r.search(files_of(own)[0])


def test_queries_of_many_threads_are_right_while_the_gallery_is_embedded_anew(own: Path) -> None:
    files = files_of(own)
    r = Retriever(own / ".imgret")

    def ask(n: int) -> Iterator[bool]:
        for place in range(n, N, 3):
            yield r.search(files[place], k=1)[0].path.name == files[place].name

    with ThreadPoolExecutor(4) as threads:
        right = [threads.submit(lambda n=n: list(ask(n))) for n in range(3)]
        Retriever(own / ".imgret", size=96).index(own / "pictures", reembed=True)
        assert [sum(one.result()) for one in right] == [N // 3] * 3


def test_what_a_search_uses_is_of_one_version(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, index and settings of each snapshot belong together, whatever was written meanwhile."""
    r = Retriever(own / ".imgret")
    r.search(files_of(own)[0])
    old = r._current()
    Retriever(own / ".imgret", size=96).index(own / "pictures", reembed=True)
    new = r._current()
    for state in (old, new):
        assert isinstance(state, Snapshot)
        assert isinstance(state.settings, Settings)
        assert state.settings.index is not None
        assert state.table.version == state.settings.index.version
        assert state.settings.backbone.dim == state.table.dim == state.index.d_in
    assert (old.settings.backbone.size, new.settings.backbone.size) == (64, 96)
