"""Work that takes too long is left behind; nobody waits for it."""

from __future__ import annotations

import threading
import time

import pytest

from retrieval.threads import Background, in_time, map_ahead

LONG = 60.0  # seconds of CPU; no test waits for them


class Work:
    """Spends CPU time, until it is released; ended: what came to its end."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.ended: list[float] = []

    def __call__(self, seconds: float) -> float:
        until = time.thread_time() + seconds
        while time.thread_time() < until and not self.released.is_set():
            pass
        self.ended.append(seconds)
        return seconds


def late(_: float) -> float:
    return -1.0


def test_results_come_in_the_order_of_the_items() -> None:
    waits = [0.05, 0.0, 0.03, 0.0]
    assert list(map_ahead(lambda s: time.sleep(s) or s, waits, late=late, workers=4)) == waits


def test_what_takes_too_long_is_replaced_and_the_rest_goes_on() -> None:
    work = Work()
    found = list(map_ahead(work, [0.0, LONG, 0.0, 0.0], late=late, workers=1, cpu_seconds=0.2))
    assert found == [0.0, -1.0, 0.0, 0.0]
    assert LONG not in work.ended
    work.released.set()


def test_time_that_is_spent_waiting_does_not_count() -> None:
    assert list(map_ahead(lambda s: time.sleep(s) or s, [0.4], late=late, workers=1,
                          cpu_seconds=0.1)) == [0.4]  # fmt: skip


def test_an_error_is_raised_where_its_result_is_asked_for() -> None:
    def fail(n: int) -> int:
        if n == 1:
            raise ValueError("one")
        return n

    stream = map_ahead(fail, [0, 1, 2], late=lambda n: n, workers=2)
    assert next(stream) == 0
    with pytest.raises(ValueError, match="one"):
        next(stream)


def test_closing_does_not_wait_for_what_is_slow() -> None:
    work = Work()
    stream = map_ahead(work, [0.0, LONG, LONG, LONG], late=late, workers=2)
    next(stream)
    stream.close()
    assert LONG not in work.ended
    work.released.set()


def test_work_that_nobody_waits_for_any_more_is_not_begun() -> None:
    begun: list[int] = []

    def work(n: int) -> int:
        begun.append(n)
        time.sleep(0.05)
        return n

    stream = map_ahead(work, range(50), late=lambda n: n, workers=1, ahead=40)
    next(stream)
    stream.close()
    time.sleep(0.2)
    assert len(begun) < 10


def test_one_call_has_the_same_limit() -> None:
    assert in_time(lambda: 7) == 7
    with pytest.raises(TimeoutError):
        in_time(lambda: Work()(5.0), cpu_seconds=0.2)
    with pytest.raises(ZeroDivisionError):
        in_time(lambda: 1 // 0)


def test_background_calls_run_one_after_the_other_in_one_thread() -> None:
    background = Background("test-background")
    names = {background.call(lambda: threading.current_thread().name) for _ in range(3)}
    assert names == {"test-background-0"}
    background.end()
