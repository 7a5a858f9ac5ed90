"""Cards: a picture as every page shows it, with its name, folder, link and facts."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from retrieval.retriever.results import is_missing
from retrieval.text import visible

FOLDER_SHOWN, FOLDER_START = 23, 5  # characters of a folder that fit on one line of a card
ROLE_WORDS = {
    "": "match",
    "query": "query",
    "keep": "the image to keep",
    "right": "right match",
    "wrong": "wrong match",
}


@dataclass(frozen=True)
class Card:
    """A picture on a page.

    path: whole, "" where the picture has none. folder: its start, the middle that is not shown, its
    end. href: of the file, "" where it cannot be opened. picture: a data: URI. role: one of
    ROLE_WORDS, which frames the picture. said: what stands for it in words.
    """

    name: str
    path: str
    folder: tuple[str, str, str]
    href: str
    picture: str | None
    missing: bool
    role: str
    said: str
    facts: tuple[str, ...]


def card(
    path: Path,
    picture: str | None,
    *,
    beside: Path | None = None,
    role: str = "",
    said: str = "",
    facts: Iterable[str] = (),
    name: str | None = None,
) -> Card:
    """Make the card of a file. beside: the folder of the page.

    name: what to call a file whose own name says nothing; the card then has no folder and no link.
    """
    missing = is_missing(path)
    return Card(
        name=visible(path.name if name is None else name) or "picture",
        path=visible(path.absolute()) if name is None else "",
        folder=folded(path.absolute().parent),
        href="" if missing or name is not None else address(path, beside),
        picture=picture,
        missing=missing,
        role=role,
        said=said or ROLE_WORDS[role],
        facts=tuple(fact for fact in facts if fact),
    )


def judged(label: str | None, wanted: str | None) -> str:
    """Return the role of a picture by its label; "" where one of the two is not known."""
    if label is None or wanted is None:
        return ""
    return "right" if label == wanted else "wrong"


def address(path: Path, beside: Path | None = None) -> str:
    """Return the address of a file for a link: relative where it lies below the page's folder.

    Whatever the name holds is quoted, so that none becomes another scheme, a query or a fragment.

    >>> address(Path("/a/javascript:x?.jpg"), Path("/a")), address(Path("/b/1 2.jpg"), Path("/a"))
    ('javascript%3Ax%3F.jpg', 'file:///b/1%202.jpg')
    """
    full = path.absolute()
    for folder in () if beside is None else (beside.absolute(), beside.resolve()):
        if full.is_relative_to(folder):
            parts = full.relative_to(folder).parts
            return "/".join(quote(os.fsencode(part), safe="") for part in parts)
    return full.as_uri()


def folded(folder: Path) -> tuple[str, str, str]:
    """Split a folder in its start, the middle that one line has no room for, and its end.

    >>> folded(Path("/home/me/pictures/of/cars/BMW M3 Coupe 2012"))
    ('/home', '/me/pictures/of/cars/', 'BMW M3 Coupe 2012')
    """
    text = visible(folder)
    if len(text) <= FOLDER_SHOWN:
        return text, "", ""
    end = len(text) - (FOLDER_SHOWN - FOLDER_START - 1)
    slash = text.find("/", end)  # a whole name, where one ends near there
    if 0 <= slash < end + 8:
        end = slash + 1
    return text[:FOLDER_START], text[FOLDER_START:end], text[end:]
