"""What was held out stays so, whatever becomes of the folder: judged by content."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from classify import leaderboard
from classify.data import KeptImage, read_kept, write_kept
from classify.report import report_run
from classify.run import Run
from classify.tested import evaluate_ensemble, evaluate_run
from classify.training import train
from retrieval.errors import DataError, ImgretError, RunError
from tests.classify.blobs import save_blobs, tiny

TESTED_RIGHT = """{"data": "d", "content": "", "images": 9, "top1": 1.0, "top5": 1.0, "loss": 0.1,
"precision": 1.0, "recall": 1.0, "f1": 1.0, "calibration_error": 0.0, "classes": []}"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return save_blobs(tmp_path / "data", 10)


def trained(data: Path, out: Path, *overrides: str) -> Path:
    return train(data, tiny("training.epochs=1", *overrides), out).run.folder


def contents(run: Path, split: str) -> set[str]:
    return {image.sha256 for image in read_kept(run / "split.jsonl") if image.split == split}


def judged(evaluation: object) -> set[Path]:
    return {m.path for m in evaluation.mistakes}  # type: ignore[attr-defined]


def test_each_image_stays_with_the_run_by_its_content(data: Path, tmp_path: Path) -> None:
    run = trained(data, tmp_path / "run", "data.test=0.2")
    kept = read_kept(run / "split.jsonl")
    assert {split: len(contents(run, split)) for split in ("train", "validation", "test")} == {
        "train": 18, "validation": 6, "test": 6,
    }  # fmt: skip
    for image in kept:
        content = (data / image.path).read_bytes()
        assert image.sha256 == hashlib.sha256(content).hexdigest()
        assert image.label == Path(image.path).parent.name


def test_a_folder_that_grew_is_judged_on_what_was_held_out(data: Path, tmp_path: Path) -> None:
    run = trained(data, tmp_path / "run")
    before = evaluate_run(run)
    save_blobs(tmp_path / "more", 7, first=500)
    for file in (tmp_path / "more").rglob("*.png"):
        shutil.copy(file, data / file.parent.name / f"0{file.name}")
    after = evaluate_run(run)
    assert after.images == before.images == 6
    assert (after.content, after.loss) == (before.content, before.loss)
    assert [note.partition(" than ")[0] for note in after.notes] == [f"{data} holds other images"]


def test_what_is_gone_or_changed_is_told_and_what_moved_is_found(
    data: Path, tmp_path: Path
) -> None:
    run = trained(data, tmp_path / "run", "data.validation=0.4")
    held_out = [i for i in read_kept(run / "split.jsonl") if i.split == "validation"]
    gone, changed, moved = (data / image.path for image in held_out[:3])
    gone.unlink()
    shutil.copy(data / next(i.path for i in read_kept(run / "split.jsonl")), changed)
    moved.rename(data / "elsewhere.png")
    found = evaluate_run(run)
    assert found.images == len(held_out) - 2
    gone_note, other_files = found.notes
    assert gone_note == (
        f"2 of {len(held_out)} held-out images are gone or have changed, and were left out."
    )
    assert "holds other images than when run was trained" in other_files
    shutil.rmtree(data)
    with pytest.raises(ImgretError, match=r"None of the 12 images that run held out.*--data"):
        evaluate_run(run)


def test_images_that_moved_to_another_class_are_told(data: Path, tmp_path: Path) -> None:
    run = trained(data, tmp_path / "run", "data.validation=0.4")
    before = evaluate_run(run)
    (data / "red").rename(data / "swapped")
    (data / "blue").rename(data / "red")
    (data / "swapped").rename(data / "blue")
    after = evaluate_run(run)
    assert (after.top1, after.images) == (before.top1, 12)
    assert after.notes[0].startswith("8 of 12 held-out images now lie in other folders than those")
    (data / "blue").rename(data / "scarlet")  # no class of the model
    assert evaluate_run(run).notes[0].startswith("8 of 12")


