"""What a folder knows of jobs: the sidecars of saved files, and a ledger of unfinished calls.

The ledger lies in the folder itself. A call stays in it until its files are saved, so that the
same command after Ctrl-C or a crash goes on with its job, and a new one afterwards makes anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from langchain_tokenhub.jobs.models import Job
from langchain_tokenhub.jobs.sidecars import sidecar_job, sidecar_jobs

_LEDGER = ".tokenhub-jobs"


@dataclass(frozen=True)
class Lost:
    """A submit of which no answer came: it may have been charged."""

    model: str
    at: str


def ledger_of(folder: Path) -> Path:
    """Return where the unfinished calls of a folder are written down."""
    return folder / _LEDGER


def unfinished(folder: Path) -> list[Job]:
    """Return the jobs whose files are not saved yet."""
    return [job for _, job in _entries(ledger_of(folder)) if isinstance(job, Job)]


def lost(folder: Path) -> list[Lost]:
    """Return the submits that were never answered."""
    return [entry for _, entry in _entries(ledger_of(folder)) if isinstance(entry, Lost)]


def saved(folder: Path) -> list[Job]:
    """Return the jobs with saved files, from their sidecars."""
    return sidecar_jobs(folder)


def known(folder: Path) -> list[Job]:
    """Return every job that the folder knows, the newest first."""
    jobs = {job.id: job for job in [*unfinished(folder), *saved(folder)]}
    return sorted(jobs.values(), key=_when, reverse=True)


def find(folder: Path, job_id: str) -> Job | None:
    """Return the job of that id."""
    beside = sidecar_job(folder, job_id)
    return beside[0] if beside else next((j for j in unfinished(folder) if j.id == job_id), None)


def forget(folder: Path, job_id: str) -> None:
    """Take a job out of the ledger: it is done with."""
    for path, job in _entries(ledger_of(folder)):
        if isinstance(job, Job) and job.id == job_id:
            path.unlink(missing_ok=True)


def _when(job: Job) -> float:
    moment = job.submitted_at or job.completed_at
    return moment.timestamp() if moment else 0.0


def _entries(folder: Path) -> Iterator[tuple[Path, Job | Lost]]:
    """Yield what the JSON files of a folder hold; other people's files are passed over."""
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        with suppress(OSError, ValueError, ValidationError):
            entry = _entry(path, json.loads(path.read_text("utf-8")))
            if entry is not None:
                yield path, entry


def _entry(path: Path, whole: Any) -> Job | Lost | None:
    match whole:
        case {"job": dict() as job}:
            return Job.model_validate(job)
        case {"state": "submitting" | "unknown", "at": str() as at}:
            return Lost(model=path.stem.rpartition("-")[0], at=at)
        case _:
            return None
