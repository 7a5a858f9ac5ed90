"""Networks, pictures and processes for the tests."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pty
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from retrieval import files


def save_weights(
    folder: Path, *, seed: int, architecture: str = "mobilenetv3_small_050", size: int = 64
) -> Path:
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    network = timm.create_model(architecture, pretrained=False, num_classes=0)
    folder.mkdir(parents=True)
    save_file(network.state_dict(), folder / "model.safetensors")
    config = {
        "architecture": architecture,
        "num_classes": 0,
        "pretrained_cfg": {"input_size": [3, size, size], "crop_pct": 0.9, "num_classes": 0},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def picture(seed: int, width: int = 80, height: int = 60) -> Image.Image:
    """A smooth random picture; no two seeds look alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def drawn(seed: int, width: int = 256, height: int = 192) -> Image.Image:
    """A picture with edges, as photographs have them; no two seeds look alike."""
    chance = random.Random(seed)  # noqa: S311
    image = Image.new("RGB", (width, height), _colour(chance))
    pen = ImageDraw.Draw(image)
    for _ in range(chance.randrange(8, 25)):
        x, y = chance.randrange(width), chance.randrange(height)
        w, h = chance.randrange(5, width // 3), chance.randrange(5, height // 3)
        chance.choice([pen.ellipse, pen.rectangle])((x - w, y - h, x + w, y + h), _colour(chance))
    return image.filter(ImageFilter.GaussianBlur(1))


def _colour(chance: random.Random) -> tuple[int, int, int]:
    return chance.randrange(256), chance.randrange(256), chance.randrange(256)


def save_pictures(folder: Path) -> Path:
    """24 pictures in 3 classes: <class>/<n>.jpg."""
    for n in range(24):
        file = folder / f"class{n % 3}" / f"{n:02}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(n).save(file, quality=95)
    return folder


def command_line(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "imgret", *map(str, arguments)]


def command_environment(cache: Path) -> dict[str, str]:
    environment = {k: v for k, v in os.environ.items() if k != "IMGRET_GALLERY"}
    return environment | {"IMGRET_CACHE": str(cache), "COLUMNS": "200", "HF_HUB_OFFLINE": "1"}


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """This process can write no larger file, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    heeded = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heeded)


def on_a_terminal(folder: Path, cache: Path, *arguments: object) -> tuple[str, int]:
    """Run the command with a terminal for stdout and stderr; what it showed, and its exit code."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command_line(*arguments), cwd=folder, env=command_environment(cache),
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(ours)
    return shown.decode(), process.wait(timeout=300)


def no_room_for(patch: pytest.MonkeyPatch, *names: str) -> None:
    """The disk is full whenever a file of one of these names (fnmatch) is put in its place."""
    real = files.put_in_place

    def put(made: Path, place: Path) -> None:
        if any(fnmatch(place.name, name) for name in names):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(made))
        real(made, place)

    patch.setattr(files, "put_in_place", put)
