"""Several runs as one table: what each is, and how good it is."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from classify.evaluation import Evaluation
from classify.recipe import Augmentation, Recipe
from classify.run import Run
from retrieval.files import write_atomically
from retrieval.plain import Plain
from retrieval.text import unwritable

TESTED = "test.json"


@dataclass(frozen=True)
class Row(Plain):
    """One run. The figures on test images are None until `imgret test` has measured them."""

    run: str
    model: str
    parameters: int
    epochs: int
    augmentation: bool
    norm: bool | None
    dropout: float
    optimiser: str
    loss_name: str
    loss: float | None
    validation_accuracy: float | None
    test_accuracy: float | None
    test_top5: float | None
    test_loss: float | None
    test_f1: float | None
    test_recall: float | None
    test_images: int | None
    test_data: str | None


def row(run: Run) -> Row:
    """What a run's folder says. Raises ImgretError when it is damaged."""
    recipe, history = run.recipe, run.history
    best = next((epoch for epoch in reversed(history) if epoch.is_best), None)
    tested = read_tested(run)
    return Row(
        run=run.name,
        model=recipe.title or recipe.model.backbone,
        parameters=run.facts.parameters,
        epochs=len(history),
        augmentation=recipe.augmentation != Augmentation(),
        norm=_has_norm(recipe),
        dropout=max(recipe.model.head.dropouts),
        optimiser=" then ".join(
            dict.fromkeys(recipe.settings(n).optimiser for n in range(len(recipe.phases)))
        ),
        loss_name=recipe.loss.name,
        loss=best.loss if best else None,
        validation_accuracy=best.validation_accuracy if best else None,
        test_accuracy=tested.get("top1"),
        test_top5=tested.get("top5"),
        test_loss=tested.get("loss"),
        test_f1=tested.get("f1"),
        test_recall=tested.get("recall"),
        test_images=tested.get("images"),
        test_data=tested.get("data"),
    )


def write_tested(run: Run, evaluation: Evaluation) -> None:
    """Keep the figures of a test with the run. Raises ImgretError when that fails."""
    macro = evaluation.average("macro")
    figures = {
        "data": evaluation.data,
        "content": evaluation.content,
        "images": evaluation.images,
        "top1": evaluation.top1,
        "top5": evaluation.top5,
        "loss": evaluation.loss,
        "f1": macro.f1,
        "recall": macro.recall,
        "calibration_error": evaluation.calibration_error,
    }
    try:
        write_atomically(run.folder / TESTED, (json.dumps(figures, indent=2) + "\n").encode())
    except OSError as error:
        raise unwritable(run.folder / TESTED, error) from error


def read_tested(run: Run) -> dict[str, Any]:
    """The figures of the last test; none where there was none or they cannot be read."""
    try:
        document = json.loads((run.folder / TESTED).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def differences(runs: Sequence[Run]) -> list[str]:
    """Sentences on runs whose figures cannot be compared, since other images gave them."""
    contents = {run.name: read_tested(run).get("content") for run in runs}
    contents = {name: content for name, content in contents.items() if content}
    if len(set(contents.values())) < 2:
        return []
    most = Counter(contents.values()).most_common(1)[0][0]
    others = [name for name, content in contents.items() if content != most]
    return [
        f"The test figures of {', '.join(others)} are of other images than those of "
        f"{next(name for name, content in contents.items() if content == most)}, so they do not "
        "compare. Test all runs on the same --data."
    ]


def as_text(value: object) -> str:
    """A cell of the table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else _number(value)


def columns() -> list[str]:
    """Names of the table's columns."""
    return [field.name.replace("_", " ") for field in dataclasses.fields(Row)]


def cells(found: Row) -> list[str]:
    """A row as text."""
    return [as_text(getattr(found, field.name)) for field in dataclasses.fields(Row)]


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _has_norm(recipe: Recipe) -> bool | None:
    """Of a small CNN; what a backbone of others has inside is theirs."""
    return recipe.model.norm if recipe.model.backbone == "cnn" else None
