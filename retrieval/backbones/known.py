"""What timm has weights for, from a table in the package: neither timm nor torch is imported.

packaging/timm_table.py writes the table. Names that a newer timm has beside are loaded, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources

TIMM_TABLE = "timm.tsv"
MOST_ALIKE = 5


@dataclass(frozen=True)
class KnownBackbone:
    """A network of timm with weights on the Hugging Face hub.

    name: timm's, with the tag of the weights. width: of an embedding. input: side of its own
    input, pixels. parameters: without the classifier. licence: of the weights, "" where timm names
    none. repository: at the hub.
    """

    name: str
    width: int
    input: int
    parameters: int
    licence: str
    repository: str

    @property
    def architecture(self) -> str:
        """timm's name of the network, whatever its weights."""
        return self.name.partition(".")[0]


@cache
def known_backbones() -> tuple[KnownBackbone, ...]:
    """Read the whole table, in timm's order."""
    text = (resources.files("retrieval") / "backbones" / TIMM_TABLE).read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines()[2:]]
    return tuple(
        KnownBackbone(name, int(width), int(side), int(count), licence, at or f"timm/{name}")
        for name, width, side, count, licence, at in rows
    )


@cache
def known_architectures() -> frozenset[str]:
    """Name the networks that timm has weights for, without the tags of weights."""
    return frozenset(known.architecture for known in known_backbones())


def alike(name: str, *others: str) -> list[str]:
    """Return at most five architectures (or others) that contain a name, or else resemble it.

    Those that it is or begins come first, whatever its case and hyphens.

    >>> alike("resnt50", "mini")[0], alike("ResNet50 ")[0]
    ('resnet50', 'resnet50')
    """
    wanted = _plain(name.strip().partition(".")[0])
    names = {known: _plain(known) for known in sorted({*known_architectures(), *others})}
    holding = [known for known, plain in names.items() if wanted and wanted in plain]
    holding.sort(key=lambda known: (not names[known].startswith(wanted), len(known)))
    by_plain = {plain: known for known, plain in names.items()}
    return holding[:MOST_ALIKE] or [by_plain[near] for near in get_close_matches(wanted, by_plain)]


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
