"""Threads that are begun for a share of the cores run on all of them afterwards."""

from __future__ import annotations

import os
import threading

import pytest

from retrieval.cluster.cores import counting_only
from retrieval.cluster.processes import shares_of_cores
from retrieval.threads import default_workers

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system has no affinity"
)


def test_a_process_counts_its_share_and_its_threads_use_all_afterwards() -> None:
    every, told, ended = os.sched_getaffinity(0), [], threading.Event()
    first = min(every)
    with counting_only([first]):
        assert default_workers() == 1
        thread = threading.Thread(target=lambda: told.append(ended.wait()))
        thread.start()
        assert os.sched_getaffinity(thread.native_id or 0) == {first}
    assert os.sched_getaffinity(0) == os.sched_getaffinity(thread.native_id or 0) == every
    ended.set()
    thread.join()
    with counting_only([]):
        assert os.sched_getaffinity(0) == every


def test_the_cores_are_divided_among_workers() -> None:
    cores = sorted(os.sched_getaffinity(0))
    for n in range(1, 2 * len(cores) + 1):
        shares = shares_of_cores(n)
        assert len(shares) == n
        assert {core for share in shares for core in share} == set(cores)
        if n <= len(cores):
            assert sorted(core for share in shares for core in share) == cores
