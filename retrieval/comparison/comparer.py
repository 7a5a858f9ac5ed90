"""Run experiments over the same gallery and queries; each result is kept in the cache."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from retrieval import __version__, metrics
from retrieval.arguments import path_of
from retrieval.comparison.cache import load_evaluation, store_evaluation
from retrieval.comparison.embeddings import Embedded, embed_folder
from retrieval.comparison.recipes import Experiment, NamedExperiment
from retrieval.comparison.results import Comparison, ExperimentResult, PairedTest
from retrieval.errors import ArgumentError, DataError
from retrieval.evaluation import Evaluation
from retrieval.evaluation.protocols import (
    Measured,
    SearchMethod,
    check_contradictions,
    evaluate,
)
from retrieval.images import find_images
from retrieval.progress import Progress
from retrieval.retriever.labelled import check_labelled, measured_of
from retrieval.retriever.labels import labels_from
from retrieval.words import BY_FOLDER, Engine

RESULTS_FORMAT = 2
ALL_PAIRS_UP_TO = 6
RESAMPLES = 10_000


@dataclass(frozen=True)
class ComparedFolders:
    """The labelled folders that experiments run on.

    queries: None searches for each image of gallery among the others. labels, query_labels:
    "folder", the name of the folder that holds an image, or a CSV file. zero_shot: evaluate the
    second half of the classes, with the transform fitted to the first. checksum: compare the
    content of files whose size and time are those of the cache.
    """

    gallery: Path
    queries: Path | None = None
    labels: str = BY_FOLDER
    query_labels: str = BY_FOLDER
    zero_shot: bool = False
    checksum: bool = False


def compare(
    data: ComparedFolders,
    experiments: Sequence[NamedExperiment],
    *,
    cache: Path | str,
    measured: Measured | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Run experiments, and test in pairs whether they differ.

    cache: folder where embeddings and results are kept, so that one more experiment costs that
    experiment alone. measured: which k, and how many neighbours vote; see Measured. Raises
    ArgumentError for wrong arguments, and a child of ImgretError when an experiment cannot be
    run; the results before it stay in the cache.
    """
    if not isinstance(data, ComparedFolders):
        raise ArgumentError(f"data is {data!r}. Give ComparedFolders.")
    asked, place = measured or Measured(), path_of("cache", cache)
    measured = measured_of(asked.k, asked.vote, asked.most_queries, asked.interval_over)
    queries = None if data.queries is None else path_of("queries", data.queries)
    data = replace(data, gallery=path_of("gallery", data.gallery), queries=queries)
    check_contradictions(
        queries=queries is not None,
        zero_shot=data.zero_shot,
        labels=data.query_labels,
        labels_name="query_labels",
    )
    experiments = list(experiments) if isinstance(experiments, Iterable) else [experiments]
    if not experiments or not all(isinstance(named, NamedExperiment) for named in experiments):
        raise ArgumentError(
            f"experiments is {experiments!r}. Give a list of what read_experiment() returns."
        )
    for folder, labels in ((data.gallery, data.labels), (queries, data.query_labels)):
        if folder is not None:
            check_labelled([folder], find_images([folder]), labels_from(labels))
    results = tuple(
        run(data, experiment, cache=place, measured=measured, engine=engine, progress=progress)
        for experiment in experiments
    )
    return Comparison(
        gallery=str(data.gallery),
        queries=str(data.queries or ("zero-shot" if data.zero_shot else "leave-one-out")),
        experiments=results,
        tests=paired_tests(results),
    )


def run(
    data: ComparedFolders,
    experiment: NamedExperiment,
    *,
    cache: Path,
    measured: Measured,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> ExperimentResult:
    """Run one experiment, or read its result from the cache."""
    recipe = experiment.recipe
    embedded = partial(
        embed_folder, encoding=recipe.encoding, cache=cache, checksum=data.checksum, engine=engine,
        progress=progress,
    )  # fmt: skip
    gallery, queries = embedded(data.gallery, labels=data.labels), None
    if data.queries is not None:
        queries = embedded(data.queries, labels=data.query_labels)
    evaluation = _evaluated(data, recipe, gallery, queries, measured, cache, progress)
    if not evaluation.queries:
        raise DataError(
            f"No query of {data.queries or data.gallery} has another image of its class in the "
            "gallery. Add images of these classes, or choose other queries."
        )
    return ExperimentResult(
        name=experiment.name,
        settings=settings_of(recipe),
        evaluation=evaluation,
        milliseconds=gallery.milliseconds,
        dim=gallery.images.embeddings.shape[1],
        reference=recipe.reference.precision_at_5 if recipe.reference else None,
        is_random=recipe.has_random_weights,
        sheet=evaluation.sample,
    )


def settings_of(recipe: Experiment) -> tuple[tuple[str, str], ...]:
    """Return the name and value of each setting that says something."""
    settings = recipe.encoding.model_dump() | recipe.search.model_dump()
    settings["backbone"] = Path(settings["backbone"]).name
    return tuple(
        (k, str(v))
        for k, v in settings.items()
        if v not in (None, "none", "own") or k == "transform"
    )


def paired_tests(results: Sequence[ExperimentResult]) -> tuple[PairedTest, ...]:
    """Test each pair, or of many experiments the best with each other; correct p by Holm."""
    pairs = list(itertools.combinations(results, 2))
    if len(results) > ALL_PAIRS_UP_TO:
        best = max(results, key=lambda r: float(r.evaluation.per_query.precision.mean()))
        pairs = [(best, other) for other in results if other is not best]
    raw = [_compared(*pair) for pair in pairs]
    corrected = metrics.holm(np.array([p for *_, p in raw]))
    return tuple(
        PairedTest(first.name, second.name, difference, low, high, float(p))
        for (first, second), (difference, low, high, _), p in zip(
            pairs, raw, corrected, strict=True
        )
    )


def _compared(
    first: ExperimentResult, second: ExperimentResult
) -> tuple[float, float, float, float]:
    """Return the mean difference of precision over common queries, its interval, and p."""
    one, other = first.evaluation.per_query, second.evaluation.per_query
    _, mine, theirs = np.intersect1d(one.queries, other.queries, return_indices=True)
    a, b = one.precision[mine], other.precision[theirs]
    over_classes = "classes" in (first.evaluation.interval_over, second.evaluation.interval_over)
    groups = one.classes[mine] if over_classes else None
    low, high = metrics.bootstrap_interval(a - b, groups)
    p = metrics.paired_test(a, b, groups, resamples=RESAMPLES)
    return float((a - b).mean()) if len(a) else float("nan"), low, high, p


def _evaluated(
    data: ComparedFolders,
    recipe: Experiment,
    gallery: Embedded,
    queries: Embedded | None,
    measured: Measured,
    cache: Path,
    progress: Progress | None,
) -> Evaluation:
    facts = [
        RESULTS_FORMAT, gallery.version, queries.version if queries else None, data.zero_shot,
        recipe.search.model_dump(), measured.k, measured.vote, measured.most_queries,
        measured.interval_over, __version__,
    ]  # fmt: skip
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    file = cache / "results" / f"{key}.json"
    known = load_evaluation(file)
    if known is not None:
        return known
    method = SearchMethod(recipe.search.transform, recipe.search.refinement)
    evaluation = evaluate(
        gallery.images,
        queries.images if queries else None,
        method=method,
        measured=measured,
        zero_shot=data.zero_shot,
        progress=progress,
    )
    store_evaluation(file, evaluation)
    return evaluation
