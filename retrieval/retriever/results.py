"""What a search gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from retrieval.arguments import number, prior_of
from retrieval.gallery import Filter
from retrieval.images.shards import holds_member
from retrieval.plain import Plain


class Filters(TypedDict, total=False):
    """Which of the nearest images are matches.

    where: a Filter or its text, such as "label = 'BMW M3'". min_score: least cosine similarity.
    min_confidence: least probability of a match to be right, which a gallery knows once it was
    calibrated. prior_known: share of queries that have an answer in the gallery, by default what it
    was calibrated for. distinct: fold copies of one picture into one match.
    """

    where: str | Filter | None
    min_score: float | None
    min_confidence: float | None
    prior_known: float | None
    distinct: bool


def check_names(method: str, filters: Filters) -> None:
    """Raise TypeError for a filter of another name, as Python does."""
    known = Filters.__annotations__
    if unknown := next((name for name in filters if name not in known), None):
        raise TypeError(
            f"Retriever.{method}() has no argument {unknown!r}; its filters are {', '.join(known)}."
        )


def checked_filters(filters: Filters) -> dict[str, Any]:
    """Check filters and parse `where`. Raises FilterError, and ArgumentError for a wrong score."""
    if filters.get("min_score") is not None:
        number("min_score", filters["min_score"])
    if filters.get("min_confidence") is not None:
        number("min_confidence", filters["min_confidence"], least=0, most=1)
    if (prior := filters.get("prior_known")) is not None:
        prior_of(prior)
    return {**filters, "where": Filter.of(filters.get("where"))}


@dataclass(frozen=True)
class Match(Plain):
    """One result: the path of the image, its cosine similarity to the query, label and row.

    probability: that it is right, where the gallery is calibrated, else None: that it has the
    query's class or, learnt without labels, shows the same thing (GalleryInfo.confidence).
    copies: how many files of this picture it stands for, where copies were to be folded.
    outside: whether the gallery is a stranger's and the file outside of its folder, so that nothing
    is to be read from it.
    """

    path: Path
    score: float
    label: str | None
    id: int
    probability: float | None = None
    copies: int = 1
    outside: bool = False

    @property
    def missing(self) -> bool:
        """Whether there is no file at its path now; every access looks there."""
        return is_missing(self.path)


def is_missing(path: Path) -> bool:
    """Tell whether there is no file at a path, or none that may be looked at."""
    try:
        return not (path.exists() or holds_member(path))
    except (OSError, ValueError):
        return True


@dataclass(frozen=True)
class QueryResult(Plain):
    """The matches of one query file, or why it could not be read."""

    query: Path
    matches: tuple[Match, ...] = ()
    error: str | None = None
