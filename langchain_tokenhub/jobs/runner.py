"""A job from the request to the saved files: ledger, limiter, service and files put together."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.catalogue import error_row
from langchain_tokenhub.errors import (
    RETRYABLE,
    InvalidRequestError,
    JobFailedError,
    JobNotFoundError,
    ResultExpiredError,
    TokenHubError,
)
from langchain_tokenhub.jobs import sidecars
from langchain_tokenhub.jobs.decode import revised_text
from langchain_tokenhub.jobs.file_store import stem_of
from langchain_tokenhub.jobs.history import RecentJobs
from langchain_tokenhub.jobs.ledger import KnownCallError, Ledger, LedgerHooks
from langchain_tokenhub.jobs.limiter import JobLimiter
from langchain_tokenhub.jobs.models import Job, JobRequest, MediaFile, MediaResult
from langchain_tokenhub.jobs.polling import polls
from langchain_tokenhub.jobs.progress import Reporter
from langchain_tokenhub.jobs.service import (
    Service,
    SubmitHooks,
    attach_job,
    query,
    raise_if_failed,
    submit,
)
from langchain_tokenhub.transport import Runtime

MAX_WAIT = 366 * 86400.0
"""Seconds; longer ones overflow where threads wait."""


@dataclass(frozen=True, kw_only=True)
class JobRunner:
    """Runs one call.

    Args:
        service: Model and transport.
        limiter: Counts the jobs in flight of this account and model.
        most: Jobs in flight at most.
        wait: Seconds to wait for a job.
        recent: Holds the jobs that this process knows.
        ledger: Records paid calls.
        reporter: Reports progress.
        folder: Folder for files.
    """

    service: Service
    limiter: JobLimiter
    most: int
    wait: float
    recent: RecentJobs
    reporter: Reporter
    ledger: Ledger | None = None
    folder: Path | None = None

    @property
    def _runtime(self) -> Runtime:
        return self.service.transport.runtime

    async def generate(self, request: JobRequest, *, again: bool = False) -> MediaResult:
        """Submit, wait and save; or resume the job that the ledger has for the same call."""
        with self.reporter.span.open("generate_content") as span:
            job = await self._job(request, again=again, wait=True)
            return span.finish(await self.save_results(job, request))

    async def submit(self, request: JobRequest, *, again: bool = False) -> Job:
        """Submit, and return the job; or the job that the ledger has for the same call."""
        with self.reporter.span.open("submit") as span:
            return span.finish(await self._job(request, again=again, wait=False))

    async def _job(self, request: JobRequest, *, again: bool, wait: bool) -> Job:
        async with self._forgetting_failed(request):
            while True:
                try:
                    await self._check(request, again=again)
                    async with self.limiter.slot(self._runtime, self.most, self.wait):
                        job = await self._submit_once(request, again=again)
                        if wait or (job.ended and not _is_completed(job)):
                            job = await self.wait_until_ended(job)
                        return job
                except KnownCallError as taken:
                    earlier = await self._await_other_worker(request, taken)
                if earlier is not None:  # None: that submit was refused
                    return await self._resume(earlier) if wait else earlier

    async def result(self, job: Job) -> MediaResult:
        """Wait for a job that was submitted earlier, and save."""
        request, span = self.recent.request(job.id), self.reporter.span
        async with self._forgetting_failed(request):
            with span.open("result"):
                job = await self._restore_saved_files(await self.wait_until_ended(job))
                return span.finish(await self.save_results(job, request))

    async def wait_until_ended(self, job: Job) -> Job:
        """Wait until a job has completed."""
        with attach_job(job):
            if job.status == "completed":
                return await self._refresh_links(job)
            if not job.ended:
                job = await self._poll_until_ended(job)
            return _finished(job)

    async def _poll_until_ended(self, job: Job) -> Job:
        async with aclosing(polls(self.service, job, wait=self.wait)) as states:
            async for state in states:
                await self.reporter.report(state)
                job = state
        self.recent.keep(job)
        return job

    async def save_results(self, job: Job, request: JobRequest) -> MediaResult:
        """Save the files of a job, record the job, and return its result.

        Raises:
            ResultExpiredError: The links are dead, and so are fresh ones. A failing disk warns.
        """
        with attach_job(job):
            job = await self._save_files(job, request)
            if self.folder is not None and await self._dead_files(job):
                job = await self._save_files(await self._refresh_links(job), request)
                await self._check_links(job)
            self.recent.keep(job, request)
            if self.ledger is not None and request.key:
                await self.ledger.update(request.key, job, request)
        return result_of(
            _with_files(job, [await self._drop_missing_path(file) for file in job.files])
        )

    async def _save_files(self, job: Job, request: JobRequest) -> Job:
        pictures: dict[str, Path] = {}
        numbers = range(len(job.files))
        return _with_files(job, [await self._save_file(job, n, request, pictures) for n in numbers])

    async def _dead_files(self, job: Job) -> list[MediaFile]:
        return [file for file in job.files if not _linked(file) and not await self._is_saved(file)]

    async def _check_links(self, job: Job) -> None:
        """Raise if no file is available; warn if some are missing."""
        dead = await self._dead_files(job)
        if not dead:
            return
        problem = f"{len(dead)} of {len(job.files)} files are missing: fresh links are dead too"
        if len(dead) == len(job.files):
            raise ResultExpiredError(problem, job=job, hint="call result(job) later")
        warn_user(f"job {job.id}: {problem}")

    async def _check(self, request: JobRequest, *, again: bool) -> None:
        """Check, before queueing, that the call is to be submitted and its files can be saved.

        Raises:
            KnownCallError: The call is in the ledger.
            TokenHubError: It cannot be sent.
        """
        ledger = None if again else self.ledger
        if ledger is not None and (entry := await ledger.look(request.key)):
            raise KnownCallError(entry)
        if request.problem is not None:
            raise request.problem
        if self.folder is not None:
            await self._runtime.blocking(functools.partial(check_folder, self.folder))

    async def _await_other_worker(self, request: JobRequest, taken: KnownCallError) -> Job | None:
        assert self.ledger is not None  # noqa: S101 - it has raised
        return await self.ledger.await_other_worker(request.key, taken.entry, self.wait)

    async def _resume(self, job: Job) -> Job:
        """Wait for the job of an earlier call."""
        try:
            return await self._restore_saved_files(await self.wait_until_ended(job))
        except JobNotFoundError as gone:
            gone.hint = "generate(..., again=True) submits and pays anew"
            raise

    @asynccontextmanager
    async def _forgetting_failed(self, request: JobRequest) -> AsyncGenerator[None, None]:
        """Remove a job that failed from the ledger: it is not charged, and may be made anew."""
        try:
            yield
        except JobFailedError as failed:
            job = failed.job
            if self.ledger and request.key and isinstance(job, Job) and not _is_completed(job):
                await self.ledger.forget(request.key, job)
            raise

    async def _submit_once(self, request: JobRequest, *, again: bool) -> Job:
        log = LedgerHooks(self.ledger, request, again=again) if self.ledger else SubmitHooks()

        def remember(job: Job) -> None:
            self.recent.keep(job, request)
            self.reporter.span.submitted(job)

        log.remember = remember
        job = await submit(
            self.service, request.body, deadline=self._runtime.now() + self.wait, log=log
        )
        self.recent.keep(job, request)
        return job

    async def _refresh_links(self, job: Job) -> Job:
        """Return a completed job with fresh links in place of dead ones, unless saved."""
        saved = [await self._is_saved(file) for file in job.files]
        both = list(zip(job.files, saved, strict=True))
        if job.files and all(mine or _linked(file) for file, mine in both):
            return job
        here = [file for file, mine in both if mine]
        try:
            fresh = await self._query_fresh_links(job)
        except ResultExpiredError as gone:
            if not here or not isinstance(gone.__cause__, JobNotFoundError | JobFailedError):
                raise
            warn_user(
                f"{len(job.files) - len(here)} of the job's files are missing: {gone.message}"
            )
            return _with_files(job, here)
        if len(fresh.files) != len(job.files):
            return fresh
        files = [file if mine else fresh.files[n] for n, (file, mine) in enumerate(both)]
        return _with_files(fresh, files)

    async def _restore_saved_files(self, job: Job) -> Job:
        """Return a job with the files that an interrupted call had saved."""
        several = len(job.files) > 1 or any(file.preview_url for file in job.files)
        if self.folder is None or not several:
            return job
        look = functools.partial(sidecars.sidecar_job, self.folder, job.id)
        found = await self._runtime.blocking(look)
        if found is None or len(found[0].files) != len(job.files):
            return job
        both = zip(found[0].files, job.files, strict=True)
        return _with_files(job, [old if await self._is_saved(old) else new for old, new in both])

    async def _drop_missing_path(self, file: MediaFile) -> MediaFile:
        """Return a file without a path at which there is no file."""
        there = file.path is None or await self._is_saved(file)
        return file if there else file.model_copy(update={"path": None})

    async def _is_saved(self, file: MediaFile) -> bool:
        return file.path is not None and await self._runtime.blocking(file.path.is_file)

    async def _query_fresh_links(self, job: Job) -> Job:
        """Query a job whose links are dead for new ones."""
        try:
            return raise_if_failed(await query(self.service, _with_files(job, [])))
        except (JobNotFoundError, JobFailedError) as gone:  # it had completed, and was paid for
            if isinstance(gone, JobFailedError) and _is_completed(gone.job):
                raise
            raise ResultExpiredError(
                "its files are gone, and the service does not know the job any more",
                job=job,
                hint="generate(..., again=True) submits and pays anew",
            ) from gone
        except RETRYABLE as failure:  # which others would retry with a new submit
            raise ResultExpiredError(
                f"the links are dead, and the query for fresh ones failed: {failure.message}",
                job=job,
                hint="call result(job) later; nothing is charged again",
            ) from failure

    async def _save_file(
        self, job: Job, index: int, request: JobRequest, pictures: dict[str, Path]
    ) -> MediaFile:
        """Save one file; if that fails, warn and return it as it was."""
        file = job.files[index]
        if self.folder is None or await self._is_saved(file):
            return file
        try:
            stem = stem_of(request.title or job.model, job.id)
            file = await file._save_as(self._runtime, self.folder, stem)
            await self._write_sidecar(job, file, index, request)  # before a cut in the preview
            pictured = await self._save_preview(job, file, pictures)
            if pictured is not file:
                file = pictured
                await self._write_sidecar(job, file, index, request)
        except ResultExpiredError:
            return job.files[index]  # its link is refreshed next
        except Exception as problem:  # noqa: BLE001 - the job is paid for, whatever fails here
            what = "has no sidecar" if file.path else "was not saved, its link is in the result"
            warn_user(f"job {job.id}: {file.type} {what}: {_reason(problem)}")
        return file

    async def _write_sidecar(
        self, job: Job, file: MediaFile, index: int, request: JobRequest
    ) -> None:
        note = functools.partial(sidecars.write_note, job, file, index, request)
        await self._runtime.blocking(note)

    async def _save_preview(
        self, job: Job, file: MediaFile, pictures: dict[str, Path]
    ) -> MediaFile:
        """Save a 3D model's preview beside it, unless `pictures` has that link's already."""
        link = file.preview_url
        if link is None:
            return file
        try:
            if link not in pictures:
                pictures[link] = await file._save_preview(self._runtime)
        except Exception as problem:  # noqa: BLE001 - the model itself is saved
            warn_user(f"job {job.id}: the preview was not saved: {_reason(problem)}")
            return file
        return file.model_copy(update={"preview_path": pictures[link]})


def _reason(problem: Exception) -> object:
    """Return what an error may show of a problem; foreign ones may quote a signed link."""
    known = isinstance(problem, TokenHubError | OSError)
    return problem if known else type(problem).__name__


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


def _finished(job: Job) -> Job:
    """Return a job that completed, or raise why it did not; one that is gone did not fail."""
    try:
        return raise_if_failed(job)
    except JobFailedError as failed:
        fault = job.error or {"code": None, "message": ""}
        if error_row(None, fault["code"] or fault["message"]).name != "JobNotFoundError":
            raise
        gone = failed
    raise JobNotFoundError(
        f"the service does not know the job any more: {gone.message}",
        code=gone.code,
        host=gone.host,
        request_id=gone.request_id,
        job=job,
    )


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


def _linked(file: MediaFile) -> bool:
    """Return True if a file can be read without its path."""
    return file._data is not None or (file.url is not None and not file.expired())


def _with_files(job: Job, files: list[MediaFile]) -> Job:
    return job.model_copy(update={"files": files})


def first_wait(*seconds: float | None) -> float:
    """Return the first that is not None, at most `MAX_WAIT`."""
    first = next(one for one in seconds if one is not None)
    if not first >= 0:
        raise InvalidRequestError(f"wait_timeout: {first} is not a number of seconds from 0")
    return min(first, MAX_WAIT)
