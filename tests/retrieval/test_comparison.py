"""Recipes, grids, cached experiments, paired tests, tuning."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tomllib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from retrieval import metrics
from retrieval import transform as transforms
from retrieval.comparison import ComparedFolders, NamedExperiment, compare, embeddings
from retrieval.comparison import recipes as known
from retrieval.comparison.cache import load_evaluation, store_evaluation
from retrieval.comparison.embeddings import embed_folder
from retrieval.comparison.recipes import Experiment
from retrieval.comparison.tuner import _split, tune
from retrieval.errors import ImgretError, RecipeError
from retrieval.evaluation.protocols import Measured
from retrieval.refinement import Refinement
from retrieval.settings import EmbeddingSettings


@pytest.fixture
def experiments(weights: Path) -> list[NamedExperiment]:
    spans = {"backbone": [str(weights)], "transform": ["none", "whiten:8", "lda:0.5"]}
    return known.grid(Experiment(), spans)


def test_our_recipes_are_the_rows_to_reproduce() -> None:
    assert known.experiment_names() == ["R1", "R2", "R3", "R3-lite2"]
    r1, r2, r3, lite = (known.read_experiment(name).recipe for name in known.experiment_names())
    assert (r1.encoding.backbone, r1.encoding.size, r1.search.transform, r1.k) == (
        "mobilenetv2", 128, "none", 5
    )  # fmt: skip
    assert (r2.encoding.backbone, r2.encoding.size, r2.k) == ("resnet50", 224, 5)
    assert (r3.encoding.backbone, r3.encoding.size, r3.search.transform, r3.k) == (
        "efficientnet-b7", 600, "standard+pca:512", 10
    )  # fmt: skip
    assert (lite.search, lite.k) == (r3.search, r3.k)
    beaten = [r.reference.precision_at_5 for r in (r1, r2, r3) if r.reference]
    assert beaten == [0.05, 0.18, 0.20]


def test_a_recipe_of_ones_own_is_read_and_written(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('k = 3\n[encoding]\nsize = 160\npool = "gem"\n[search]\nexpand = "3"\n')
    experiment = known.read_experiment(str(file))
    assert experiment.name == "mine"
    assert experiment.recipe.encoding.pool == "gem"
    assert (
        known.parse_experiment(known.experiment_as_toml(experiment.recipe), "again")
        == experiment.recipe
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[encoding]\nsiez = 3", r"encoding.siez: there is no such key\. Did you mean size\?"),
        ("[encoding]\nsize = 3", "encoding.size"),
        ('[search]\ntransform = "pca:x"', "search"),
        ('[search]\nrerank = "0"', "search"),
        ("k = 0", "k"),
        ("k = ", "TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_by_file_and_key(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=named) as error:
        known.read_experiment(str(file))
    assert "wrong.toml" in str(error.value)


def test_a_recipe_that_is_not_there_is_said_with_those_that_are() -> None:
    with pytest.raises(RecipeError, match="R1, R2, R3, R3-lite2"):
        known.read_experiment("R9")


def test_repeated_options_span_a_grid_named_by_what_varies() -> None:
    spans = {"backbone": ["resnet50"], "size": [128, 224], "transform": ["none", "auto"]}
    assert [e.name for e in known.grid(Experiment(), spans)] == [
        "128 none", "128 auto", "224 none", "224 auto"
    ]  # fmt: skip


def test_weights_go_to_the_backbone_whose_architecture_they_are(
    weights: Path, tmp_path: Path
) -> None:
    mine = NamedExperiment(
        "x", Experiment(encoding=EmbeddingSettings(backbone="mobilenetv3_small_050"))
    )
    assert known.with_weights(
        mine, [weights], random_weights=False
    ).recipe.encoding.backbone == str(weights)
    other = NamedExperiment("y", Experiment(encoding=EmbeddingSettings(backbone="resnet50")))
    random = known.with_weights(other, [weights], random_weights=True).recipe.encoding
    assert random.backbone == "random:resnet50"
    assert random.backbone.startswith("random:")


def test_experiments_share_an_embedding_and_what_was_run_is_not_run_again(
    pictures: Path, experiments: list[NamedExperiment], tmp_path: Path
) -> None:
    cache, encoded = tmp_path / "cache", []

    def progress(what: str, done: int, total: int | None) -> None:
        encoded.append(done if what == "encoding" else 0)

    first = compare(ComparedFolders(pictures), experiments[:2], cache=cache, progress=progress)
    assert max(encoded) == 24
    assert len(list((cache / "embeddings").iterdir())) == 1
    encoded.clear()
    again = compare(ComparedFolders(pictures), experiments, cache=cache, progress=progress)
    assert max(encoded) == 0
    assert len(list((cache / "results").iterdir())) == 3
    for old, new in zip(first.experiments, again.experiments, strict=False):
        assert old.evaluation.metrics == new.evaluation.metrics
        assert old.sheet == new.sheet
        np.testing.assert_array_equal(
            old.evaluation.per_query.distances, new.evaluation.per_query.distances
        )


def test_another_version_of_timm_embeds_anew(
    pictures: Path,
    experiments: list[NamedExperiment],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for version in ("1.0.9", "1.0.9", "1.0.31"):
        monkeypatch.setattr(embeddings.metadata, "version", lambda _, v=version: v)
        compare(ComparedFolders(pictures), experiments[:1], cache=tmp_path)
    assert len(list((tmp_path / "embeddings").iterdir())) == 2


@pytest.mark.long
def test_a_changed_config_is_another_experiment(
    pictures: Path, experiments: list[NamedExperiment], weights: Path, tmp_path: Path
) -> None:
    mine = Path(shutil.copytree(weights, tmp_path / "mine"))
    experiment = NamedExperiment("mine", Experiment(encoding=EmbeddingSettings(backbone=str(mine))))

    def distances() -> np.ndarray:
        made = compare(ComparedFolders(pictures), [experiment], cache=tmp_path / "cache")
        return made.experiments[0].evaluation.per_query.distances

    before = distances()
    np.testing.assert_array_equal(distances(), before)
    config = json.loads((mine / "config.json").read_text())
    config.setdefault("pretrained_cfg", {})["mean"] = [0.1, 0.9, 0.3]
    config["pretrained_cfg"]["std"] = [0.9, 0.05, 0.5]
    (mine / "config.json").write_text(json.dumps(config))
    assert (distances() != before).any()


def test_intervals_of_zero_shot_are_about_classes(
    pictures: Path, experiments: list[NamedExperiment], tmp_path: Path
) -> None:
    from tests.samples import picture

    for n in range(3, 6):
        (pictures / f"class{n}").mkdir()
        for i in range(4):
            picture(100 * n + i).save(pictures / f"class{n}" / f"{i}.jpg")
    found = {}
    for name, data, measured in (
        ("queries", ComparedFolders(pictures), Measured()),
        ("classes", ComparedFolders(pictures), Measured(interval_over="classes")),
        ("zero-shot", ComparedFolders(pictures, zero_shot=True), Measured()),
    ):
        made = compare(data, experiments[:2], cache=tmp_path / "cache", measured=measured)
        found[name] = made.experiments[0].evaluation
        one = found[name].per_query
        groups = None if name == "queries" else one.classes
        expected = metrics.bootstrap_interval(one.precision, groups)
        p = found[name].metric("precision@5")
        assert (p.low, p.high) == pytest.approx(expected)
    assert [e.interval_over for e in found.values()] == ["queries", "classes", "classes"]
    assert len(np.unique(found["zero-shot"].per_query.classes)) == 3
    values = [found[name].metric("precision@5").value for name in ("queries", "classes")]
    assert values[0] == values[1]


def test_a_new_image_is_noticed(
    pictures: Path, experiments: list[NamedExperiment], tmp_path: Path
) -> None:
    from tests.samples import picture

    before = compare(ComparedFolders(pictures), experiments[:1], cache=tmp_path / "cache")
    picture(77).save(pictures / "class0" / "new.jpg")
    as_text = ComparedFolders(str(pictures))  # type: ignore[arg-type]
    after = compare(as_text, experiments[:1], cache=str(tmp_path / "cache"))
    assert [c.experiments[0].evaluation.gallery for c in (before, after)] == [24, 25]


def test_pairs_are_tested_and_an_experiment_does_not_differ_from_itself(
    pictures: Path, experiments: list[NamedExperiment], tmp_path: Path
) -> None:
    twice = known.unique([experiments[0], experiments[0]])
    assert [e.name for e in twice] == ["none", "none (2)"]
    (test,) = compare(ComparedFolders(pictures), twice, cache=tmp_path / "cache").tests
    assert (test.difference, test.p) == (0, 1)


def test_a_damaged_result_is_made_again(
    pictures: Path, experiments: list[NamedExperiment], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    first = compare(ComparedFolders(pictures), experiments[:1], cache=cache)
    (file,) = (cache / "results").iterdir()
    for content in ("", "{", "{}", json.dumps({"metrics": 3})):
        file.write_text(content)
        again = compare(ComparedFolders(pictures), experiments[:1], cache=cache)
        assert again.experiments[0].evaluation.metrics == first.experiments[0].evaluation.metrics


def test_an_evaluation_is_stored_whole(
    pictures: Path, experiments: list[NamedExperiment], tmp_path: Path
) -> None:
    made = (
        compare(ComparedFolders(pictures), experiments[:1], cache=tmp_path / "c")
        .experiments[0]
        .evaluation
    )
    store_evaluation(tmp_path / "e.json", made)
    read = load_evaluation(tmp_path / "e.json")
    assert read is not None
    for name in ("metrics", "vote", "classes", "confused", "worst", "sample", "calibration"):
        assert getattr(read, name) == getattr(made, name), name
    np.testing.assert_array_equal(read.per_query.queries, made.per_query.queries)
    assert read.per_query == made.per_query
    assert hash(read.per_query) == hash(made.per_query)
    assert read.per_query != replace(made.per_query, k=made.per_query.k + 1)
    assert made in [read, made]


def test_a_folder_without_images_is_said(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImgretError, match="no image"):
        embed_folder(
            tmp_path / "empty", EmbeddingSettings(backbone=str(weights)), tmp_path / "cache"
        )


def test_a_folder_that_has_shrunk_is_embedded_as_it_is(tmp_path: Path, weights: Path) -> None:
    from tests.samples import picture

    folder = tmp_path / "set"
    folder.mkdir()
    for n in range(24):
        picture(n, 40, 30).save(folder / f"{n}.png")
    embedding, cache = EmbeddingSettings(backbone=str(weights)), tmp_path / "cache"
    assert len(embed_folder(folder, embedding, cache).images) == 24
    for n in range(4, 24):
        (folder / f"{n}.png").unlink()
    assert len(embed_folder(folder, embedding, cache).images) == 4
    for file in list(folder.iterdir()):
        file.unlink()
    with pytest.raises(ImgretError, match="no image"):  # a drive may not be mounted
        embed_folder(folder, embedding, cache)
    for n in range(4):
        picture(n, 40, 30).save(folder / f"{n}.png")
    assert len(embed_folder(folder, embedding, cache).images) == 4


def test_a_file_that_keeps_its_size_and_time_is_read_again_where_that_is_asked_for(
    tmp_path: Path, weights: Path
) -> None:
    from tests.samples import picture

    folder = tmp_path / "set"
    folder.mkdir()
    for n in range(4):
        picture(n, 40, 30).save(folder / f"{n}.bmp")
    embedded = partial(
        embed_folder, folder, EmbeddingSettings(backbone=str(weights)), tmp_path / "cache"
    )
    before = embedded().images.embeddings
    file = folder / "0.bmp"
    was = file.stat()
    picture(9, 40, 30).save(file)
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert file.stat().st_size == was.st_size
    assert (embedded().images.embeddings == before).all()
    assert not (embedded(checksum=True).images.embeddings == before).all()


@pytest.mark.long
def test_tuning_keeps_what_gains_and_tells_it_of_images_that_chose_nothing(
    tmp_path: Path, weights: Path
) -> None:
    """Classes told apart by a faint tint under strong noise: the plain cosine sees the noise."""
    from PIL import Image

    random = np.random.default_rng(0)
    for n in range(150):
        tint = np.array([[60, 0, 0], [0, 60, 0], [0, 0, 60]])[n % 3]
        coarse = random.integers(0, 196, (6, 6, 3)) + tint
        file = tmp_path / "set" / f"class{n % 3}" / f"{n}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse.astype(np.uint8)).resize((64, 64)).save(file)
    steps = []
    tuning = tune(
        tmp_path / "set",
        minutes=5,
        cache=tmp_path / "cache",
        engine="torch-fp32",
        start=Experiment.model_validate(
            {"encoding": {"backbone": str(weights)}, "search": {"transform": "none"}}
        ),
        on_step=steps.append,
    )
    assert (tuning.images, tuning.held_out, tuning.fresh) == (150, 30, 15)
    kept = [step for step in tuning.steps if step.kept]
    assert kept
    assert tuning.after > tuning.before + 0.1
    assert tuning.low <= tuning.after <= tuning.high
    assert tuning.start + sum(step.gain for step in kept) == pytest.approx(kept[-1].precision)
    embedded = embed_folder(
        tmp_path / "set", tuning.recipe.encoding, tmp_path / "cache", most=20_000,
        engine="torch-fp32",
    )  # fmt: skip
    gallery, choosing, fresh = _split(embedded.images)
    parts = [set(part.contents) for part in (gallery, choosing, fresh)]
    assert list(map(len, parts)) == [105, 30, 15]
    assert len(set.union(*parts)) == 150
    index = transforms.fit(tuning.recipe.search.transform, gallery.embeddings.astype(np.float32),
                           gallery.labels)  # fmt: skip
    x, queries = index.apply(gallery.embeddings), index.apply(fresh.embeddings)
    if tuning.recipe.search.refinement == Refinement():
        nearest = np.argsort(-(queries @ x.T), axis=1)[:, :5]
        labels = np.array(gallery.labels)
        by_hand = (labels[nearest] == np.array(fresh.labels)[:, None]).mean()
        assert tuning.after == pytest.approx(by_hand, abs=0.03)
    assert all(step.p < 0.05 and step.gain > 0 for step in kept)
    assert list(tuning.steps) == steps
    assert {step.change.split()[0] for step in kept} <= {
        *tuning.recipe.search.model_dump(), *tuning.recipe.encoding.model_dump(),
    }  # fmt: skip
    assert tomllib.loads(known.experiment_as_toml(tuning.recipe))["search"]


def test_tuning_without_labels_fits_none_and_out_of_time_tries_nothing(
    pictures: Path, weights: Path, tmp_path: Path
) -> None:
    start = Experiment(encoding=EmbeddingSettings(backbone=str(weights)))
    tuning = tune(pictures, minutes=1e-9, cache=tmp_path / "cache", start=start, use_labels=False)
    assert tuning.before == tuning.after
    assert all(step.skipped == "the time is up" for step in tuning.steps)
    assert not any("lda" in step.change for step in tuning.steps)
    assert tuning.recipe.search.transform == "rca"  # where it began with auto


@pytest.mark.parametrize("use_labels", [True, False])
def test_tuning_tries_what_the_table_lists(
    pictures: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use_labels: bool
) -> None:
    kinds = {**transforms.KINDS}
    monkeypatch.setitem(
        transforms.KINDS, "halved", dataclasses.replace(kinds["pca"], tried=("pca:3",))
    )
    monkeypatch.setitem(
        transforms.KINDS, "taught", dataclasses.replace(kinds["lda"], tried=("lda:3",))
    )
    start = Experiment(encoding=EmbeddingSettings(backbone=str(weights)))
    tuning = tune(
        pictures, minutes=1e-9, cache=tmp_path / "cache", start=start, use_labels=use_labels
    )
    whitening = [f"whiten:{n}:{p}" for n in (256, 512, 1024) for p in (1.0, 0.75, 0.5)]
    discriminant = [f"lda:{p}" for p in (0.02, 0.05, 0.1, 0.2, 0.4)] if use_labels else []
    tried = [s.change for s in tuning.steps if s.change.startswith("transform ")]
    assert tried == [
        f"transform {spec}"
        for spec in ("none", "standard", *whitening, *discriminant, "pca:3")
        + (("lda:3",) if use_labels else ())
    ]


def test_a_comparison_takes_no_argument_that_it_would_ignore(tmp_path: Path) -> None:
    for data, said in (
        (ComparedFolders(tmp_path, tmp_path, zero_shot=True), "zero_shot evaluates the gallery"),
        (ComparedFolders(tmp_path, query_labels="x.csv"), "query_labels labels the images of"),
    ):
        with pytest.raises(ImgretError, match=said):
            compare(data, [], cache=tmp_path / "cache")


def test_tuning_needs_a_neighbour(tmp_path: Path) -> None:
    with pytest.raises(ImgretError, match="k is 0"):
        tune(tmp_path, minutes=1, cache=tmp_path / "cache", k=0)


def test_experiments_may_come_from_a_generator_or_alone(pictures: Path, tmp_path: Path) -> None:
    one = NamedExperiment("one", Experiment.model_validate({"search": {"transform": "none"}}))
    data, cache = ComparedFolders(pictures), tmp_path / "c"
    found = compare(data, [one], cache=cache).to_dict()
    assert compare(data, (named for named in [one]), cache=cache).to_dict() == found  # type: ignore[arg-type]
    assert compare(data, one, cache=cache).to_dict() == found  # type: ignore[arg-type]


@pytest.mark.parametrize("measured", [Measured(()), Measured((0,)), Measured((1,), vote=0)])
def test_a_comparison_measures_something(tmp_path: Path, measured: Measured) -> None:
    with pytest.raises(ImgretError, match=r"(k|vote) is .*Give"):
        compare(ComparedFolders(tmp_path), [], cache=tmp_path / "cache", measured=measured)


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), "5", None])
def test_tuning_needs_some_time(tmp_path: Path, minutes: float) -> None:
    with pytest.raises(ImgretError, match=r"minutes is .*Give a number above 0"):
        tune(tmp_path, minutes=minutes, cache=tmp_path / "cache")


def test_tuning_needs_classes_to_hold_images_out_of(tmp_path: Path, weights: Path) -> None:
    from tests.samples import picture

    for n in range(3):
        (tmp_path / "set" / f"class{n}").mkdir(parents=True)
        picture(n).save(tmp_path / "set" / f"class{n}" / "one.png")
    with pytest.raises(ImgretError, match="at least two"):
        tune(tmp_path / "set", minutes=1, cache=tmp_path / "cache",
             start=Experiment(encoding=EmbeddingSettings(backbone=str(weights))))  # fmt: skip


@pytest.mark.slow
def test_r1_beats_its_figure_on_the_cars(cars: Path, mobilenetv2: Path, tmp_path: Path) -> None:
    r1 = known.with_weights(known.read_experiment("R1"), [mobilenetv2], random_weights=False)
    comparison = compare(
        ComparedFolders(cars / "train", cars / "test"), [r1], cache=tmp_path, measured=Measured()
    )
    result = comparison.experiments[0]
    assert result.evaluation.queries == 1632
    assert result.evaluation.metric("precision@1").value == pytest.approx(0.241, abs=0.01)
    assert result.evaluation.metric("precision@5").value == pytest.approx(0.139, abs=0.01)
    assert result.evaluation.metric("precision@5").low > 0.05
    assert result.milliseconds is not None
