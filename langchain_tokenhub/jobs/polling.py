"""Polls jobs until they end."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

from langchain_tokenhub.errors import RETRYABLE, JobNotFoundError, JobTimeoutError, TokenHubError
from langchain_tokenhub.jobs import schedule
from langchain_tokenhub.jobs.models import Job
from langchain_tokenhub.jobs.service import Service, attach_job, interruption_note

logger = logging.getLogger("langchain_tokenhub.jobs")

POLL_SECONDS = 15.0
"""Maximum duration of one poll, retries included."""
MAX_FAILING_SECONDS = 120.0
"""Duration of consecutive failed polls after which the wait ends."""
NEW_JOB_SECONDS = 15.0
"""Age in seconds up to which a new job may be unknown to a host."""
JUST_SUBMITTED_SECONDS = 1.0
"""Age in seconds up to which a job counts as just submitted."""


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
        self._is_new = age is not None and age < JUST_SUBMITTED_SECONDS
        self._failing_since: float | None = None
        self._gap = 0.0
        self._rate = schedule.PollRate(service.site)
        self._next = now
        if self._is_new:
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
            load = 1.0 if is_test else schedule.shared.load(self._service.site)
            retry_after = schedule.poll_delay(self._prior(), self._age(), load=load)
        self._gap = schedule.add_jitter(min(max(retry_after, 0.001), 60.0))
        schedule.shared.record_rate(self._rate, self._gap)
        self._next = self._service.transport.runtime.now() + self._gap

    def _prior(self) -> schedule.Prior:
        percent = self.job.progress
        if percent is not None and 5 <= percent < 100:
            total = max(0.1, self._age()) * 100 / percent
            return schedule.Prior(math.log(total), 0.25**2, schedule.MAX_SEEN)
        return schedule.shared.of(self._service.model, self._service.typical)

    def _learn(self, seen: Job) -> None:
        if seen.status == "completed" and self._is_new:
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
