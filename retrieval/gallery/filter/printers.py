"""A filter's tree as SQL: as Lance reads it, and as a user writes it."""

from __future__ import annotations

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


def as_lance(tree: Expression) -> str:
    """Print the condition for Lance: as_sql(), where NOT IN says of NULL what it means.

    DataFusion makes `x NOT IN (1) OR x NOT IN (2)` true of NULL (seen with pylance 14.0.2).
    """
    return as_sql(tree, told_of_null=True)


def as_sql(tree: Expression, *, told_of_null: bool = False) -> str:
    """Print SQL's condition as a user writes it. told_of_null: see as_lance()."""
    match tree:
        case And(terms) | Or(terms):
            word = " AND " if isinstance(tree, And) else " OR "
            printed = [as_sql(term, told_of_null=told_of_null) for term in terms]
            return word.join(map(_within, terms, printed))
        case Membership(column, values, True) if told_of_null:
            listed = ", ".join(map(_in_sql, values))
            return f"({column} NOT IN ({listed}) AND {column} IS NOT NULL)"
        case Relation(column, order, other):
            return f"{column} {order} {_in_sql(other)}"
        case Membership(column, values, negated):
            return f"{column} {_not(negated)}IN ({', '.join(map(_in_sql, values))})"
        case Interval(column, low, high, negated):
            return f"{column} {_not(negated)}BETWEEN {_in_sql(low)} AND {_in_sql(high)}"
        case Likeness(column, pattern, negated, folded):
            return f"{column} {_not(negated)}{'ILIKE' if folded else 'LIKE'} {_in_sql(pattern)}"
        case Absence(column, negated):
            return f"{column} IS {_not(negated)}NULL"


def _within(term: Expression, text: str) -> str:
    return f"({text})" if isinstance(term, And | Or) else text


def _not(negated: bool) -> str:  # noqa: FBT001  private
    return "NOT " if negated else ""


def _in_sql(value: Constant | ColumnName) -> str:
    if isinstance(value, ColumnName):
        return value.name
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"
