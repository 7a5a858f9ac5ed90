"""Runs and a folder of labelled images -> how good they are, alone or together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from classify.data import Labelled, Progress, decode_all, find_labelled, find_splits
from classify.evaluation import Evaluation, evaluate, softmax
from classify.predicting import Predictor
from classify.run import Run
from retrieval.errors import ImgretError


def evaluate_run(
    folder: Path,
    data: Path | None = None,
    progress: Progress | None = None,
    *,
    validation: bool = False,
) -> Evaluation:
    """Evaluate a run on the class folders of data, else on what the run held out.

    validation: on the images that the run was chosen by, though its data has test images. Raises
    ImgretError when data has classes that the run does not know, or no image.
    """
    predictor = Predictor(folder)
    images, where, seen = _labelled_for(folder, data, predictor.classes, validation=validation)
    probabilities, kept, failed = _probabilities(predictor, images, progress)
    return evaluate(
        probabilities,
        kept.labels,
        predictor.classes,
        [file.path for file in kept.files],
        model=predictor.name,
        data=where,
        parameters=Run(folder).facts.parameters,
        failed=failed,
        is_validation=seen,
    )


def evaluate_ensemble(
    folders: Sequence[Path], data: Path | None = None, progress: Progress | None = None
) -> Evaluation:
    """Evaluate the mean of several runs' probabilities. Their classes must be the same."""
    predictors = [Predictor(folder) for folder in folders]
    classes = predictors[0].classes
    for predictor in predictors[1:]:
        if predictor.classes != classes:
            raise ImgretError(
                f"{predictor.name} and {predictors[0].name} know different classes, so they make "
                "no ensemble. Give runs that were trained on the same data."
            )
    images, where, seen = _labelled_for(folders[0], data, classes, validation=False)
    found = [_probabilities(predictor, images, progress) for predictor in predictors]
    _, kept, failed = found[0]
    return evaluate(
        np.mean([probabilities for probabilities, _, _ in found], axis=0),
        kept.labels,
        classes,
        [file.path for file in kept.files],
        model=" + ".join(predictor.name for predictor in predictors),
        data=where,
        parameters=sum(Run(folder).facts.parameters for folder in folders),
        failed=failed,
        is_validation=seen,
    )


def _labelled_for(
    folder: Path, data: Path | None, classes: Sequence[str], *, validation: bool
) -> tuple[Labelled, str, bool]:
    """The images to test on, what to call them, and whether the run was chosen by them."""
    if data is not None:
        return find_labelled(data).of_classes(classes, str(data)), str(data), False
    run = Run(folder)
    splits = find_splits(Path(run.facts.data), run.recipe.data, run.recipe.training.seed)
    validation = validation or not len(splits.test)
    images = splits.validation if validation else splits.test
    if not len(images):
        raise ImgretError(f"{folder} held no images out. Name some with --data.")
    where = f"{run.facts.data} ({'validation' if validation else 'test'} images)"
    return images.of_classes(classes, run.facts.data), where, validation


def _probabilities(
    predictor: Predictor, images: Labelled, progress: Progress | None
) -> tuple[np.ndarray, Labelled, tuple[tuple[Path, str], ...]]:
    pixels = decode_all(images, predictor.preprocessing, progress)
    return softmax(predictor.scores(pixels.pixels)), pixels.images, pixels.failed
