"""Figures and pages of classifiers: that they show the figures they are said to."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from sklearn import metrics as sk

from classify.evaluation import ClassifierReport, judge, sample_places
from classify.explain import Explained, Explanation
from classify.leaderboard import (
    KEPT_CLASSES,
    TESTED,
    Entry,
    distinct_names,
    read_entries,
    read_tested,
    untested,
    write_tested,
)
from classify.recipe import Loss
from classify.report import (
    report_run,
    write_explanations,
    write_leaderboard,
    write_report,
)
from classify.report.across import (
    best_classes,
    explain_across,
    leaderboard_figures,
    no_best_classes,
)
from classify.report.figures import report_figures, run_figures
from classify.report.pictures import explained_figure, picture_figures
from classify.run import Epoch, Run
from classify.tested import evaluate_run
from classify.training import train
from retrieval.report.style import STYLE, one_line, save_figures, told_apart
from tests.browser import browser, check_page, seen
from tests.classify.blobs import blob, tiny

HOSTILE = "</script><img src=x onerror=alert(1)>"


def judged(
    count: int, *, seed: int = 0, prefix: str = "class", folder: Path = Path()
) -> ClassifierReport:
    """Of five images a class, some of them there."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), 5)
    p = random.dirichlet(np.ones(count), len(labels)) + 0.1 * np.eye(count)[labels]
    names = [f"{prefix} {n:03} of a model whose name is long 2012" for n in range(count)]
    paths = [folder / f"{n}.png" for n in range(len(labels))]
    p /= p.sum(axis=1, keepdims=True)
    return judge(p, labels, names, paths, model="m", data="d", parameters=1)


def by_scikit_learn(evaluation: ClassifierReport) -> dict[str, dict[str, float]]:
    """From the confusion matrix alone."""
    counts = np.array(evaluation.confusion)
    true, predicted = np.nonzero(counts)
    times = counts[true, predicted]
    names = [c.label for c in evaluation.classes]
    return sk.classification_report(np.repeat(true, times), np.repeat(predicted, times),
                                    labels=range(len(names)), target_names=names,
                                    output_dict=True, zero_division=0)  # fmt: skip


def bars(axes: Axes, group: int = 0) -> list[float]:
    return [bar.get_width() for bar in axes.containers[group]]


def names(axes: Axes) -> list[str]:
    return [label.get_text().replace("\n", " ") for label in axes.get_yticklabels()]


