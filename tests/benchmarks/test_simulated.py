"""The simulated run: what can be worked out by hand, and that nothing is lost."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulated import PART, CommitCosts, Fleet, SimulatedRun

FREE = CommitCosts(0.0, 0.0, 0.0)


def test_without_failures_it_takes_what_the_nodes_take() -> None:
    fleet = Fleet("steady", images=1000 * PART, nodes=10, rate=1000.0)
    out = SimulatedRun(fleet, FREE).run()
    assert out.seconds == pytest.approx(1000 * PART / 10_000, rel=0.05)  # parts differ by a tenth
    assert (out.lost, out.nodes_lost, out.drivers_lost, out.fragments) == (0, 0, 0, 1000)


def test_commits_that_take_longer_than_the_parts_hold_the_run_up() -> None:
    fleet = Fleet("slow driver", images=160 * PART, nodes=100, rate=1000.0)
    out = SimulatedRun(fleet, CommitCosts(1000.0, 0.0, 0.0)).run()
    assert out.committing == 10 * 1000
    assert out.seconds >= out.committing


@settings(max_examples=25)
@given(st.integers(0, 100), st.sampled_from([0.2, 2.0, math.inf]), st.sampled_from([0.5, math.inf]))
def test_every_part_is_committed_once_whatever_dies(
    seed: int, node_life: float, driver_life: float
) -> None:
    fleet = Fleet(
        "failing", images=300 * PART - 7, nodes=8, rate=2000.0, node_life=node_life,
        driver_life=driver_life, poisoned=1e-7,
    )  # fmt: skip
    out = SimulatedRun(fleet, FREE, seed).run()
    assert out.done == set(range(300))
    assert out.fragments == 300
    again = SimulatedRun(fleet, FREE, seed).run()
    assert (again.seconds, again.lost) == (out.seconds, out.lost)
