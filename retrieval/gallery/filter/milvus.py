"""A filter's tree as Milvus's boolean expression, over the fields that imgret publishes there.

What 2.3 reads is enough: nothing is null there, so has_label says whether label has a value, and a
text that begins with another is one between two texts. There is no "not" in a tree, so each
condition is printed as one that is true exactly where SQL's is, and false elsewhere.
"""

from __future__ import annotations

from retrieval.errors import FilterError
from retrieval.gallery.filter.tree import (
    Absence,
    And,
    ColumnName,
    Constant,
    Expression,
    Interval,
    Likeness,
    Membership,
    Or,
    Relation,
)
from retrieval.gallery.filter.truth import pieces_of

MILVUS_FIELDS = ("id", "path", "label", "sha256", "size", "mtime_ns", "width", "height")
HAS_LABEL = "has_label"
_ALWAYS, _NEVER = "id >= 0", "id < 0"  # no id is negative
LAST = "\U0010ffff"  # of all characters
SURROGATES = ("\ud800", "\ue000")  # what lies between is no character


def as_milvus(tree: Expression) -> str:
    """Print Milvus's boolean expression. Raises FilterError for what only Lance can tell."""
    match tree:
        case And(terms) | Or(terms):
            word = " and " if isinstance(tree, And) else " or "
            return word.join(f"({as_milvus(term)})" for term in terms)
        case Absence(column, negated):
            _check_field(column)
            if column == "label":
                return f"{HAS_LABEL} == {'true' if negated else 'false'}"
            return _ALWAYS if negated else _NEVER
        case Relation(column, _, other):
            named = [column, *([other.name] if isinstance(other, ColumnName) else [])]
            return _of_those_known(named, _relation(tree))
        case Membership(column, values, negated):
            listed = ", ".join(map(_value, values))
            return _of_those_known([column], f"{column} {_not(negated)}in [{listed}]")
        case Interval(column, low, high, negated):
            least, most = _value(low), _value(high)
            if negated:
                return _of_those_known([column], f"({column} < {least} or {column} > {most})")
            return _of_those_known([column], f"{column} >= {least} and {column} <= {most}")
        case Likeness(column):
            return _of_those_known([column], _likeness(tree))


def _of_those_known(columns: list[str], condition: str) -> str:
    """Return a condition that is false where a column that it names has no value."""
    for column in columns:
        _check_field(column)
    return f"{HAS_LABEL} == true and {condition}" if "label" in columns else condition


def _check_field(column: str) -> None:
    if column not in MILVUS_FIELDS:
        raise FilterError(
            f"Milvus does not hold the column {column}. Use {', '.join(MILVUS_FIELDS)}, or search "
            "the gallery itself."
        )


def _relation(tree: Relation) -> str:
    order = "==" if tree.order == "=" else tree.order
    other = tree.other.name if isinstance(tree.other, ColumnName) else _value(tree.other)
    return f"{tree.column} {order} {other}"


def _likeness(tree: Likeness) -> str:
    if tree.folded:
        raise FilterError(
            "Milvus has no ILIKE. Use LIKE, which heeds case, or search the gallery itself."
        )
    pieces = pieces_of(tree.pattern)
    wild = [n for n, piece in enumerate(pieces) if piece in ("%", "_")]
    start = "".join(piece[-1] for piece in pieces[: wild[0] if wild else None])
    if not wild:
        return f"{tree.column} {'!=' if tree.negated else '=='} {_value(start)}"
    if any(piece != "%" for piece in pieces[wild[0] :]):
        raise FilterError(
            f"Milvus finds text only by how it begins, not by the pattern {tree.pattern!r}. Use "
            "one such as 'cars/%', or search the gallery itself."
        )
    return _beginning(tree.column, start, negated=tree.negated)


def _beginning(column: str, start: str, *, negated: bool) -> str:
    """Print whether text begins with another: whether it lies between that and what comes next."""
    if not start:
        return _NEVER if negated else _ALWAYS
    first, following = _value(start), _following(start)
    if following is None:
        return f"{column} {'<' if negated else '>='} {first}"
    if negated:
        return f"({column} < {first} or {column} >= {_value(following)})"
    return f"{column} >= {first} and {column} < {_value(following)}"


def _following(start: str) -> str | None:
    """Return the least text that comes after all that begin so, in the order of UTF-8's bytes."""
    kept = start.rstrip(LAST)
    if not kept:
        return None
    character = chr(ord(kept[-1]) + 1)
    return kept[:-1] + (SURROGATES[1] if character == SURROGATES[0] else character)


def _not(negated: bool) -> str:  # noqa: FBT001  private
    return "not " if negated else ""


def _value(value: Constant) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else _quoted(value)


def _quoted(text: str) -> str:
    """Quote text as Go does, without a backslash of its own: later versions of Milvus read \\u0041
    anew before they look where text ends.
    """
    return '"' + "".join(map(_spelled, text)) + '"'


def _spelled(character: str) -> str:
    plain = character.isascii() and character.isprintable() and character not in '"\\'
    return character if plain or character > "\x7f" else f"\\x{ord(character):02x}"
