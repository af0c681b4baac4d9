"""Thousands of jobs at once: one driver, a heap of due times, no thread a job."""

from __future__ import annotations

import heapq
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import TypeAlias

from langchain_tokenhub.errors import TokenHubError
from langchain_tokenhub.jobs.errand import Errand, Order
from langchain_tokenhub.jobs.job import Job, MediaResult
from langchain_tokenhub.jobs.lifecycle import Watch, about, finished, timed_out

Outcome: TypeAlias = MediaResult | TokenHubError
Pair: TypeAlias = tuple[Errand, Watch]
Due: TypeAlias = tuple[float, int, Pair]

AT_ONCE = 16
"""Polls and downloads in hand at one moment, where the wire can do several."""


async def outcomes(
    jobs: Iterable[Job], errand_of: Callable[[Job], Errand]
) -> AsyncGenerator[Outcome, None]:
    """Yield the result or error of each job, in the order in which they end.

    Args:
        jobs: Which.
        errand_of: Makes the errand of a job: its model and reporter. They share one wire.
    """
    pairs = [(errand, Watch(errand.service, job)) for job in jobs for errand in [errand_of(job)]]
    heap: list[Due] = [(pair[1].due, number, pair) for number, pair in enumerate(pairs)]
    heapq.heapify(heap)
    if not pairs:
        return
    wire, begun = pairs[0][0].service.transport.wire, pairs[0][0].service.transport.wire.now()
    try:
        while heap:
            first = min(heap[0][0], begun + heap[0][2][0].wait)
            await wire.sleep(max(0.0, first - wire.now()))
            due = _taken(heap, max(first, wire.now()))
            done = await wire.together([_step(*pair, begun) for _, _, pair in due])
            for (_, number, pair), outcome in zip(due, done, strict=True):
                if outcome is None:
                    heapq.heappush(heap, (pair[1].due, number, pair))
                else:
                    pair[1].close()
                    yield outcome
    finally:
        for _, watch in pairs:
            watch.close()


def _taken(heap: list[Due], now: float) -> list[Due]:
    """Take what is due; the first is, because its wait is over."""
    due = [heapq.heappop(heap)]
    while heap and len(due) < AT_ONCE and heap[0][0] <= now:
        due.append(heapq.heappop(heap))
    return due


async def _step(errand: Errand, watch: Watch, begun: float) -> Outcome | None:
    """Look at one job, and finish it if it ended or its time is up."""
    deadline = begun + errand.wait
    last = errand.service.transport.wire.now() >= deadline
    try:
        with about(watch.job):
            if not watch.job.ended:
                await errand.reporter.tell(await watch.look(deadline))
            if watch.job.ended:
                job = await errand.ended(watch.job)
                return await errand.kept(finished(job), Order(body={}))
            return timed_out(watch.job, errand.wait) if last else None
    except TokenHubError as error:
        return error
