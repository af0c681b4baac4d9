"""Runs a job from the request to the saved files, with the ledger, the limiter and the service."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import deque
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.catalogue import error_row
from langchain_tokenhub.errors import (
    RETRYABLE,
    InvalidRequestError,
    JobBlockedError,
    JobFailedError,
    JobNotFoundError,
    RateLimitError,
    ResultExpiredError,
    TokenHubError,
    hint_text,
)
from langchain_tokenhub.jobs.files import stem_of
from langchain_tokenhub.jobs.history import JobHistory, sidecar_job, write_job_sidecar
from langchain_tokenhub.jobs.ledger import KnownCallError
from langchain_tokenhub.jobs.media_file import MediaFile
from langchain_tokenhub.jobs.models import Job, JobRequest, MediaResult, revised_text
from langchain_tokenhub.jobs.progress import Reporter
from langchain_tokenhub.jobs.service import (
    Service,
    attach_job,
    poll_until_ended,
)
from langchain_tokenhub.transport import Runtime

MAX_WAIT = 366 * 86400.0
"""Seconds; longer ones overflow where threads wait."""
_PAY_AGAIN = "generate(..., again=True) submits and pays again"


@dataclass(frozen=True, kw_only=True)
class JobRunner:
    """Runs one call.

    Args:
        service: Model and transport.
        limiter: Counts the jobs in flight of this account and model.
        max_in_flight: Jobs in flight at most.
        wait: Seconds to wait for a job.
        history: The account's earlier jobs, and the ledger of its paid calls.
        reporter: Reports progress.
        folder: Folder for files.
    """

    service: Service
    limiter: JobLimiter
    max_in_flight: int
    wait: float
    history: JobHistory
    reporter: Reporter
    folder: Path | None = None

    @property
    def _runtime(self) -> Runtime:
        return self.service.transport.runtime

    async def generate(self, request: JobRequest) -> MediaResult:
        """Submit, wait and save; or resume the job that the ledger has for the same call."""
        with closing(self.reporter), self.reporter.span.open("generate_content") as span:
            job = await self._job(request, wait=True)
            return span.record_outcome(await self.save_results(job, request))

    async def submit(self, request: JobRequest) -> Job:
        """Submit, and return the job; or the job that the ledger has for the same call."""
        with self.reporter.span.open("submit") as span:
            return span.record_outcome(await self._job(request, wait=False))

    async def _job(self, request: JobRequest, *, wait: bool) -> Job:
        async with self._forget_failed_job(request):
            while True:
                try:
                    await self._check(request)
                    async with self.limiter.slot(self._runtime, self.max_in_flight, self.wait):
                        job = await self._submit(request)
                        if wait or (job.ended and not _is_completed(job)):
                            job = await self.wait_until_ended(job)
                        return job
                except KnownCallError as known:
                    ledger = self.history.ledger
                    assert ledger is not None  # noqa: S101 - it has raised
                    earlier = await ledger.await_other_worker(request.key, known.entry, self.wait)
                if earlier is not None:  # None: that submit was refused
                    return await self._resume(earlier) if wait else earlier

    async def result(self, job: Job) -> MediaResult:
        """Wait for a job that was submitted earlier, and save."""
        request = self.history.recent.request(job.id)
        with closing(self.reporter), self.reporter.span.open("result") as span:
            async with self._forget_failed_job(request):
                job = await self._restore_saved_files(await self.wait_until_ended(job))
                return span.record_outcome(await self.save_results(job, request))

    async def wait_until_ended(self, job: Job) -> Job:
        """Wait until a job has completed."""
        with attach_job(job):
            if job.status == "completed":
                return await self._refresh_links(job)
            if not job.ended:
                async with aclosing(poll_until_ended(self.service, job, wait=self.wait)) as states:
                    async for state in states:
                        await self.reporter.report(state)
                        job = state
                self.history.recent.keep(job)
            return raise_if_failed(job)

    async def save_results(self, job: Job, request: JobRequest) -> MediaResult:
        """Save the files of a job, record the job, and return its result.

        Raises:
            ResultExpiredError: The links have expired, and so have fresh ones.
        """
        with attach_job(job):
            job = await self._save_files(job, request)
            if self.folder is not None and await self._missing(job):
                job = await self._save_files(await self._refresh_links(job), request)
                _report_missing(job, len(await self._missing(job)))
            self.history.recent.keep(job, request)
            if (ledger := self.history.ledger) and request.key:
                await ledger.update(job, request)
        pathless = [file.model_copy(update={"path": None}) for file in job.files]
        job = _with_files(job, await self._prefer_saved(job.files, pathless))
        await self.reporter.report_files(job)
        return result_of(job)

    # --- before the wait ----------------------------------------------------------------------

    async def _check(self, request: JobRequest) -> None:
        """Check, before queueing, that the call is to be submitted and its files can be saved."""
        ledger = None if request.again or request.is_looked_up else self.history.ledger
        if ledger is not None and (record := await ledger.record(request.key)):
            raise KnownCallError(record[0])
        if request.problem is not None:
            raise request.problem
        if self.folder is not None:
            await self._runtime.blocking(check_folder, self.folder)

    async def _submit(self, request: JobRequest) -> Job:
        def record(job: Job) -> None:
            self.history.recent.keep(job, request)
            self.reporter.span.record_submit(job)

        return await self.service.submit(
            request,
            deadline=self._runtime.now() + self.wait,
            ledger=self.history.ledger,
            on_job=record,
        )

    async def _resume(self, job: Job) -> Job:
        try:
            return await self._restore_saved_files(await self.wait_until_ended(job))
        except JobNotFoundError as error:
            error.hint = _PAY_AGAIN
            raise

    @asynccontextmanager
    async def _forget_failed_job(self, request: JobRequest) -> AsyncGenerator[None, None]:
        """Remove a failed job from the ledger: it is not charged, and may be submitted again."""
        try:
            yield
        except JobFailedError as failed:
            job, ledger = failed.job, self.history.ledger
            if ledger and request.key and isinstance(job, Job) and not _is_completed(job):
                await ledger.forget(job, request)
            raise

    # --- links --------------------------------------------------------------------------------

    async def _refresh_links(self, job: Job) -> Job:
        """Return a completed job with fresh links in place of expired ones, unless saved."""
        missing = await self._missing(job)
        if job.files and not missing:
            return job
        try:
            fresh = await self._query_fresh_links(job)
        except ResultExpiredError as expired:
            others = [file for file in job.files if file not in missing]
            is_final = isinstance(expired.__cause__, JobNotFoundError | JobFailedError)
            if not others or not is_final:
                raise
            warn_user(f"{len(missing)} of the job's files are missing: {expired.message}")
            return _with_files(job, others)
        if len(fresh.files) != len(job.files):
            return fresh
        return _with_files(fresh, await self._prefer_saved(job.files, fresh.files))

    async def _query_fresh_links(self, job: Job) -> Job:
        try:
            return raise_if_failed(await self.service.query(_with_files(job, [])))
        except (JobNotFoundError, JobFailedError) as error:  # it had completed, and was paid for
            if isinstance(error, JobFailedError) and _is_completed(error.job):
                raise
            raise ResultExpiredError(
                "its links have expired, and the service no longer knows the job",
                job=job,
                hint=_PAY_AGAIN,
            ) from error
        except RETRYABLE as failure:  # which others would retry with a new submit
            raise ResultExpiredError(
                f"the links have expired, and the query for fresh ones failed: {failure.message}",
                job=job,
                hint="call result(job) later; nothing is charged again",
            ) from failure

    # --- files --------------------------------------------------------------------------------

    async def _is_saved(self, file: MediaFile) -> bool:
        return file.path is not None and await self._runtime.blocking(file.path.is_file)

    async def _missing(self, job: Job) -> list[MediaFile]:
        """Return the files that are neither saved nor can be read from their links."""
        return [f for f in job.files if not _is_readable(f) and not await self._is_saved(f)]

    async def _prefer_saved(
        self, files: list[MediaFile], others: list[MediaFile]
    ) -> list[MediaFile]:
        """Return each of `files` that is saved, and the one of `others` in place of the rest."""
        pairs = zip(files, others, strict=True)
        return [file if await self._is_saved(file) else other for file, other in pairs]

    async def _restore_saved_files(self, job: Job) -> Job:
        """Return a job with the files that an interrupted call had saved."""
        has_parts = len(job.files) > 1 or any(file.preview_url for file in job.files)
        if self.folder is None or not has_parts:
            return job
        found = await self._runtime.blocking(sidecar_job, self.folder, job.id)
        if found is None or len(found[0].files) != len(job.files):
            return job
        return _with_files(job, await self._prefer_saved(found[0].files, job.files))

    async def _save_files(self, job: Job, request: JobRequest) -> Job:
        files = list(job.files)
        for index in range(len(files)):
            files[index] = await self._save_file(_with_files(job, files), index, request)
        return _with_files(job, files)

    async def _save_file(self, job: Job, index: int, request: JobRequest) -> MediaFile:
        """Save one file; if that fails, warn and return it as it was."""
        file = job.files[index]
        if self.folder is None or await self._is_saved(file):
            return file
        try:
            stem = stem_of(request.label or job.model, job.id)
            file = await file._save_as(self._runtime, self.folder, stem)
            # before the preview, which may be interrupted
            await self._runtime.blocking(write_job_sidecar, job, file, index, request)
            if path := await self._save_preview(job, file):
                file = file.model_copy(update={"preview_path": path})
                await self._runtime.blocking(write_job_sidecar, job, file, index, request)
        except ResultExpiredError:
            return job.files[index]  # its link is refreshed next
        except Exception as problem:  # noqa: BLE001 - the job is paid for
            what = "has no sidecar" if file.path else "was not saved, its link is in the result"
            warn_user(f"job {job.id}: {file.type} {what}: {_reason(problem)}")
        return file

    async def _save_preview(self, job: Job, file: MediaFile) -> Path | None:
        """Save a 3D model's preview next to it, unless another file has saved that link."""
        link, preview = file.preview_url, file.preview
        if link is None or preview is None or file.path is None:
            return None
        for same in (other.preview for other in job.files if other.preview_url == link):
            if same is not None and await self._is_saved(same):
                return same.path
        try:
            stem = f"{file.path.stem}.preview"
            return (await preview._save_as(self._runtime, file.path.parent, stem)).path
        except Exception as problem:  # noqa: BLE001 - the model itself is saved
            warn_user(f"job {job.id}: the preview was not saved: {_reason(problem)}")
            return None


