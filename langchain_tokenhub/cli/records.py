"""What a folder knows of jobs: the sidecars of saved files, and a ledger of unfinished calls.

The ledger lies in the folder itself. A call stays in it until its files are saved, so that the
same command after Ctrl-C or a crash goes on with its job, and a new one afterwards makes anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from langchain_tokenhub.jobs.ledger import Entry, FolderBackend, read_records, remove_entries
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
    return [entry.job for entry in _entries(folder) if entry.job is not None]


def lost(folder: Path) -> list[Lost]:
    """Return the submits that were never answered."""
    return [
        Lost(model=entry.key.rpartition("-")[0], at=entry.at.isoformat())
        for entry in _entries(folder)
        if entry.job is None
    ]


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
    """Take a job out of the ledger: it is done with. Other calls of its key stay."""
    for entry in _entries(folder):
        if entry.job is not None and entry.job.id == job_id:
            remove_entries(
                FolderBackend(ledger_of(folder)),
                entry.key,
                lambda one: one.job is not None and one.job.id == job_id,
            )


def _when(job: Job) -> float:
    moment = job.submitted_at or job.completed_at
    return moment.timestamp() if moment else 0.0


def _entries(folder: Path) -> Iterator[Entry]:
    """Yield the ledger's entries; those that cannot be read have no key, and are passed over."""
    records = list(read_records(FolderBackend(ledger_of(folder))))
    yield from (entry for record in records for entry in record.all if entry.key)
