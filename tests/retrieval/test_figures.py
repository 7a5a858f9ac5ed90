"""Figures and pages of evaluations and comparisons."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from retrieval.comparison import Comparison, ExperimentResult
from retrieval.comparison.comparer import paired_tests
from retrieval.errors import ImgretError
from retrieval.evaluation import Evaluation
from retrieval.evaluation.protocols import Images, SearchMethod, content_codes, evaluate
from retrieval.report.comparison import comparison_page, write_comparison
from retrieval.report.evaluation import evaluation_page, write_evaluation
from retrieval.report.figures import comparison_figures, evaluation_figures
from retrieval.report.style import DPI, WIDTH, as_svg, new_figure, save_figure, save_figures
from retrieval.retriever.confidence import calibrated_by_class
from tests.samples import picture

HOSTILE = "</script><img src=x onerror=alert(1)> $x_1$ & _"


def evaluated(folder: Path, seed: int = 0, *, n: int = 60, label: str = "class") -> Evaluation:
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 4
    x = np.random.default_rng(9).normal(size=(4, 8))[labels] + 1.5 * random.normal(size=(n, 8))
    paths = [folder / f"{i}.png" for i in range(n)]
    for i, path in enumerate(paths[:12]):
        picture(i).save(path)
    names = [f"{label}{i}" for i in labels]
    contents = content_codes(hashlib.sha256(bytes([i])).hexdigest() for i in range(n))
    images = Images(x.astype(np.float32), names, contents, paths)
    found = calibrated_by_class(images, SearchMethod("none"), 0.9, None)
    return dataclasses.replace(evaluate(images, method=SearchMethod("none")), calibration=found)


def compared(folder: Path, count: int, *, name: str = "experiment") -> Comparison:
    results = []
    for n in range(count):
        evaluation = evaluated(folder, n)
        results.append(
            ExperimentResult(
                name=f"{name} {n}",
                settings=(("backbone", HOSTILE), ("size", "224")),
                evaluation=evaluation,
                milliseconds=None if n == 1 else 3.0 * (n + 1),
                dim=8,
                reference=0.2 if n == 0 else None,
                is_random=n == 2,
                sheet=evaluation.sample,
            )
        )
    return Comparison("gallery", "queries", tuple(results), paired_tests(results))


@pytest.mark.long
@pytest.mark.parametrize("count", [1, 4, 12])
def test_every_figure_is_drawn_for_one_and_for_many_experiments(tmp_path: Path, count: int) -> None:
    figures = comparison_figures(compared(tmp_path, count))
    assert set(figures) == {
        "precision", "distance", "precision-distribution", "distance-distribution",
        "distance-by-rank", "vote", "cost",
    }  # fmt: skip


@pytest.mark.long
def test_figures_are_written_for_print_and_as_text(tmp_path: Path) -> None:
    written = save_figures(comparison_figures(compared(tmp_path, 3)), tmp_path / "out")
    assert len(written) == 14
    for file in written:
        if file.suffix == ".png":
            with Image.open(file) as image:
                assert image.width == pytest.approx(WIDTH * DPI, abs=2)
                assert len(set(image.convert("L").resize((64, 64)).tobytes())) > 5
        else:
            text = "".join(ElementTree.parse(file).getroot().itertext())  # noqa: S314  our own
            assert "experiment 0" in text or "nearest" in text or "rank" in text


def test_figures_of_a_comparison_show_what_was_measured(tmp_path: Path) -> None:
    comparison = compared(tmp_path, 3)
    figures = comparison_figures(comparison)
    queries = [r.evaluation.per_query for r in comparison.experiments]
    (by_rank,) = figures["distance-by-rank"].axes
    for line, of in zip(by_rank.get_lines(), queries, strict=True):
        assert line.get_ydata() == pytest.approx(of.distances.mean(axis=0))
    (rights,) = figures["precision-distribution"].axes
    for right, container in enumerate(rights.containers):
        shares = [np.mean(np.isclose(of.precision, right / 5)) for of in queries]
        assert [bar.get_width() for bar in container] == pytest.approx(shares)
    (means,) = figures["distance-distribution"].axes
    for line, of in zip(means.get_lines(), queries, strict=True):
        centres, shares = line.get_data()
        assert sum(shares) == pytest.approx(1)
        mean, width = of.distances.mean(), centres[1] - centres[0]
        assert np.dot(centres, shares) == pytest.approx(mean, abs=width)
    (vote,) = figures["vote"].axes
    for container, name in zip(vote.containers, ("precision", "recall", "f1"), strict=True):
        wanted = [getattr(r.evaluation.vote, f"{name}_macro") for r in comparison.experiments]
        assert [bar.get_width() for bar in container] == pytest.approx(wanted)
        assert container.get_label().lower() == name


@pytest.mark.long
def test_figures_are_the_same_each_time(tmp_path: Path) -> None:
    comparison = compared(tmp_path, 2)
    for folder in ("a", "b"):
        save_figures(comparison_figures(comparison), tmp_path / folder)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_letters_that_no_font_has_are_told_once_a_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    figure, axes = new_figure()
    axes.set_title("\U0010ff01\U0010ff02")  # for private use: no font has them
    save_figure(figure, tmp_path / "odd.png")
    save_figure(figure, tmp_path / "odd.svg")
    told = [record.message for record in caplog.records if "letters" in record.message]
    assert told == [
        "odd.png: some letters are boxes, since no font here has them. Install one, such as Noto "
        "Sans CJK."
    ]
    assert "sans-serif" in as_svg(figure, "a")


def test_what_was_not_timed_is_not_in_the_figure_of_cost(tmp_path: Path) -> None:
    both = comparison_figures(compared(tmp_path, 2))["cost"]
    text = as_svg(both, "x")
    assert "experiment 0" in text
    assert "experiment 1" not in text


@pytest.mark.parametrize(("costs", "scale"), [((5.3, 5.9), "linear"), ((2.0, 90.0), "log")])
def test_costs_have_labels_however_near_they_are(
    tmp_path: Path, costs: tuple[float, ...], scale: str
) -> None:
    comparison = compared(tmp_path, 2)
    results = [
        dataclasses.replace(result, milliseconds=cost)
        for result, cost in zip(comparison.experiments, costs, strict=True)
    ]
    figure = comparison_figures(dataclasses.replace(comparison, experiments=tuple(results)))["cost"]
    (axes,) = figure.axes
    as_svg(figure, "x")
    low, high = axes.get_xlim()
    ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    assert [label for at, label in ticks if low <= at <= high and label.get_text()]
    assert axes.get_xscale() == scale


def test_the_reliability_is_drawn_where_there_is_a_calibration(tmp_path: Path) -> None:
    with_one = evaluated(tmp_path)
    assert with_one.calibration is not None
    assert "reliability" in evaluation_figures(with_one)
    without = evaluated(tmp_path, n=12)
    assert without.calibration is None
    assert "reliability" not in evaluation_figures(without)
    assert '<h2 id="metrics">Metrics</h2>' in evaluation_page(without)


def test_neighbours_that_are_not_there_do_not_spoil_a_figure(tmp_path: Path) -> None:
    few = evaluated(tmp_path, n=5)
    assert np.isnan(few.per_query.distances).any()
    assert len(evaluation_figures(few)) == 3


@pytest.mark.long
def test_pages_show_figures_tables_and_framed_matches(tmp_path: Path) -> None:
    write_comparison(tmp_path / "c.html", compared(tmp_path, 3))
    page = (tmp_path / "c.html").read_text()
    assert page.count("<svg") == 7
    assert page.count("<th>second</th>") == 1
    assert 'class="card right"' in page
    assert 'class="card wrong"' in page
    assert "random weights: shape and cost only" in page
    assert "file is gone" in page
    write_evaluation(tmp_path / "e.html", evaluated(tmp_path))
    page = (tmp_path / "e.html").read_text()
    for heading in ("Metrics", "Worst classes", "Best classes", "Queries that failed worst"):
        assert heading in page


@pytest.mark.long
def test_the_ids_of_figures_on_a_page_do_not_meet(tmp_path: Path) -> None:
    ids = re.findall(r'\bid="([^"]+)"', comparison_page(compared(tmp_path, 2)))
    assert len(ids) == len(set(ids))


@pytest.mark.long
def test_hostile_names_are_text(tmp_path: Path) -> None:
    comparison = compared(tmp_path, 2, name=HOSTILE)
    for page in (comparison_page(comparison), evaluation_page(evaluated(tmp_path, label=HOSTILE))):
        assert "<img src=x" not in page
        assert "</script" not in page
        assert "$x_1$" in page


@pytest.mark.long
def test_a_page_or_a_figure_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    comparison = compared(tmp_path, 1)
    with pytest.raises(ImgretError, match="cannot be written"):
        write_comparison(tmp_path / "no" / "c.html", comparison)
    (tmp_path / "file").write_text("")
    with pytest.raises(ImgretError, match="cannot be written"):
        save_figures(comparison_figures(comparison), tmp_path / "file" / "out")
