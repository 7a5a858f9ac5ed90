"""What a comparison gives: one result an experiment, and paired tests between them."""

from __future__ import annotations

from dataclasses import dataclass

from retrieval.evaluation import Evaluation, RankedQuery
from retrieval.plain import Plain


@dataclass(frozen=True)
class ExperimentResult(Plain):
    """What one experiment gave.

    name: unique in the comparison, such as "R1". settings: name and value of each setting, for a
    person. milliseconds: to decode and encode one image, None where it was not measured. dim: width
    of an embedding. reference: the precision@k to beat, None where there is none. is_random: made
    with random weights, so its figures show shape and cost only. sheet: the same few queries in
    each experiment.
    """

    name: str
    settings: tuple[tuple[str, str], ...]
    evaluation: Evaluation
    milliseconds: float | None
    dim: int
    reference: float | None = None
    is_random: bool = False
    sheet: tuple[RankedQuery, ...] = ()


@dataclass(frozen=True)
class PairedTest(Plain):
    """Whether two experiments differ on the same queries.

    difference: mean of precision@k of the first less the second, with its 95 % interval low to
    high. p: of a paired permutation test, corrected for the number of pairs (Holm).
    """

    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Comparison(Plain):
    """Experiments over the same gallery and queries."""

    gallery: str
    queries: str
    experiments: tuple[ExperimentResult, ...]
    tests: tuple[PairedTest, ...]
