"""What an older timm than the newest has, and what it lacks."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import timm
from packaging.version import Version

from retrieval.backbones.known import TIMM_TABLE

_HEAD = (resources.files("retrieval") / "backbones" / TIMM_TABLE).read_text(encoding="utf-8")
TABLE_IS_OF = _HEAD.partition(",")[0].split()[-1]

as_the_table = pytest.mark.skipif(
    Version(timm.__version__) < Version(TABLE_IS_OF), reason=f"the table is of timm {TABLE_IS_OF}"
)
"""Marks a test of what the newest timm has."""


def read_by_timm(folder: Path, **options: Any) -> Any:
    """Return the network that timm reads from a folder; skip the test where timm reads none."""
    if not hasattr(timm.models._hub, "load_model_config_from_path"):
        pytest.skip(f"timm {timm.__version__} reads no folders")
    return timm.create_model(f"local-dir:{folder}", pretrained=True, **options)


def need_network(name: object) -> None:
    """Skip a test of a network that this timm does not have."""
    if not timm.is_model(str(name)):
        pytest.skip(f"timm {timm.__version__} has no {name}")
