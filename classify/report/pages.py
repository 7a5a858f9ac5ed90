"""Pages of a run, of an evaluation, of several runs side by side: self-contained HTML."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from classify.augmentation import Augmenter, kept_side
from classify.data import Progress, decode_all, find_kept, read_kept
from classify.evaluation import Evaluation
from classify.predicting import Predictor
from classify.report.figures import evaluation_figures, leaderboard_figures, run_figures
from classify.run import REPORT, SPLIT, Run
from classify.testing import evaluate_run
from retrieval.images import Preprocessing
from retrieval.report.pages import render, thumbnails, write_page
from retrieval.report.style import as_svg

MISTAKES_SHOWN, SIDE = 48, 128
SAMPLES, AUGMENTED, SAMPLE_SIDE = 12, 5, 96
CAPTIONS = {
    "loss": "Loss",
    "accuracy": "Accuracy",
    "learning-rate": "Learning rate",
    "confusion": "Confusion matrix: share of each true class",
    "classes": "F1 by class",
    "reliability": "Is a predicted probability right that often?",
    "validation-loss": "Validation loss",
    "validation-accuracy": "Validation accuracy",
}


def report_run(folder: Path, progress: Progress | None = None) -> None:
    """Write report.html into a run, with an evaluation on its validation images, if it has any."""
    run, preprocessing = Run(folder), Predictor(folder).preprocessing
    evaluation = None
    if run.facts.validated_on:
        evaluation = evaluate_run(folder, progress=progress, validation=True)
    figures = run_figures(run.history)
    samples = _samples(run, preprocessing)
    page = render(
        "run.html.jinja",
        "classify",
        title=f"Run {run.name}",
        run=run,
        recipe=run.recipe,
        facts=run.facts,
        history=run.history,
        figures=_drawn(figures),
        samples=samples,
        evaluated=None if evaluation is None else _evaluated(evaluation),
    )
    write_page(folder / REPORT, page)


def write_evaluation(file: Path, evaluation: Evaluation) -> None:
    """Write the page of one evaluation, atomically. Raises ImgretError when that fails."""
    page = render(
        "evaluation.html.jinja",
        "classify",
        title=f"{evaluation.model} on {evaluation.data}",
        evaluated=_evaluated(evaluation),
    )
    write_page(file, page)


def write_leaderboard(file: Path, runs: Sequence[Run], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the page that compares runs: their table and their curves."""
    figures = leaderboard_figures({run.name: run.history for run in runs})
    page = render(
        "leaderboard.html.jinja",
        "classify",
        title="Runs side by side",
        rows=rows,
        figures=_drawn(figures),
    )
    write_page(file, page)


def _evaluated(e: Evaluation) -> dict[str, Any]:
    pictures = thumbnails([m.path for m in e.mistakes[:MISTAKES_SHOWN]], SIDE)
    return {
        "e": e,
        "figures": _drawn(evaluation_figures(e)),
        "mistakes": [
            vars(m) | {"thumbnail": pictures[m.path], "name": m.path.name}
            for m in e.mistakes[:MISTAKES_SHOWN]
        ],
    }


def _drawn(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(CAPTIONS[name], as_svg(figure, name)) for name, figure in figures.items()]


def _samples(run: Run, preprocessing: Preprocessing) -> list[dict[str, Any]]:
    """Training pictures, one class after the other, each with what augmentation makes of it."""
    recipe = run.recipe
    kept = [image for image in read_kept(run.folder / SPLIT) if image.split == "train"]
    firsts = list({image.label: image for image in reversed(kept)}.values())
    firsts.sort(key=lambda image: image.label)
    shown_places = np.unique(np.linspace(0, len(firsts) - 1, SAMPLES).astype(int))
    data = Path(run.facts.data)
    chosen, _ = find_kept([(firsts[place], data) for place in shown_places], run.classes)
    if not len(chosen):
        return []
    side = kept_side(recipe.augmentation, preprocessing.size)
    shown = Preprocessing(size=side, mean=preprocessing.mean, std=preprocessing.std)
    pixels = decode_all(chosen, shown)
    augmenter = Augmenter(recipe.augmentation, preprocessing)
    device = torch.device("cpu")
    rounds = [augmenter(pixels.pixels, seed, device) for seed in range(AUGMENTED)]
    restored = [_pixels(x, preprocessing) for x in rounds]
    return [
        {
            "label": pixels.images.classes[label],
            "original": _embedded(pixels.pixels[n]),
            "augmented": [_embedded(r[n]) for r in restored],
        }
        for n, label in enumerate(pixels.images.labels.tolist())
    ]


def _pixels(x: torch.Tensor, preprocessing: Preprocessing) -> np.ndarray:
    mean = torch.tensor(preprocessing.mean).view(1, 3, 1, 1)
    std = torch.tensor(preprocessing.std).view(1, 3, 1, 1)
    shown = ((x * std + mean) * 255).clamp(0, 255).byte().permute(0, 2, 3, 1)
    return shown.numpy()


def _embedded(pixels: np.ndarray) -> str:
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((SAMPLE_SIDE, SAMPLE_SIDE), Image.Resampling.BICUBIC)
    stream = BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
