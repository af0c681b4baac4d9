"""Where earlier jobs are looked up: in this process, in the ledger, and beside saved files."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from langchain_tokenhub.jobs.job import Job
from langchain_tokenhub.jobs.ledger import Ledger
from langchain_tokenhub.jobs.memory import Memory
from langchain_tokenhub.jobs.sidecars import sidecar_job
from langchain_tokenhub.transport import Wire


@dataclass(kw_only=True)
class Archive:
    """What one call can know of an account's jobs; what it finds, this process remembers.

    Args:
        wire: What waits.
        memory: What this process knows.
        ledger: What calls were written down.
        folders: Where files were saved, with their sidecars.
        recalled: Whether the ledger was read: once a call is enough.
    """

    wire: Wire
    memory: Memory
    ledger: Ledger | None
    folders: tuple[Path, ...]
    recalled: bool = False

    async def jobs(self) -> list[Job]:
        """Return the jobs that this process and the ledger know, the newest first."""
        written = [job for job, _ in await self.ledger.known()] if self.ledger else []
        jobs = {job.id: job for job in [*written[::-1], *self.memory.jobs()[::-1]]}
        return list(jobs.values())[::-1]

    async def recall(self, job_ids: Iterable[str]) -> None:
        """Let this process know what the ledger knows of jobs, and what they were called."""
        known = self.recalled or all(self.memory.find(job_id) for job_id in job_ids)
        if self.ledger is None or known:
            return
        self.recalled = True
        for job, order in reversed(await self.ledger.known()):  # all: the next is asked for soon
            if self.memory.find(job.id) is None:
                self.memory.keep(job, order)

    async def find(self, job_id: str) -> Job | None:
        """Return a job; one without files may have them beside their sidecars."""
        await self.recall([job_id])
        for folder in self.folders:
            known = self.memory.find(job_id)
            if known is None or not known.files:
                look = functools.partial(sidecar_job, folder, job_id)
                if found := await self.wire.blocking(look):
                    self.memory.keep(*found)
        return self.memory.find(job_id)

    def note(self, job: Job) -> None:
        """Remember a job as it was seen, unless its files are known, and perhaps saved."""
        known = self.memory.find(job.id)
        if known is None or not known.files:
            self.memory.keep(job)

    def latest(self, job: Job) -> Job:
        """Return a job with its files, where this process has met them since."""
        known = self.memory.find(job.id)
        return known if known and known.files and not job.files else job