@pytest.fixture(scope="module")
def entries(run: Path, blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """Of a good run, a poor one of the same name, and one that was not tested."""
    folder = tmp_path_factory.mktemp("entries")
    others = [folder / "tiny", folder / "untested"]
    for epochs, other in zip((2, 1), others, strict=True):
        train(blobs, tiny(f"training.epochs={epochs}", "model.norm=false"), other)
    for tested in (run, others[0]):
        write_tested(Run.read(tested), evaluate_run(tested))
    found, refused = read_entries([others[1], others[0], run, folder])
    assert [sentence for sentence in refused if "no run" in sentence] == refused
    assert len(refused) == 1
    return found


def test_runs_are_sorted_named_apart_and_told_where_they_lack_a_test(
    entries: list[Entry], run: Path
) -> None:
    assert entries[0].run.folder == run
    assert {e.name for e in entries} == {
        f"{run.parent.name}/tiny", f"{entries[-1].run.folder.parent.name}/tiny", "untested"
    }  # fmt: skip
    (said,) = untested(entries)
    assert "untested" in said
    assert "imgret test" in said
    rows = {e.run.folder.name + str(e.row.epochs): e.row for e in entries}
    assert rows["tiny12"].batch_norm
    assert not rows["tiny2"].batch_norm
    assert rows["tiny2"].dropout == 0.1


def test_a_kept_test_that_is_damaged_or_outdated_is_told(entries: list[Entry]) -> None:
    lost = dataclasses.replace(entries[0], tested=None)
    (said,) = untested([lost, *(e for e in entries[1:] if e.tested)])
    assert said.startswith(
        f"The figures of test images lack {lost.name}: what is kept as test.json"
    )


def test_names_are_told_apart_by_the_folders_above() -> None:
    folders = [Path("/a/x/r"), Path("/b/x/r"), Path("/c/r"), Path("/c/r")]
    assert distinct_names(folders) == ["a/x/r", "b/x/r", "c/r", "c/r"]  # one of them twice


def test_scores_and_averages_are_those_of_the_tests(entries: list[Entry]) -> None:
    figures = leaderboard_figures(entries)
    tested = [e for e in entries if e.tested]
    again = [evaluate_run(e.run.folder) for e in tested]
    shares, losses = figures["scores"].axes
    assert bars(shares, 0) == pytest.approx([e.top1 for e in again])
    assert bars(shares, 1) == pytest.approx([e.top5 for e in again])
    assert bars(losses) == pytest.approx([e.loss for e in again])
    assert names(shares) == [e.name.replace("\n", " ") for e in tested]
    (axes,) = figures["averages"].axes
    for group, key in enumerate(("precision", "recall", "f1-score")):
        wanted = [by_scikit_learn(e)["macro avg"][key] for e in again]
        assert bars(axes, group) == pytest.approx(wanted)


def test_the_best_classes_are_those_of_the_highest_mean_f1(entries: list[Entry]) -> None:
    many = [judged(60, seed=seed) for seed in range(2)]
    shown = [
        dataclasses.replace(entry, tested=tested)
        for entry, tested in zip(entries, map(kept(entries[0].run), many), strict=False)
    ]
    scores = [by_scikit_learn(evaluation) for evaluation in many]
    labels = [c.label for c in many[0].classes]
    means = {label: np.mean([of[label]["f1-score"] for of in scores]) for label in labels}
    wanted = sorted(labels, key=lambda label: (-means[label], label))[:20]
    found = best_classes([entry.tested for entry in shown if entry.tested])
    assert found == wanted
    first, second = leaderboard_figures(shown)["best-classes"].axes
    assert names(first) == [one_line(label, 32) for label in wanted]
    for axes, of in zip((first, second), scores, strict=True):
        assert bars(axes) == pytest.approx([of[label]["f1-score"] for label in wanted])


def kept(run: Run) -> object:
    """What write_tested() and read_tested() make of an evaluation, the run's own put back."""

    def through(evaluation: ClassifierReport) -> object:
        before = (run.folder / TESTED).read_bytes()
        write_tested(run, evaluation)
        tested = read_tested(run)
        (run.folder / TESTED).write_bytes(before)
        return tested

    return through


def test_runs_that_share_no_class_have_no_best_classes(entries: list[Entry]) -> None:
    through = kept(entries[0].run)
    tests = [through(judged(5, prefix=prefix)) for prefix in "ab"]  # type: ignore[operator]
    assert best_classes(tests) == []
    assert best_classes([]) == []
    apart = [dataclasses.replace(e, tested=t) for e, t in zip(entries, tests, strict=False)]
    assert no_best_classes(apart) == [
        "The best classes are not compared: no class was in the test images of all runs."
    ]
    assert no_best_classes(entries) == no_best_classes([]) == []
    assert set(leaderboard_figures(entries[-1:])) == {
        "curves", "validation-loss", "validation-accuracy"
    }  # fmt: skip


def test_curves_are_those_of_the_history(entries: list[Entry]) -> None:
    figure = leaderboard_figures(entries)["curves"]
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 2 * len(entries)
    lines = [json.loads(line) for line in
             (entries[0].run.folder / "history.jsonl").read_text().splitlines()]  # fmt: skip
    for axes, key in ((shown[0], "loss"), (shown[len(entries)], "accuracy")):
        training, validation = axes.get_lines()[:2]
        assert list(training.get_ydata()) == [line[key] for line in lines]
        assert list(validation.get_ydata()) == [line[f"validation_{key}"] for line in lines]
        assert list(training.get_xdata()) == [line["epoch"] for line in lines]


def test_losses_that_are_far_apart_share_a_logarithmic_axis(entries: list[Entry]) -> None:
    def scaled(entry: Entry, factor: float) -> Entry:
        epochs = [dataclasses.replace(e, loss=factor, validation_loss=None) for e in entry.history]
        return dataclasses.replace(entry, history=tuple(epochs))

    for factor, scale in ((50.0, "log"), (2.0, "linear")):
        shown = [scaled(entries[0], 1.0), scaled(entries[1], factor)]
        axes = leaderboard_figures(shown)["curves"].axes[0]
        assert axes.get_yscale() == scale
        ticks = [axes.yaxis.get_major_formatter()(y) for y in (1.0, 10.0)]
        assert ticks == (["1", "10"] if scale == "log" else ticks)
        assert "mathdefault" not in "".join(ticks)
        assert axes.get_ylim()[1] > factor
    broken = scaled(entries[0], float("nan"))
    assert leaderboard_figures([broken])["curves"].axes[0].get_lines()


def test_losses_of_several_kinds_are_named(entries: list[Entry]) -> None:
    row = dataclasses.replace(entries[1].row, loss_name="distillation")
    taught = dataclasses.replace(entries[1], row=row, validation_loss="1 - cosine to the teacher")
    figures = leaderboard_figures([entries[0], taught])
    above = figures["curves"].axes[0]
    assert above.get_ylabel() == "loss"
    titles = [axes.get_title() for axes in figures["curves"].axes[:2]]
    assert titles[0].endswith("\ncross-entropy /\ncross-entropy")
    assert titles[1].endswith("\ndistillation /\n1 - cosine to the teacher")
    (axes,) = figures["validation-loss"].axes
    assert axes.get_ylabel() == "validation loss, of several kinds"
    said = {str(line.get_label()) for line in axes.get_lines()}
    assert any(label.endswith("(1 - cosine to the teacher)") for label in said)
    figures = leaderboard_figures(entries)
    assert figures["curves"].axes[0].get_ylabel() == "loss (nats)"
    assert figures["validation-loss"].axes[0].get_ylabel() == "validation loss (cross-entropy)"


@pytest.mark.parametrize("name", ["focal", "cross-entropy"])
def test_the_curves_of_a_run_say_what_they_measure(run: Path, name: str) -> None:
    loss = Loss(name=name)  # type: ignore[arg-type]
    recipe = Run.read(run).recipe.model_copy(update={"loss": loss})
    (axes,) = run_figures(Run.read(run).history[:1], recipe)["loss"].axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    if name == "focal":
        assert labels == ["training, augmented: focal", "validation: cross-entropy"]
        assert axes.get_ylabel() == "loss"
    else:
        assert labels == ["training, augmented", "validation"]
        assert axes.get_ylabel() == "loss (cross-entropy, nats)"
    assert axes.get_xticks().tolist() == [1]  # of one epoch alone


def test_a_class_without_test_images_has_no_figures(tmp_path: Path) -> None:
    p = np.eye(3)[[0, 1, 1]] * 0.8 + 0.05
    seen = judge(p, np.array([0, 1, 1]), ["a", "b", "never"], [Path("x.png")] * 3, model="m",
                 data="d", parameters=1)  # fmt: skip
    figures = report_figures(seen)
    assert names(figures["classes"].axes[0]) == ["a", "b"]
    assert "without the 1 of no image" in figures["classes"].axes[0].get_xlabel()
    assert len(names(figures["per-class"].axes[0])) == 2
    write_report(tmp_path / "page.html", seen)
    page = (tmp_path / "page.html").read_text()
    assert re.search(r"<td>never</td>(<td class=\"n\">-</td>){3}<td class=\"n\">0</td>", page)


def test_many_runs_are_drawn_in_bands(entries: list[Entry]) -> None:
    many = [dataclasses.replace(entries[0], name=f"run {n}") for n in range(30)]
    figures = leaderboard_figures(many)
    assert sum(axes.get_visible() for axes in figures["curves"].axes) == 2 * 24
    assert sum(axes.get_visible() for axes in figures["best-classes"].axes) == 24


def test_a_test_is_kept_bounded_and_read_strictly(entries: list[Entry]) -> None:
    run = entries[0].run
    tested = kept(run)(judged(KEPT_CLASSES + 3))  # type: ignore[operator]
    assert len(tested.classes) == KEPT_CLASSES
    assert all(a.f1 >= b.f1 for a, b in pairwise(tested.classes))
    file = run.folder / TESTED
    before = file.read_text()
    for key, value in (("top1", 2), ("loss", "much"), ("classes", [{"label": 1}]), ("f1", None)):
        file.write_text(json.dumps(json.loads(before) | {key: value}))
        assert read_tested(run) is None
    file.write_text(before.replace('"recall": 1.0', '"recall": NaN'))
    assert file.read_text() == before or read_tested(run) is None
    file.write_text(before)
    assert read_tested(run) == entries[0].tested


def test_grad_cam_of_one_image_shows_every_run(entries: list[Entry], blobs: Path) -> None:
    image = next((blobs / "test" / "red").iterdir())
    explanation, left_out = explain_across(entries, image)
    assert explanation is not None
    assert not left_out
    figure = leaderboard_figures(entries, explanation)["grad-cam"]
    titles = [axes.get_title().split("\n")[0] for axes in figure.axes]
    assert titles == [image.name, *(one_line(e.name, 18) for e in entries)]
    elsewhere = dataclasses.replace(entries[0].run, folder=blobs)
    gone = dataclasses.replace(entries[0], run=elsewhere, name="gone")
    explanation, left_out = explain_across([gone, entries[1]], image)
    assert explanation is not None
    assert len(explanation.models) == 1
    assert left_out[0].startswith("gone explains nothing: ")


@pytest.mark.parametrize("count", [5, 196, 450])
def test_each_class_has_its_precision_recall_f1_and_support(count: int) -> None:
    evaluation = judged(count)
    figure = report_figures(evaluation)["per-class"]
    report = by_scikit_learn(evaluation)
    ranked = sorted(evaluation.classes, key=lambda c: (-c.f1, c.label))
    wanted = [c.label for c in (ranked if count < 400 else ranked[:200] + ranked[-200:])]
    for group, key in enumerate(("precision", "recall", "f1-score")):
        if count == 5:
            shown = bars(figure.axes[0], group)
        else:
            shown = [y for axes in figure.axes for y in axes.get_lines()[group].get_xdata()]
        assert shown == pytest.approx([report[label][key] for label in wanted])
    if count == 5:
        assert all("(n = 5)" in name for name in names(figure.axes[0]))
    else:
        assert [n for axes in figure.axes for n in names(axes)] == [
            one_line(label, 42) for label in wanted
        ]
        assert {text.get_text() for axes in figure.axes for text in axes.texts} == {"5"}


def test_the_confused_pairs_are_bars_with_counts() -> None:
    evaluation = judged(12)
    (axes,) = report_figures(evaluation)["confused"].axes
    counts = np.array(evaluation.confusion)
    np.fill_diagonal(counts, 0)
    assert bars(axes) == sorted(counts.ravel().tolist(), reverse=True)[:10]
    assert axes.texts[0].get_text() == f"{counts.max()} of 5"
    assert "→" in names(axes)[0]
    perfect = judge(np.eye(3), np.arange(3), list("abc"), [Path("x")] * 3, model="m", data="d",
                       parameters=1)  # fmt: skip
    assert "confused" not in report_figures(perfect)
    assert "mistakes" not in picture_figures(perfect)


def test_samples_and_mistakes_are_grids_of_pictures(tmp_path: Path) -> None:
    for n in range(30):
        blob((200, 0, 0), seed=n).save(tmp_path / f"{n}.png")
    evaluation = judged(8, folder=tmp_path)
    figures = picture_figures(evaluation)
    rows = [axes.get_ylabel().replace("\n", " ") for axes in figures["samples"].axes[::5]]
    assert rows == [sample.label[: len(row)] for sample, row in
                    zip(evaluation.samples, rows, strict=True)] or len(rows) == 8  # fmt: skip
    assert sum(bool(axes.images) for axes in figures["samples"].axes) == 30
    assert sum("gone" in t.get_text() for axes in figures["samples"].axes for t in axes.texts) == 10
    first = evaluation.mistakes[0]
    title = figures["mistakes"].axes[0].get_title()
    assert f"{one_line(first.predicted, 17)} {first.probability:.2f}" in title
    assert one_line(first.label, 17) in title


def test_samples_are_spread_over_classes_and_images() -> None:
    places = sample_places(np.repeat(np.arange(196), 20))
    assert len(places) == 20
    assert {len(of) for of in places} == {8}
    assert places[0].tolist()[::7] == [0, 19]
    assert places[-1].tolist()[::7] == [195 * 20, 195 * 20 + 19]


def assert_nothing_is_cut(figure: Figure) -> None:
    canvas = FigureCanvasAgg(figure)
    with mpl.rc_context(STYLE):
        canvas.draw()
    width, height = canvas.get_width_height()
    for axes in figure.axes:
        if axes.get_visible():
            box = axes.get_tightbbox(canvas.get_renderer())
            assert min(box.x0, box.y0) > -2
            assert box.x1 < width + 2
            assert box.y1 < height + 2


def with_long_names(entries: list[Entry], count: int) -> dict[str, Figure]:
    tested = kept(entries[0].run)(judged(30))  # type: ignore[operator]
    shown = [
        dataclasses.replace(entries[0], name=f"{n} a long name of a run, and longer", tested=tested)
        for n in range(count)
    ]
    side, heat = np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.float32)
    label = "class 001 of a model whose name is long"
    seen = [Explained(entry.name, label, 0.5, HOSTILE, side, heat) for entry in shown]
    return leaderboard_figures(shown, Explanation(Path("x.png"), None, tuple(seen)))


