"""Duplicates: each group beside the image to keep, as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from retrieval.report.cards import ROLE_WORDS, card
from retrieval.report.pages import render_page, thumbnails, write_page
from retrieval.retriever import DuplicateGroup, DuplicateMember, DuplicateReport
from retrieval.words import TIERS

GROUPS, MEMBERS = 200, 24  # drawn; the rest is counted
TIER_WORDS = {
    "bytes": "same bytes",
    "picture": "same picture",
    "copy": "copy",
    "similar": "similar",
}


def duplicate_sheet(
    report: DuplicateReport, title: str = "Duplicates", beside: Path | None = None
) -> str:
    """Make an HTML page of the groups: the image to keep, the others with tier and score.

    Thumbnails are embedded, so the page needs no other file. At most GROUPS groups and MEMBERS
    images of each are drawn; the page says how many are not. beside: the folder of the page.
    """
    groups = _drawn(report.groups)
    shown = [member.path for group in groups for member in group.members[: MEMBERS + 1]]
    made = thumbnails(shown)
    return render_page(
        "duplicates.html.jinja",
        title=title,
        report=report,
        words=TIER_WORDS,
        groups=[_group(group, report, made, beside) for group in groups],
    )


def write_duplicate_sheet(file: Path, report: DuplicateReport, title: str = "Duplicates") -> None:
    """Write duplicate_sheet() to a file, atomically. Raises WriteError when that fails."""
    write_page(file, duplicate_sheet(report, title, file.parent))


def _drawn(groups: Sequence[DuplicateGroup]) -> list[DuplicateGroup]:
    """At most GROUPS groups, an even share of each tier that has so many, in their order."""
    tiers = [[group for group in groups if group.tier == tier] for tier in TIER_WORDS]
    left, shares = GROUPS, {}
    for place, tier in enumerate(sorted(tiers, key=len)):
        shares[id(tier)] = min(len(tier), left // (len(tiers) - place))
        left -= shares[id(tier)]
    return [group for tier in tiers for group in tier[: shares[id(tier)]]]


def _group(
    group: DuplicateGroup,
    report: DuplicateReport,
    made: dict[Path, str | None],
    beside: Path | None,
) -> dict[str, object]:
    drawn = [
        _member(member, report, made[member.path], beside)
        for member in group.members[: MEMBERS + 1]
    ]
    drawn[0]["card"] = replace(drawn[0]["card"], role="keep", said=ROLE_WORDS["keep"])
    return {
        "tier": group.tier,
        "order": TIERS.index(group.tier),
        "keep": drawn[0],
        "others": drawn[1:],
        "undrawn": max(0, len(group.others) - MEMBERS),
    }


def _member(
    member: DuplicateMember, report: DuplicateReport, picture: str | None, beside: Path | None
) -> dict[str, Any]:
    facts = [
        f"{member.score:.3f}" if member.tier in ("copy", "similar") else "",
        f"{member.width} × {member.height}",
        f"{member.size / 1000:,.1f} kB",
        f"in {member.gallery.name}" if report.against else "",
        member.label or "",
    ]
    said = TIER_WORDS[member.tier] if member.tier else ""
    return {
        "card": card(member.path, picture, beside=beside, said=said, facts=facts),
        "tier": member.tier,
    }
