"""Look up the account's earlier jobs, so that a job's id can be used in place of its file."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from langchain_tokenhub.jobs.ledger import Ledger
from langchain_tokenhub.jobs.models import Job, JobRequest, request_from_record
from langchain_tokenhub.jobs.sidecars import sidecar_job
from langchain_tokenhub.transport import Runtime

MOST = 10_000
"""Jobs kept for each account; the oldest are dropped."""
MOST_HELD = 64 * 1024**2
"""Bytes of unsaved answers kept for each account; the oldest are dropped."""


class RecentJobs:
    """The jobs of one account in their last known state, with their requests."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, tuple[Job, JobRequest | None]] = OrderedDict()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self.renew_lock()

    def renew_lock(self) -> None:
        """Replace the lock: in a forked child the thread that held it does not exist."""
        self._lock = threading.Lock()

    def keep(self, job: Job, request: JobRequest | None = None) -> None:
        """Keep a job in its current state, and its request without the files in it."""
        files = [file._without_bytes() if file.path else file for file in job.files]
        job = job.model_copy(update={"files": files})
        size = sum(len(file._data or b"") for file in files)
        with self._lock:
            earlier = self._forget(job.id)
            self._jobs[job.id] = job, _recorded(request, earlier)
            if size:
                self._sizes[job.id] = size
            while len(self._jobs) > MOST:
                self._forget(next(iter(self._jobs)))
            while sum(self._sizes.values()) > MOST_HELD and len(self._sizes) > 1:
                self._forget(next(iter(self._sizes)))

    def _forget(self, job_id: str) -> JobRequest | None:
        """Drop a job, and return its request."""
        self._sizes.pop(job_id, 0)
        return self._jobs.pop(job_id, (None, None))[1]

    def find(self, job_id: str) -> Job | None:
        """Return the job of that id."""
        with self._lock:
            return self._jobs.get(job_id, (None, None))[0]

    def request(self, job_id: str) -> JobRequest:
        """Return the request of a job; an empty one if it is not known."""
        with self._lock:
            return self._jobs.get(job_id, (None, None))[1] or JobRequest(body={})

    def jobs(self) -> list[Job]:
        """Return the jobs, the newest first."""
        with self._lock:
            return [job for job, _ in reversed(self._jobs.values())]


def _recorded(request: JobRequest | None, earlier: JobRequest | None) -> JobRequest | None:
    """Return a request as recorded; its key may be known from before, as sidecars have none."""
    if request is None:
        return earlier
    key = request.key or (earlier.key if earlier else "")
    return request_from_record(request.as_record(), key)


_recent_by_owner: dict[tuple[object, ...], RecentJobs] = {}


def shared_recent_jobs(*owner: object) -> RecentJobs:
    """Return the process's jobs of `owner` (hash of the key, hosts)."""
    return _recent_by_owner.get(owner) or _recent_by_owner.setdefault(owner, RecentJobs())


def _renew_locks() -> None:
    for recent in _recent_by_owner.values():
        recent.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


@dataclass(kw_only=True)
class JobHistory:
    """Looks up an account's jobs for one call; the process keeps what is found.

    Args:
        runtime: Waits.
        recent: The jobs that this process knows.
        ledger: The account's recorded calls.
        folders: Folders with saved files and their sidecars.
        recalled: Whether this call has read the ledger.
    """

    runtime: Runtime
    recent: RecentJobs
    ledger: Ledger | None
    folders: tuple[Path, ...]
    recalled: bool = False

    async def jobs(self) -> list[Job]:
        """Return the jobs of this process and of the ledger, the newest first."""
        recorded = [job for job, _ in await self.ledger.known()] if self.ledger else []
        jobs = {job.id: job for job in [*recorded[::-1], *self.recent.jobs()[::-1]]}
        return list(jobs.values())[::-1]

    async def recall(self, job_ids: Iterable[str]) -> None:
        """Load the ledger's jobs into this process, unless all of `job_ids` are known."""
        if self.ledger is None or self.recalled or all(map(self.recent.find, job_ids)):
            return
        self.recalled = True
        for job, request in reversed(await self.ledger.known()):  # all: more may follow
            if self.recent.find(job.id) is None:
                self.recent.keep(job, request)

    async def find(self, job_id: str) -> Job | None:
        """Return a job; files that it lacks may be saved, with sidecars."""
        await self.recall([job_id])
        for folder in self.folders:
            if (known := self.recent.find(job_id)) and known.files:
                break
            if found := await self.runtime.blocking(sidecar_job, folder, job_id):
                self.recent.keep(*found)
        return self.recent.find(job_id)

    def keep(self, job: Job) -> None:
        """Keep a job in its current state, unless its files are known already."""
        known = self.recent.find(job.id)
        if known is None or not known.files:
            self.recent.keep(job)

    def latest(self, job: Job) -> Job:
        """Return a job with its files, if this process has seen them since."""
        known = self.recent.find(job.id)
        return known if known and known.files and not job.files else job
