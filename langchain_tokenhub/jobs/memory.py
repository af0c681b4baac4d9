"""Which jobs this process knows, so that a job's id can stand for its file."""

from __future__ import annotations

import threading
from collections import OrderedDict

from langchain_tokenhub.jobs.job import Job

MOST = 4096
"""Jobs remembered an account; the oldest are forgotten."""


class Memory:
    """The jobs of one account, as they were last seen."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, job: Job) -> None:
        """Remember a job as it stands."""
        with self._lock:
            self._jobs[job.id] = job
            self._jobs.move_to_end(job.id)
            while len(self._jobs) > MOST:
                self._jobs.popitem(last=False)

    def find(self, job_id: str) -> Job | None:
        """Return the job of that id."""
        return self._jobs.get(job_id)

    def jobs(self) -> list[Job]:
        """Return what is remembered, the newest first."""
        with self._lock:
            return list(reversed(self._jobs.values()))


_memories: dict[tuple[object, ...], Memory] = {}


def shared_memory(*owner: object) -> Memory:
    """Return the one memory of `owner` (hash of the key, hosts) in this process."""
    return _memories.get(owner) or _memories.setdefault(owner, Memory())
