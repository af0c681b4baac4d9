"""Submits jobs, and queries them until they end.

A submit costs money: it is sent again only if it is proven that it was not accepted. Its job id is
recorded before anything else happens, and is in every later error.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from langchain_tokenhub.catalogue import MediaKind, error_row
from langchain_tokenhub.errors import (
    RETRYABLE,
    JobBlockedError,
    JobError,
    JobFailedError,
    JobNotFoundError,
    JobTimeoutError,
    RateLimitError,
    SubmissionUnknownError,
    TokenHubError,
    error_from,
    fault_in,
    hint_text,
)
from langchain_tokenhub.jobs import schedule
from langchain_tokenhub.jobs.models import (
    Job,
    decode_query,
    decode_submit,
    is_accepted,
    refusal_in,
    refusal_text,
    reports_failure,
)
from langchain_tokenhub.transport import Answer, Call, SendState, Timeouts, Transport
from langchain_tokenhub.transport.error_mapping import redact
from langchain_tokenhub.transport.runtime import INTERRUPT_GRACE

logger = logging.getLogger("langchain_tokenhub.jobs")

SUBMIT_TIMEOUTS = Timeouts(read=60.0, write=60.0)
"""A submit may carry megabytes of base64."""
IMMEDIATE_TIMEOUTS = Timeouts(read=120.0)
"""For a model whose answer holds the image."""
QUERY_TIMEOUTS = Timeouts(read=15.0)
"""Each attempt to read a job's state; a poll may have several."""
POLL_SECONDS = 15.0
"""Maximum duration of one poll, retries included."""
MAX_FAILING_SECONDS = 120.0
"""Duration of consecutive failed polls after which the wait ends."""
NEW_JOB_SECONDS = 15.0
"""Age in seconds up to which a new job may be unknown to a host."""
JUST_SUBMITTED_SECONDS = 1.0
"""Age in seconds up to which a job counts as just submitted."""


class SubmitHooks:
    """Called around each submit; by default nothing is recorded."""

    key: str | None = None

    on_job: Callable[[Job], None] = staticmethod(lambda _job: None)
    """Called as soon as the job's id is known, to record it in this process."""

    async def on_begin(self) -> None:
        """Record that a submit is about to be sent."""

    async def on_accepted(self, job: Job) -> None:
        """Record the job; called before an interruption is raised."""

    async def on_lost(self) -> None:
        """Record that the submit may have been accepted, and that its id is lost."""

    async def on_refused(self) -> None:
        """Record that nothing was accepted."""


@contextmanager
def attach_job(job: Job) -> Iterator[None]:
    """Add `job` to errors, and a note and a log line to interruptions."""
    try:
        yield
    except TokenHubError as error:
        if error.job is None:
            error.job = job
            if not isinstance(error, JobError):
                advice = f"collect job {job.model}/{job.id} with result(id)"
                error.hint = f"{error.hint.rstrip('.。')}; then {advice}" if error.hint else advice
        raise
    except (asyncio.CancelledError, KeyboardInterrupt, SystemExit) as interruption:
        noted = any(job.id in note for note in getattr(interruption, "__notes__", ()))
        if not noted and job.status not in {"failed", "cancelled"}:
            interruption.add_note(interruption_note(job))
            logger.warning("interrupted; %s", interruption_note(job))
        raise


def interruption_note(job: Job) -> str:
    """Return the state of a job, and how to collect it."""
    state = "is completed" if job.ended else "continues"
    return f"job {job.model}/{job.id} {state} and is paid for; collect it with result(id)"


