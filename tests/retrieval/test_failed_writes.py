"""A file beside the result cannot be written: the result is given, and the error is a gallery's."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from retrieval.comparison import cache
from retrieval.errors import GalleryWriteError
from retrieval.evaluation import Evaluation
from retrieval.retriever import Retriever
from tests.retrieval.stored import age, faults, save_small, small_disk
from tests.samples import no_room_for, picture

FULL = r"cannot be written \(No space left on device\)\. Free some space"
WRITTEN = ["lock-holder", "*.manifest", "gallery.toml"]
COMMANDS: dict[str, Callable[[Retriever, Path], object]] = {
    "index": lambda retriever, home: retriever.index(home / "new"),
    "remove": lambda retriever, home: retriever.remove(home / "p" / "c0" / "00.png"),
    "compact": lambda retriever, _: retriever.compact(),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labelled")
    for n in range(24):  # of three classes that can be told apart
        file = root / "p" / f"c{n % 3}" / f"{n:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.blend(picture(1000 + n % 3, 64, 48), picture(n, 64, 48), 0.4).save(file)
        age(file)
    save_small(root / "new", "new.png", first=50)
    Retriever(root / "g.imgret").index(root / "p")
    return root


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "home"))


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_cannot_be_written_is_an_error_of_the_gallery_that_names_the_file(
    command: str, name: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (command, name) == ("compact", "*.manifest"):
        Retriever(home / "g.imgret").index(home / "new")  # then it has pieces to merge
    with monkeypatch.context() as patch:
        no_room_for(patch, name)
        with pytest.raises(GalleryWriteError, match=FULL) as caught:
            COMMANDS[command](Retriever(home / "g.imgret"), home)
    assert str(home / "g.imgret") in str(caught.value)
    COMMANDS[command](Retriever(home / "g.imgret"), home)
    assert [fault for fault in faults(home / "g.imgret") if "are gone" not in fault] == []


@pytest.mark.parametrize("name", WRITTEN[::2])
def test_evaluate_gives_its_figures_where_the_calibration_cannot_be_kept(
    name: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_room_for(monkeypatch, name)
    evaluation = Retriever(home / "g.imgret").evaluate(k=[1])
    assert evaluation.queries == 24
    (notice,) = (text for text in evaluation.notices if "was not kept" in text)
    assert name in notice
    assert "(No space left on device). Free some space" in notice


def test_evaluate_gives_its_figures_on_a_disk_with_no_byte_free(
    original: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "full", 1 << 25) as place:
        shutil.copytree(original, place, dirs_exist_ok=True)
        (place / "ballast").write_bytes(bytes(shutil.disk_usage(place).free))
        evaluation = Retriever(place / "g.imgret").evaluate(k=[1])
        assert any("No space left on device" in notice for notice in evaluation.notices)


def test_calibrate_says_before_it_measures_that_nothing_can_be_kept(
    original: Path, tmp_path: Path
) -> None:
    phases = []
    with small_disk(tmp_path / "full", 1 << 25) as place:
        shutil.copytree(original, place, dirs_exist_ok=True)
        (place / "ballast").write_bytes(bytes(shutil.disk_usage(place).free))
        with pytest.raises(GalleryWriteError, match=r"keeping a calibration needs 0\.3 MB"):
            Retriever(place / "g.imgret").calibrate(
                "class", progress=lambda phase, *_: phases.append(phase)
            )
    assert phases == []


def test_a_result_that_cannot_be_cached_is_given_all_the_same(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    evaluation: Evaluation = Retriever(home / "g.imgret").evaluate(k=[1], calibrate=False)
    file = home / "cache" / "results" / "x.json"
    no_room_for(monkeypatch, "x.json")
    with caplog.at_level(logging.WARNING, "imgret"):
        cache.store_evaluation(file, evaluation)
    assert not file.exists()
    assert f"{file} cannot be written (No space left on device)" in caplog.text
