"""Wait for thousands of jobs with one driver and a heap of due times, without a thread per job.

At most `MAX_CONCURRENT` polls and downloads run at one time, so that a hanging one delays no other.
"""

from __future__ import annotations

import heapq
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TypeAlias

from langchain_tokenhub.errors import TokenHubError
from langchain_tokenhub.jobs.models import Job, MediaResult
from langchain_tokenhub.jobs.runner import JobRunner
from langchain_tokenhub.jobs.service import Watch, attach_job

logger = logging.getLogger("langchain_tokenhub.jobs")

Outcome: TypeAlias = MediaResult | TokenHubError

MAX_CONCURRENT = 16
"""Polls and downloads that run at one time."""
MAX_NAMED = 50
"""Job ids in the note of an interruption."""


async def wait_for_all(
    jobs: Iterable[Job], runner_for: Callable[[Job], JobRunner]
) -> AsyncGenerator[Outcome, None]:
    """Yield the result or error of each job, in the order in which they end.

    Args:
        jobs: The jobs.
        runner_for: Returns the runner of a job; all runners share one runtime.
    """
    runners = ((runner_for(job), job) for job in jobs)
    driver = _Driver({Watch(runner.service, job, runner.wait): runner for runner, job in runners})
    try:
        while driver.left:
            for watch, outcome in await driver.steps():
                await driver.left[watch].reporter.report(watch.job)
                if outcome is None:
                    driver.put(watch)
                else:
                    driver.drop(watch)
                    yield outcome
    except GeneratorExit:
        raise
    except BaseException as interruption:  # also what a listener raises
        interruption.add_note(driver.note())
        logger.warning("interrupted; %s", driver.note())
        raise
    finally:
        driver.close()


async def _step(watch: Watch, runner: JobRunner) -> Outcome | None:
    """Poll a job; return its outcome if it ended or its wait is over."""
    try:
        with attach_job(watch.job):
            if not watch.job.ended:
                await watch.poll()
            return await runner.result(watch.job) if watch.job.ended else None
    except TokenHubError as error:
        return error


class _Driver:
    """Starts the steps that are due, and returns those that have ended."""

    def __init__(self, runners: dict[Watch, JobRunner]) -> None:
        self.left = runners
        self._heap: list[tuple[float, int, Watch]] = []
        self._running: dict[Future[Outcome | None], Watch] = {}
        self._ended: deque[Future[Outcome | None]] = deque()
        self._wakeup: Future[None] = Future()
        for watch in runners:
            self.put(watch)

    def put(self, watch: Watch) -> None:
        """Schedule the next step of a job."""
        heapq.heappush(self._heap, (watch.due, id(watch), watch))

    def drop(self, watch: Watch) -> None:
        """Remove a job that has ended."""
        watch.close()
        del self.left[watch]

    async def steps(self) -> list[tuple[Watch, Outcome | None]]:
        """Start the steps that are due, wait until one ends or is due, return those that ended."""
        runtime = next(iter(self.left.values())).service.transport.runtime
        while self._has_room and self._heap[0][0] <= runtime.now():
            watch = heapq.heappop(self._heap)[2]
            future = runtime.start(_step(watch, self.left[watch]))
            self._running[future] = watch
            future.add_done_callback(self._wake)
        seconds = max(0.0, self._heap[0][0] - runtime.now()) if self._has_room else None
        await runtime.wait(self._wakeup, seconds)
        self._wakeup = Future()  # before reading `_ended`: a step that ends later sets it
        ended = [self._ended.popleft() for _ in range(len(self._ended))]
        return [(self._running.pop(future), future.result()) for future in ended]

    @property
    def _has_room(self) -> bool:
        return bool(self._heap) and len(self._running) < MAX_CONCURRENT

    def _wake(self, future: Future[Outcome | None]) -> None:
        self._ended.append(future)
        with suppress(InvalidStateError):  # it is set already, or was cancelled by an interruption
            self._wakeup.set_result(None)

    def note(self) -> str:
        """Return the note of an interruption, with the jobs that continue."""
        ids = [f"{watch.job.model}/{watch.job.id}" for watch in self.left]
        more = f" and {len(ids) - MAX_NAMED} more" if len(ids) > MAX_NAMED else ""
        return (
            f"{len(ids)} jobs continue and are paid for: {', '.join(ids[:MAX_NAMED])}{more}; "
            "collect them with results(jobs)"
        )

    def close(self) -> None:
        """Cancel the running steps, and stop counting polls."""
        for future in self._running:
            future.cancel()
        for watch in self.left:
            watch.close()