@dataclass(frozen=True, kw_only=True)
class Service:
    """A media model and the transport to it.

    Args:
        transport: Sends the requests.
        model: Id as sent.
        facts: The model's row in the catalogue, or its kind's.
        allow_loopback: Whether the API is on loopback.
        timeout: The caller's timeout of one request; None for the defaults.
    """

    transport: Transport
    model: str
    facts: MediaKind
    allow_loopback: bool = False
    timeout: Any = None

    @property
    def site(self) -> str:
        """Key under which this process counts its polls."""
        return self.transport.endpoint.hosts.origins[0]

    @property
    def typical(self) -> float:
        """Seconds that a job takes according to the catalogue."""
        return self.facts.typical_seconds or 60.0

    async def submit(
        self, body: Mapping[str, Any], *, deadline: float, hooks: SubmitHooks | None = None
    ) -> Job:
        """Submit a job; wait while the account is at its job limit.

        Args:
            body: The parameters as they are sent, without the model.
            deadline: Monotonic seconds until which the submit is retried at the job limit.
            hooks: Called at each step.

        Raises:
            SubmissionUnknownError: The submit may have been accepted, and no id is known.
        """
        hooks, runtime, seconds = hooks or SubmitHooks(), self.transport.runtime, 1.0
        while True:
            try:
                return await self._attempt(body, hooks, deadline)
            except RateLimitError as error:
                pause = schedule.add_jitter(max(seconds, error.retry_after or 0.0))
                is_busy = error_row(error.status, error.code).busy
                if not is_busy or runtime.now() + pause >= deadline:
                    raise
                logger.debug("the account is at its job limit: again in %.1f s", pause)
            await runtime.sleep(pause)
            seconds = min(seconds * 1.5, schedule.MAX_POLL_DELAY)

    async def _attempt(self, body: Mapping[str, Any], hooks: SubmitHooks, deadline: float) -> Job:
        """Send one submit; once its first byte was sent, an interruption waits for the job's id.

        The end of the wait is like an interruption: the answer may still take `INTERRUPT_GRACE`.
        """
        send_state = SendState()
        await hooks.on_begin()
        try:
            until = max(deadline, self.transport.runtime.now() + INTERRUPT_GRACE)
            work = self._send(body, hooks, send_state, until)
            job, interrupted_by = await self.transport.runtime.run_shielded(work, send_state)
        except SubmissionUnknownError as unknown:
            unknown.ledger_key = hooks.key
            await hooks.on_lost()
            raise
        except TokenHubError:
            await hooks.on_refused()
            raise
        except BaseException as interruption:
            if send_state.is_under_way:
                note = "a submit was under way and may have been charged"
                interruption.add_note(note)
                logger.warning("interrupted: %s", note)  # notes of an ended loop are not shown
            else:
                await hooks.on_refused()
            raise
        if interrupted_by is not None:
            interrupted_by.add_note(interruption_note(job))
            raise interrupted_by
        return job

    async def _send(
        self, body: Mapping[str, Any], hooks: SubmitHooks, send_state: SendState, deadline: float
    ) -> Job:
        at_once = self.facts.query_path is None
        call = Call(
            path=self.facts.submit_path,
            body={"model": self.model, **body},
            retry_class="submit",
            is_fault=functools.partial(refusal_in, at_once=at_once),
            is_accepted=is_accepted,
            timeouts=Timeouts.of(self.timeout, IMMEDIATE_TIMEOUTS if at_once else SUBMIT_TIMEOUTS),
            deadline=deadline,
            send_state=send_state,
        )
        sent_at = datetime.now(UTC)
        try:
            answer = await self.transport.json(call)
            job = self._accepted_job(answer, sent_at)
        except SubmissionUnknownError:
            raise
        except TokenHubError:
            send_state.renew()  # nothing may have been charged, interrupted or not
            raise
        hooks.on_job(job)
        if send_state.is_cancelled:  # the caller may have stopped waiting
            logger.warning("interrupted while submitting; %s", interruption_note(job))
        await hooks.on_accepted(job)
        return job

    def _accepted_job(self, answer: Answer, sent_at: datetime) -> Job:
        """Return the job that a submit was answered with.

        Raises:
            JobFailedError: The submit was refused.
            SubmissionUnknownError: The answer does not show whether it was accepted.
        """
        now = datetime.now(UTC)
        job = decode_submit(answer, self.facts, self.model, submitted_at=sent_at, now=now)
        if job is not None:
            return job
        error: TokenHubError = SubmissionUnknownError(
            "the submit was answered without a job ID; it may have been charged",
            hint="it was not sent again; look at the console's usage before you submit once more",
        )
        if reason := refusal_text(answer.data):
            error = JobFailedError(f"the service refused the submit: {reason}")
        error.status, error.request_id = answer.status, answer.request_id
        error.host, error.attempts, error.phase = answer.host, answer.attempts, "answered"
        redact(error, [self.transport.endpoint.key()])  # the service may echo it
        raise error

    async def query(self, job: Job) -> Job:
        """Return the current state of a job; a completed job with files needs no request."""
        if job.status == "completed" and job.files:
            return job
        with attach_job(job):
            return (await self.send_query(job))[0]

    async def send_query(self, job: Job, deadline: float | None = None) -> tuple[Job, float | None]:
        """Return the current state of a job, and the seconds of a `Retry-After`."""
        if self.facts.query_path is None:
            raise JobNotFoundError(
                f"{self.model} answers at once and has no jobs to query",
                job=job,
                hint="leave the job ID out, or use the tool of the model that created the job",
            )
        call = Call(
            path=self.facts.query_path,
            body={"model": job.model, "id": job.id},
            timeouts=Timeouts.of(self.timeout, QUERY_TIMEOUTS),
            is_fault=lambda _: False,
            prefer=job.host,
            deadline=deadline,
        )
        answer = await self.transport.json(call)
        if fault_in(answer.data) and not reports_failure(answer.data):
            raise error_from(answer.status, {}, answer.data, host=answer.host)
        seen = decode_query(job, answer, self.facts, now=datetime.now(UTC))
        return seen, answer.retry_after


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