@pytest.mark.long
@pytest.mark.parametrize("count", [2, 8])
def test_long_names_are_not_cut(entries: list[Entry], count: int) -> None:
    for figure in with_long_names(entries, count).values():
        assert_nothing_is_cut(figure)


def test_long_names_of_classes_are_not_cut() -> None:
    for figure in report_figures(judged(40)).values():
        assert_nothing_is_cut(figure)


@pytest.mark.long
def test_every_figure_is_written_as_png_and_svg(entries: list[Entry], tmp_path: Path) -> None:
    figures = leaderboard_figures(entries[:1])
    written = save_figures(figures, tmp_path)
    assert {file.name for file in written} == {
        f"{name}.{kind}" for name in figures for kind in ("png", "svg")
    }
    assert all(file.stat().st_size > 1000 for file in written)


@pytest.mark.long
def test_pages_hold_all_and_names_are_text(entries: list[Entry], tmp_path: Path) -> None:
    evaluation = judged(6, prefix=HOSTILE, folder=tmp_path)
    write_report(tmp_path / "e.html", evaluation)
    hostile = [dataclasses.replace(entry, name=f"{HOSTILE}{n}") for n, entry in enumerate(entries)]
    write_leaderboard(tmp_path / "l.html", hostile, ["A note."])
    side = np.zeros((32, 32, 3), np.uint8)
    model = Explained(HOSTILE, HOSTILE, 0.5, HOSTILE, side, np.zeros((32, 32), np.float32))
    made = [Explanation(Path(f"{HOSTILE}.png"), HOSTILE, (model, model))]
    for kind in ("html", "svg", "png"):
        write_explanations(tmp_path / f"x.{kind}", made)
    pages = {
        name: (tmp_path / name).read_text() for name in ("e.html", "l.html", "x.html", "x.svg")
    }
    for page in pages.values():
        assert "<img src=x" not in page
        assert "</script" not in page
    for name in ("e.html", "l.html", "x.html"):
        check_page(pages[name])
    assert pages["e.html"].count("<svg") == 5
    assert "Samples of 6 of 6 classes" in pages["e.html"]
    assert pages["l.html"].count("<svg") == 6
    for text in ("A note.", "batch norm", "test F1", "optimiser", "Loss and accuracy of each run"):
        assert text in pages["l.html"]
    with Image.open(tmp_path / "x.png") as drawn:
        assert drawn.size == tuple(round(300 * x) for x in explained_figure(made).get_size_inches())


