"""What each option that promises better matches gains, and what it costs."""

from __future__ import annotations

import time

from benchmarks.photographs import CACHE, WEIGHTS, cifar_part, unpacked
from benchmarks.table import Table

BASE = {"backbone": str(WEIGHTS), "size": 224, "transform": "auto"}
OPTIONS: dict[str, dict[str, object]] = {
    "nothing": {},
    "--pool max": {"pool": "max"},
    "--pool gem": {"pool": "gem"},
    "--pool avg+max": {"pool": "avg+max"},
    "--pool avg+gem": {"pool": "avg+gem"},
    "--views flip": {"views": "flip"},
    "--views multiscale": {"views": "multiscale"},
    "--size 288": {"size": 288},
    "--transform none": {"transform": "none"},
    "--transform rca": {"transform": "rca"},
    "--transform whiten:512": {"transform": "whiten:512"},
    "--transform whiten:512:0.75": {"transform": "whiten:512:0.75"},
    "--transform whiten:512:0.5": {"transform": "whiten:512:0.5"},
    "--transform lda": {"transform": "lda"},
    "--transform lda:0.05": {"transform": "lda:0.05"},
    "--transform lda:0.1": {"transform": "lda:0.1"},
    "--expand 3": {"expand": "3"},
    "--expand 10:3.0": {"expand": "10:3.0"},
    "--augment 3": {"augment": "3"},
    "--augment 10:3.0": {"augment": "10:3.0"},
    "--rerank 50": {"rerank": "50"},
    "--rerank 100": {"rerank": "100"},
    "all that need no labels": {
        "size": 288, "pool": "avg+gem", "views": "flip", "transform": "whiten:1024:0.75",
        "expand": "3", "augment": "3",
    },
    "all": {
        "size": 288, "pool": "avg+gem", "views": "flip", "transform": "lda:0.1", "expand": "3",
        "augment": "3",
    },
}  # fmt: skip
CIFAR_SIZE = 96


def measure(*, quick: bool) -> list[Table]:
    """One row an option: P@5 on cars with what it gains, and whether it harms elsewhere."""
    from retrieval.comparison import ComparedFolders

    cars, parts = unpacked("cars"), unpacked("parts")
    cifar = cifar_part(quick=quick)
    if quick:
        cars = parts
    table = Table(
        "Options for better matches",
        "MobileNetV2 at 224 px (CIFAR-10 at 96 px, `--size 288` there at 128 px), the default "
        "transform (auto: labels take part) unless said otherwise. P@5 of each option alone "
        "against none. The galleries and queries are cars/train (4,858) and cars/test (1,632), "
        "10,000 and 2,000 images of CIFAR-10, and 400 and 40 parts. The difference on cars has its "
        "95 % interval and p (paired permutation test). `ms an image` is to decode and encode one "
        "of cars. `ms a query` is to transform, search and refine one of 1,632 in a batch.",
        ["option", "cars", "difference", "p", "CIFAR-10", "parts", "ms an image", "ms a query"],
    )
    sets = [ComparedFolders(data / "train", data / "test") for data in (cars, cifar, parts)]
    results = {name: [_run(data, change) for data in sets] for name, change in OPTIONS.items()}
    for name, row in results.items():
        table.add(*_row(name, row, results["nothing"]))
    return [table]


def _run(data, change):  # type: ignore[no-untyped-def]
    """One option on one set of images, and the milliseconds of one query."""
    from retrieval.comparison import recipes
    from retrieval.comparison.comparer import run
    from retrieval.comparison.embeddings import embed_folder
    from retrieval.evaluation.protocols import Measured, SearchMethod, rank_images

    settings = BASE | change
    if "cifar" in str(data.gallery):
        settings["size"] = {224: CIFAR_SIZE, 288: 128}[int(settings["size"])]
    (experiment,) = recipes.grid(recipes.Experiment(), {key: [v] for key, v in settings.items()})
    cache = CACHE / "experiments"
    measured = Measured()
    result = run(data, experiment, cache=cache, measured=measured)
    recipe = experiment.recipe
    images, queries = (
        embed_folder(f, recipe.encoding, cache).images for f in (data.gallery, data.queries)
    )
    start = time.monotonic()
    method = SearchMethod(recipe.search.transform, recipe.search.refinement)
    rank_images(images, queries, method=method, measured=measured)
    return result, 1000 * (time.monotonic() - start) / len(queries)


def _row(name, row, base):  # type: ignore[no-untyped-def]
    from retrieval.comparison.comparer import paired_tests

    (cars, query), (cifar, _), (parts, _) = row
    p5 = [r.evaluation.metric("precision@5").value for r in (cars, cifar, parts)]
    difference, p = "", ""
    if name != "nothing":
        (test,) = paired_tests((cars, base[0][0]))
        difference = f"{test.difference:+.3f} [{test.low:+.3f}, {test.high:+.3f}]"
        p = f"{test.p:.4f}"
    ms = "" if cars.milliseconds is None else f"{cars.milliseconds:.1f}"
    return (name, f"{p5[0]:.3f}", difference, p, f"{p5[1]:.3f}", f"{p5[2]:.3f}", ms, f"{query:.1f}")
