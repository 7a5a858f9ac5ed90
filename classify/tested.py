"""Runs and a folder of labelled images -> how good they are, alone or together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from classify.data import (
    FoundKept,
    KeptImage,
    LabelledImages,
    Split,
    decode_all,
    find_kept,
    find_labelled,
    find_tested,
    listing,
    overwritten,
    read_kept,
)
from classify.evaluation import ClassifierReport, judge, softmax
from classify.predictor import Predictor
from classify.run import SPLIT, Run
from retrieval.errors import DataError, RunError
from retrieval.progress import Progress
from retrieval.text import counted, listed


@dataclass(frozen=True)
class _Tested:
    """Images to test on. where: what to call them. is_validation: whether a run was chosen by them.
    notes: on what is not there any more, or not where it was."""

    images: LabelledImages
    where: str
    is_validation: bool = False
    notes: tuple[str, ...] = ()


def evaluate_run(
    folder: Path,
    data: Path | None = None,
    progress: Progress | None = None,
    *,
    validation: bool = False,
) -> ClassifierReport:
    """Evaluate a run on the class folders of data, else on what the run held out.

    What was held out is found by content, whatever its folder holds by now; what is gone or changed
    is in the notes. validation: on the images that the run was chosen by, though its data has test
    images. Raises DataError when data has classes that the run does not know, or no image.
    """
    return _evaluated([folder], data, progress, validation=validation)


def evaluate_ensemble(
    folders: Sequence[Path], data: Path | None = None, progress: Progress | None = None
) -> ClassifierReport:
    """Evaluate the mean of several runs' probabilities. Their classes must be the same.

    Without data it is judged on images that some of the runs held out and none was trained on.
    Raises DataError as evaluate_run() does, and where there are none of these; RunError for no run,
    and for runs of different classes.
    """
    return _evaluated(folders, data, progress, validation=False)


def _evaluated(
    folders: Sequence[Path], data: Path | None, progress: Progress | None, *, validation: bool
) -> ClassifierReport:
    if not folders:
        raise RunError("There is no run to evaluate. Give one or more.")
    predictors = [Predictor.load(folder) for folder in folders]
    runs = [Run.read(folder) for folder in folders]
    classes = predictors[0].classes
    for predictor in predictors[1:]:
        if predictor.classes != classes:
            raise RunError(
                f"{predictor.name} and {predictors[0].name} know different classes, so they cannot "
                "form an ensemble. Give runs that were trained on the same data."
            )
    tested = _named(runs, data, classes) if data else _held_out(runs, classes, validation)
    probabilities: list[np.ndarray] = []
    for predictor in predictors:
        pixels = decode_all(tested.images, predictor.preprocessing, progress)
        probabilities.append(softmax(predictor.scores(pixels.pixels)))
    notes = [*tested.notes, *(_trained_on(runs, pixels.contents) if data else ())]
    return judge(
        np.mean(probabilities, axis=0),
        pixels.images.labels,
        classes,
        [file.path for file in pixels.images.files],
        model=" + ".join(predictor.name for predictor in predictors),
        data=tested.where,
        parameters=sum(run.facts.parameters for run in runs),
        failed=pixels.failed,
        is_validation=tested.is_validation,
        contents=pixels.contents,
        notes=tuple(notes),
    )


def _named(runs: Sequence[Run], data: Path, classes: Sequence[str]) -> _Tested:
    """Find the images that a user named: class folders, or a folder with a split to test on."""
    folder = find_tested(data, classes)
    is_deepest = runs[0].recipe.data.classes == "deepest"
    images = find_labelled(folder, "deepest" if is_deepest else "folder")  # the run has the classes
    return _Tested(images.of_classes(classes, str(folder)), str(folder))


def _held_out(runs: Sequence[Run], classes: Sequence[str], validation: bool) -> _Tested:  # noqa: FBT001
    """Find images that no run was trained on, nor chosen by unless there are no others."""
    kept = [(Path(run.facts.data), _kept(run)) for run in runs]
    trained_on = {image.sha256 for _, of in kept for image in of if image.split == "train"}
    chosen_by = {image.sha256 for _, of in kept for image in of if image.split == "validation"}
    tests = _once(kept, "test", trained_on | chosen_by)
    is_validation = validation or not tests
    if is_validation:
        tests = _once(kept, "validation", trained_on)
    if not tests:
        raise DataError(_nothing_held_out(runs))
    found = find_kept(tests, classes)
    if not len(found.images):
        raise DataError(
            f"None of the {found.gone:,} images that {_names(runs)} held out is still in "
            f"{_folders(folder for _, folder in tests)}. Bring them back, or name other images "
            "with --data."
        )
    kind = "validation" if is_validation else "test"
    where = f"{_folders(file.root for file in found.images.files)} ({kind} images)"
    notes = _changes(found) + tuple(filter(None, map(_other_files, runs)))
    return _Tested(found.images, where, is_validation, notes)


def _once(
    kept: Sequence[tuple[Path, list[KeptImage]]], split: Split, but: Set[str]
) -> list[tuple[KeptImage, Path]]:
    """The images that runs had in a split, each with its folder; none whose content is in `but`.

    What several runs had counts once. Copies that one run had are as many as they were there.
    """
    chosen: list[tuple[KeptImage, Path]] = []
    for folder, images in kept:
        known = {image.sha256 for image, _ in chosen} | but
        chosen += [(i, folder) for i in images if i.split == split and i.sha256 not in known]
    return chosen


def _changes(found: FoundKept) -> tuple[str, ...]:
    """Say what of the held-out images is not as it was."""
    count = found.gone + len(found.images)
    gone = (
        f"{found.gone:,} of {count:,} held-out images are gone or have changed, and were left out."
    )
    moved = (
        f"{found.moved:,} of {count:,} held-out images now lie in other folders than those of "
        "their classes, but were judged by the classes that they had in training. Give --data to "
        "judge by the folders."
    )
    return (gone,) * (found.gone > 0) + (moved,) * (found.moved > 0)


def _other_files(run: Run) -> str | None:
    """Say so where the folder that a run was trained on holds other files or other images now."""
    folder, then = Path(run.facts.data), run.facts.files
    try:
        now, names = listing(folder)
    except (DataError, OSError):
        return None  # told by what of it is gone
    if names == run.facts.listing:
        return _overwritten(run)
    return (
        f"{folder} holds other images than when {run.name} was trained: {counted(now, 'file')}, "
        f"then {then:,}. Only held-out images of then are judged. Give --data to judge others."
    )


def _overwritten(run: Run) -> str | None:
    """Say so where files of a run still have their names and sizes, but other bytes."""
    count = overwritten(run.folder / SPLIT, Path(run.facts.data))
    if not count:
        return None
    return (
        f"In {run.facts.data}, {counted(count, 'training image')} changed after {run.name} was "
        "trained. Train again to learn from them as they are now."
    )


def _kept(run: Run) -> list[KeptImage]:
    return read_kept(run.folder / SPLIT, run.counts)


def _nothing_held_out(runs: Sequence[Run]) -> str:
    if len(runs) == 1:
        return f"{runs[0].folder} held out no images. Name some with --data."
    return (
        f"Each image that one of {_names(runs)} held out was trained on by another of them. Name "
        "other images with --data."
    )


def _folders(folders: Iterable[Path]) -> str:
    return listed([str(folder) for folder in dict.fromkeys(folders)], "and")


def _names(runs: Sequence[Run]) -> str:
    return ", ".join(run.name for run in runs)


def _trained_on(runs: Sequence[Run], contents: Sequence[str]) -> list[str]:
    """Say how many tested images a run was trained on."""
    notes = []
    for run in runs:
        try:
            seen = {image.sha256 for image in _kept(run) if image.split == "train"}
        except RunError:
            notes.append(
                f"{run.folder / SPLIT} is missing or damaged, so it is unknown whether {run.name} "
                "was trained on these images."
            )
            continue
        count = sum(content in seen for content in contents)
        if count:
            notes.append(
                f"{run.name} was trained on {count:,} of these {len(contents):,} images, so the "
                "figures are too good."
            )
    return notes
