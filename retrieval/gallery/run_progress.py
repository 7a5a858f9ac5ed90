"""How far the writer of a gallery is, for other processes: a small file beside its lock."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

from retrieval.files import delete, read_bounded, replaced
from retrieval.plain import Plain
from retrieval.progress import Progress
from retrieval.text import visible

NOTED_IN = "lock-progress"
NOTED_EVERY = 0.5  # seconds; a run that takes less notes nothing
MOST_OF_A_NOTE, MOST_OF_A_STEP, MOST_COUNTED = 1024, 100, 1 << 53


@dataclass(frozen=True)
class RunProgress(Plain):
    """What a writer does, how many it has done, and how many there are (None: unknown)."""

    step: str
    done: int
    total: int | None


def noted(folder: Path, progress: Progress | None) -> Progress:
    """Return a Progress that tells `progress`, and notes it in a gallery's folder as well.

    The note need not last, so it is never waited for; one that cannot be written is left out.
    """
    last = time.monotonic()

    def note(step: str, done: int, total: int | None) -> None:
        nonlocal last
        if progress is not None:
            progress(step, done, total)
        now = time.monotonic()
        if now - last < NOTED_EVERY:
            return
        last = now
        text = json.dumps({"step": step, "done": done, "total": total})
        with contextlib.suppress(OSError), replaced(folder / NOTED_IN, durable=False) as made:
            made.write_text(text)

    return note


def forget_note(folder: Path) -> None:
    """Delete the note of a writer that has ended."""
    delete(folder / NOTED_IN)


def read_note(folder: Path) -> RunProgress | None:
    """Read how far a writer is; None where there is no note, or one that no writer has made."""
    try:
        said = json.loads(read_bounded(folder / NOTED_IN, MOST_OF_A_NOTE))
        step, done, total = said["step"], said["done"], said["total"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    if not isinstance(step, str) or not _is_count(done) or not (total is None or _is_count(total)):
        return None
    return RunProgress(visible(step[:MOST_OF_A_STEP]), done, total)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MOST_COUNTED
