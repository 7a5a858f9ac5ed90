"""The pages that people read: their blocks of code and their sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

DOCS = ROOT / "docs"
GENERATED = {"commands.md", "benchmarks.md", "networks.md"}  # commands write them

FENCE = re.compile(r"^ *(```+)(\w*)[^\n]*\n(.*?)^ *\1 *$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:\A|(?<=\n\n))(?:(?: {4,}|\t)[^\n]*\n|\n(?= {4}))+")
CELLS = re.compile(r"(?<!\\)\|")
ITEM = re.compile(r"^ *(?:[-*+]|\d+\.) +")
END = re.compile(r"""(?<=[.!?])["')*_\]]*\s+(?=["'(*_`\[]*(?:[A-Z0-9`]|(?:imgret|timm)\b))""")
ABBREVIATION = re.compile(r"\b(e\.g|i\.e|cf|vs|al|St|No)\.")


@dataclass(frozen=True)
class Block:
    """A block of code, the heading that it stands under, and the language of its fence."""

    heading: str
    language: str
    text: str


def pages() -> list[Path]:
    """README.md and what docs/ has, but for what commands write."""
    return [ROOT / "README.md", *sorted(p for p in DOCS.rglob("*.md") if p.name not in GENERATED)]


def blocks(text: str) -> list[Block]:
    """All fenced blocks of a page, in order."""
    found = []
    for match in FENCE.finditer(text):
        bare = FENCE.sub("", text[: match.start()])
        headings = re.findall(r"^#+ (.*)$", bare, re.MULTILINE)
        found.append(Block(headings[-1] if headings else "", match[2], match[3]))
    return found


def indented(text: str) -> list[str]:
    """The blocks that are indented instead of fenced."""
    return [match[0] for match in INDENTED.finditer(FENCE.sub("", text))]


def sentences(text: str) -> Iterator[str]:
    """The sentences of a page's prose without code; items of lists and cells are by themselves."""
    text = INDENTED.sub("\n", FENCE.sub("\n\n", text))
    paragraph: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            for cell in CELLS.split(line.strip().strip("|")):
                yield from _split(cell.strip())
        begins = bool(ITEM.match(line)) or line.startswith(("#", "|", ":::", "<", "!["))
        if not line.strip() or begins:
            yield from _split(" ".join(paragraph))
            paragraph = []
        if line.strip() and not line.startswith(("#", "|", ":::", "<", "![")):
            paragraph.append(ITEM.sub("", line).strip())


def words(sentence: str) -> list[str]:
    """What one reads as words: a piece of code is one, figures are none."""
    plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", sentence)
    plain = re.sub(r"`[^`]+`", "code", plain)
    return [word for word in plain.split() if re.search(r"[^\W\d_]", word)]


def _split(paragraph: str) -> list[str]:
    return [part for part in END.split(ABBREVIATION.sub(r"\1", paragraph)) if part]
