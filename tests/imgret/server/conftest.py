"""Galleries to be served."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from retrieval.retriever import Retriever
from tests.samples import save_pictures


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 24 pictures in 3 classes and their gallery. Not to be changed."""
    folder = tmp_path_factory.mktemp("served")
    Retriever(folder / ".imgret").index(save_pictures(folder / "pictures"))
    return folder


@pytest.fixture
def own(stored: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(stored, tmp_path / "own")
    return tmp_path / "own"
