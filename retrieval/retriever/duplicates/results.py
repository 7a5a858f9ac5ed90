"""What a search for duplicates gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from retrieval.plain import Plain
from retrieval.retriever.duplicates.threshold import Threshold
from retrieval.retriever.results import is_missing
from retrieval.words import TIERS, Tier


@dataclass(frozen=True)
class DuplicateMember(Plain):
    """One image of a group.

    width, height: upright, pixels. size: bytes. score: cosine similarity of the embeddings of its
    picture and the representative's, 1 where the picture is the same; of a copy that was turned it
    may be low. tier: what it shares with the representative, None for the representative itself.
    gallery: which it is a row of.
    """

    path: Path
    width: int
    height: int
    size: int
    label: str | None
    score: float
    tier: Tier | None
    gallery: Path

    @property
    def missing(self) -> bool:
        """Whether there is no file at its path now; every access looks there."""
        return is_missing(self.path)


@dataclass(frozen=True)
class DuplicateGroup(Plain):
    """Images that are one image, more or less.

    members: the representative, which is the one to keep, and then the others, nearest first.
    tier: the most lenient one of the members.
    """

    tier: Tier
    members: tuple[DuplicateMember, ...]

    @property
    def representative(self) -> DuplicateMember:
        """The image to keep."""
        return self.members[0]

    @property
    def others(self) -> tuple[DuplicateMember, ...]:
        """The members but the representative."""
        return self.members[1:]


@dataclass(frozen=True)
class DuplicateReport(Plain):
    """Groups of near-identical images: strict tiers first, large groups first.

    images: files compared. tier: the most lenient that was looked for. threshold: None where
    similar images were not asked for. approximate: whether neighbours were sought through an index,
    as in large galleries: each pair is verified exactly, and some are missed. recall: which share
    it found of near-copies made of some embeddings; None where the search is exact. failures: path
    and reason of the files that were left out; for the tier "bytes" only of those whose content
    occurs twice.
    """

    gallery: Path
    against: Path | None
    images: int
    groups: tuple[DuplicateGroup, ...]
    tier: Tier = "similar"
    threshold: Threshold | None = None
    approximate: bool = False
    recall: float | None = None
    failures: tuple[tuple[str, str], ...] = ()

    @property
    def counts(self) -> dict[Tier, tuple[int, int]]:
        """For each tier that was looked for, the numbers of groups and of images not kept."""
        searched = TIERS[: TIERS.index(self.tier) + 1]
        found = {tier: [g for g in self.groups if g.tier == tier] for tier in searched}
        return {t: (len(gs), sum(len(g.others) for g in gs)) for t, gs in found.items()}
