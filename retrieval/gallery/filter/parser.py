"""The text of a filter as a tree: SQL's conditions over the columns of an image's row.

    condition  either {OR either}        either  single {AND single}
    single     NOT single | ( condition ) | comparison
    comparison column [= != < <= > >= other | [NOT] IN (value, ...) | [NOT] BETWEEN value AND value
               | [NOT] LIKE text | [NOT] ILIKE text | IS [NOT] NULL]

Whatever the text is, the work is bounded: by its length, and by how deep and how wide it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from retrieval.gallery.filter.columns import KNOWN_COLUMNS, KnownColumn, column_like
from retrieval.gallery.filter.tokens import Token, empty_filter, in_brief, tokens
from retrieval.gallery.filter.tree import (
    OPPOSITE,
    SWAPPED,
    Absence,
    And,
    ColumnName,
    Constant,
    Expression,
    Interval,
    Likeness,
    Membership,
    Or,
    Order,
    Relation,
)
from retrieval.text import composed

MOST_DEPTH = 20  # parentheses and NOTs, one in another; Lance reads some more
MOST_CONDITIONS = 1_000
MOST_VALUES = 5_000  # of one list
MOST_OF_A_PATTERN = 1_000  # characters; Lance cannot read one of some thousands

_SIGNS = {"==": "=", "<>": "!=", **{sign: sign for sign in ("=", "!=", "<", "<=", ">", ">=")}}


def parse(text: str) -> Expression:
    """Parse a filter's text into its tree. Raises FilterError."""
    return _Parser(text).parsed()


class _Parser:
    """Reads tokens from left to right. Conditions below an odd number of NOTs are negated."""

    def __init__(self, text: str) -> None:
        self._tokens = tokens(text)
        self._next = next(self._tokens)
        self._depth = self._conditions = 0

    def parsed(self) -> Expression:
        if self._next.kind == "end":
            raise empty_filter()
        tree = self._condition(negated=False)
        rest = self._advanced()
        if rest.kind != "end":
            raise rest.wrong("AND, OR or the end is expected")
        return tree

    def _condition(self, *, negated: bool) -> Expression:
        return self._joined("OR", self._either, negated=negated)

    def _either(self, *, negated: bool) -> Expression:
        return self._joined("AND", self._single, negated=negated)

    def _joined(self, word: str, part: Callable[..., Expression], *, negated: bool) -> Expression:
        terms = [part(negated=negated)]
        while self._take_word(word):
            terms.append(part(negated=negated))
        if len(terms) == 1:
            return terms[0]
        return And(tuple(terms)) if (word == "AND") != negated else Or(tuple(terms))

    def _single(self, *, negated: bool) -> Expression:
        token = self._next
        inside = self._take_sign("(")
        if not inside and not self._take_word("NOT"):
            return self._comparison(negated=negated)
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise token.wrong(f"it is nested deeper than {MOST_DEPTH} parentheses and NOTs")
        if inside:
            tree = self._condition(negated=negated)
            self._expect_sign(")")
        else:
            tree = self._single(negated=not negated)
        self._depth -= 1
        return tree

    def _comparison(self, *, negated: bool) -> Expression:
        token = self._advanced()
        self._conditions += 1
        if self._conditions > MOST_CONDITIONS:
            raise token.wrong(f"it has more than {MOST_CONDITIONS:,} conditions")
        if token.kind in ("text", "number") or token.keyword in ("TRUE", "FALSE"):
            return self._turned_round(token, negated=negated)
        column = self._column(token)
        said = self._next
        if order := self._take_order():
            return self._relation(column, order, said, negated=negated)
        inverted = self._take_word("NOT")
        method = {"IN": self._membership, "BETWEEN": self._interval, "LIKE": self._likeness,
                  "ILIKE": self._likeness}.get(self._next.keyword)  # fmt: skip
        if method:
            return method(column, self._advanced(), negated=negated != inverted)
        if not inverted and self._take_word("IS"):
            return self._absence(column, negated=negated)
        if not inverted and column.holds == "true or false":
            return Relation(column.name, "=", not negated)
        raise self._next.wrong("=, !=, <, <=, >, >=, IN, BETWEEN, LIKE or IS NULL is expected")

    def _turned_round(self, token: Token, *, negated: bool) -> Expression:
        """Parse a comparison that begins with its value, the other way round."""
        said = self._next
        order = self._take_order()
        if order is None:
            raise self._next.wrong("a comparison of a column is expected")
        other = self._advanced()
        if token.said[0] == '"' and token.value.lower() in KNOWN_COLUMNS:
            raise token.wrong(f"double quotes make text; write {token.value} without quotes")
        if other.kind != "word" or other.keyword:
            raise other.wrong("a column is expected on one side of a comparison")
        column = self._column(other)
        _check_order(column, said)
        order = SWAPPED[order]
        return Relation(column.name, OPPOSITE[order] if negated else order, _value(token, column))

    def _relation(
        self, column: KnownColumn, order: Order, said: Token, *, negated: bool
    ) -> Expression:
        token = self._advanced()
        other: Constant | ColumnName
        if self._is_column(token, column):
            named = self._column(token)
            if named.holds != column.holds:
                raise token.wrong(
                    f"{column.name} holds {column.holds}, but {named.name} holds {named.holds}, so "
                    "they do not compare"
                )
            other = ColumnName(named.name)
        else:
            other = _value(token, column)
        if order not in ("=", "!="):
            _check_order(column, said)
        return Relation(column.name, OPPOSITE[order] if negated else order, other)

    def _is_column(self, token: Token, beside: KnownColumn) -> bool:
        """Tell whether a word names a column; text without quotes does not."""
        known = token.said.replace("`", "").lower() in KNOWN_COLUMNS or self._next.said == "("
        return token.kind == "word" and not token.keyword and (known or beside.holds != "text")

    def _membership(self, column: KnownColumn, _: Token, *, negated: bool) -> Expression:
        self._expect_sign("(")
        values = [self._constant(column)]
        while self._take_sign(","):
            if len(values) == MOST_VALUES:
                raise self._next.wrong(f"the list has more than {MOST_VALUES:,} values")
            values.append(self._constant(column))
        self._expect_sign(")")
        return Membership(column.name, tuple(values), negated)

    def _interval(self, column: KnownColumn, said: Token, *, negated: bool) -> Expression:
        _check_order(column, said)
        low = self._constant(column)
        if not self._take_word("AND"):
            raise self._next.wrong("AND is expected, as in width BETWEEN 640 AND 1024")
        return Interval(column.name, low, self._constant(column), negated)

    def _likeness(self, column: KnownColumn, said: Token, *, negated: bool) -> Expression:
        if column.holds != "text":
            raise said.wrong(
                f"{said.keyword} works on text, but {column.name} holds {column.holds}"
            )
        token = self._next
        pattern = cast(str, self._constant(column))
        if len(pattern) > MOST_OF_A_PATTERN:
            raise token.wrong(f"a pattern has at most {MOST_OF_A_PATTERN:,} characters")
        return Likeness(column.name, pattern, negated, said.keyword == "ILIKE")

    def _absence(self, column: KnownColumn, *, negated: bool) -> Expression:
        inverted = self._take_word("NOT")
        if not self._take_word("NULL"):
            raise self._next.wrong("NULL or NOT NULL is expected after IS")
        return Absence(column.name, negated != inverted)

    def _constant(self, column: KnownColumn) -> Constant:
        return _value(self._advanced(), column)

    def _column(self, token: Token) -> KnownColumn:
        if token.kind != "word" or token.keyword:
            raise token.wrong("a column is expected")
        if self._next.said == "(":
            raise token.wrong("a filter has no functions; ILIKE compares without regard to case")
        name = token.said.replace("`", "")
        known = KNOWN_COLUMNS.get(name.lower())
        if known is None:
            if token.said.upper() == "WHERE":
                raise token.wrong("leave out WHERE")
            near = column_like(name)
            meant = f"; did you mean {near}?" if near else ""
            raise token.wrong(f"there is no column {in_brief(name)}{meant}")
        return known

    def _take_order(self) -> Order | None:
        order = _SIGNS.get(self._next.said) if self._next.kind == "sign" else None
        if order:
            self._advanced()
        return cast(Order | None, order)

    def _take_word(self, keyword: str) -> bool:
        taken = self._next.keyword == keyword
        if taken:
            self._advanced()
        return taken

    def _take_sign(self, sign: str) -> bool:
        taken = self._next.kind == "sign" and self._next.said == sign
        if taken:
            self._advanced()
        return taken

    def _expect_sign(self, sign: str) -> None:
        if not self._take_sign(sign):
            raise self._next.wrong(f"{sign} is expected")

    def _advanced(self) -> Token:
        token = self._next
        if token.kind != "end":
            self._next = next(self._tokens)
        return token


