"""Whether a probability knows that nothing matches: open sets of several kinds, foreign pictures.

    python -m benchmarks.confidence BACKBONE [SIZE] SET SET ...

Sets are class folders that the user names; they are not part of the project. Of each set half of
the classes are left out and a fifth of the images of the others; the rest is the gallery, which is
calibrated from itself alone. Asked are the fifth (their class is known), the other classes (it is
not) and pictures of all other sets. Drawn five times; the figures are of all draws together.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.table import Table
from retrieval import transform as transforms
from retrieval.comparison.embeddings import embed_folder
from retrieval.encoder import cache_folder
from retrieval.evaluation.calibration import calibrate, prior_weights
from retrieval.evaluation.evidence import evidence
from retrieval.evaluation.open_set import density, trials_by_class
from retrieval.evaluation.protocols import Images, SearchMethod
from retrieval.metrics import expected_calibration_error
from retrieval.settings import EmbeddingSettings
from retrieval.words import CONSIDERED, PRIOR_KNOWN

DRAWS = 5
HELD_OUT = 0.2
MOST_UNKNOWN, FOREIGN_A_SET = 500, 60
LIKELY = 0.5


@dataclass
class Answers:
    """Of the best match of each query: its score, its probability, whether it is right, and whether
    the query's class is in the gallery (1), is not (0), or the picture is foreign (-1)."""

    scores: list[np.ndarray] = field(default_factory=list)
    probabilities: list[np.ndarray] = field(default_factory=list)
    right: list[np.ndarray] = field(default_factory=list)
    known: list[np.ndarray] = field(default_factory=list)
    areas: list[tuple[float, float]] = field(default_factory=list)

    def add(self, *columns: np.ndarray) -> None:
        """The answers of one draw."""
        lists = (self.scores, self.probabilities, self.right, self.known)
        for column, values in zip(lists, columns, strict=True):
            column.append(values)
        scores, probabilities, _, known = columns
        own = known >= 0
        self.areas.append(
            (
                float(roc_auc_score(known[own], scores[own])),
                float(roc_auc_score(known[own], probabilities[own])),
            )
        )

    def row(self) -> list[str]:
        """Areas by score and by probability, calibration error, shares of p of 0.5 or more."""
        p, right, known = map(np.concatenate, (self.probabilities, self.right, self.known))
        own = known >= 0
        weights = prior_weights(known[own] == 1, PRIOR_KNOWN)
        error = expected_calibration_error(p[own], right[own], weights=weights)
        by_score, by_probability = np.mean(self.areas, axis=0)
        likely = [float((p[known == kind] >= LIKELY).mean()) for kind in (1, 0, -1)]
        return [f"{by_score:.3f}", f"{by_probability:.3f}", f"{error:.3f}"] + [
            f"{share:.3f}" for share in likely
        ]


def draw(images: Images, foreign: np.ndarray, seed: int, into: Answers) -> None:
    """One gallery of half of the classes, its calibration, and what it answers."""
    random = np.random.default_rng(seed)
    labels = np.array(images.labels)
    classes = random.permutation(np.unique(labels))
    inside = np.isin(labels, classes[: (len(classes) + 1) // 2])
    known = random.permutation(np.flatnonzero(inside))
    asked, rows = np.split(known, [int(HELD_OUT * len(known))])
    unknown = random.permutation(np.flatnonzero(~inside))[:MOST_UNKNOWN]
    gallery = Images(
        images.embeddings[rows],
        labels[rows].tolist(),
        images.contents[rows],
        [images.paths[i] for i in rows],
    )
    trials = trials_by_class(gallery, SearchMethod("auto"))
    calibration = None if trials is None else calibrate(trials, "class")
    if calibration is None:
        return
    fitted = transforms.fit("auto", gallery.embeddings.astype(np.float32), gallery.labels)
    x = fitted.apply(gallery.embeddings)
    queries = np.concatenate([images.embeddings[asked], images.embeddings[unknown], foreign])
    scores = fitted.apply(queries) @ x.T
    nearest = np.argsort(-scores, axis=1)[:, :CONSIDERED]
    codes = np.unique(labels[rows], return_inverse=True)[1]
    best = np.take_along_axis(scores, nearest, 1)
    dense = density(x[nearest[:, 0]], x, nearest[:, 0])
    classes = codes[nearest]
    found = evidence((best[:, :1], classes[:, :1]), (best, classes))
    p = calibration.confidence.probability(found, dense, PRIOR_KNOWN)[:, 0]
    kind = np.repeat([1, 0, -1], [len(asked), len(unknown), len(foreign)])
    right = np.zeros(len(p), bool)
    right[: len(asked)] = labels[rows][nearest[: len(asked), 0]] == labels[asked]
    into.add(best[:, 0], p, right, kind)


def measure(folders: list[Path], backbone: str, size: int | None) -> Table:
    """The table of all sets."""
    found = Table(
        f"Confidence, {Path(backbone).name}",
        "Half of the classes unknown. Area under the ROC curve of telling queries whose class is "
        "in the gallery, by the score alone and by the probability; expected calibration error at "
        f"a prior of {PRIOR_KNOWN}; share of queries with a best match of a probability of "
        f"{LIKELY} or more. {DRAWS} draws.",
        ["set", "area, score", "area, probability", "error", "known", "unknown", "foreign"],
    )
    made = {
        folder.name: embed_folder(
            folder, EmbeddingSettings(backbone=backbone, size=size), cache_folder() / "experiments"
        ).images
        for folder in folders
    }
    random = np.random.default_rng(0)
    some = {
        name: np.asarray(images.embeddings)[random.permutation(len(images))[:FOREIGN_A_SET]]
        for name, images in made.items()
    }
    for name, images in made.items():
        foreign = np.concatenate([other for kind, other in some.items() if kind != name])
        answers = Answers()
        for seed in range(DRAWS):
            draw(images, foreign, seed, answers)
        if answers.areas:
            found.add(name, *answers.row())
            print(*found.rows[-1], file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    backbone, *given = sys.argv[1:]
    size = int(given.pop(0)) if given and given[0].isdecimal() else None
    print(measure([Path(folder) for folder in given], backbone, size).markdown())
