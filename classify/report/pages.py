"""Pages of a run, of an evaluation, of several runs side by side: self-contained HTML.

matplotlib, and what draws with it, is imported where a page is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from classify.augmentation import Augmenter, kept_side
from classify.data import (
    decode_all,
    find_kept,
    read_kept,
)
from classify.evaluation import ClassifierReport, Sample, sample_places
from classify.leaderboard import Entry, cells, columns
from classify.predictor import Predictor
from classify.run import REPORT, SPLIT, Run
from classify.tested import evaluate_run
from retrieval.images import Preprocessing
from retrieval.progress import Progress
from retrieval.report.pages import embedded, render_page, thumbnails, write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from classify.explain import Explanation

MISTAKES_SHOWN, MISTAKE_SIDE = 48, 128
SAMPLES, AUGMENTED, SAMPLE_SIDE = 12, 5, 96
TRAINING_CAPTIONS = {
    "loss": "Loss",
    "accuracy": "Accuracy",
    "learning-rate": "Learning rate",
    "confusion": "Confusion matrix: share of each true class",
    "confused": "Most confused pairs",
    "classes": "F1 by class",
    "per-class": "Precision, recall and F1 of each class, and its number of images",
    "reliability": "Is a predicted probability right that often?",
    "scores": "Top-1, top-5 and loss on test images",
    "averages": "Precision, recall and F1 on test images",
    "best-classes": "F1 of the classes that are told best on average",
    "curves": "Loss and accuracy of each run, on one scale",
    "grad-cam": "What each run looks at in the same image, by Grad-CAM",
    "explained": "What speaks for a class, by Grad-CAM",
    "validation-loss": "Validation loss",
    "validation-accuracy": "Validation accuracy",
}


def report_run(folder: Path, progress: Progress | None = None) -> None:
    """Write report.html into a run, with an evaluation on its validation images, if it has any."""
    from classify.report.figures import run_figures

    run, preprocessing = Run.read(folder), Predictor.load(folder).preprocessing
    evaluation = None
    if run.facts.validated_on:
        evaluation = evaluate_run(folder, progress=progress, validation=True)
    figures = run_figures(run.history, run.recipe)
    samples = _samples(run, preprocessing)
    page = render_page(
        "run.html.jinja",
        "classify",
        title=f"Run {run.name}",
        run=run,
        recipe=run.recipe,
        facts=run.facts,
        history=run.history,
        figures=_drawn(figures),
        augmented=samples,
        class_count=len(run.classes),
        samples=_rows(_training_samples(run)),
        evaluated=None if evaluation is None else _evaluated(evaluation),
    )
    write_page(folder / REPORT, page)


def write_report(file: Path, evaluation: ClassifierReport) -> None:
    """Write the page of one evaluation, atomically. Raises WriteError when that fails."""
    page = render_page(
        "evaluation.html.jinja",
        "classify",
        title=f"{evaluation.model} on {evaluation.data}",
        evaluated=_evaluated(evaluation),
    )
    write_page(file, page)


def write_leaderboard(
    file: Path,
    entries: Sequence[Entry],
    notes: Sequence[str] = (),
    explanation: Explanation | None = None,
) -> None:
    """Write the page that compares runs: their table, figures, and what each sees in one image.

    notes: sentences on what does not compare or is not there.
    """
    from classify.report.across import leaderboard_figures

    page = render_page(
        "leaderboard.html.jinja",
        "classify",
        title="Runs side by side",
        notes=notes,
        columns=columns(),
        rows=[cells(entry.row) for entry in entries],
        figures=_drawn(leaderboard_figures(entries, explanation)),
    )
    write_page(file, page)


def write_explanations(file: Path, explanations: Sequence[Explanation]) -> None:
    """Write explanations as a grid: a PNG, an SVG or a page, as the file's name ends.

    Raises WriteError when that fails.
    """
    from classify.report.pictures import explained_figure
    from retrieval.report.style import save_figure

    figure = explained_figure(explanations)
    if file.suffix.lower() in (".png", ".svg"):
        save_figure(figure, file)
        return
    page = render_page(
        "explained.html.jinja",
        "classify",
        title="What classifiers look at",
        explanations=explanations,
        figures=_drawn({"explained": figure}),
    )
    write_page(file, page)


def _evaluated(e: ClassifierReport) -> dict[str, Any]:
    pictures = thumbnails([m.path for m in e.mistakes[:MISTAKES_SHOWN]], MISTAKE_SIDE)
    from classify.report.figures import report_figures

    return {
        "e": e,
        "figures": _drawn(report_figures(e)),
        "samples": _rows(e.samples),
        "mistakes": [
            vars(m) | {"thumbnail": pictures[m.path], "name": m.path.name}
            for m in e.mistakes[:MISTAKES_SHOWN]
        ],
    }


def _drawn(figures: Mapping[str, Figure]) -> list[dict[str, Any]]:
    from retrieval.report.style import WIDTH, as_svg

    return [
        {
            "caption": TRAINING_CAPTIONS[name],
            "svg": as_svg(figure, name),
            "wide": figure.get_figwidth() > 1.5 * WIDTH,
        }
        for name, figure in figures.items()
    ]


def _rows(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Samples as the templates want them."""
    pictures = thumbnails([path for sample in samples for path in sample.paths], SAMPLE_SIDE)
    return [{"label": s.label, "pictures": [pictures[path] for path in s.paths]} for s in samples]


def _training_samples(run: Run) -> list[Sample]:
    """Some images of each class that the run was trained on, of those that are there still."""
    kept = [image for image in read_kept(run.folder / SPLIT, run.counts) if image.split == "train"]
    labels = np.unique([image.label for image in kept], return_inverse=True)[1]
    data = Path(run.facts.data)
    chosen = [(kept[n], data) for places in sample_places(labels) for n in places.tolist()]
    found = find_kept(chosen, run.classes).images
    paths = [file.path for file in found.files]
    return [
        Sample(found.classes[found.labels[places[0]]], tuple(paths[n] for n in places))
        for places in sample_places(found.labels)
    ]


def _samples(run: Run, preprocessing: Preprocessing) -> list[dict[str, Any]]:
    """Training pictures, one class after the other, each with what augmentation makes of it."""
    recipe = run.recipe
    kept = [image for image in read_kept(run.folder / SPLIT, run.counts) if image.split == "train"]
    firsts = list({image.label: image for image in reversed(kept)}.values())
    firsts.sort(key=lambda image: image.label)
    shown_places = np.unique(np.linspace(0, len(firsts) - 1, SAMPLES).astype(int))
    data = Path(run.facts.data)
    kept_places = [(firsts[place], data) for place in shown_places]
    chosen = find_kept(kept_places, run.classes).images
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
    return embedded(picture)