class Watch:
    """The polling state of one job.

    Args:
        service: Model and transport.
        job: The job to wait for.
        wait: Seconds from now; one last poll is made at their end.
    """

    def __init__(self, service: Service, job: Job, wait: float) -> None:
        now, age = service.transport.runtime.now(), job.age(datetime.now(UTC))
        self.job = job
        self._service = service
        self._wait = wait
        self._deadline = now + wait
        self._submitted = now - (age or 0.0)
        self._is_age_known = age is not None
        self._is_just_submitted = age is not None and age < JUST_SUBMITTED_SECONDS
        self._failing_since: float | None = None
        self._gap = 0.0
        self._rate = schedule.PollRate(service.site)
        self._next = now
        if self._is_just_submitted:
            self._plan(None)

    @property
    def due(self) -> float:
        """When to poll next."""
        return min(self._next, self._deadline)

    async def poll(self) -> Job:
        """Query the job once, and plan the next poll.

        Raises:
            JobTimeoutError: This was the last poll, and the job continues.
        """
        now = self._service.transport.runtime.now()
        until = max(min(now + POLL_SECONDS, self._deadline), now + 5.0)
        try:
            seen, retry_after = await self._service.send_query(self.job, until)
        except TokenHubError as error:
            self._tolerate(error)
            retry_after = error.retry_after
        else:
            self._failing_since = None
            self._learn(seen)
            self.job = seen
        self._plan(retry_after)
        if now >= self._deadline and not self.job.ended:
            raise self._timeout_error()
        return self.job

    def close(self) -> None:
        """Stop counting this job's polls."""
        schedule.shared.record_rate(self._rate, math.inf)

    def _age(self) -> float:
        return self._service.transport.runtime.now() - self._submitted

    def _plan(self, retry_after: float | None) -> None:
        if self.job.ended:
            return
        if retry_after is None:
            is_test = self._service.allow_loopback
            load = 1.0 if is_test else schedule.shared.relative_load(self._service.site)
            retry_after = schedule.poll_delay(self._prior(), self._age(), load=load)
        self._gap = schedule.add_jitter(min(max(retry_after, 0.001), 60.0))
        schedule.shared.record_rate(self._rate, self._gap)
        self._next = self._service.transport.runtime.now() + self._gap

    def _prior(self) -> schedule.Prior:
        percent = self.job.progress
        if percent is not None and 5 <= percent < 100:
            total = max(0.1, self._age()) * 100 / percent
            return schedule.Prior(math.log(total), 0.25**2, schedule.MAX_SEEN)
        return schedule.shared.get(self._service.model, self._service.typical)

    def _learn(self, seen: Job) -> None:
        if seen.status == "completed" and self._is_just_submitted:
            seconds = self._age() - self._gap / 2
            schedule.shared.learn(self._service.model, self._service.typical, seconds)

    def _tolerate(self, error: TokenHubError) -> None:
        """Ignore a temporary failure, or raise."""
        now = self._service.transport.runtime.now()
        missing = isinstance(error, JobNotFoundError) or error.status == 404
        if missing and self._is_age_known and self._age() < NEW_JOB_SECONDS:
            return
        other_host = self.job.host is not None and error.host not in {None, self.job.host}
        if not (other_host if missing else isinstance(error, RETRYABLE)):
            raise error
        self._failing_since = now if self._failing_since is None else self._failing_since
        if now - self._failing_since >= MAX_FAILING_SECONDS:
            raise self._failing_error(error, now - self._failing_since) from error
        logger.debug("a poll of job %s failed, polling continues: %s", self.job.id, error.message)

    def _failing_error(self, error: TokenHubError, seconds: float) -> JobTimeoutError:
        """Return the error for polls that keep failing.

        It is not of the class of `error`, which retry middleware would answer with a new submit.
        """
        message = f"the job could not be queried for {seconds:.0f} s: {error.message}"
        names = ("status", "code", "request_id", "host", "attempts", "response", "phase")
        facts: dict[str, Any] = {name: getattr(error, name) for name in names}
        return JobTimeoutError(message, job=self.job, hint=interruption_note(self.job), **facts)

    def _timeout_error(self) -> JobTimeoutError:
        job = self.job
        return JobTimeoutError(
            f"the job is {job.service_status or job.status!r} after a wait of {self._wait:g} s",
            job=job,
            host=job.host,
            request_id=job.request_id,
            hint=f"call result(job) or pass job_id={job.id!r} to wait on; nothing is charged again",
        )


async def poll_until_ended(service: Service, job: Job, *, wait: float) -> AsyncGenerator[Job, None]:
    """Yield `job`, then its state after each poll, until it ends.

    Args:
        service: Model and transport.
        job: The job to wait for.
        wait: Seconds from now; one last poll is made at their end.

    Raises:
        JobTimeoutError: The job did not end in time, and continues.
    """
    runtime, watch = service.transport.runtime, Watch(service, job, wait)
    try:
        yield job
        while not watch.job.ended:
            with attach_job(watch.job):
                await runtime.sleep(max(0.0, watch.due - runtime.now()))
                seen = await watch.poll()
            yield seen
    finally:
        watch.close()
