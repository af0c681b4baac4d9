"""Which jobs this process knows, so that a job's id can stand for its file."""

from __future__ import annotations

import functools
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from langchain_tokenhub.jobs.ledger import Ledger
from langchain_tokenhub.jobs.models import Job, JobRequest, MediaFile, request_from_record
from langchain_tokenhub.jobs.sidecars import sidecar_job
from langchain_tokenhub.transport import Runtime

MOST = 10_000
"""Jobs remembered an account; the oldest are forgotten."""
MOST_HELD = 64 * 1024**2
"""Bytes of unsaved answers remembered an account; the oldest are forgotten."""


class RecentJobs:
    """The jobs of one account, as they were last seen, and what was asked for."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, tuple[Job, JobRequest | None]] = OrderedDict()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._held = 0
        self.renew_lock()

    def renew_lock(self) -> None:
        """Begin with a free lock: in a forked child, who held it is not there."""
        self._lock = threading.Lock()

    def keep(self, job: Job, request: JobRequest | None = None) -> None:
        """Remember a job as it stands, and without its files what made it."""
        as_record = request and request_from_record(request.as_record(), request.key)
        job = job.model_copy(update={"files": [_kept(file) for file in job.files]})
        with self._lock:
            before = self._forget(job.id)
            self._jobs[job.id] = job, _fuller(as_record, before)
            if size := sum(len(file._data or b"") for file in job.files):
                self._sizes[job.id] = size
                self._held += size
            self._make_room()

    def _make_room(self) -> None:
        while len(self._jobs) > MOST:
            self._forget(next(iter(self._jobs)))
        while self._held > MOST_HELD and len(self._sizes) > 1:
            self._forget(next(iter(self._sizes)))

    def _forget(self, job_id: str) -> JobRequest | None:
        """Forget a job, and return what was asked for."""
        _, request = self._jobs.pop(job_id, (None, None))
        self._held -= self._sizes.pop(job_id, 0)
        return request

    def find(self, job_id: str) -> Job | None:
        """Return the job of that id."""
        with self._lock:
            return self._jobs.get(job_id, (None, None))[0]

    def request(self, job_id: str) -> JobRequest:
        """Return what was asked for; an empty order where nobody knows."""
        with self._lock:
            return self._jobs.get(job_id, (None, None))[1] or JobRequest(body={})

    def jobs(self) -> list[Job]:
        """Return what is remembered, the newest first."""
        with self._lock:
            return [job for job, _ in reversed(self._jobs.values())]


def _kept(file: MediaFile) -> MediaFile:
    """Return a file without the bytes that are on disk."""
    return file if file.path is None else file._without_bytes()


def _fuller(request: JobRequest | None, before: JobRequest | None) -> JobRequest | None:
    """Return an order, with the key that was known before: sidecars have none."""
    if request is None or before is None:
        return request or before
    return replace(request, key=request.key or before.key)


_recent_by_owner: dict[tuple[object, ...], RecentJobs] = {}


def shared_recent_jobs(*owner: object) -> RecentJobs:
    """Return the one memory of `owner` (hash of the key, hosts) in this process."""
    return _recent_by_owner.get(owner) or _recent_by_owner.setdefault(owner, RecentJobs())


def _renew_locks() -> None:
    for recent in _recent_by_owner.values():
        recent.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


@dataclass(kw_only=True)
class JobHistory:
    """What one call can know of an account's jobs; what it finds, this process remembers.

    Args:
        runtime: What waits.
        memory: What this process knows.
        ledger: What calls were written down.
        folders: Where files were saved, with their sidecars.
        recalled: Whether the ledger was read: once a call is enough.
    """

    runtime: Runtime
    recent: RecentJobs
    ledger: Ledger | None
    folders: tuple[Path, ...]
    recalled: bool = False

    async def jobs(self) -> list[Job]:
        """Return the jobs that this process and the ledger know, the newest first."""
        written = [job for job, _ in await self.ledger.known()] if self.ledger else []
        jobs = {job.id: job for job in [*written[::-1], *self.recent.jobs()[::-1]]}
        return list(jobs.values())[::-1]

    async def recall(self, job_ids: Iterable[str]) -> None:
        """Let this process know what the ledger knows of jobs, and what they were called."""
        known = self.recalled or all(self.recent.find(job_id) for job_id in job_ids)
        if self.ledger is None or known:
            return
        self.recalled = True
        for job, request in reversed(await self.ledger.known()):  # all: the next is asked for soon
            if self.recent.find(job.id) is None:
                self.recent.keep(job, request)

    async def find(self, job_id: str) -> Job | None:
        """Return a job; one without files may have them beside their sidecars."""
        await self.recall([job_id])
        for folder in self.folders:
            known = self.recent.find(job_id)
            if known is None or not known.files:
                look = functools.partial(sidecar_job, folder, job_id)
                if found := await self.runtime.blocking(look):
                    self.recent.keep(*found)
        return self.recent.find(job_id)

    def note(self, job: Job) -> None:
        """Remember a job as it was seen, unless its files are known, and perhaps saved."""
        known = self.recent.find(job.id)
        if known is None or not known.files:
            self.recent.keep(job)

    def latest(self, job: Job) -> Job:
        """Return a job with its files, where this process has met them since."""
        known = self.recent.find(job.id)
        return known if known and known.files and not job.files else job
