"""The account's earlier jobs: of this process, of its ledger, and of the sidecars of saved files.

A sidecar is the JSON file next to a saved file that describes its job.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from langchain_tokenhub.jobs.files import tail_of
from langchain_tokenhub.jobs.ledger import Ledger
from langchain_tokenhub.jobs.media_file import MediaFile
from langchain_tokenhub.jobs.models import Job, JobRequest, request_from_record, revised_text
from langchain_tokenhub.transport import Runtime

MAX_JOBS = 10_000
"""Jobs kept for each account; the oldest are dropped."""
MAX_HELD_BYTES = 64 * 1024**2
"""Bytes of unsaved answers kept for each account; the oldest are dropped."""

_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""Errors that reading a JSON file may raise that is not a sidecar."""
_lock = threading.RLock()  # a signal's handler may fork while this thread holds it
if hasattr(os, "register_at_fork"):  # no other thread may hold it then: a child has none
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )


class RecentJobs:
    """The jobs of one account in their last known state, with their requests."""

    def __init__(self) -> None:
        self._jobs: dict[str, tuple[Job, JobRequest | None]] = {}
        self._sizes: dict[str, int] = {}

    def keep(self, job: Job, request: JobRequest | None = None) -> None:
        """Store a job in its current state, and its request without its files."""
        files = [file._without_bytes() if file.path else file for file in job.files]
        job = job.model_copy(update={"files": files})
        size = sum(len(file._data or b"") for file in files)
        with _lock:
            earlier = self._forget(job.id)
            if request is not None:  # a sidecar's has no key
                key = request.key or (earlier.key if earlier else "")
                earlier = request_from_record(request.as_record(), key)
            self._jobs[job.id] = job, earlier
            if size:
                self._sizes[job.id] = size
            while len(self._jobs) > MAX_JOBS:
                self._forget(next(iter(self._jobs)))
            while sum(self._sizes.values()) > MAX_HELD_BYTES and len(self._sizes) > 1:
                self._forget(next(iter(self._sizes)))

    def _forget(self, job_id: str) -> JobRequest | None:
        self._sizes.pop(job_id, 0)
        return self._jobs.pop(job_id, (None, None))[1]

    def find(self, job_id: str) -> Job | None:
        """Return the job of that id."""
        with _lock:
            return self._jobs.get(job_id, (None, None))[0]

    def request(self, job_id: str) -> JobRequest:
        """Return the request of a job; an empty one if it is not known."""
        with _lock:
            return self._jobs.get(job_id, (None, None))[1] or JobRequest(body={})

    def jobs(self) -> list[Job]:
        """Return the jobs, the newest first."""
        with _lock:
            return [job for job, _ in reversed(self._jobs.values())]


_recent_by_owner: dict[tuple[object, ...], RecentJobs] = {}


def shared_recent_jobs(*owner: object) -> RecentJobs:
    """Return the process's jobs of `owner` (hash of the key, hosts)."""
    return _recent_by_owner.get(owner) or _recent_by_owner.setdefault(owner, RecentJobs())


@dataclass(kw_only=True)
class JobHistory:
    """Looks up an account's jobs for one call, and stores them in the process.

    Args:
        runtime: Waits.
        recent: The jobs that this process knows.
        ledger: The account's recorded calls.
        folders: Folders with saved files and their sidecars.
        is_ledger_read: Whether this call has read the ledger.
    """

    runtime: Runtime
    recent: RecentJobs
    ledger: Ledger | None
    folders: tuple[Path, ...]
    is_ledger_read: bool = False

    async def jobs(self) -> list[Job]:
        """Return the jobs of this process and of the ledger, the newest first."""
        recorded = [job for job, _ in await self.ledger.known_jobs()] if self.ledger else []
        jobs = {job.id: job for job in [*recorded[::-1], *self.recent.jobs()[::-1]]}
        return list(jobs.values())[::-1]

    async def _read_ledger(self, job_id: str) -> None:
        if self.ledger is None or self.is_ledger_read or self.recent.find(job_id):
            return
        self.is_ledger_read = True
        for job, request in reversed(await self.ledger.known_jobs()):  # others may be asked for
            if self.recent.find(job.id) is None:
                self.recent.keep(job, request)

    async def find(self, job_id: str) -> Job | None:
        """Return a job, with the files of its sidecars if it has none."""
        await self._read_ledger(job_id)
        for folder in self.folders:
            if (known := self.recent.find(job_id)) and known.files:
                break
            if found := await self.runtime.blocking(sidecar_job, folder, job_id):
                self.recent.keep(*found)
        return self.recent.find(job_id)

    def keep(self, job: Job) -> None:
        """Store a job in its current state, unless its files are known already."""
        known = self.recent.find(job.id)
        if known is None or not known.files:
            self.recent.keep(job)

    async def latest(self, job: Job) -> Job:
        """Return a job with its files, if this process or the ledger knows them."""
        await self._read_ledger(job.id)
        known = self.recent.find(job.id)
        return known if known and known.files and not job.files else job