def test_a_run_shows_training_samples_of_each_class(entries: list[Entry]) -> None:
    run = next(e.run for e in entries if e.row.epochs == 2)
    report_run(run.folder)
    page = (run.folder / "report.html").read_text()
    check_page(page)
    assert page.count('alt="sample"') >= 3 * 8
    assert "Training pictures of each class</h2>" in page


@pytest.mark.long
@pytest.mark.parametrize("width", [390, 1000])
def test_no_page_scrolls_sideways_or_breaks_its_rules(
    entries: list[Entry], tmp_path: Path, width: int
) -> None:
    browser()
    write_report(tmp_path / "e.html", judged(30, prefix=HOSTILE * 3, folder=tmp_path))
    named = [dataclasses.replace(entry, name=f"{n}" * 200) for n, entry in enumerate(entries)]
    write_leaderboard(tmp_path / "l.html", named, ["A note."])
    side = np.zeros((32, 32, 3), np.uint8)
    model = Explained(HOSTILE, HOSTILE, 0.5, HOSTILE, side, np.zeros((32, 32), np.float32))
    write_explanations(tmp_path / "x.html", [Explanation(Path("x.png"), "a", (model,) * 3)])
    report_run(entries[0].run.folder)
    shutil.copy(entries[0].run.folder / "report.html", tmp_path / "r.html")
    for name in ("e", "l", "x", "r"):
        assert seen(tmp_path / f"{name}.html", tmp_path, width) == (width, []), name


