"""All that a run needs to resume, as one safetensors file: nothing is pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue, TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from classify.run import apart
from retrieval.errors import RunError
from retrieval.files import replaced
from retrieval.text import one_sentence

OPTIMISER = "optimiser"


def save_state(
    file: Path,
    modules: Mapping[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    facts: Mapping[str, JsonValue],
) -> None:
    """Write modules, the optimiser's moments and facts (JSON), replacing the file whole."""
    states = {name: module.state_dict() for name, module in modules.items()}
    tensors = apart(
        {f"{name}.{key}": v for name, state in states.items() for key, v in state.items()}
    )
    moments, numbers = _parts(optimiser)
    for key, value in moments.items():
        tensors[f"{OPTIMISER}.{key}"] = value.detach().cpu().contiguous()
    document = json.dumps(
        {"facts": dict(facts), "numbers": numbers, "steps": _steps(optimiser.param_groups)}
    )
    with replaced(file) as made:
        save_file(tensors, made, metadata={"state": document})


def check_can_save(optimiser: torch.optim.Optimizer) -> None:
    """Raise ValueError where an optimiser's state, after a step, cannot be saved."""
    try:
        json.dumps([_parts(optimiser)[1], _steps(optimiser.param_groups)])
    except (TypeError, ValueError) as error:
        raise ValueError("a run cannot save its state") from error


def read_facts(file: Path) -> dict[str, JsonValue]:
    """Read the facts of a saved state. Raises RunError when it cannot be read."""
    return _document(file).facts


def load_state(
    file: Path, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer
) -> None:
    """Put a saved state into modules and optimiser. Raises RunError when it does not fit."""
    document = _document(file)
    moments: dict[int, dict[str, torch.Tensor | JsonValue]] = {}
    states: dict[str, dict[str, torch.Tensor]] = {name: {} for name in modules}
    try:
        with safe_open(file, "pt") as stored:
            for key in stored.keys():  # noqa: SIM118  no mapping
                kind, _, rest = key.partition(".")
                if kind == OPTIMISER:
                    place, _, name = rest.partition(".")
                    moments.setdefault(int(place), {})[name] = stored.get_tensor(key)
                else:
                    states[kind][rest] = stored.get_tensor(key)
        for key, value in document.numbers.items():
            place, _, name = key.partition(".")
            moments.setdefault(int(place), {})[name] = value
        for name, module in modules.items():
            module.load_state_dict(states[name])
        groups = optimiser.state_dict()["param_groups"]
        for group, step in zip(groups, document.steps or _steps(groups), strict=True):
            if step is not None:
                group["step"] = step
        optimiser.load_state_dict({"state": moments, "param_groups": groups})
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise damaged(file, error) from error


def _steps(groups: Sequence[Mapping[str, Any]]) -> list[int | float | None]:
    """How many steps each group has taken, of optimisers that count them there, such as lamb."""
    found = (group.get("step") for group in groups)
    return [step.item() if isinstance(step, torch.Tensor) else step for step in found]


def _parts(
    optimiser: torch.optim.Optimizer,
) -> tuple[dict[str, torch.Tensor], dict[str, JsonValue]]:
    """The tensors of an optimiser's state, and what else it holds, both by "place.key"."""
    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, JsonValue] = {}
    for place, moments in optimiser.state_dict()["state"].items():
        for key, value in moments.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{place}.{key}"] = value
            else:
                numbers[f"{place}.{key}"] = value
    return tensors, numbers


@dataclass(frozen=True)
class _Document:
    """What stands beside the tensors. numbers: of the optimiser, by "place.key". steps: see
    _steps(); none in a file of before."""

    facts: dict[str, JsonValue]
    numbers: dict[str, JsonValue]
    steps: list[int | float | None] = field(default_factory=list)


def _document(file: Path) -> _Document:
    try:
        with safe_open(file, "pt") as stored:
            text = (stored.metadata() or {})["state"]
        return TypeAdapter(_Document).validate_json(text)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise damaged(file, error) from error


def damaged(file: Path, error: Exception) -> RunError:
    """Make the error for a state that cannot be used."""
    return RunError(
        f"{file} cannot be resumed ({one_sentence(error)}). Train again, into a new folder."
    )