def _report_missing(job: Job, missing: int) -> None:
    """Warn of missing files; raise if no file is available."""
    problem = f"{missing} of {len(job.files)} files are missing: fresh links have expired too"
    if 0 < missing == len(job.files):
        raise ResultExpiredError(problem, job=job, hint="call result(job) later")
    if missing:
        warn_user(f"job {job.id}: {problem}")


def raise_if_failed(job: Job) -> Job:
    """Return a job that completed with files.

    Raises:
        JobNotFoundError: The service no longer knows the job, which is not a failure.
        JobFailedError: The job ended without files.
    """
    if job.status == "completed" and job.files:
        return job
    reason, advice = _REASONS.get(job.status, _REASONS["failed"])
    fault = job.error or {"code": None, "message": reason}
    row = error_row(None, fault["code"] or fault["message"])
    words = ": ".join(part for part in (fault["code"], fault["message"]) if part)
    text = f"the job ended as {job.status!r}: {words}"
    fields: dict[str, Any] = {"code": fault["code"], "request_id": job.request_id}
    fields |= {"host": job.host, "job": job}
    if row.name == "JobNotFoundError":
        raise JobNotFoundError(f"the service no longer knows the job: {text}", **fields)
    is_blocked = row.name == "ContentBlockedError"
    hint = (hint_text(row) if fault["code"] else None) or advice
    raise (JobBlockedError if is_blocked else JobFailedError)(text, hint=hint, **fields)


