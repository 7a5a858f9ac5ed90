"""Several runs as one table: what each is, and how good it is."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter
from safetensors import SafetensorError, safe_open

from classify.data import content_of_split
from classify.evaluation import ClassifierReport, ClassReport
from classify.recipe import Augmentation, Recipe
from classify.recipe.schema import Share
from classify.run import RUN_WEIGHTS, SPLIT, Epoch, Run, with_best
from retrieval.errors import ImgretError
from retrieval.files import read_bounded, write_atomically
from retrieval.plain import Plain
from retrieval.text import unwritable

TESTED = "test.json"
KEPT_CLASSES, KEPT_NOTES = 1000, 16  # of a test, with the run
MAX_TEST_BYTES = 16 << 20


@dataclass(frozen=True)
class KeptTest(Plain):
    """The figures of a test that are kept with its run.

    content: which images these were, as in ClassifierReport. notes: what was said of them.
    precision, recall, f1: macro averages. classes: at most KEPT_CLASSES, those of the best F1.
    epoch: whose weights were tested.
    """

    epoch: Annotated[int, Field(ge=0)]
    data: str
    content: str
    images: Annotated[int, Field(ge=1)]
    top1: Share
    top5: Share
    loss: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    precision: Share
    recall: Share
    f1: Share
    calibration_error: Share
    classes: Annotated[tuple[ClassReport, ...], Field(max_length=KEPT_CLASSES)]
    notes: Annotated[tuple[str, ...], Field(max_length=KEPT_NOTES)] = ()


@dataclass(frozen=True)
class LeaderboardRow(Plain):
    """One run. The figures on test images are None until `imgret test` has measured them.

    batch_norm: whether any lies in the network. dropout: the largest of its own and its head's.
    """

    run: str
    model: str
    parameters: int
    epochs: int
    augmentation: bool
    batch_norm: bool | None
    dropout: float
    optimiser: str
    loss_name: str
    loss: float | None
    validation_accuracy: float | None
    test_accuracy: float | None
    test_top5: float | None
    test_loss: float | None
    test_precision: float | None
    test_recall: float | None
    test_f1: float | None
    test_images: int | None
    test_data: str | None
    validation_data: str | None


@dataclass(frozen=True)
class Entry:
    """A run on the leaderboard: its row, its epochs and its last test, if there was any.

    name: as in the row; read_entries() gives no two folders the same. chosen_by: the content of
    the images of its validation, "" where that is unknown. validation_loss: what that is.
    """

    name: str
    run: Run
    row: LeaderboardRow
    history: tuple[Epoch, ...]
    tested: KeptTest | None
    chosen_by: str = ""
    validation_loss: str = "cross-entropy"


def read_entries(folders: Sequence[Path]) -> tuple[list[Entry], list[str]]:
    """Read all runs, the best first, and say which folders are damaged or not runs."""
    entries, refused = [], []
    for folder, name in zip(folders, distinct_names(folders), strict=True):
        try:
            run = Run.read(folder)
            found = row(run, name)
            content = content_of_split(run.folder / SPLIT, "validation", run.facts.validated_on)
            history, kind = tuple(run.history), run.recipe.validation_loss
            entries.append(Entry(name, run, found, history, read_tested(run), content, kind))
        except ImgretError as error:
            refused.append(str(error))
    entries.sort(key=lambda entry: -_accuracy(entry.row))
    return entries, refused


def _accuracy(found: LeaderboardRow) -> float:
    """Return the accuracy on test images, else on those that the run was chosen by."""
    known = (found.test_accuracy, found.validation_accuracy)
    return next((accuracy for accuracy in known if accuracy is not None), 0.0)


def row(run: Run, name: str = "") -> LeaderboardRow:
    """Make the row of a run. name: by default the folder's. Raises RunError when damaged."""
    recipe, history = run.recipe, run.history
    best = with_best(history)
    tested = read_tested(run)
    return LeaderboardRow(
        run=name or run.name,
        model=recipe.title or recipe.model.backbone,
        parameters=run.facts.parameters,
        epochs=len(history),
        augmentation=recipe.augmentation != Augmentation(),
        batch_norm=_has_batch_norm(run.folder / RUN_WEIGHTS),
        dropout=_dropout(recipe),
        optimiser=" then ".join(
            dict.fromkeys(recipe.settings(n).optimiser for n in range(len(recipe.phases)))
        ),
        loss_name=recipe.training_loss,
        loss=best.loss if best else None,
        validation_accuracy=best.validation_accuracy if best else None,
        test_accuracy=tested.top1 if tested else None,
        test_top5=tested.top5 if tested else None,
        test_loss=tested.loss if tested else None,
        test_precision=tested.precision if tested else None,
        test_recall=tested.recall if tested else None,
        test_f1=tested.f1 if tested else None,
        test_images=tested.images if tested else None,
        test_data=tested.data if tested else None,
        validation_data=run.facts.data if best and best.validation_accuracy is not None else None,
    )


