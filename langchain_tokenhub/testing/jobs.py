"""Media jobs: states on a clock that anyone may read. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["queued", "in_progress", "completed", "failed"]
JOB_LIFE = 86400.0
_QUEUED_SHARE = 0.15


@dataclass(frozen=True)
class Job:
    """A job as it was accepted.

    Args:
        seconds: How long the work takes on the job clock.
        started: The job clock when it was accepted.
        submitted_at: The wall clock when it was accepted.
        link_seconds: Life of its result links.
        error: Code and message, if it is to fail.
    """

    id: str
    kind: str
    model: str
    object: str
    body: Mapping[str, Any]
    key: str
    order: int
    seconds: float
    started: float
    submitted_at: float
    link_seconds: float
    error: tuple[str, str] | None = None

    def state(self, clock: float) -> State:
        """Name the state at a time of the job clock."""
        done = self._done(clock)
        if done < _QUEUED_SHARE:
            return "queued"
        if done < 1:
            return "in_progress"
        return "failed" if self.error else "completed"

    def progress(self, clock: float) -> int:
        """Return per cent."""
        done = self._done(clock)
        return 0 if done < _QUEUED_SHARE else min(100, int(100 * done))

    def _done(self, clock: float) -> float:
        return min(1.0, (clock - self.started) / self.seconds)


@dataclass(frozen=True)
class JobRecord:
    """A job as tests see it: what was asked, and how far it is."""

    id: str
    kind: str
    model: str
    status: State
    progress: int
    body: Mapping[str, Any]
    order: int


def record(job: Job, clock: float) -> JobRecord:
    """Look at a job."""
    return JobRecord(
        id=job.id,
        kind=job.kind,
        model=job.model,
        status=job.state(clock),
        progress=job.progress(clock),
        body=job.body,
        order=job.order,
    )


def is_open(job: Job, clock: float) -> bool:
    """Tell whether a job counts against the limit of jobs in flight."""
    return job.state(clock) in {"queued", "in_progress"}
