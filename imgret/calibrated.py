"""A calibration in lines, for the commands that make one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrieval.text import counted

if TYPE_CHECKING:
    from retrieval.evaluation import Calibration

ANSWERS = {"class": "an image of the query's class", "picture": "an image of the same thing"}


def calibration_facts(c: Calibration) -> list[tuple[str, str]]:
    """Tell what an answer is, what was learnt from, and how well that holds on other queries."""
    known = counted(c.known, "query", "queries")
    return [
        ("answer", ANSWERS[c.kind]),
        ("learnt from", f"{known} with an answer, {c.unknown:,} without one"),
        ("prior", f"{100 * c.prior_known:g} % of queries have an answer"),
        ("error", f"{c.error:.3f} (expected calibration error of the best match, held out)"),
        ("Brier score", f"{c.brier:.3f}"),
        ("area", f"{c.area:.3f} under the ROC of having an answer (score alone "
                 f"{c.area_of_score:.3f})"),
    ]  # fmt: skip
