"""Which jobs this process knows, so that a job's id can stand for its file."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict

from langchain_tokenhub.jobs.job import Job
from langchain_tokenhub.jobs.order import Order, order_noted

MOST = 10_000
"""Jobs remembered an account; the oldest are forgotten."""


class Memory:
    """The jobs of one account, as they were last seen, and what was asked for."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, tuple[Job, Order | None]] = OrderedDict()
        self.renew_lock()

    def renew_lock(self) -> None:
        """Begin with a free lock: in a forked child, who held it is not there."""
        self._lock = threading.Lock()

    def keep(self, job: Job, order: Order | None = None) -> None:
        """Remember a job as it stands, and without its files what made it."""
        noted = order and order_noted(order.noted())
        with self._lock:
            _, before = self._jobs.pop(job.id, (None, None))
            self._jobs[job.id] = job, noted or before
            while len(self._jobs) > MOST:
                self._jobs.popitem(last=False)

    def find(self, job_id: str) -> Job | None:
        """Return the job of that id."""
        with self._lock:
            return self._jobs.get(job_id, (None, None))[0]

    def order(self, job_id: str) -> Order:
        """Return what was asked for; an empty order where nobody knows."""
        with self._lock:
            return self._jobs.get(job_id, (None, None))[1] or Order(body={})

    def jobs(self) -> list[Job]:
        """Return what is remembered, the newest first."""
        with self._lock:
            return [job for job, _ in reversed(self._jobs.values())]


_memories: dict[tuple[object, ...], Memory] = {}


def shared_memory(*owner: object) -> Memory:
    """Return the one memory of `owner` (hash of the key, hosts) in this process."""
    return _memories.get(owner) or _memories.setdefault(owner, Memory())


def _renew_locks() -> None:
    for memory in _memories.values():
        memory.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
