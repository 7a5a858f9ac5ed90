"""Work that waits is done together, in threads that the event loop does not wait for."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from imgret.server.traffic import Traffic

Piece = TypeVar("Piece")
Given = TypeVar("Given")


class Batcher(Generic[Piece, Given]):
    """One thread that does all that waits, up to `most` pieces at a time.

    run: gives a result or an exception for each piece, in order. Nothing waits for a batch to fill:
    what comes while one is done makes the next one.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[Piece]], Sequence[Given | Exception]],
        most: Callable[[Piece], int],
        traffic: Traffic,
    ) -> None:
        self._run = run
        self._most = most
        self._name = name
        self._waiting: deque[tuple[Piece, asyncio.Future[Given]]] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._sizes = traffic.batches.labels(name)
        traffic.queue.labels(name).set_function(lambda: len(self._waiting))
        self._thread = threading.Thread(target=self._work, daemon=True, name=f"imgret-{name}")
        self._thread.start()

    async def submit(self, piece: Piece) -> Given:
        """Have a piece done. Raises what it raises."""
        future: asyncio.Future[Given] = asyncio.get_running_loop().create_future()
        with self._changed:
            self._waiting.append((piece, future))
            self._changed.notify()
        return await future

    def end(self) -> None:
        """Let the thread end after what it does now."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _work(self) -> None:
        while batch := self._next():
            self._sizes.observe(len(batch))
            try:
                results = self._run([piece for piece, _ in batch])
            except BaseException as error:  # noqa: BLE001  a panic in Rust is no Exception
                kept = error if isinstance(error, Exception) else RuntimeError(str(error))
                results = [kept] * len(batch)
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop = batch[0][1].get_loop()
                loop.call_soon_threadsafe(_settle, [future for _, future in batch], results)

    def _next(self) -> list[tuple[Piece, asyncio.Future[Given]]]:
        """Wait for work; what nobody waits for any more is left out. Gives nothing at the end."""
        with self._changed:
            while True:
                batch: list[tuple[Piece, asyncio.Future[Given]]] = []
                while self._waiting and (not batch or len(batch) < self._most(self._waiting[0][0])):
                    piece, future = self._waiting.popleft()
                    if not future.cancelled():
                        batch.append((piece, future))
                if batch or self._ended:
                    return batch
                self._changed.wait()


def _settle(futures: Sequence[asyncio.Future[Given]], results: Sequence[Given | Exception]) -> None:
    for future, result in zip(futures, results, strict=True):
        if future.done():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)


class Lanes:
    """Threads for decoding: one for what costs much, so that it keeps nobody else waiting."""

    def __init__(self, workers: int, traffic: Traffic) -> None:
        self._fast = ThreadPoolExecutor(workers, "imgret-decoder")
        self._slow = ThreadPoolExecutor(1, "imgret-costly")
        self._waiting = {name: traffic.queue.labels(name) for name in ("decode", "decode costly")}

    async def decode(self, is_costly: Callable[[], bool], work: Callable[[], Given]) -> Given:
        """Do some work, in the lane that it belongs in. Raises what either raises."""
        loop = asyncio.get_running_loop()
        cheap, costly = self._waiting.values()
        with cheap.track_inprogress():
            done = await loop.run_in_executor(self._fast, _unless, is_costly, work)
        if done is not None:
            return done[0]
        with costly.track_inprogress():
            return await loop.run_in_executor(self._slow, work)

    def end(self) -> None:
        """Let the threads end."""
        for lane in (self._fast, self._slow):
            lane.shutdown(wait=False, cancel_futures=True)


def _unless(is_costly: Callable[[], bool], work: Callable[[], Given]) -> tuple[Given] | None:
    return None if is_costly() else (work(),)
