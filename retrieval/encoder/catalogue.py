"""The backbones that one can name: imgret's own, timm's, and what was exported to the cache.

Neither torch nor timm is imported. Where they are not installed, only what can be used is listed:
imgret's own, and what was exported here or on another machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from retrieval.backbones import (
    MINI,
    SHORT_NAMES,
    KnownBackbone,
    known_backbones,
    packaged_spec,
)
from retrieval.backbones.hub import is_cached
from retrieval.backbones.names import RANDOM, TIMM
from retrieval.backbones.packaged import packaged_parameters
from retrieval.encoder.exports import Export, find_exports
from retrieval.errors import BackboneError
from retrieval.libraries import is_installed

LICENCE = "apache-2.0"  # imgret's, and so its own encoder's
WeightsPlace = Literal["package", "hub cache", "exported"]


@dataclass(frozen=True)
class ListedBackbone:
    """What is known of a backbone before it is loaded; None for what is not.

    name: as it is stored. short: its short name. width: of an embedding. input: side of its own
    input, pixels. parameters: without the classifier. weights: where they lie on this machine;
    None: they are to be downloaded. licence: of the weights.
    """

    name: str
    short: str | None
    width: int | None
    input: int | None
    parameters: int | None
    weights: WeightsPlace | None
    licence: str | None


@dataclass(frozen=True)
class Catalogue:
    """The requested backbones.

    others: how many more there are without a word. lacks: the library without which timm's are
    left out, None where it is there.
    """

    backbones: Sequence[ListedBackbone]
    others: int
    lacks: str | None


def list_backbones(cache: Path, word: str | None = None, *, every: bool = False) -> Catalogue:
    """List the backbones with a word in their names or short names, in any case.

    Without a word: imgret's own, those with a short name, and those whose weights are on this
    machine; with every=True all. cache: where exports lie. Raises BackboneError when the package's
    files are damaged.
    """
    lacks = next((name for name in ("torch", "timm") if not is_installed(name)), None)
    rows = [row for row in _rows(cache) if not lacks or row.weights in ("package", "exported")]
    if word:
        word = word.lower().removeprefix(TIMM)
        return Catalogue([row for row in rows if _holds(row, word)], 0, lacks)
    shown = [row for row in rows if every or row.short or row.weights]
    return Catalogue(shown, len(rows) - len(shown), lacks)


def _holds(row: ListedBackbone, word: str) -> bool:
    return word in row.name.lower() or word in (row.short or "")


def _rows(cache: Path) -> Iterator[ListedBackbone]:
    """List every backbone once: imgret's own, short names, timm's, others exported here."""
    exports = find_exports(cache)
    yield _own()
    short = {name: word for word, name in SHORT_NAMES.items()}
    for known in sorted(known_backbones(), key=lambda known: known.name not in short):
        yield _of_timm(known, short.get(known.name), is_exported=known.name in exports)
    listed = {MINI, *(known.name for known in known_backbones())}
    for name, export in sorted(exports.items()):
        if name not in listed and not name.startswith(RANDOM):  # whose weights nobody wants
            yield _exported(export)


def _own() -> ListedBackbone:
    from retrieval.settings import EmbeddingSettings

    spec = packaged_spec(EmbeddingSettings(backbone=MINI))
    if spec is None:
        raise BackboneError(f"This installation lacks the encoder {MINI}. Install imgret again.")
    size, parameters = spec.preprocessing.size, packaged_parameters()
    return ListedBackbone(MINI, MINI, spec.dim, size, parameters, "package", LICENCE)


def _of_timm(known: KnownBackbone, short: str | None, *, is_exported: bool) -> ListedBackbone:
    weights: WeightsPlace | None = "exported" if is_exported else None
    weights = "hub cache" if is_cached(known.repository) else weights
    return ListedBackbone(
        known.name,
        short,
        known.width,
        known.input,
        known.parameters,
        weights,
        known.licence or None,
    )


def _exported(export: Export) -> ListedBackbone:
    return ListedBackbone(export.name, None, export.dim, export.size, None, "exported", None)
