"""All that a run needs to go on, as one safetensors file: nothing is pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
    numbers: dict[str, JsonValue] = {}
    for place, moments in optimiser.state_dict()["state"].items():
        for key, value in moments.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{OPTIMISER}.{place}.{key}"] = value.detach().cpu().contiguous()
            else:
                numbers[f"{place}.{key}"] = value
    document = json.dumps({"facts": dict(facts), "numbers": numbers})
    with replaced(file) as made:
        save_file(tensors, made, metadata={"state": document})


def read_facts(file: Path) -> dict[str, JsonValue]:
    """The facts of a saved state. Raises RunError when it cannot be read."""
    return _document(file).facts


def load_state(
    file: Path, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer
) -> None:
    """Put a saved state into modules and optimiser. Raises RunError when it does not fit."""
    numbers = _document(file).numbers
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
        for key, value in numbers.items():
            place, _, name = key.partition(".")
            moments.setdefault(int(place), {})[name] = value
        for name, module in modules.items():
            module.load_state_dict(states[name])
        groups = optimiser.state_dict()["param_groups"]
        optimiser.load_state_dict({"state": moments, "param_groups": groups})
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise damaged(file, error) from error


@dataclass(frozen=True)
class _Document:
    """What stands beside the tensors. numbers: of the optimiser, by "place.key"."""

    facts: dict[str, JsonValue]
    numbers: dict[str, JsonValue]


def _document(file: Path) -> _Document:
    try:
        with safe_open(file, "pt") as stored:
            text = (stored.metadata() or {})["state"]
        return TypeAdapter(_Document).validate_json(text)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise damaged(file, error) from error


def damaged(file: Path, error: Exception) -> RunError:
    """What to say of a state that cannot be used."""
    return RunError(
        f"{file} cannot be resumed ({one_sentence(error)}). Train again, into a new folder."
    )
