"""One small network of each of timm's families: does it train, is it a backbone, is it explained?

`python -m benchmarks.families [FAMILY...]` tries all, or those, and writes docs/networks.md. A
family is a module of timm.models; of its architectures the one with the fewest parameters is tried,
with random weights, at the smallest input that it takes. tests/classify/test_families.py holds the
page to be true.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import timm
import torch
from timm.models import list_modules
from torch import nn
from torch.nn import functional

from benchmarks.photographs import ROOT
from classify.explain import grad_cam
from classify.models import create_network, embed_features, head_parameters
from classify.recipe import Input, ModelSpec, Phase, TrainingSettings
from classify.run import save_model
from classify.training.norms import training_mode
from classify.training.optimiser import make_optimiser, open_layers
from retrieval import backbones
from retrieval.errors import ImgretError, RecipeError

PAGE = ROOT / "docs" / "networks.md"
SIDES = (64, 96, 128, 224, 256, None)  # None: the architecture's own
CLASSES = ("a", "b", "c")
CLOSE = 1e-4
HEAD = """# Networks

One small network of each family (module) of timm, made by

    python -m benchmarks.families

with random weights, three classes and the smallest of a few input sizes that it takes. Each is
trained for one step with its backbone frozen and one with everything open, and written as a run.
The run is read again as a classifier and as a backbone, and started from with other classes. Scores
and embeddings are the same each time. `tests/classify/test_families.py` (slow) holds each row.
Where a cell does not begin with "yes" it is what imgret says, before it reads an image.

| Family | Network | px | Trains | As a backbone | Grad-CAM |
|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Tried:
    """What became of one network. trains, backbone, explained: "yes", or why not. side: pixels."""

    family: str
    name: str
    side: int
    trains: str
    backbone: str
    explained: str

    @property
    def row(self) -> str:
        """Of the page's table."""
        cells = [self.family, f"`{self.name}`", str(self.side), self.trains, self.backbone]
        return "| " + " | ".join([*cells, self.explained]) + " |"


def families() -> list[str]:
    """Modules of timm itself, not those that other packages register with it."""
    return sorted(name for name in list_modules() if find_spec(f"timm.models.{name}"))


def smallest(family: str) -> str:
    """The architecture of a family with the fewest parameters."""
    return min(timm.list_models(module=family), key=lambda name: (_size_of(name), name))


def try_network(family: str, name: str, side: int | None = None) -> Tried:
    """Train a network for two steps, keep it, read it as a classifier and as a backbone.

    side: of the input, pixels, by default the smallest of SIDES that the network takes. Raises
    AssertionError where it is neither what it should be nor refused in a sentence.
    """
    torch.manual_seed(0)
    side, refused = _least_side(name, (side,) if side else SIDES)
    if refused:
        return Tried(family, name, side, _cell(refused), _backbone_alone(name, side), "-")
    created = create_network(ModelSpec(backbone=name), Input(size=side), len(CLASSES))
    network = created.network
    x = torch.randn(4, 3, side, side)
    for phase in (Phase(open="head"), Phase(open="all")):
        _step(network, x, phase)
    network.zero_grad(set_to_none=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        save_model(folder, network, created.preprocessing, CLASSES, created.arguments)
        with torch.inference_mode():
            embeddings, scores = embed_features(network.eval(), x)
            _check("scores", scores, network(x))
            classifier = backbones.load_classifier(folder)
            _check("a classifier's scores", classifier.network(x), scores)
            _check(
                "a backbone's embeddings",
                backbones.load_backbone(str(folder)).network(x),
                embeddings,
            )
        started = create_network(ModelSpec(backbone=name, weights=str(folder)), Input(size=side), 2)
    with torch.inference_mode():
        _check("new classes", embed_features(started.network.eval(), x)[0], embeddings)
    return Tried(family, name, side, "yes", "yes", _explained(name, network, x[:1]))


def _least_side(name: str, sides: Sequence[int | None]) -> tuple[int, RecipeError | None]:
    refused: RecipeError | None = None
    for side in sides:
        asked = Input(size=side) if side else Input()
        try:
            return create_network(ModelSpec(backbone=name), asked, 3).preprocessing.size, None
        except RecipeError as error:
            refused = error
    return backbones.input_size(backbones.parse_name(name)) or 224, refused


def _step(network: nn.Module, x: torch.Tensor, phase: Phase) -> None:
    """One step, as classify/training/loop.py takes it: only what is open gets gradients."""
    network.zero_grad(set_to_none=True)
    open_layers(network, phase)
    training_mode(network)
    optimiser = make_optimiser(network, TrainingSettings(optimiser="sgd", lr=1e-4), [])
    _, scores = embed_features(network, x)
    functional.cross_entropy(scores.float(), torch.tensor([0, 1, 2, 0])).backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)  # random weights can explode
    optimiser.step()
    heads = head_parameters(network)
    taught = {p for p in network.parameters() if p.grad is not None}
    if not taught.issuperset(heads) or (phase.open == "head" and len(taught) > len(set(heads))):
        raise AssertionError(f"{phase.open} open: {len(taught)} parameters learn")