_REASONS = {
    "completed": (
        "it completed without a file",
        "call result(job) later; nothing is charged again",
    ),
    "cancelled": ("it was cancelled", "call again for a new job"),
    "failed": ("no reason was given", "change the input, then call again for a new job"),
}


def _reason(problem: Exception) -> object:
    """Return what a warning may show of a problem; other libraries' errors may quote a link."""
    known = isinstance(problem, TokenHubError | OSError)
    return problem if known else type(problem).__name__


def is_lost(error: TokenHubError) -> bool:
    """Return True if a paid job cannot be collected any more, also not later."""
    # the hint tells it from links that may be fresh again, and is in a pickle of a worker's error
    is_missing = isinstance(error, JobNotFoundError | ResultExpiredError)
    return is_missing and error.hint == _PAY_AGAIN


def result_of(job: Job) -> MediaResult:
    """Return the result of a completed job."""
    return MediaResult(
        job=job,
        files=job.files,
        revised_prompt=revised_text(job.raw_revised_prompt),
        raw_revised_prompt=job.raw_revised_prompt,
        seconds=job.seconds,
    )


def _is_completed(job: object) -> bool:
    return isinstance(job, Job) and job.status == "completed"


def _is_readable(file: MediaFile) -> bool:
    """Return True if a file can be read without its path."""
    return file._data is not None or (file.url is not None and not file.expired())