# --- sidecars -------------------------------------------------------------------------------------


def write_job_sidecar(job: Job, file: MediaFile, index: int, request: JobRequest) -> None:
    """Write the sidecar of a saved file, which is number `index` of the job's files."""
    assert file.path is not None  # noqa: S101 - it was saved
    facts = {
        "type": file.type,
        "kind": job.kind,
        "model": job.model,
        **request.as_record(),
        "revised_prompt": revised_text(job.raw_revised_prompt),
        "unpacked": file.unpacked and file.unpacked.name,
        "preview": file.preview_path and file.preview_path.name,
        "number": index + 1,
        "files": len(job.files),
        "job": job.model_copy(update={"files": [file]}).model_dump(mode="json"),
    }
    write_sidecar(file.path, facts)


def write_sidecar(path: Path, facts: Mapping[str, Any]) -> None:
    """Write `facts` next to a saved file, as `<name>.json`."""
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    content = {
        "schema": 1,
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": digest,
        "saved_at": datetime.now(UTC).isoformat(),
        **facts,
    }
    text = json.dumps(content, ensure_ascii=False, indent=1, default=str)
    part = path.with_name(f"{path.name}.json.part-{secrets.token_hex(4)}")
    part.write_text(text, "utf-8", errors="backslashreplace")  # JSON escapes for lone surrogates
    part.replace(path.with_name(f"{path.name}.json"))


@dataclass(frozen=True)
class Sidecar:
    """The content of a sidecar.

    Args:
        path: The saved file, next to it.
        job: The job, with this file alone.
        number: The number of the file in its job, from 1.
        files: How many files the job has.
        facts: All of it.
    """

    path: Path
    job: Job
    number: int
    files: int
    facts: Mapping[str, Any]

    @property
    def saved(self) -> MediaFile:
        """The file."""
        return self.job.files[0]


def read_sidecar(sidecar: Path) -> Sidecar | None:
    """Return the content of a sidecar; None for other JSON files."""
    with suppress(*_UNREADABLE):
        facts = json.loads(sidecar.read_text("utf-8"))
        number, files = int(facts.get("number", 1)), int(facts.get("files", 1))
        job = Job.model_validate({**facts["job"], "files": []})
        (file,) = map(MediaFile.model_validate, facts["job"]["files"])
        paths = {name: sidecar.with_name(p.name) for name, p in file if isinstance(p, Path)}
        path = sidecar.with_name(str(facts["file"]))  # the folder may have been moved
        file = file.model_copy(update={**paths, "path": path})._of_job(job, number - 1)
        return Sidecar(path, job.model_copy(update={"files": [file]}), number, files, facts)
    return None


def sidecar_job(folder: Path, job_id: str) -> tuple[Job, JobRequest | None] | None:
    """Return the job of that id and its request, from the sidecars in `folder`.

    A file without a sidecar is listed without path and link, so that it is queried.
    """
    found = [sidecar for sidecar in _sidecars(folder, tail_of(job_id)) if sidecar.job.id == job_id]
    return (_job(found), request_from_record(found[0].facts)) if found else None


def sidecar_jobs(folder: Path) -> list[Job]:
    """Return every job with a saved file in `folder`."""
    by_id: dict[str, list[Sidecar]] = {}
    for sidecar in _sidecars(folder):
        by_id.setdefault(sidecar.job.id, []).append(sidecar)
    return [_job(found) for found in by_id.values()]


def source_of(path: Path, data: bytes) -> str | None:
    """Return the `MediaFile.source` of the file saved as `path`, if it is unchanged."""
    sidecar = read_sidecar(path.with_name(f"{path.name}.json"))
    if sidecar is None or sidecar.facts.get("sha256") != hashlib.sha256(data).hexdigest():
        return None
    return sidecar.saved.source


def _job(sidecars: list[Sidecar]) -> Job:
    saved = {sidecar.number: sidecar.saved for sidecar in sidecars}
    count = max(*saved, *(sidecar.files for sidecar in sidecars))
    files = [saved.get(number) or MediaFile(type="") for number in range(1, count + 1)]
    return sidecars[0].job.model_copy(update={"files": files})


def _sidecars(folder: Path, tail: str = "") -> Iterator[Sidecar]:
    """Yield the sidecars with `tail` in their names; the others are not opened."""
    # a path for each name is slow
    names = os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208 - see above
    found = sorted(name for name in names if name.endswith(".json") and tail in name)
    yield from filter(None, (read_sidecar(folder / name) for name in found))
