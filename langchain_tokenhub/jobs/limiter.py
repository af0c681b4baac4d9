"""Jobs in flight: no more than the account may have, first come first served.

One gate an account, site and model, shared by every thread and task of the process. It counts the
jobs that this process waits for; what other processes run is the service's to refuse
(`JobNumExceed`).
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

Ticket = Future[None]


class JobLimiter:
    """Lets so many in, and the others wait in order."""

    def __init__(self) -> None:
        self.moves = 0
        """How often a place was given back: a queue that moves is worth waiting in."""
        self._inside = 0
        self._queue: deque[tuple[Ticket, int]] = deque()
        self._lock = threading.Lock()

    @asynccontextmanager
    async def place(self, runtime: Runtime, most: int, wait: float) -> AsyncGenerator[None, None]:
        """Hold a place.

        Args:
            runtime: What waits.
            most: Places there are, as this holder sees it.
            wait: Seconds to wait in a queue that does not move.

        Raises:
            RateLimitError: The queue did not move for so long.
        """
        ticket = self._enter(most)
        try:
            await self._admitted(runtime, ticket, wait)
            yield
        finally:
            self._leave(ticket)

    async def _admitted(self, runtime: Runtime, ticket: Ticket, wait: float) -> None:
        moves = self.moves
        while not ticket.done() and not await runtime.wait(ticket, wait):
            if self.moves == moves:
                raise _stuck(wait)
            moves = self.moves

    def _enter(self, most: int) -> Ticket:
        ticket: Ticket = Future()
        with self._lock:
            self._queue.append((ticket, most))
            self._admit()
        return ticket

    def _leave(self, ticket: Ticket) -> None:
        with self._lock:
            if not ticket.cancel():
                self._inside -= 1
                self.moves += 1
            self._admit()

    def _admit(self) -> None:
        while self._queue:
            ticket, most = self._queue[0]
            if ticket.cancelled():
                self._queue.popleft()
                continue
            if self._inside >= most:
                return
            self._queue.popleft()
            if ticket.set_running_or_notify_cancel():
                self._inside += 1
                ticket.set_result(None)


def _stuck(wait: float) -> RateLimitError:
    return RateLimitError(
        f"no job of this account ended for {wait:g} s, none was submitted",
        phase="not sent",
        hint="raise wait_timeout or max_in_flight; nothing was charged",
    )


_limiters: dict[tuple[object, ...], JobLimiter] = {}


def shared_limiter(*owner: object) -> JobLimiter:
    """Return the one gate of `owner` (hash of the key, hosts, model) in this process."""
    return _limiters.get(owner) or _limiters.setdefault(owner, JobLimiter())


if hasattr(os, "register_at_fork"):
    # the jobs that a forked child's parent waits for are the parent's: nobody gives them back here
    os.register_at_fork(after_in_child=_limiters.clear)
