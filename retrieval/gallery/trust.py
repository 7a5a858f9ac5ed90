"""Which versions of which tables this user has written here.

A gallery may come from a stranger, in an archive or from a share, and be found by itself. What it
names outside of its own folder (images, labels, networks to load) is used only where this user
wrote it on this machine, or says --trust. Each commit leaves a note of the table's random name and
of its manifest's SHA-256 in the user's own folder, which nobody who sends a gallery can write.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

import platformdirs

from retrieval.files import make_folder, read_bounded, sha256_of, write_atomically
from retrieval.objects import ObjectPath

KEPT = 512  # versions noted of a table: copies and backups of it have its name, and older ones
MAX_NOTE_BYTES = 1 << 16

_log = logging.getLogger("imgret")


def is_noted(table: str, manifest: Path) -> bool:
    """Tell whether this user wrote a version, by its table's name and its manifest file."""
    try:
        return _mark(manifest) in _noted(_note_of(table))
    except OSError:
        return False


def note(table: str, manifest: Path) -> None:
    """Note that this user wrote a version. If that fails, it is not trusted later on."""
    file = _note_of(table)
    try:
        make_folder(file.parent)
        kept = [*_noted(file), _mark(manifest)][-KEPT:]
        write_atomically(file, json.dumps(kept).encode())
    except OSError as error:
        _log.warning(
            "%s cannot be written (%s), so it is not remembered that you wrote this gallery: give "
            "--trust where it names files outside of its folder.", file.parent, error.strerror,
        )  # fmt: skip


def _mark(manifest: Path) -> str:
    """What tells a manifest from all others: of an object its etag, which costs no reading."""
    if isinstance(manifest, ObjectPath):
        return f"{manifest} {manifest.facts().etag}"
    return sha256_of(manifest)


def _note_of(table: str) -> Path:
    cache = os.environ.get("IMGRET_CACHE")
    folder = Path(cache) if cache else platformdirs.user_state_path("imgret")
    return folder / "galleries" / f"{hashlib.sha256(table.encode()).hexdigest()[:32]}.json"


def _noted(file: Path) -> list[str]:
    try:
        noted = json.loads(read_bounded(file, MAX_NOTE_BYTES))
    except (OSError, ValueError, RecursionError):
        return []
    return [item for item in noted if isinstance(item, str)] if isinstance(noted, list) else []
