"""Find the setting that suits a user's own labelled images, within a budget of time.

Some images of each class are held out and searched for among the others. One thing is changed at a
time, what gains is kept: transform, pooling, views, size, the transform again, augmentation,
expansion, re-ranking. The best of many looks better than it is on the images that chose it. So a
third of what is held out chooses nothing. It is searched for once, at the end, for the figure
shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from retrieval import backbones, metrics
from retrieval import transform as transforms
from retrieval.arguments import path_of, whole
from retrieval.comparison.embeddings import Embedded, embed_folder
from retrieval.comparison.recipes import Experiment
from retrieval.errors import ArgumentError, BackboneError, DataError
from retrieval.evaluation.protocols import Images, Measured, SearchMethod, rank_images
from retrieval.plain import Plain
from retrieval.progress import Progress
from retrieval.words import BY_FOLDER, MOST_NEIGHBOURS, Engine

HELD_OUT = 0.3
TOLD_BY = 3  # one of so many held-out images
MOST_IMAGES = 20_000
LEAST_GAIN, SURE_OF_GAIN = 0.002, 0.05
MEANS = ["1", "2", "3", "10", "3:2.0", "10:3.0"]
SIZE_STEP = 32

Change = dict[str, Any]


@dataclass(frozen=True)
class Step(Plain):
    """A change that was tried.

    precision: mean precision@k of the held-out images that choose. gain: over the best so far, and
    p of it by a paired permutation test. kept: whether the change is part of the best settings from
    here on. skipped: why it was not tried, else "".
    """

    change: str
    precision: float
    gain: float
    p: float
    kept: bool
    seconds: float
    skipped: str = ""


@dataclass(frozen=True)
class Tuning(Plain):
    """The best settings, and how they were found.

    images: all that were used. held_out: images that chose the settings; start: their precision@k
    with the settings to begin with. fresh: held-out images that chose nothing. before, after: the
    precision@k of these, after with its 95 % interval over queries, low to high.
    """

    recipe: Experiment
    steps: tuple[Step, ...]
    k: int
    images: int
    held_out: int
    start: float
    fresh: int
    before: float
    after: float
    low: float
    high: float


class OutOfTime(Exception):
    """The time budget is spent."""


def tune(
    folder: Path | str,
    *,
    minutes: float,
    cache: Path | str,
    start: Experiment | None = None,
    use_labels: bool = True,
    labels: str = BY_FOLDER,
    k: int = 5,
    most_images: int = MOST_IMAGES,
    checksum: bool = False,
    engine: Engine | None = None,
    progress: Progress | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Tuning:
    """Find the settings that match the labelled images of a folder best, within some minutes.

    Changes that may gain are tried, the cheapest first; the first embedding is made whatever it
    takes. cache: folder that keeps embeddings. start: settings to begin with, by default those of
    a new gallery. use_labels: whether the transform may be fitted to the labels; where not, one
    that would be (auto too) gives way to rca. labels: "folder" or a CSV file. k: of precision@k.
    most_images: of more, a random sample is used. checksum: compare the content of files whose size
    and time are those of the cache. on_step: told each change. Raises DataError when
    there are too few labelled images to hold some out, ArgumentError for minutes, k or
    most_images.
    """
    if not isinstance(minutes, Real) or not minutes > 0:  # nor NaN
        raise ArgumentError(f"minutes is {minutes!r}. Give a number above 0.")
    k = whole("k", k, most=MOST_NEIGHBOURS)
    most_images = whole("most_images", most_images)
    folder, cache = path_of("folder", folder), path_of("cache", cache)
    run = _Run(folder, cache, labels, k, most_images, engine, progress, minutes, checksum=checksum)
    first = start or Experiment()
    if not use_labels and transforms.sees_labels(first.search.transform):
        first = _changed(first, {"transform": transforms.WITHOUT_LABELS})
    run.begin(first)
    for change in _changes(run, use_labels=use_labels):
        step = run.step(change)
        if step is not None and on_step:
            on_step(step)
    before, after = run.fresh(first), run.fresh(run.recipe)
    low, high = metrics.bootstrap_interval(after)
    return Tuning(
        recipe=run.recipe,
        steps=tuple(run.steps),
        k=k,
        images=run.images,
        held_out=run.held_out,
        start=run.start,
        fresh=len(after),
        before=float(before.mean()),
        after=float(after.mean()),
        low=low,
        high=high,
    )


def _changes(run: _Run, *, use_labels: bool) -> Iterator[Change]:
    """List the changes to try in order; a later change builds on those that were kept."""
    kinds = [kind for kind in transforms.KINDS.values() if use_labels or kind.labels == "none"]
    yield from ({"transform": spec} for kind in kinds for spec in kind.tried)
    yield from ({"pool": pool} for pool in ("avg+gem", "avg+max", "gem", "max"))
    yield {"views": "flip"}
    size = run.size
    for factor in (9 / 7, 11 / 7):
        yield {"size": SIZE_STEP * round(size * factor / SIZE_STEP)}
    yield {"views": "flip+multiscale"}
    yield from ({"transform": spec} for kind in kinds if kind.takes for spec in kind.tried)
    yield from ({"augment": spec} for spec in MEANS)
    yield from ({"expand": spec} for spec in MEANS)
    yield from ({"rerank": spec} for spec in ("50", "100"))


class _Run:
    """The best settings so far, and what their held-out queries gave."""

    def __init__(
        self,
        folder: Path,
        cache: Path,
        labels: str,
        k: int,
        most: int,
        engine: Engine | None,
        progress: Progress | None,
        minutes: float,
        *,
        checksum: bool,
    ) -> None:
        self.folder = folder
        self.cache = cache
        self.labels = labels
        self.k = k
        self.most = most
        self.checksum = checksum
        self.engine = engine
        self.progress = progress
        self.deadline = time.monotonic() + 60 * minutes
        self.steps: list[Step] = []
        self._tried: set[str] = set()

    def begin(self, recipe: Experiment) -> None:
        """Measure the settings to start from; this embedding is always finished."""
        deadline, self.deadline = self.deadline, float("inf")
        self.recipe = recipe
        self.best = self._measure(recipe)
        self.start = float(self.best.mean())
        self.deadline = deadline
        self._tried.add(recipe.model_dump_json())

    @property
    def size(self) -> int:
        """The side of the starting input, in pixels."""
        encoding = self.recipe.encoding
        return encoding.size or backbones.input_size(backbones.parse_name(encoding.backbone)) or 224

    def step(self, change: Change) -> Step | None:
        """Try a change; None where it changes nothing."""
        changed = _changed(self.recipe, change)
        text = changed.model_dump_json()
        if text in self._tried:
            return None
        self._tried.add(text)
        name = ", ".join(f"{key} {value}" for key, value in change.items())
        begun = time.monotonic()
        try:
            measured = self._measure(changed)
        except (OutOfTime, BackboneError) as error:
            why = str(error) or "the time is up"
            step = Step(name, float("nan"), float("nan"), float("nan"), False, 0.0, why)  # noqa: FBT003
            self.steps.append(step)
            return step
        gain = float((measured - self.best).mean())
        p = metrics.paired_test(measured, self.best) if gain > 0 else 1.0
        kept = gain >= LEAST_GAIN and p < SURE_OF_GAIN
        step = Step(name, float(measured.mean()), gain, p, kept, time.monotonic() - begun)
        self.steps.append(step)
        if kept:
            self.recipe, self.best = changed, measured
        return step

    def fresh(self, recipe: Experiment) -> np.ndarray:
        """Measure (q,) precision@k of the queries that chose nothing, whatever the time."""
        self.deadline = float("inf")
        return self._measure(recipe, fresh=True)

    def _measure(self, recipe: Experiment, *, fresh: bool = False) -> np.ndarray:
        """Measure (q,) precision@k of the queries that choose, or of the fresh ones."""
        self._check_time()
        embedded = self._embedded(recipe)
        gallery, choosing, last = _split(embedded.images)
        self.images, self.held_out = len(gallery) + len(choosing) + len(last), len(choosing)
        queries = last if fresh else choosing
        measured = Measured((self.k,), vote=self.k)
        method = SearchMethod(recipe.search.transform, recipe.search.refinement)
        ranked, *_ = rank_images(gallery, queries, method=method, measured=measured)
        return ranked.values[f"precision@{self.k}"]

    def _embedded(self, recipe: Experiment) -> Embedded:
        return embed_folder(
            self.folder,
            recipe.encoding,
            self.cache,
            labels=self.labels,
            most=self.most,
            checksum=self.checksum,
            engine=self.engine,
            progress=self._watch,
        )

    def _watch(self, what: str, done: int, total: int | None) -> None:
        """Give progress that ends an embedding when the time is up; what was embedded stays."""
        self._check_time()
        if self.progress:
            self.progress(what, done, total)

    def _check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise OutOfTime


def _changed(recipe: Experiment, change: Change) -> Experiment:
    document = recipe.model_dump()
    for key, value in change.items():
        document["encoding" if key in document["encoding"] else "search"][key] = value
    return Experiment.model_validate(document)


def _split(images: Images) -> tuple[Images, Images, Images]:
    """Split images into gallery, choosing and fresh queries: the same, whatever embeds them.

    Copies of one content stay together. Raises DataError when no class can be split.
    """
    by_label: dict[str, dict[int, list[int]]] = {}
    contents = images.contents.tolist()
    for row, (label, content) in enumerate(zip(images.labels, contents, strict=True)):
        if label:
            by_label.setdefault(label, {}).setdefault(content, []).append(row)
    held: list[list[int]] = []  # rows of one content each
    for copies in by_label.values():
        count = min(len(copies) - 1, max(1, round(HELD_OUT * len(copies))))
        held += [copies[content] for content in sorted(copies)[:count]]
    if len(held) < 2 or len(by_label) < 2:
        raise DataError(
            "Tuning needs labelled images: at least two classes of at least two images each that "
            "are not copies. Put each image in a folder named after its class, or give --labels "
            "FILE.csv."
        )
    parts: tuple[list[int], list[int]] = [], []
    for place, rows in enumerate(held):  # class by class, so that both have some of each
        parts[place % TOLD_BY == 1].extend(rows)
    mask = np.zeros(len(images), bool)
    mask[[*parts[0], *parts[1]]] = True
    choosing, fresh = (sorted(part, key=lambda row: contents[row]) for part in parts)
    gallery = _rows(images, np.flatnonzero(~mask))
    return gallery, _rows(images, choosing), _rows(images, fresh)


def _rows(images: Images, rows: Sequence[int] | np.ndarray) -> Images:
    return Images(
        images.embeddings[np.asarray(rows)],
        [images.labels[i] for i in rows],
        images.contents[np.asarray(rows)],
        [images.paths[i] for i in rows],
    )
