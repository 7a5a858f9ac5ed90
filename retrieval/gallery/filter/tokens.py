"""The text of a filter, cut into words, values and signs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from retrieval.errors import FilterError
from retrieval.gallery.filter.columns import columns_told
from retrieval.text import visible

MOST_OF_A_FILTER = 30_000  # characters
SHOWN = 40  # of a word, characters
_EXAMPLE = "\"label = 'BMW M3' AND width >= 640\""
ARITHMETIC = "+-*/%|&^~"

KEYWORDS = {"AND", "OR", "NOT", "IN", "LIKE", "ILIKE", "BETWEEN", "IS", "NULL", "TRUE", "FALSE"}

_TOKEN = re.compile(
    r"(?P<text>'(?:[^']|'')*+'|\"(?:[^\"]|\"\")*+\")"
    r"|(?P<number>-?[0-9]++(?:\.[0-9]*+)?(?:[eE][+-]?[0-9]++)?)"
    r"|(?P<word>[^\W\d]\w*+(?:\.\w++)*+|`[^`]++`(?:\.`[^`]++`)*+)"
    r"|(?P<sign><=|>=|<>|!=|==|[=<>(),])"
    r"|(?P<end>\Z)"
)
_SPACE = re.compile(r"\s*+")


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a filter. start: its place in the text, from 0. keyword: upper case, or ""."""

    kind: Literal["text", "number", "word", "sign", "end"]
    said: str
    start: int

    @property
    def keyword(self) -> str:
        """The keyword that a word is, in capitals, else ""."""
        word = self.said.upper()
        return word if self.kind == "word" and word in KEYWORDS else ""

    @property
    def value(self) -> str:
        """The text between the quotes."""
        quote = self.said[0]
        return self.said[1:-1].replace(2 * quote, quote)

    def wrong(self, why: str) -> FilterError:
        """Make an error that says where in the filter something is wrong."""
        if self.kind == "end":
            return _wrong("at its end", why)
        return _wrong(f"at character {self.start + 1} ({in_brief(self.said)})", why)


def empty_filter() -> FilterError:
    """Make the error for a filter without a condition."""
    return FilterError(
        f"The filter is empty. Write it like {_EXAMPLE}, with the columns {columns_told()}."
    )


def tokens(text: str) -> Iterator[Token]:
    """Cut a filter into tokens, the last one of kind "end". Raises FilterError."""
    if len(text) > MOST_OF_A_FILTER:
        raise FilterError(
            f"The filter has {len(text):,} characters, but may have at most {MOST_OF_A_FILTER:,}. "
            "Shorten it."
        )
    place = 0
    while True:
        place = _end_of_space(text, place)
        found = _TOKEN.match(text, place)
        if found is None:
            raise _no_token(text, place)
        token = Token(found.lastgroup, found[0], place)  # type: ignore[arg-type]
        if any("\ud800" <= character <= "\udfff" for character in token.said):
            raise token.wrong(
                r"it holds bytes that are not UTF-8, which a gallery stores as \xff and the like"
            )
        yield token
        if token.kind == "end":
            return
        place = found.end()


def in_brief(said: str) -> str:
    """Return a piece of a filter as a message shows it: on one line, a long one cut."""
    return visible(said if len(said) <= SHOWN else f"{said[:SHOWN]}...")


def _end_of_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _no_token(text: str, place: int) -> FilterError:
    sign = text[place]
    if sign in "'\"`":
        return _wrong(f"at character {place + 1}", f"what {sign} opens there is never closed")
    if sign in "\u2018\u2019\u201c\u201d":
        why = "this quote is curly; write a straight one, '"
    elif text.startswith(("&&", "||"), place):
        why = f"write {'AND' if sign == '&' else 'OR'} instead"
    elif sign in ARITHMETIC:
        why = "a filter compares columns with values and does not calculate"
    else:
        why = "this sign means nothing in a filter"
    return _wrong(f"at character {place + 1} ({in_brief(sign)})", why)


def _wrong(place: str, why: str) -> FilterError:
    ended = why if why.endswith("?") else f"{why}."
    return FilterError(
        f"The filter is wrong {place}: {ended} Write it like "
        f"{_EXAMPLE}, with the columns {columns_told()}."
    )
