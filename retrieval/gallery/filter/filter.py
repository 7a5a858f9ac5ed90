"""A filter: which rows are selected, whoever stores them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from retrieval.errors import FilterError, QueryError
from retrieval.gallery.filter.milvus import as_milvus
from retrieval.gallery.filter.parser import parse
from retrieval.gallery.filter.printers import as_lance, as_sql
from retrieval.gallery.filter.tree import And, Expression
from retrieval.gallery.filter.truth import truth


@dataclass(frozen=True)
class Filter:
    """A selection of rows: read once from text, printed in the language of each store.

    >>> wide = Filter.parse("width >= 640 and not label in ('BMW M3', 'Zoë')")
    >>> print(wide)
    width >= 640 AND label NOT IN ('BMW M3', 'Zoë')
    >>> wide.accepts({"width": 800, "label": "Audi TT"})
    True
    """

    _tree: Expression

    def __post_init__(self) -> None:
        """Raise FilterError for text, which parse() reads."""
        if not isinstance(self._tree, Expression):
            raise FilterError(
                f"Filter({shorten(repr(self._tree), 200)}) is not how a filter is made. Use "
                "Filter.parse(), which reads text."
            )

    @classmethod
    def parse(cls, text: str) -> Filter:
        """Read a filter such as "label = 'BMW M3' AND width >= 640".

        Raises FilterError, which says where the text is wrong and which columns there are.
        """
        if not isinstance(text, str):
            raise FilterError(
                f"A filter is text, not {shorten(repr(text), 200)}. Write it like "
                "\"label = 'BMW M3' AND width >= 640\"."
            )
        return cls(parse(text))

    @classmethod
    def of(cls, where: str | Filter | None) -> Filter | None:
        """Return the filter that an argument gives, parsed. Raises FilterError, QueryError."""
        if isinstance(where, str):
            return cls.parse(where)
        if where is None or isinstance(where, Filter):
            return where
        raise QueryError(f"where is {shorten(repr(where), 200)}. Give text or a Filter.")

    def __and__(self, other: Filter) -> Filter:
        return (
            Filter(And((self._tree, other._tree))) if isinstance(other, Filter) else NotImplemented
        )

    def __str__(self) -> str:
        """Print SQL as a user writes it; parse() gives the same filter again."""
        return as_sql(self._tree)

    def to_lance(self) -> str:
        """Print SQL as Lance reads it."""
        return as_lance(self._tree)

    def to_milvus(self) -> str:
        """Print Milvus's boolean expression, over what `imgret publish` stores there.

        Raises FilterError for other columns, ILIKE, and a LIKE that looks not only at how text
        begins.
        """
        return as_milvus(self._tree)

    def accepts(self, row: Mapping[str, Any]) -> bool | None:
        """Tell whether a row passes by SQL's logic; None, which does not pass, if unknown.

        row: values by column, None or nothing for what has none; facts is a mapping of its own, or
        None.
        """
        return truth(self._tree, row)
