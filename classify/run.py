"""A run: the folder that training writes, and what reads it.

config.json           network, class names, preprocessing, as timm writes it
model.safetensors     the best weights
recipe.toml           all settings
history.jsonl         one line an epoch
run.json              format version, data, number of parameters, how it ended
split.jsonl           what each image was for, by content
last.safetensors      the last weights and the optimiser's state, to resume from
report.html           curves, samples, and confusions of the validation images
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classify import recipe as recipes
from classify.recipe import Recipe
from retrieval.arguments import path_of
from retrieval.backbones.configuration import FITS_OF_TIMM
from retrieval.errors import RunError
from retrieval.files import read_bounded, replaced, scratch_folder, write_atomically
from retrieval.images import Preprocessing
from retrieval.plain import Plain, records
from retrieval.text import one_sentence

if TYPE_CHECKING:
    import torch
    from torch import nn

    from classify.data import Split

RUN_FORMAT = 3
MAX_RUN_BYTES = 64 << 20
RUN_WEIGHTS, CONFIG, LAST_STATE = "model.safetensors", "config.json", "last.safetensors"
SPLIT = "split.jsonl"
HISTORY, RECIPE, RUN_FACTS, REPORT = "history.jsonl", "recipe.toml", "run.json", "report.html"


@dataclass(frozen=True)
class Epoch(Plain):
    """The figures of one epoch. Accuracies are shares; images_per_second counts training images;
    accuracy is None where nothing was classified, validation figures without validation images."""

    epoch: int
    phase: int
    lr: float
    loss: float
    accuracy: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    images_per_second: float
    seconds: float
    is_best: bool


@dataclass(frozen=True)
class RunFacts(Plain):
    """What run.json says. data: the folder. ended: why training stopped, "" before that.
    best_epoch: whose weights are kept, from 1. failed: images that cannot be used. files, listing:
    see classify.data.listing(), of when it began. held_out: how many images were set apart to test
    on, None in runs of before."""

    format: int
    data: str
    fingerprint: str
    files: int
    listing: str
    parameters: int
    trained_on: int
    validated_on: int
    failed: int
    best_epoch: int
    ended: str
    seconds: float
    machine: str
    held_out: int | None = None


@dataclass(frozen=True)
class Run(Plain):
    """The folder that a training wrote, and what its run.json says.

    The properties read its files, and raise RunError where one is missing or damaged.
    """

    folder: Path
    facts: RunFacts

    @classmethod
    def read(cls, folder: Path | str) -> Run:
        """Read the run in a folder. Raises RunError if it is not a run, or of another version."""
        folder = path_of("folder", folder)
        if not is_run(folder):
            raise not_a_run(folder, RUN_FACTS)
        document = _read_json(folder / RUN_FACTS)
        if document.get("format") != RUN_FORMAT:
            raise RunError(
                f"{folder} has run format {document.get('format')!r}, but this imgret reads "
                f"{RUN_FORMAT}. Use the version of imgret that made it, or train again."
            )
        names = {field.name for field in dataclasses.fields(RunFacts)}
        if set(document) | {"held_out"} != names:
            raise RunError(f"{folder / RUN_FACTS} is damaged. Train again.")
        return cls(folder, RunFacts(**document))

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def counts(self) -> dict[Split, int]:
        """How many images split.jsonl has of each split, as far as run.json says it."""
        facts = self.facts
        known: dict[Split, int] = {"train": facts.trained_on, "validation": facts.validated_on}
        return known if facts.held_out is None else {**known, "test": facts.held_out}

    @property
    def recipe(self) -> Recipe:
        """The recipe that the network was trained by."""
        file = self.folder / RECIPE
        return recipes.parse_recipe(_read_text(file), str(file))

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the network's scores."""
        names = _read_json(self.folder / CONFIG).get("label_names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise RunError(f"{self.folder / CONFIG} has no class names. Train again.")
        return tuple(names)

    @property
    def history(self) -> list[Epoch]:
        """The figures of each epoch."""
        return read_history(self.folder / HISTORY)


def with_best(history: Sequence[Epoch]) -> Epoch | None:
    """Return the epoch whose weights are kept."""
    return next((epoch for epoch in reversed(history) if epoch.is_best), None)


def is_run(folder: Path) -> bool:
    """Whether training has written a run to a folder."""
    return (folder / RUN_FACTS).is_file()


def not_a_run(folder: Path, lacks: str) -> RunError:
    """Make the error for what is named as a run. lacks: the file that it should have."""
    why = f"it has no {lacks}"
    if not folder.is_dir():
        why = "it is a file" if folder.exists() else "there is no such folder"
    return RunError(f"{folder} is not a run of `imgret train`: {why}. Give the folder of a run.")


def read_history(file: Path) -> list[Epoch]:
    """Read the epochs of a run so far. Raises RunError when the file is damaged."""
    if not file.is_file():
        return []
    text = _read_text(file)
    try:
        return records(text, lambda line: Epoch(**line))
    except ValueError as error:
        raise RunError(f"{file} is {error}. Train again.") from error


def write_history(file: Path, history: Sequence[Epoch]) -> None:
    """Write all epochs, atomically."""
    lines = [json.dumps(dataclasses.asdict(epoch)) + "\n" for epoch in history]
    write_atomically(file, "".join(lines).encode())


def write_facts(folder: Path, facts: RunFacts) -> None:
    """Write run.json, atomically."""
    text = json.dumps(dataclasses.asdict(facts), indent=2) + "\n"
    write_atomically(folder / RUN_FACTS, text.encode())


def save_model(
    folder: Path,
    network: nn.Module,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    arguments: Mapping[str, Any],
) -> None:
    """Write config.json and model.safetensors, as timm and the hub write them, each atomically.

    arguments: those that timm makes the network with again. Older versions of timm remember none,
    nor other pixels than those that weights were made for.
    """
    from safetensors.torch import save_file
    from timm.models._hub import save_config_for_hf

    with replaced(folder / RUN_WEIGHTS) as made:
        save_file(apart(network.state_dict()), made)
    with scratch_folder(folder) as scratch:
        save_config_for_hf(
            network,
            scratch / CONFIG,
            model_config={"label_names": list(classes)},
            model_args=dict(arguments),
        )
        document = json.loads((scratch / CONFIG).read_text(encoding="utf-8"))
    said = document["pretrained_cfg"]
    if list(said.get("input_size", ())) != [3, preprocessing.size, preprocessing.size]:
        said["pool_size"] = None
    said.update(data_config(preprocessing))
    for of_other_pixels in ("test_input_size", "test_pool_size", "test_crop_pct"):
        said.pop(of_other_pixels, None)
    write_atomically(folder / CONFIG, json.dumps(document, indent=2).encode())


def apart(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A network's state as safetensors takes it: on the CPU, contiguous, no two in one memory.

    Some networks have one layer in several places, and its weights under as many names.
    """
    made: dict[str, torch.Tensor] = {}
    taken: set[int] = set()
    for key, tensor in state.items():
        plain = tensor.detach().cpu().contiguous()
        place = plain.untyped_storage().data_ptr()
        made[key] = plain.clone() if place in taken else plain
        taken.add(place)
    return made


def data_config(preprocessing: Preprocessing) -> dict[str, Any]:
    """What timm's config.json says of pixels."""
    modes = {fit: mode for mode, fit in FITS_OF_TIMM.items()}
    return {
        "input_size": (3, preprocessing.size, preprocessing.size),
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "interpolation": preprocessing.interpolation,
        "crop_pct": preprocessing.crop_pct,
        "crop_mode": modes[preprocessing.fit],
    }


def _read_text(file: Path) -> str:
    try:
        return read_bounded(file, MAX_RUN_BYTES, is_named=True).decode(errors="replace")
    except (OSError, ValueError) as error:
        reason = one_sentence(error)
        raise RunError(f"{file} cannot be read ({reason}). Train again.") from error


def _read_json(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(_read_text(file))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{file} is damaged: it is not JSON. Train again.") from error
    if not isinstance(document, dict):
        raise RunError(f"{file} is damaged. Train again.")
    return document
