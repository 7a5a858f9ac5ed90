"""What somebody may have meant by a name that does not exist."""

from __future__ import annotations

from collections.abc import Iterable

MOST_COMPARED = 64  # characters of a wrong name


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that a wrong one resembles most, without regard to case, or None.

    >>> nearest("cars/bst", ["cars/best", "cars/cnn"]), nearest("r1", ["R1", "R2"])
    ('cars/best', 'R1')
    """
    from difflib import get_close_matches

    folded = {each.casefold(): each for each in known}
    found = get_close_matches(name[:MOST_COMPARED].casefold(), folded, n=1)
    return folded[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question with a space after it, or "" where no known name is near.

    >>> did_you_mean("whitn", ["whiten", "lda"])
    'Did you mean whiten? '
    """
    near = nearest(name, known)
    return f"Did you mean {near}? " if near else ""
