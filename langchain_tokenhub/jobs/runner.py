"""Runs a job from the request to the saved files, with the ledger, the limiter and the service."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.errors import (
    RETRYABLE,
    InvalidRequestError,
    JobFailedError,
    JobNotFoundError,
    ResultExpiredError,
    TokenHubError,
)
from langchain_tokenhub.jobs.files import stem_of
from langchain_tokenhub.jobs.history import JobHistory, sidecar_job, write_job_sidecar
from langchain_tokenhub.jobs.ledger import KnownCallError, LedgerHooks
from langchain_tokenhub.jobs.media_file import MediaFile
from langchain_tokenhub.jobs.models import Job, JobRequest, MediaResult, revised_text
from langchain_tokenhub.jobs.progress import Reporter
from langchain_tokenhub.jobs.schedule import JobLimiter
from langchain_tokenhub.jobs.service import (
    Service,
    SubmitHooks,
    attach_job,
    poll_until_ended,
    raise_if_failed,
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
            if self.folder is not None and await self._count_missing(job):
                job = await self._save_files(await self._refresh_links(job), request)
                if missing := await self._count_missing(job):
                    self._report_missing(job, missing)
            self.history.recent.keep(job, request)
            if (ledger := self.history.ledger) and request.key:
                await ledger.update(request.key, job, request)
        pathless = [file.model_copy(update={"path": None}) for file in job.files]
        job = _with_files(job, await self._prefer_saved(job.files, pathless))
        await self.reporter.report_files(job)
        return result_of(job)

    # --- before the wait ----------------------------------------------------------------------

    async def _check(self, request: JobRequest) -> None:
        """Check, before queueing, that the call is to be submitted and its files can be saved.

        Raises:
            KnownCallError: The call is in the ledger.
            TokenHubError: It cannot be sent.
        """
        ledger = None if request.again or request.is_looked_up else self.history.ledger
        if ledger is not None and (entry := await ledger.look(request.key)):
            raise KnownCallError(entry)
        if request.problem is not None:
            raise request.problem
        if self.folder is not None:
            await self._runtime.blocking(check_folder, self.folder)

    async def _submit(self, request: JobRequest) -> Job:
        ledger = self.history.ledger
        hooks = LedgerHooks(ledger, request, again=request.again) if ledger else SubmitHooks()

        def record_job(job: Job) -> None:
            self.history.recent.keep(job, request)
            self.reporter.span.record_submit(job)

        hooks.on_job = record_job
        deadline = self._runtime.now() + self.wait
        return await self.service.submit(request.body, deadline=deadline, hooks=hooks)

    async def _resume(self, job: Job) -> Job:
        """Wait for the job of an earlier call."""
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
                await ledger.forget(request.key, job)
            raise

    # --- links --------------------------------------------------------------------------------

    async def _refresh_links(self, job: Job) -> Job:
        """Return a completed job with fresh links in place of expired ones, unless saved."""
        missing = await self._count_missing(job)
        if job.files and not missing:
            return job
        try:
            fresh = await self._query_fresh_links(job)
        except ResultExpiredError as expired:
            saved = [file for file in job.files if await self._is_saved(file)]
            is_final = isinstance(expired.__cause__, JobNotFoundError | JobFailedError)
            if not saved or not is_final:
                raise
            missing = len(job.files) - len(saved)
            warn_user(f"{missing} of the job's files are missing: {expired.message}")
            return _with_files(job, saved)
        if len(fresh.files) != len(job.files):
            return fresh
        return _with_files(fresh, await self._prefer_saved(job.files, fresh.files))

    async def _query_fresh_links(self, job: Job) -> Job:
        """Query a job whose links have expired for new ones."""
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

    async def _count_missing(self, job: Job) -> int:
        """Return how many files are neither saved nor can be read from their links."""
        return len([f for f in job.files if not _is_readable(f) and not await self._is_saved(f)])

    def _report_missing(self, job: Job, missing: int) -> None:
        """Warn of missing files; raise if no file is available."""
        problem = f"{missing} of {len(job.files)} files are missing: fresh links have expired too"
        if missing == len(job.files):
            raise ResultExpiredError(problem, job=job, hint="call result(job) later")
        warn_user(f"job {job.id}: {problem}")

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
        previews: dict[str, Path] = {}
        numbers = range(len(job.files))
        return _with_files(job, [await self._save_file(job, n, request, previews) for n in numbers])

    async def _save_file(
        self, job: Job, index: int, request: JobRequest, previews: dict[str, Path]
    ) -> MediaFile:
        """Save one file; if that fails, warn and return it as it was."""
        file = job.files[index]
        if self.folder is None or await self._is_saved(file):
            return file
        try:
            stem = stem_of(request.label or job.model, job.id)
            file = await file._save_as(self._runtime, self.folder, stem)
            # before the preview, which may be interrupted
            await self._runtime.blocking(write_job_sidecar, job, file, index, request)
            if path := await self._save_preview(job, file, previews):
                file = file.model_copy(update={"preview_path": path})
                await self._runtime.blocking(write_job_sidecar, job, file, index, request)
        except ResultExpiredError:
            return job.files[index]  # its link is refreshed next
        except Exception as problem:  # noqa: BLE001 - the job is paid for
            what = "has no sidecar" if file.path else "was not saved, its link is in the result"
            warn_user(f"job {job.id}: {file.type} {what}: {_reason(problem)}")
        return file

    async def _save_preview(
        self, job: Job, file: MediaFile, previews: dict[str, Path]
    ) -> Path | None:
        """Save a 3D model's preview next to it, unless `previews` has the file of that link."""
        link, preview = file.preview_url, file.preview
        if link is None or preview is None or file.path is None:
            return None
        stem = f"{file.path.stem}.preview"
        try:
            if link not in previews:
                saved = await preview._save_as(self._runtime, file.path.parent, stem)
                previews[link] = saved.path or file.path
        except Exception as problem:  # noqa: BLE001 - the model itself is saved
            warn_user(f"job {job.id}: the preview was not saved: {_reason(problem)}")
        return previews.get(link)


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
