"""Limit the jobs in flight to what the account may run, first in, first out.

There is one limiter for each account, site and model, shared by all threads and tasks of the
process. It counts the jobs that this process waits for; the service refuses what other processes
submit beyond the limit (`JobNumExceed`).
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from contextlib import asynccontextmanager

from langchain_tokenhub.errors import RateLimitError
from langchain_tokenhub.transport import Runtime


class JobLimiter:
    """A semaphore whose waiters are served in order."""

    def __init__(self) -> None:
        self.moves = 0
        """Number of releases; a waiter gives up if it does not change."""
        self._held = 0
        self._queue: deque[tuple[Future[None], int]] = deque()
        self._lock = threading.Lock()

    @asynccontextmanager
    async def slot(self, runtime: Runtime, most: int, wait: float) -> AsyncGenerator[None, None]:
        """Hold one place of the limit.

        Args:
            runtime: Waits.
            most: The limit for this holder.
            wait: Seconds to wait in a queue that does not move.

        Raises:
            RateLimitError: The queue did not move for `wait` seconds.
        """
        ticket: Future[None] = Future()
        with self._lock:
            self._queue.append((ticket, most))
            self._admit()
        try:
            moves = self.moves
            while not ticket.done() and not await runtime.wait(ticket, wait):
                if self.moves == moves:
                    raise _queue_error(wait)
                moves = self.moves
            yield
        finally:
            with self._lock:
                if not ticket.cancel():
                    self._held -= 1
                    self.moves += 1
                self._admit()

    def _admit(self) -> None:
        """Admit the first waiters for whom there is a place."""
        while self._queue and (self._queue[0][0].cancelled() or self._held < self._queue[0][1]):
            ticket, _ = self._queue.popleft()
            if ticket.set_running_or_notify_cancel():
                self._held += 1
                ticket.set_result(None)


def _queue_error(wait: float) -> RateLimitError:
    return RateLimitError(
        f"no job of this account ended for {wait:g} s, so none was submitted",
        phase="not sent",
        hint="raise wait_timeout or max_in_flight; nothing was charged",
    )


_limiters: dict[tuple[object, ...], JobLimiter] = {}


def shared_limiter(*owner: object) -> JobLimiter:
    """Return the process's limiter of `owner` (hash of the key, hosts, model)."""
    return _limiters.get(owner) or _limiters.setdefault(owner, JobLimiter())


if hasattr(os, "register_at_fork"):
    # a forked child does not wait for its parent's jobs, and would never release their places
    os.register_at_fork(after_in_child=_limiters.clear)