def _explained(name: str, network: nn.Module, x: torch.Tensor) -> str:
    """By Grad-CAM; at the architecture's own size where the map of a small picture is one place."""
    try:
        return _heat(network, x)
    except ImgretError:
        own = create_network(ModelSpec(backbone=name), Input(), len(CLASSES))
        side = own.preprocessing.size
    try:
        return f"{_heat(own.network, torch.randn(1, 3, side, side))}, at {side} px"
    except ImgretError as error:
        return _cell(error)


def _heat(network: nn.Module, x: torch.Tensor) -> str:
    heat = grad_cam(network.eval().requires_grad_(requires_grad=False), x, 0)
    if not np.isfinite(heat).all():
        raise AssertionError("the heat is no number")
    return "yes"


def _backbone_alone(name: str, side: int) -> str:
    try:
        backbones.with_random_weights(name, size=side)
    except ImgretError as error:
        return _cell(error)
    return "yes"


def _check(what: str, found: torch.Tensor, expected: torch.Tensor) -> None:
    scale = max(1.0, float(expected.abs().max()))
    if found.shape != expected.shape or not torch.allclose(found, expected, 0, CLOSE * scale):
        raise AssertionError(f"{what} are {found.flatten()[:3]} and not {expected.flatten()[:3]}")


def _cell(error: Exception) -> str:
    return " ".join(str(error).split()).replace("|", "/")


def _size_of(name: str) -> int:
    with torch.device("meta"):
        network = timm.create_model(name)
    return sum(p.numel() for p in network.parameters())


def read_page() -> dict[str, Tried]:
    """What the page says, by family."""
    lines = PAGE.read_text("utf-8").splitlines() if PAGE.is_file() else []
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    rows = [c for c in cells if c[0] != "Family"]
    return {c[0]: Tried(c[0], c[1].strip("`"), int(c[2]), *c[3:6]) for c in rows}


def main(chosen: Sequence[str]) -> int:
    """Try the chosen families, by default all, and write the page; rows go to stderr as they come.

    The rows of other families stay as they are. A family that fails is named, and has no row.
    """
    rows, failed = read_page() if chosen else {}, 0
    for family in chosen or families():
        began = time.monotonic()
        try:
            rows[family] = try_network(family, smallest(family))
            said = rows[family].row
        except Exception as error:  # noqa: BLE001  the sweep goes on
            failed += 1
            said = f"{family} FAILED: {type(error).__name__}: {_cell(error)[:300]}"
        print(f"{time.monotonic() - began:6.1f} s {said}", file=sys.stderr, flush=True)
    PAGE.write_text(HEAD + "\n".join(rows[family].row for family in sorted(rows)) + "\n", "utf-8")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