def test_misclassified_pictures_are_framed_named_and_linked(tmp_path: Path) -> None:
    evaluation = judged(6, folder=tmp_path)
    first = evaluation.mistakes[0]
    blob((200, 0, 0), seed=1).save(first.path)
    write_report(tmp_path / "e.html", evaluation)
    page = (tmp_path / "e.html").read_text()
    card = page[page.index('<figure class="card wrong">') :].partition("</figure>")[0]
    name, folder, facts = map(card.index, (first.path.name, 'class="folder"', "true: "))
    assert name < folder < facts
    assert f'href="{first.path.name}"' in card
    assert '<span class="spoken">wrong</span>' in card


def test_names_are_cut_in_the_middle() -> None:
    assert one_line("short", 10) == "short"
    assert one_line("a" * 50 + "2012", 12) == "aaaaaaa…2012"
    assert one_line("a\nb") == "a\\nb"


def test_an_epoch_without_validation_draws_no_line(entries: list[Entry]) -> None:
    epochs: list[Epoch] = [
        dataclasses.replace(e, validation_loss=None, validation_accuracy=None)
        for e in entries[0].history
    ]
    entry = dataclasses.replace(entries[0], history=tuple(epochs))
    figures = leaderboard_figures([entry])
    assert not figures["validation-loss"].axes[0].get_lines()
    assert "no validation" in figures["validation-loss"].axes[0].texts[0].get_text()


def test_names_that_differ_in_their_middle_alone_stay_apart() -> None:
    one, other = (f"class number {n} of one very long series" for n in (3, 4))
    assert one_line(one, 17) == one_line(other, 17)
    shown = told_apart(one, other, 17)
    assert len(set(shown)) == 2
    assert max(map(len, shown)) <= 17
    assert told_apart("a", "b") == ("a", "b")
    assert told_apart(one, one, 17) == (one_line(one, 17),) * 2