def _with_files(job: Job, files: list[MediaFile]) -> Job:
    return job.model_copy(update={"files": files})


def check_folder(folder: Path) -> None:
    """Create a folder for files, and refuse one that cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, ValueError) as problem:  # a name with a null byte is a ValueError
        reason = getattr(problem, "strerror", None) or str(problem)
        reason = "it is not a folder" if isinstance(problem, FileExistsError) else reason
    else:
        return
    raise InvalidRequestError(
        f"save_to: no file can be written in {str(folder)!r}: {reason}",
        phase="not sent",
        hint="give a folder that can be written; nothing was sent or charged",
    )


def effective_wait(*seconds: float | None) -> float:
    """Return the first that is not None, at most `MAX_WAIT`."""
    first = next(one for one in seconds if one is not None)
    if not first >= 0:
        raise InvalidRequestError(f"wait_timeout: {first} is not a number of seconds from 0")
    return min(first, MAX_WAIT)


# --- jobs in flight -------------------------------------------------------------------------------


class JobLimiter:
    """Limits the jobs in flight that this process waits for; the waiters are served in order."""

    def __init__(self) -> None:
        self.releases = 0
        """Number of releases; a waiter times out if it does not change."""
        self._held = 0
        self._queue: deque[tuple[Future[None], int]] = deque()
        self._lock = threading.Lock()

    @asynccontextmanager
    async def slot(self, runtime: Runtime, limit: int, wait: float) -> AsyncGenerator[None, None]:
        """Hold one of `limit` slots.

        Args:
            runtime: Waits.
            limit: Number of slots; while all are held, this call waits.
            wait: Seconds to wait in a queue that does not move.

        Raises:
            RateLimitError: The queue did not move for `wait` seconds.
        """
        waiter: Future[None] = Future()
        with self._lock:
            self._queue.append((waiter, limit))
            self._admit()
        try:
            releases = self.releases
            while not waiter.done() and not await runtime.wait(waiter, wait):
                if self.releases == releases:
                    raise RateLimitError(
                        f"no job of this account ended for {wait:g} s, so none was submitted",
                        phase="not sent",
                        hint="raise wait_timeout or max_in_flight; nothing was charged",
                    )
                releases = self.releases
            yield
        finally:
            with self._lock:
                if not waiter.cancel():
                    self._held -= 1
                    self.releases += 1
                self._admit()

    def _admit(self) -> None:
        while self._queue and (self._queue[0][0].cancelled() or self._held < self._queue[0][1]):
            waiter, _ = self._queue.popleft()
            if waiter.set_running_or_notify_cancel():
                self._held += 1
                waiter.set_result(None)


_limiters: dict[tuple[object, ...], JobLimiter] = {}


def shared_limiter(*owner: object) -> JobLimiter:
    """Return the process's limiter of `owner` (hash of the key, hosts, model)."""
    return _limiters.get(owner) or _limiters.setdefault(owner, JobLimiter())


if hasattr(os, "register_at_fork"):
    # a forked child does not wait for its parent's jobs, and would never release their slots
    os.register_at_fork(after_in_child=_limiters.clear)