def _value(token: Token, column: KnownColumn) -> Constant:
    """Return the value of a token beside a column. Raises FilterError where it does not fit."""
    if token.keyword == "NULL":
        raise token.wrong(f"nothing equals NULL; write {column.name} IS NULL")
    if column.holds == "text" and token.kind == "text":
        return composed(token.value) if column.name == "label" else token.value
    if column.holds == "true or false" and token.keyword in ("TRUE", "FALSE"):
        return token.keyword == "TRUE"
    if column.holds == "whole numbers" and token.kind == "number":
        return _whole_number(token, column)
    if token.kind == "end" or (token.kind == "sign") or token.keyword not in ("", "TRUE", "FALSE"):
        raise token.wrong("a value is expected")
    if token.kind == "word" and not token.keyword:
        raise token.wrong("a value is expected; text needs single quotes")
    raise token.wrong(_unlike(column))


def _whole_number(token: Token, column: KnownColumn) -> int:
    digits = token.said.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise token.wrong(_unlike(column))
    most = 2 ** (column.bits - 1)
    number = int(token.said) if len(digits) < 30 else most
    if not -most < number < most:
        raise token.wrong(f"{column.name} holds whole numbers below {most:,}")
    return number


def _unlike(column: KnownColumn) -> str:
    """Say what a value beside a column has to be."""
    numbers = f", such as {column.like}"
    like = {"text": " in single quotes", "whole numbers": numbers}.get(column.holds, "")
    return f"{column.name} holds {column.holds}{like}"


def _check_order(column: KnownColumn, said: Token) -> None:
    """Raise FilterError for an order between true and false."""
    if column.holds == "true or false" and said.said not in ("=", "==", "!=", "<>"):
        raise said.wrong(f"{column.name} holds true or false, which have no order")
