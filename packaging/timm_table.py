"""The installed timm -> retrieval/backbones/timm.tsv: what `imgret backbones` lists.

    python packaging/timm_table.py

takes 10 minutes on one core: timm says of no network how wide its embedding is, so that each is
made and run, without values (torch's meta device). Networks that give no embedding are left out,
and so are weights that lie at no hub. tests/retrieval/test_known.py holds a sample of rows
against timm.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg

TABLE = Path(__file__).parent.parent / "retrieval" / "backbones" / "timm.tsv"
COLUMNS = ("name", "width", "input", "parameters", "licence", "repository")


def row_of(name: str) -> tuple[str, ...] | None:
    """A row of the table; None for a name that is no backbone."""
    cfg = get_pretrained_cfg(name)
    if cfg is None or not cfg.hf_hub_id or cfg.input_size[0] != 3:
        return None
    size, usual = tuple(cfg.input_size), get_pretrained_cfg(cfg.architecture)
    is_usual = not cfg.fixed_input_size or (usual and tuple(usual.input_size) == size)
    measured = measure(cfg.architecture if is_usual else name, size)
    if measured is None:
        return None
    width, parameters = measured
    licence = "" if cfg.license in (None, "unknown") else cfg.license
    repository = "" if cfg.hf_hub_id == f"timm/{name}" else cfg.hf_hub_id
    return name, str(width), str(cfg.input_size[-1]), str(parameters), licence, repository


@cache
def measure(name: str, size: tuple[int, int, int]) -> tuple[int, int] | None:
    """Width of an embedding, and parameters without the classifier.

    name: of an architecture; with the tag of weights where these are for another input than usual.
    """
    for device in ("meta", "cpu"):  # some need values to be made or run
        try:
            with torch.device(device), torch.inference_mode():
                network = timm.create_model(name, num_classes=0).eval()
                embedding: Any = network(torch.zeros(1, *size))
            break
        except Exception as error:  # noqa: BLE001  whatever a network raises
            print(f"{name} on {device}: {error}", file=sys.stderr)  # noqa: T201
    else:
        return None
    if not isinstance(embedding, torch.Tensor) or embedding.ndim != 2:
        return None
    return embedding.shape[1], sum(p.numel() for p in network.parameters())


def write_table(rows: list[tuple[str, ...]]) -> None:
    """All rows, below the version of timm and the names of the columns."""
    lines = [
        f"# timm {timm.__version__}, by packaging/timm_table.py",
        *map("\t".join, [COLUMNS, *rows]),
    ]
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_table([row for name in timm.list_pretrained() if (row := row_of(name))])
