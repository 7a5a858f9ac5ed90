"""How good a classifier is: accuracy, top-5, per-class report, confusions, calibration."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from classify.ranks import ranks
from retrieval.errors import ArgumentError
from retrieval.evaluation import ReliabilityBin
from retrieval.evaluation.calibration import reliability_bins
from retrieval.metrics import expected_calibration_error
from retrieval.plain import Plain

MOST_PAIRS, CONFIDENCE_BINS = 10, 10
SAMPLED_CLASSES, SAMPLED_IMAGES = 20, 8


@dataclass(frozen=True)
class Average(Plain):
    """Precision, recall and F1 over the classes; "macro": each alike, "weighted": by support."""

    name: str
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class ClassReport(Plain):
    """One class. support: its images."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Confused(Plain):
    """Images of one class that were taken for another: count of all `support` of that class."""

    label: str
    predicted: str
    count: int
    support: int


@dataclass(frozen=True)
class Mistake(Plain):
    """A misclassified image. probability: of the class that was predicted."""

    path: Path
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class Sample(Plain):
    """Some images of one class, to be looked at."""

    label: str
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class ClassifierReport(Plain):
    """A classifier on labelled images. Shares are in [0, 1].

    loss: mean cross-entropy, nats. calibration_error: expected, of the predicted class. confusion:
    (classes, classes), true by predicted. classes: in the model's order. confused: most frequent
    first. mistakes: the surest first. failed: images that cannot be used, and why. is_validation:
    whether the model was chosen by these images. content: SHA-256 of which images these are, of
    what classes, however their folders are called. notes: sentences on the images. samples: some
    images of each class, or of some classes where there are many.
    """

    model: str
    data: str
    images: int
    parameters: int
    top1: float
    top5: float
    loss: float
    calibration_error: float
    averages: tuple[Average, ...]
    classes: tuple[ClassReport, ...]
    confusion: tuple[tuple[int, ...], ...]
    confused: tuple[Confused, ...]
    mistakes: tuple[Mistake, ...]
    reliability: tuple[ReliabilityBin, ...]
    failed: tuple[tuple[Path, str], ...] = ()
    is_validation: bool = False
    content: str = ""
    notes: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()

    def average(self, name: str) -> Average:
        """Return one of the averages by its name. Raises ArgumentError."""
        known = {average.name: average for average in self.averages}
        if name not in known:
            raise ArgumentError(f"There is no average {name!r}. Give one of {', '.join(known)}.")
        return known[name]


def judge(
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    paths: Sequence[Path],
    *,
    model: str,
    data: str,
    parameters: int,
    failed: tuple[tuple[Path, str], ...] = (),
    is_validation: bool = False,
    contents: Sequence[str] = (),
    notes: tuple[str, ...] = (),
) -> ClassifierReport:
    """Evaluate predictions.

    probabilities: (n, classes) float, rows sum to 1. labels: (n,) places in classes, n > 0.
    contents: SHA-256 of each image, where they are known. Averages are over the classes that have
    images.
    """
    predicted = probabilities.argmax(axis=1)
    sure = probabilities[np.arange(len(labels)), predicted]
    right = predicted == labels
    every = np.arange(len(classes))
    p, r, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=every, zero_division=0
    )
    confusion = confusion_matrix(labels, predicted, labels=every)
    reports = [
        ClassReport(name, float(p[n]), float(r[n]), float(f1[n]), int(support[n]))
        for n, name in enumerate(classes)
    ]
    return ClassifierReport(
        model=model,
        data=data,
        images=len(labels),
        parameters=parameters,
        top1=float(right.mean()),
        top5=top_k_accuracy(probabilities, labels, 5),
        loss=cross_entropy(probabilities, labels),
        calibration_error=expected_calibration_error(sure, right),
        averages=tuple(_average(name, labels, predicted) for name in ("macro", "weighted")),
        classes=tuple(reports),
        confusion=tuple(tuple(map(int, row)) for row in confusion),
        confused=most_confused(confusion, classes),
        mistakes=_mistakes(predicted, sure, labels, classes, paths),
        reliability=reliability_bins(sure, right),
        failed=failed,
        is_validation=is_validation,
        content=_content([classes[n] for n in labels], contents) if contents else "",
        notes=notes,
        samples=tuple(
            Sample(classes[labels[places[0]]], tuple(paths[n] for n in places))
            for places in sample_places(labels)
        ),
    )


def sample_places(labels: np.ndarray) -> list[np.ndarray]:
    """Pick up to SAMPLED_IMAGES images of each of up to SAMPLED_CLASSES classes.

    labels: (n,) int. Both are spread evenly, since neighbours in a folder are often alike.

    >>> [places.tolist() for places in sample_places(np.array([3, 1, 3]))]
    [[1], [0, 2]]
    """
    found = _spread(np.unique(labels), SAMPLED_CLASSES)
    return [_spread(np.flatnonzero(labels == label), SAMPLED_IMAGES) for label in found]


def softmax(scores: np.ndarray) -> np.ndarray:
    """Convert class scores to probabilities, (n, classes) float64."""
    x = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    return np.asarray(x / x.sum(axis=1, keepdims=True))


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative logarithm of the right class's probability, in nats."""
    of_right = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(of_right, np.finfo(np.float64).tiny)).mean())


def top_k_accuracy(probabilities: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Return the share of rows whose label is among the k most probable.

    >>> top_k_accuracy(np.array([[0.5, 0.3, 0.2]]), np.array([1]), 2)
    1.0
    """
    return float((ranks(probabilities, labels) < k).mean())


def most_confused(
    confusion: np.ndarray, classes: Sequence[str], most: int = MOST_PAIRS
) -> tuple[Confused, ...]:
    """Return the class pairs that are confused most often."""
    wrong = confusion * (1 - np.eye(len(confusion), dtype=confusion.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    rows, columns = np.unravel_index(order, wrong.shape)
    return tuple(
        Confused(classes[i], classes[j], int(wrong[i, j]), int(confusion[i].sum()))
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True)
        if wrong[i, j]
    )


def _spread(values: np.ndarray, most: int) -> np.ndarray:
    """The values, or `most` of them at even distances."""
    if len(values) <= most:
        return values
    return values[np.linspace(0, len(values) - 1, most).round().astype(int)]


def _content(labels: Sequence[str], contents: Sequence[str]) -> str:
    """One digest of images and their labels, in any order."""
    lines = sorted(f"{c} {name}\n" for name, c in zip(labels, contents, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _average(name: str, labels: np.ndarray, predicted: np.ndarray) -> Average:
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, predicted, labels=np.unique(labels), average=name, zero_division=0
    )
    return Average(name, float(precision), float(recall), float(f1))


def _mistakes(
    predicted: np.ndarray,
    sure: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    paths: Sequence[Path],
) -> tuple[Mistake, ...]:
    wrong = np.flatnonzero(predicted != labels)
    return tuple(
        Mistake(paths[n], classes[labels[n]], classes[predicted[n]], float(sure[n]))
        for n in wrong[np.argsort(-sure[wrong], kind="stable")]
    )
