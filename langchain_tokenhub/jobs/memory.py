"""Which jobs this process knows, so that a job's id can stand for its file."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import replace

from langchain_tokenhub.jobs.job import Job, MediaFile
from langchain_tokenhub.jobs.order import Order, order_noted

MOST = 10_000
"""Jobs remembered an account; the oldest are forgotten."""
MOST_HELD = 64 * 1024**2
"""Bytes of unsaved answers remembered an account; the oldest are forgotten."""


class Memory:
    """The jobs of one account, as they were last seen, and what was asked for."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, tuple[Job, Order | None]] = OrderedDict()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._held = 0
        self.renew_lock()

    def renew_lock(self) -> None:
        """Begin with a free lock: in a forked child, who held it is not there."""
        self._lock = threading.Lock()

    def keep(self, job: Job, order: Order | None = None) -> None:
        """Remember a job as it stands, and without its files what made it."""
        noted = order and order_noted(order.noted(), order.key)
        job = job.model_copy(update={"files": [_kept(file) for file in job.files]})
        with self._lock:
            before = self._forget(job.id)
            self._jobs[job.id] = job, _fuller(noted, before)
            if size := sum(len(file.held or b"") for file in job.files):
                self._sizes[job.id] = size
                self._held += size
            self._make_room()

    def _make_room(self) -> None:
        while len(self._jobs) > MOST:
            self._forget(next(iter(self._jobs)))
        while self._held > MOST_HELD and len(self._sizes) > 1:
            self._forget(next(iter(self._sizes)))

    def _forget(self, job_id: str) -> Order | None:
        """Forget a job, and return what was asked for."""
        _, order = self._jobs.pop(job_id, (None, None))
        self._held -= self._sizes.pop(job_id, 0)
        return order

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


def _kept(file: MediaFile) -> MediaFile:
    """Return a file without the bytes that are on disk."""
    return file if file.path is None else file.without_bytes()


def _fuller(order: Order | None, before: Order | None) -> Order | None:
    """Return an order, with the key that was known before: sidecars have none."""
    if order is None or before is None:
        return order or before
    return replace(order, key=order.key or before.key)


_memories: dict[tuple[object, ...], Memory] = {}


def shared_memory(*owner: object) -> Memory:
    """Return the one memory of `owner` (hash of the key, hosts) in this process."""
    return _memories.get(owner) or _memories.setdefault(owner, Memory())


def _renew_locks() -> None:
    for memory in _memories.values():
        memory.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
