"""Thousands of jobs at once: one driver, a heap of due times, no thread a job.

The driver takes from the heap what is due and begins it; at most 16 polls and downloads are in
hand, so one that hangs holds up none of the others.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeAlias

from langchain_tokenhub.errors import TokenHubError
from langchain_tokenhub.jobs.errand import Errand
from langchain_tokenhub.jobs.job import Job, MediaResult
from langchain_tokenhub.jobs.lifecycle import Watch, about, timed_out

Outcome: TypeAlias = MediaResult | TokenHubError

AT_ONCE = 16
"""Polls and downloads in hand at one moment."""
MOST_NAMED = 50
"""Jobs that an interruption names."""


async def outcomes(
    jobs: Iterable[Job], errand_of: Callable[[Job], Errand]
) -> AsyncGenerator[Outcome, None]:
    """Yield the result or error of each job, in the order in which they end.

    Args:
        jobs: Which.
        errand_of: Makes the errand of a job: its model and reporter. They share one wire.
    """
    driver = _Driver([_Ward(errand_of(job), job) for job in jobs])
    try:
        while driver.busy:
            for ward, outcome in await driver.steps():
                await ward.errand.reporter.tell(ward.watch.job)
                if outcome is None:
                    driver.put(ward)
                else:
                    ward.watch.close()
                    yield outcome
    except (asyncio.CancelledError, KeyboardInterrupt, SystemExit) as interruption:
        interruption.add_note(driver.left())
        raise
    finally:
        driver.close()


class _Ward:
    """A job in somebody's care."""

    def __init__(self, errand: Errand, job: Job) -> None:
        self.errand = errand
        self.watch = Watch(errand.service, job)
        self.deadline = errand.service.transport.wire.now() + errand.wait

    @property
    def due(self) -> float:
        """When it is to be looked at: for the last time when its time is up."""
        return min(self.watch.due, self.deadline)

    async def step(self) -> Outcome | None:
        """Look at the job, and finish it if it ended or its time is up."""
        last = self.errand.service.transport.wire.now() >= self.deadline
        try:
            with about(self.watch.job):
                if not self.watch.job.ended:
                    await self.watch.look(self.deadline)
                if self.watch.job.ended:
                    return await self.errand.result(self.watch.job)
                return timed_out(self.watch.job, self.errand.wait) if last else None
        except TokenHubError as error:
            return error


class _Driver:
    """Begins what is due, and hands over what has ended."""

    def __init__(self, wards: list[_Ward]) -> None:
        self._heap: list[tuple[float, int, _Ward]] = []
        self._wards = wards
        self._count = 0
        self._running: dict[Future[Outcome | None], _Ward] = {}
        self._ended: SimpleQueue[Future[Outcome | None]] = SimpleQueue()
        self._bell: Future[None] = Future()
        self._lock = threading.Lock()
        for ward in wards:
            self.put(ward)

    @property
    def busy(self) -> bool:
        """Whether any job is left."""
        return bool(self._heap or self._running)

    def put(self, ward: _Ward) -> None:
        """Look at `ward` when it is due."""
        self._count += 1
        heapq.heappush(self._heap, (ward.due, self._count, ward))

    async def steps(self) -> list[tuple[_Ward, Outcome | None]]:
        """Begin what is due; wait until something ended or is due; return what ended."""
        wire = self._wards[0].errand.service.transport.wire
        while self._room and self._heap[0][0] <= wire.now():
            ward = heapq.heappop(self._heap)[2]
            future = wire.start(ward.step())
            self._running[future] = ward
            future.add_done_callback(self._ring)
        patience = max(0.0, self._heap[0][0] - wire.now()) if self._room else None
        await wire.wait(self._bell, patience)
        return self._handed_over()

    @property
    def _room(self) -> bool:
        return bool(self._heap) and len(self._running) < AT_ONCE

    def _ring(self, future: Future[Outcome | None]) -> None:
        self._ended.put(future)
        with self._lock, suppress(InvalidStateError):  # whoever was interrupted took the bell away
            if not self._bell.done():
                self._bell.set_result(None)

    def _handed_over(self) -> list[tuple[_Ward, Outcome | None]]:
        self._bell = Future()
        found = []
        try:
            while True:
                future = self._ended.get_nowait()
                found.append((self._running.pop(future), future.result()))
        except Empty:
            return found

    def left(self) -> str:
        """Return the sentence that keeps jobs from being lost."""
        wards = [*self._running.values(), *(ward for _, _, ward in self._heap)]
        ids = [f"{ward.watch.job.model}/{ward.watch.job.id}" for ward in wards]
        more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
        return (
            f"{len(ids)} jobs go on and are paid for: {', '.join(ids[:MOST_NAMED])}{more}; "
            "collect them with results(jobs)"
        )

    def close(self) -> None:
        """Stop what is running, and what is counted."""
        for future in self._running:
            future.cancel()
        for ward in self._wards:
            ward.watch.close()
