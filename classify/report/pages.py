"""Pages of a run, of an evaluation, of several runs side by side: self-contained HTML.

matplotlib, and what draws with it, is imported where a page is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from retrieval.report.cards import card, judged
from retrieval.report.pages import embedded, render_page, thumbnails, write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from classify.explain import Explanation

MISTAKES_SHOWN, MISTAKE_SIDE = 48, 192
SAMPLES, AUGMENTED, SAMPLE_SIDE = 12, 5, 128
# of a leaderboard, beside its figures; all columns follow them
SHOWN_COLUMNS = ("run", "parameters", "validation accuracy", "test accuracy", "test F1")
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
        kept=_kept(run),
        samples=_rows(_training_samples(run), folder),
        evaluated=None if evaluation is None else _evaluated(evaluation, folder),
    )
    write_page(folder / REPORT, page)


def write_report(file: Path, evaluation: ClassifierReport) -> None:
    """Write the page of one evaluation, atomically. Raises WriteError when that fails."""
    page = render_page(
        "evaluation.html.jinja",
        "classify",
        title=f"{evaluation.model} on {evaluation.data}",
        evaluated=_evaluated(evaluation, file.parent),
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

    names, rows = columns(), [cells(entry.row) for entry in entries]
    places = [names.index(name) for name in SHOWN_COLUMNS]
    page = render_page(
        "leaderboard.html.jinja",
        "classify",
        title="Runs side by side",
        notes=notes,
        columns=names,
        rows=rows,
        shown_columns=SHOWN_COLUMNS,
        shown_rows=[[row[place] for place in places] for row in rows],
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
        explanations=[_explained(e, file.parent) for e in explanations],
        figures=_drawn({"explained": figure}),
    )
    write_page(file, page)


def _evaluated(e: ClassifierReport, beside: Path) -> dict[str, Any]:
    shown = e.mistakes[:MISTAKES_SHOWN]
    pictures = thumbnails([m.path for m in shown], MISTAKE_SIDE)
    from classify.report.figures import report_figures

    return {
        "e": e,
        "figures": _drawn(report_figures(e)),
        "metrics": _metrics(e),
        "samples": _rows(e.samples, beside),
        "mistakes": [
            card(
                m.path, pictures[m.path], beside=beside, role="wrong", said="misclassified image",
                facts=[f"{m.probability:.2f}", m.predicted, f"true: {m.label}"],
            )
            for m in shown
        ],
    }  # fmt: skip


def _metrics(e: ClassifierReport) -> list[tuple[str, float]]:
    """The figures of an evaluation for one table: of all images, then the averages of classes."""
    return [
        ("top-1", e.top1),
        ("top-5", e.top5),
        ("loss", e.loss),
        ("calibration error", e.calibration_error),
        *(
            (f"{average.name} {name}", getattr(average, name.lower()))
            for average in e.averages
            for name in ("precision", "recall", "F1")
        ),
    ]


def _kept(run: Run) -> list[tuple[str, str]]:
    """The figures of the epoch whose weights are kept, for the table beside the curves."""
    epoch = next((e for e in run.history if e.epoch == run.facts.best_epoch), None)
    if epoch is None:
        return []
    figures = {
        "loss": epoch.loss,
        "accuracy": epoch.accuracy,
        "validation loss": epoch.validation_loss,
        "validation accuracy": epoch.validation_accuracy,
    }
    known = [(name, f"{value:.4f}") for name, value in figures.items() if value is not None]
    return [("epoch", f"{epoch.epoch} of {len(run.history)}"), *known]


def _explained(explanation: Explanation, beside: Path) -> dict[str, Any]:
    label = explanation.label
    models = [vars(m) | {"role": judged(m.predicted, label)} for m in explanation.models]
    return {
        "card": card(explanation.path, None, beside=beside),
        "label": label,
        "models": models,
    }


def _drawn(figures: Mapping[str, Figure]) -> dict[str, list[tuple[str, str]]]:
    """Captions and SVG of figures: those of a column, and the wide ones."""
    from retrieval.report.style import WIDTH, as_svg

    drawn: dict[str, list[tuple[str, str]]] = {"narrow": [], "wide": []}
    for name, figure in figures.items():
        place = "wide" if figure.get_figwidth() > 1.5 * WIDTH else "narrow"
        drawn[place].append((TRAINING_CAPTIONS[name], as_svg(figure, name)))
    return drawn


def _rows(samples: Sequence[Sample], beside: Path) -> list[dict[str, Any]]:
    """Samples as the templates want them: the cards of each class."""
    made = thumbnails([path for sample in samples for path in sample.paths], SAMPLE_SIDE)
    return [
        {
            "label": s.label,
            "pictures": [
                replace(card(path, made[path], beside=beside, said="sample"), path="")
                for path in s.paths
            ],
        }
        for s in samples
    ]


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
