from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from classify.training import train
from tests.classify.blobs import save_blobs, tiny


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small gain nothing from more, and lose much where other work runs beside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and test/ of coloured discs. Not to be changed."""
    folder = tmp_path_factory.mktemp("blobs")
    save_blobs(folder / "train", 12)
    save_blobs(folder / "test", 4, first=500)
    return folder


@pytest.fixture(scope="session")
def run(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on them. Not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    train(blobs, tiny("training.epochs=12"), out)
    return out