def write_tested(run: Run, evaluation: ClassifierReport) -> None:
    """Keep the figures of a test with the run. Raises WriteError when that fails."""
    macro = evaluation.average("macro")
    best = sorted(evaluation.classes, key=lambda c: (-c.f1, c.label))[:KEPT_CLASSES]
    tested = KeptTest(
        epoch=_kept_epoch(run),
        data=evaluation.data,
        content=evaluation.content,
        images=evaluation.images,
        top1=evaluation.top1,
        top5=evaluation.top5,
        loss=evaluation.loss,
        precision=macro.precision,
        recall=macro.recall,
        f1=macro.f1,
        calibration_error=evaluation.calibration_error,
        classes=tuple(best),
        notes=evaluation.notes[:KEPT_NOTES],
    )
    text = json.dumps(tested.to_dict(), indent=2) + "\n"
    try:
        write_atomically(run.folder / TESTED, text.encode())
    except OSError as error:
        raise unwritable(run.folder / TESTED, error) from error


def _kept_epoch(run: Run) -> int:
    """Return the epoch whose weights the run has, 0 where none is known."""
    kept = with_best(run.history)
    return kept.epoch if kept else 0


def read_tested(run: Run) -> KeptTest | None:
    """Read the figures of the last test of the weights that the run has now, or None.

    None also where they are unreadable. Raises RunError where the run's history is.
    """
    try:
        content = read_bounded(run.folder / TESTED, MAX_TEST_BYTES)
        tested = TypeAdapter(KeptTest).validate_json(content)
    except (OSError, ValueError):  # pydantic's error is a ValueError
        return None
    if tested.epoch != _kept_epoch(run):  # the run was resumed since
        return None
    shares = [value for c in tested.classes for value in (c.precision, c.recall, c.f1)]
    return tested if all(0 <= value <= 1 for value in shares) else None  # NaN is no share


def differences(entries: Sequence[Entry]) -> list[str]:
    """Say which runs' figures cannot be compared, and what was said of the images of each.

    Figures from other images cannot, and those from images that a run was trained on are too good.
    """
    said = [note for entry in entries if entry.tested for note in entry.tested.notes]
    tests = {entry.name: entry.tested.content for entry in entries if entry.tested}
    chosen = {
        entry.name: entry.chosen_by for entry in entries if entry.row.validation_data is not None
    }
    for what, contents in (("test", tests), ("validation", chosen)):
        known = {name: content for name, content in contents.items() if content}
        if len(set(known.values())) < 2:
            continue
        most = Counter(known.values()).most_common(1)[0][0]
        others = [name for name, content in known.items() if content != most]
        said.append(
            f"The {what} figures of {', '.join(others)} are of other images than those of "
            f"{next(name for name, content in known.items() if content == most)}, so they do not "
            "compare. Test all runs on the same --data."
        )
    return said


def untested(entries: Sequence[Entry]) -> list[str]:
    """Say which runs have no figures on test images, if there are any."""
    lacking = [entry for entry in entries if entry.tested is None]
    unusable = [entry for entry in lacking if (entry.run.folder / TESTED).exists()]
    missing = [entry for entry in lacking if entry not in unusable]
    said = [_unusable(unusable)] if unusable else []
    if not missing:
        return said
    names = ", ".join(entry.name for entry in missing)
    return [
        *said,
        f"The figures of test images lack {names}: no test of it is kept, so its place is that of "
        "its validation accuracy. Run `imgret test` on it, with --data where it held no test "
        "images out."
        if len(missing) == 1
        else f"The figures of test images lack {names}: no tests of them are kept, so their places "
        "are those of their validation accuracy. Run `imgret test` on each, with --data where it "
        "held no test images out.",
    ]


def _unusable(entries: Sequence[Entry]) -> str:
    """Say that the kept tests of runs are not shown."""
    names = ", ".join(entry.name for entry in entries)
    return (
        f"The figures of test images lack {names}: what is kept as test.json is damaged, or of "
        "other weights than the run has now. A run without such figures has the place of its "
        "validation accuracy, if any. Run `imgret test` again."
    )


def distinct_names(folders: Sequence[Path]) -> list[str]:
    """Name each folder: its own name, with as many parents as tell it from the others.

    >>> distinct_names([Path("/a/x"), Path("/b/x"), Path("/b/y")])
    ['a/x', 'b/x', 'y']
    """
    parts = [folder.resolve().parts for folder in folders]
    names = {of: of[-1] for of in parts}
    for depth in range(2, max(map(len, parts), default=0) + 1):
        counts = Counter(names.values())
        names = {
            of: "/".join(of[-depth:]) if counts[name] > 1 else name for of, name in names.items()
        }
    return [names[of] for of in parts]


def as_text(value: object) -> str:
    """Format a cell of the table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else _number(value)


def columns() -> list[str]:
    """Name the table's columns."""
    return [
        field.name.replace("_", " ").replace("f1", "F1")
        for field in dataclasses.fields(LeaderboardRow)
    ]


def cells(found: LeaderboardRow) -> list[str]:
    """Format a row as text."""
    return [as_text(getattr(found, field.name)) for field in dataclasses.fields(LeaderboardRow)]


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _has_batch_norm(weights: Path) -> bool | None:
    """Whether running statistics are among the weights; None where these cannot be read."""
    try:
        with safe_open(weights, "np") as opened:
            return any(name.endswith("running_mean") for name in opened.keys())  # noqa: SIM118
    except (OSError, SafetensorError):
        return None


def _dropout(recipe: Recipe) -> float:
    layers = [str(layer).partition(":") for layer in recipe.model.layers]
    own = [float(value) for kind, _, value in layers if kind == "dropout"]
    return max(*own, *recipe.model.head.dropouts, 0.0)