def test_an_image_overwritten_at_the_same_size_is_told(data: Path, tmp_path: Path) -> None:
    run = trained(data, tmp_path / "run")
    kept = next(i for i in read_kept(run / "split.jsonl") if i.split == "train")
    content = (data / kept.path).read_bytes()
    (data / kept.path).write_bytes(content)  # written anew, as it was
    assert evaluate_run(run).notes == ()
    (data / kept.path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (note,) = evaluate_run(run).notes
    assert note.startswith(f"In {data.resolve()}, 1 training image changed after run was trained.")


def test_other_files_than_it_was_trained_on_are_told(data: Path, tmp_path: Path) -> None:
    run = trained(data, tmp_path / "run", "data.validation=0.4")
    image = next(data.rglob("*.png"))
    trained_on = data / next(i.path for i in read_kept(run / "split.jsonl") if i.split == "train")
    before = len(list(data.rglob("*.png")))
    (data / "wolf").mkdir()
    shutil.copy(image, data / "wolf" / "new.png")
    (note,) = evaluate_run(run).notes
    assert note.startswith(f"{data.resolve()} holds other images than when run was trained")
    assert f"{before + 1} files, then {before}" in note
    (data / "wolf" / "new.png").unlink()
    assert evaluate_run(run).notes == ()
    trained_on.unlink()
    (note,) = evaluate_run(run).notes
    assert f"{before - 1} files, then {before}" in note


@pytest.mark.parametrize("share", ["data.test=0.3", "data.validation=0.3"])
def test_an_ensemble_is_judged_on_what_no_run_was_trained_on(
    data: Path, tmp_path: Path, share: str
) -> None:
    runs = [
        trained(data, tmp_path / f"run{seed}", share, f"training.seed={seed}") for seed in (1, 2)
    ]
    seen = contents(runs[0], "train") | contents(runs[1], "train")
    found = evaluate_ensemble(runs)
    files = {hashlib.sha256(f.read_bytes()).hexdigest(): f for f in data.rglob("*.png")}
    tests = contents(runs[0], "test") | contents(runs[1], "test")
    tests -= seen | contents(runs[0], "validation") | contents(runs[1], "validation")
    expected = tests or set(files) - seen
    assert expected < set(files)
    assert found.images == len(expected)
    assert judged(found) <= {files[content] for content in expected}
    assert found.is_validation == (not tests)


def test_runs_that_saw_all_images_make_no_ensemble(data: Path, tmp_path: Path) -> None:
    half = shutil.copytree(data, tmp_path / "half")
    of_half = "data.validation=0.5"
    runs = [trained(data, tmp_path / "a", of_half), trained(half, tmp_path / "b", of_half)]
    kept = read_kept(runs[1] / "split.jsonl")
    swapped = [
        KeptImage("train" if image.split == "validation" else "validation", *astuple(image)[1:])
        for image in kept
    ]
    write_kept(runs[1] / "split.jsonl", swapped)
    with pytest.raises(ImgretError, match="was trained on by another"):
        evaluate_ensemble(runs)


def test_no_run_makes_no_ensemble(data: Path) -> None:
    with pytest.raises(ImgretError, match="no run to evaluate"):
        evaluate_ensemble([], data)


def astuple(image: KeptImage) -> tuple[str, ...]:
    return image.split, image.label, image.sha256, image.path


def test_images_that_were_trained_on_are_told(data: Path, tmp_path: Path) -> None:
    run = trained(data, tmp_path / "run")
    found = evaluate_run(run, data)
    assert found.images == 30
    assert found.notes == (
        "run was trained on 24 of these 30 images, so the figures are too good.",
    )


def test_a_folder_with_splits_is_tested_by_that_to_test_on(data: Path, tmp_path: Path) -> None:
    run = trained(data, tmp_path / "run")
    shutil.copytree(data, tmp_path / "all" / "Training")
    save_blobs(tmp_path / "all" / "Testing", 2, first=700)
    found = evaluate_run(run, tmp_path / "all")
    assert (found.images, found.data) == (6, str(tmp_path / "all" / "Testing"))


@pytest.mark.parametrize("around", ["Testing", "archive/test", "archive", "val"])
def test_the_only_folder_within_is_tested(data: Path, tmp_path: Path, around: str) -> None:
    run = trained(data, tmp_path / "run")
    save_blobs(tmp_path / "all" / around, 2, first=700)
    assert evaluate_run(run, tmp_path / "all").images == 6


def test_classes_of_one_group_alone_are_tested_by_their_whole_names(
    data: Path, tmp_path: Path
) -> None:
    shutil.copytree(data, tmp_path / "two" / "warm")
    shutil.copytree(data, tmp_path / "two" / "cold")
    run = trained(tmp_path / "two", tmp_path / "run", "data.classes=deepest")
    save_blobs(tmp_path / "all" / "test" / "warm", 2, first=700)
    save_blobs(tmp_path / "all" / "train" / "warm", 2, first=800)
    found = evaluate_run(run, tmp_path / "all")
    assert {c.label for c in found.classes if c.support} == {"warm/blue", "warm/green", "warm/red"}


def test_test_images_beside_others_are_tested_and_others_alone_are_not(
    data: Path, tmp_path: Path
) -> None:
    run = trained(data, tmp_path / "run")
    save_blobs(tmp_path / "all" / "val", 1, first=600)
    save_blobs(tmp_path / "all" / "test", 2, first=700)
    assert evaluate_run(run, tmp_path / "all").images == 6
    (tmp_path / "all" / "test").rename(tmp_path / "all" / "train")
    with pytest.raises(ImgretError, match="has train/ and val/, but no images to test on"):
        evaluate_run(run, tmp_path / "all")
    shutil.copytree(tmp_path / "all" / "val", tmp_path / "all" / "photos" / "red")
    (tmp_path / "all" / "val").rename(tmp_path / "all" / "pictures")
    (tmp_path / "all" / "train").rename(tmp_path / "all" / "scans")
    with pytest.raises(ImgretError) as error:
        evaluate_run(run, tmp_path / "all")
    assert "images of 'photos' and of 2 more, which the model does not know" in str(error.value)


@pytest.mark.parametrize(
    "line",
    ["", "{", "[]", '{"split": "train"}', "null", "[" * 100_000, "\xff",
     '{"split": "x", "label": "red", "sha256": "0", "path": "a.png"}',
     '{"split": "test", "label": "red", "sha256": "0", "path": "../a.png"}',
     '{"split": "test", "label": "red", "sha256": "0", "path": "/a.png"}',
     '{"split": "test", "label": 3, "sha256": "0", "path": "a.png"}'],
)  # fmt: skip
def test_a_damaged_or_hostile_split_is_one_sentence(data: Path, tmp_path: Path, line: str) -> None:
    run = trained(data, tmp_path / "run")
    (run / "split.jsonl").write_text(line + "\n", encoding="latin-1")
    if line == "\xff":
        (run / "split.jsonl").write_bytes(b"\xff\n")
    with pytest.raises(ImgretError, match=r"split\.jsonl is damaged in line 1, so .*--data"):
        evaluate_run(run)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_split_that_lost_lines_is_damaged(data: Path, tmp_path: Path, split: str) -> None:
    run = trained(data, tmp_path / "run", "data.test=0.2")
    other = shutil.copytree(run, tmp_path / "other")
    kept = read_kept(run / "split.jsonl")
    write_kept(run / "split.jsonl", [image for image in kept if image.split != split])
    what = "training" if split == "train" else split
    said = rf"run.split\.jsonl is damaged: it has 0 {what} images, but the run had \d+, .*--data"
    with pytest.raises(RunError, match=said):
        evaluate_run(run)
    with pytest.raises(RunError, match=said):
        evaluate_ensemble([other, run])
    first = next(image for image in kept if image.split == split)
    write_kept(run / "split.jsonl", [image for image in kept if image != first])
    with pytest.raises(RunError, match=r"is damaged"):
        evaluate_run(run)


def test_an_empty_split_is_not_a_run_that_was_trained_on_nothing(
    data: Path, tmp_path: Path
) -> None:
    run = trained(data, tmp_path / "run")
    (run / "split.jsonl").write_text("")
    with pytest.raises(RunError, match="has 0 training images, but the run had 24"):
        evaluate_run(run)
    (said,) = evaluate_run(run, data).notes
    assert "it is unknown whether run was trained on these images" in said
    with pytest.raises(RunError, match="has 0 training images"):
        report_run(run)


def test_a_run_that_does_not_say_how_many_it_held_out_is_tested(data: Path, tmp_path: Path) -> None:
    run = trained(data, tmp_path / "run", "data.test=0.2")
    facts = json.loads((run / "run.json").read_text())
    assert facts.pop("held_out") == 6
    (run / "run.json").write_text(json.dumps(facts))
    assert evaluate_run(run).images == 6


def test_an_ensemble_names_all_folders_of_its_images(data: Path, tmp_path: Path) -> None:
    other = save_blobs(tmp_path / "other", 10, first=300)
    runs = [trained(data, tmp_path / "a"), trained(other, tmp_path / "b")]
    found = evaluate_ensemble([*runs, trained(data, tmp_path / "c")])
    assert found.data == f"{data.resolve()} and {other.resolve()} (validation images)"
    assert found.images == 12
    for folder in (data, other):
        shutil.rmtree(folder)
    with pytest.raises(ImgretError, match=f"still in {data.resolve()} and {other.resolve()}"):
        evaluate_ensemble(runs)


def test_a_report_shows_pictures_that_were_trained_on(data: Path, tmp_path: Path) -> None:
    run = trained(data, tmp_path / "run")
    for image in read_kept(run / "split.jsonl"):
        if image.split == "train":
            (data / image.path).unlink()
    report_run(run)
    assert (run / "report.html").is_file()


def test_a_class_whose_images_are_all_broken_is_named_before_training(
    data: Path, tmp_path: Path
) -> None:
    for file in (data / "red").iterdir():
        file.write_bytes(b"no image: " + file.name.encode())
    with pytest.raises(ImgretError, match=r"No training image of the class 'red'.*\.png: "):
        trained(data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_readable_image_left_is_named_before_training(data: Path, tmp_path: Path) -> None:
    files = sorted(data.rglob("*.png"))
    for file in files[1:]:
        file.write_bytes(b"no image: " + file.name.encode() + file.parent.name.encode())
    with pytest.raises(ImgretError, match=r"No image"):
        trained(data, tmp_path / "run")


def test_the_leaderboard_tells_of_figures_that_are_too_good(data: Path, tmp_path: Path) -> None:
    folder = trained(data, tmp_path / "run")
    leaderboard.write_tested(Run.read(folder), evaluate_run(folder, data))
    entries, _ = leaderboard.read_entries([folder])
    (said,) = leaderboard.differences(entries)
    assert said == "run was trained on 24 of these 30 images, so the figures are too good."


def test_the_leaderboard_forgets_a_test_of_weights_that_are_gone(
    data: Path, tmp_path: Path
) -> None:
    recipe, out, ended = tiny("training.epochs=8", "training.lr=0.01"), tmp_path / "run", []
    train(data, recipe, out, on_epoch=ended.append, should_stop=lambda: bool(ended))
    leaderboard.write_tested(Run.read(out), evaluate_run(out, data))
    assert leaderboard.read_entries([out])[0][0].row.test_images == 30
    assert train(data, recipe, out, resume=True).run.facts.best_epoch > 1
    assert leaderboard.read_entries([out])[0][0].row.test_images is None
    leaderboard.write_tested(Run.read(out), evaluate_run(out, data))
    assert leaderboard.read_entries([out])[0][0].row.test_images == 30


def test_no_right_answer_is_worse_than_some(data: Path, tmp_path: Path) -> None:
    folders = [trained(data, tmp_path / name) for name in ("none", "some")]
    tested = json.loads(TESTED_RIGHT)
    for folder, accuracy in zip(folders, (0.0, 0.01), strict=True):
        epoch = Run.read(folder).facts.best_epoch
        text = json.dumps(tested | {"top1": accuracy, "epoch": epoch})
        (folder / "test.json").write_text(text)
    entries, _ = leaderboard.read_entries(folders)
    assert [entry.row.test_accuracy for entry in entries] == [0.01, 0.0]


def test_the_leaderboard_tells_of_figures_of_other_images(data: Path, tmp_path: Path) -> None:
    save_blobs(tmp_path / "test", 3, first=700)
    shutil.copytree(tmp_path / "test", tmp_path / "same images")
    save_blobs(tmp_path / "others", 3, first=800)
    runs = []
    for name, tested in (("a", "test"), ("b", "same images"), ("c", "others"), ("d", None)):
        runs.append(Run.read(trained(data, tmp_path / name)))
        if tested:
            leaderboard.write_tested(runs[-1], evaluate_run(tmp_path / name, tmp_path / tested))
    rows = [leaderboard.row(run) for run in runs]
    assert [row.test_images for row in rows] == [9, 9, 9, None]
    assert rows[1].test_data == str(tmp_path / "same images")
    entries, _ = leaderboard.read_entries([run.folder for run in runs])
    entries.sort(key=lambda entry: entry.name)
    assert leaderboard.differences(entries[:2] + entries[3:]) == []
    (said,) = leaderboard.differences(entries)
    assert said.startswith("The test figures of c are of other images than those of a")
    json.dumps([row.to_dict() for row in rows])
    namesake = Path(shutil.copytree(runs[2].folder, tmp_path / "elsewhere" / "a"))
    (said,) = leaderboard.differences(leaderboard.read_entries([runs[0].folder, namesake])[0])
    assert "elsewhere/a" in said


def test_copies_among_held_out_images_count_as_in_their_folder(tmp_path: Path) -> None:
    """Also one that stands under two classes; only what several runs held out counts once."""
    data = tmp_path / "data"
    save_blobs(data / "train", 8)
    save_blobs(data / "test", 4, first=500)
    red, blue = data / "test" / "red", data / "test" / "blue"
    first = sorted(red.iterdir())[0]
    for n in range(6):
        shutil.copy(first, red / f"copy-{n}.png")
    shutil.copy(first, blue / "also.png")
    runs = [trained(data, tmp_path / name) for name in ("a", "b")]
    named, held_out = evaluate_run(runs[0], data / "test"), evaluate_run(runs[0])
    assert held_out.images == named.images == 19
    assert (held_out.top1, held_out.loss) == (named.top1, pytest.approx(named.loss))
    assert held_out.content == named.content
    assert evaluate_ensemble(runs).images == 19


def test_a_resumed_run_notices_images_of_other_content_and_the_same_size(tmp_path: Path) -> None:
    data, out, ended = tmp_path / "data", tmp_path / "run", []
    save_blobs(data, 8)
    for file in sorted(data.rglob("*.png")):
        Image.open(file).save(file.with_suffix(".bmp"))
        file.unlink()
    recipe = tiny("training.epochs=4")
    train(data, recipe, out, on_epoch=ended.append, should_stop=lambda: bool(ended))
    kept = read_kept(out / "split.jsonl")
    one, other = (
        next(data / i.path for i in kept if i.split == split and i.label == "red")
        for split in ("train", "validation")
    )
    was = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(was)
    with pytest.raises(DataError, match=r"does not hold the images that .* was started with"):
        train(data, recipe, out, resume=True)
    other.write_bytes(one.read_bytes())
    one.write_bytes(was)
    assert train(data, recipe, out, resume=True).run.facts.ended


def test_a_resumed_run_refuses_one_image_overwritten_at_the_same_size(
    data: Path, tmp_path: Path
) -> None:
    out, recipe, ended = tmp_path / "run", tiny("training.epochs=4"), []
    train(data, recipe, out, on_epoch=ended.append, should_stop=lambda: bool(ended))
    image = data / next(i.path for i in read_kept(out / "split.jsonl") if i.split == "train")
    was = image.read_bytes()
    image.write_bytes(was[:-1] + bytes([was[-1] ^ 1]))
    with pytest.raises(DataError, match=r"does not hold the images that .* was started with"):
        train(data, recipe, out, resume=True)


def test_a_resumed_run_tells_a_damaged_split_from_other_images(data: Path, tmp_path: Path) -> None:
    out, recipe, ended = tmp_path / "run", tiny("training.epochs=4"), []
    train(data, recipe, out, on_epoch=ended.append, should_stop=lambda: bool(ended))
    (out / "split.jsonl").write_text("")
    with pytest.raises(RunError, match=r"split\.jsonl is damaged: it has 0 training images"):
        train(data, recipe, out, resume=True)


def test_the_leaderboard_tells_of_validations_on_other_images(data: Path, tmp_path: Path) -> None:
    names = ("a", "same", "other seed")
    for name in names:
        train(data, tiny(f"training.seed={int(name == 'other seed')}"), tmp_path / name)
    entries, _ = leaderboard.read_entries([tmp_path / name for name in names])
    entries.sort(key=lambda entry: entry.name)
    (said,) = leaderboard.differences(entries)
    assert said.startswith("The validation figures of other seed are of other images than those of")
    assert {entry.row.validation_data for entry in entries} == {str(data.resolve())}
    same = [entry for entry in entries if entry.name != "other seed"]
    assert leaderboard.differences(same) == []


def test_a_run_without_its_split_can_be_tested_on_named_images(data: Path, tmp_path: Path) -> None:
    run = trained(data, tmp_path / "run")
    (run / "split.jsonl").write_text("{\n")
    report = evaluate_run(run, data)
    assert report.images == 30
    (said,) = report.notes
    assert "it is unknown whether run was trained on these images" in said
