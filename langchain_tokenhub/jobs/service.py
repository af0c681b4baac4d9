"""Submits jobs, and polls them until they end.

A submit costs money: it is sent again only if it is proven that it was not accepted. Its job id is
recorded before anything else happens, and is in every later error.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import os
import random
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from langchain_tokenhub.catalogue import MediaKind, error_row
from langchain_tokenhub.errors import (
    RETRYABLE,
    JobError,
    JobFailedError,
    JobNotFoundError,
    JobTimeoutError,
    RateLimitError,
    SubmissionUnknownError,
    TokenHubError,
    error_from,
    fault_in,
)
from langchain_tokenhub.jobs.ledger import Ledger
from langchain_tokenhub.jobs.models import (
    Job,
    JobRequest,
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
        self,
        request: JobRequest,
        *,
        deadline: float,
        ledger: Ledger | None = None,
        on_job: Callable[[Job], None] = lambda _: None,
    ) -> Job:
        """Submit a job; wait while the account is at its job limit.

        Args:
            request: The job.
            deadline: Monotonic seconds until which the submit is retried at the job limit.
            ledger: Where each attempt and the job are recorded.
            on_job: Called as soon as the job's id is known, to record it in this process.

        Raises:
            KnownCallError: The call is in the ledger already.
            SubmissionUnknownError: The submit may have been accepted, and no id is known.
        """
        runtime, seconds = self.transport.runtime, 1.0
        while True:
            try:
                return await self._attempt(request, deadline, ledger, on_job)
            except RateLimitError as error:
                pause = add_jitter(max(seconds, error.retry_after or 0.0))
                is_busy = error_row(error.status, error.code).busy
                if not is_busy or runtime.now() + pause >= deadline:
                    raise
                logger.debug("the account is at its job limit: again in %.1f s", pause)
            await runtime.sleep(pause)
            seconds = min(seconds * 1.5, MAX_POLL_DELAY)

    async def _attempt(
        self,
        request: JobRequest,
        deadline: float,
        ledger: Ledger | None,
        on_job: Callable[[Job], None],
    ) -> Job:
        """Send one submit; once its first byte was sent, an interruption waits for the job's id.

        The end of the wait is like an interruption: the answer may still take `INTERRUPT_GRACE`.
        """
        runtime, send_state = self.transport.runtime, SendState()
        until = max(deadline, runtime.now() + INTERRUPT_GRACE)

        async def work() -> Job:
            job = await self._send(request, send_state, until)
            on_job(job)
            if send_state.is_cancelled:  # the caller may have stopped waiting
                logger.warning("interrupted while submitting; %s", interruption_note(job))
            if ledger is not None:
                await ledger.keep(job, request)
            return job

        try:
            async with ledger.hold_claim(request, send_state) if ledger else nullcontext():
                job, interrupted_by = await runtime.run_shielded(work(), send_state)
        except TokenHubError:
            raise
        except BaseException as interruption:
            if send_state.is_under_way:
                note = "a submit was under way and may have been charged"
                interruption.add_note(note)
                logger.warning("interrupted: %s", note)  # notes of an ended loop are not shown
            raise
        if interrupted_by is not None:
            interrupted_by.add_note(interruption_note(job))
            raise interrupted_by
        return job

    async def _send(self, request: JobRequest, send_state: SendState, deadline: float) -> Job:
        at_once = self.facts.query_path is None
        call = Call(
            path=self.facts.submit_path,
            body={"model": self.model, **request.body},
            retry_class="submit",
            is_fault=functools.partial(refusal_in, at_once=at_once),
            is_accepted=is_accepted,
            timeouts=Timeouts.of(self.timeout, IMMEDIATE_TIMEOUTS if at_once else SUBMIT_TIMEOUTS),
            deadline=deadline,
            send_state=send_state,
        )
        sent_at = datetime.now(UTC)
        try:
            return self._accepted_job(await self.transport.json(call), sent_at)
        except SubmissionUnknownError:
            raise
        except TokenHubError:
            send_state.renew()  # nothing may have been charged, interrupted or not
            raise

    def _accepted_job(self, answer: Answer, sent_at: datetime) -> Job:
        """Return the job that a submit was answered with, or raise why there is none."""
        now = datetime.now(UTC)
        job = decode_submit(answer, self.facts, self.model, submitted_at=sent_at, now=now)
        if job is not None:
            return job
        error: TokenHubError = SubmissionUnknownError(
            "the submit was answered without a job ID; it may have been charged",
            hint="it was not sent again; check the usage in the console before submitting again",
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
        self._rate = PollRate(service.site)
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
        stats.record_rate(self._rate, math.inf)

    def _age(self) -> float:
        return self._service.transport.runtime.now() - self._submitted

    def _plan(self, retry_after: float | None) -> None:
        if self.job.ended:
            return
        if retry_after is None:
            is_test = self._service.allow_loopback
            load = 1.0 if is_test else stats.relative_load(self._service.site)
            retry_after = poll_delay(self._prior(), self._age(), load=load)
        self._gap = add_jitter(min(max(retry_after, 0.001), 60.0))
        stats.record_rate(self._rate, self._gap)
        self._next = self._service.transport.runtime.now() + self._gap

    def _prior(self) -> Prior:
        percent = self.job.progress
        if percent is not None and 5 <= percent < 100:
            total = max(0.1, self._age()) * 100 / percent
            return Prior(math.log(total), 0.25**2, MAX_SEEN)
        return stats.get(self._service.model, self._service.typical)

    def _learn(self, seen: Job) -> None:
        if seen.status == "completed" and self._is_just_submitted:
            seconds = self._age() - self._gap / 2
            stats.learn(self._service.model, self._service.typical, seconds)

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
        # it is not of the class of `error`, which retry middleware would answer with a new submit
        names = ("status", "code", "request_id", "host", "attempts", "response", "phase")
        facts: dict[str, Any] = {name: getattr(error, name) for name in names}
        return JobTimeoutError(
            f"the job could not be queried for {seconds:.0f} s: {error.message}",
            job=self.job,
            hint=interruption_note(self.job),
            **facts,
        )

    def _timeout_error(self) -> JobTimeoutError:
        job = self.job
        return JobTimeoutError(
            f"the job is {job.service_status or job.status!r} after a wait of {self._wait:g} s",
            job=job,
            host=job.host,
            request_id=job.request_id,
            hint=f"call result(job) or pass job_id={job.id!r} to keep waiting; "
            "nothing is charged again",
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


# --- when to poll ---------------------------------------------------------------------------------

# A poll costs a request; a longer pause detects the end later. The pause follows from the
# probability that a job of this age ends within the next seconds. A schedule that knows the usual
# duration needs half the requests of a geometric one at equal lateness.

MIN_POLL_DELAY = 0.5
"""Minimum seconds between two polls of a job."""
MAX_POLL_DELAY = 10.0
"""Maximum seconds between two polls of a job at normal load, and between two tries to submit."""
POLL_COST = 0.004
"""Cost of a poll, relative to lateness."""
OUTLIERS = 0.15
"""Share of jobs with unusual durations: early failures, stuck queues."""
MAX_OUTLIER_SECONDS = 1200.0
"""Seconds within which outliers end, spread evenly over the logarithm."""
MAX_SEEN = 40
"""Number of jobs after which each further duration is averaged in with a weight of 1/40."""
MAX_POLLS = 16.0
"""Polls per second from one process to one site; the service accepts 20."""


@dataclass(frozen=True)
class Prior:
    """Distribution of a model's job durations: ln(seconds) is normal.

    Args:
        mean: Of ln(seconds).
        variance: Of ln(seconds).
        seen: Number of jobs that it is based on; the catalogue's value counts as two.
    """

    mean: float
    variance: float = 0.8**2
    seen: int = 2

    @classmethod
    def from_estimate(cls, seconds: float) -> Prior:
        """Return the distribution before the first job."""
        return cls(math.log(max(0.1, seconds)))

    def learn(self, seconds: float) -> Prior:
        """Return the distribution after a job that took `seconds`."""
        seen = min(self.seen + 1, MAX_SEEN)
        share = 1 / seen
        off = math.log(max(0.05, seconds)) - self.mean
        return Prior(
            self.mean + share * off, (1 - share) * (self.variance + share * off * off), seen
        )

    def probability_ended(self, seconds: float) -> float:
        """Return the probability that a job has ended at this age."""
        if seconds <= 0:
            return 0.0
        spread = max(0.15, math.sqrt(self.variance * (1 + 1 / self.seen))) * (1 + 1 / self.seen)
        usual = 0.5 * (1 + math.erf((math.log(seconds) - self.mean) / spread / math.sqrt(2)))
        unusual = min(1.0, max(0.0, math.log(seconds) / math.log(MAX_OUTLIER_SECONDS)))
        return (1 - OUTLIERS) * usual + OUTLIERS * unusual


def poll_delay(prior: Prior, age: float, *, load: float = 1.0) -> float:
    """Return the seconds until the next poll of a job.

    Args:
        prior: Distribution of durations.
        age: Seconds since the submit.
        load: Polls of this process relative to `MAX_POLLS`, at least 1.
    """
    cost = POLL_COST * load**2
    shortest, longest = MIN_POLL_DELAY * load, MAX_POLL_DELAY * load
    done = prior.probability_ended(age)

    def is_worth_it(seconds: float) -> bool:
        chance = (prior.probability_ended(age + seconds) - done) / max(1e-9, 1 - done)
        return chance * seconds / (2 * age + seconds) >= cost

    low, high = shortest, longest
    if is_worth_it(low):
        return low
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if is_worth_it(middle) else (middle, high)
    return high


def add_jitter(seconds: float) -> float:
    """Return `seconds` changed by up to 5 %, so that simultaneous jobs are not polled together."""
    return seconds * random.uniform(0.95, 1.05)  # noqa: S311 - jitter, not a secret


@dataclass
class PollRate:
    """The rate at which one job is polled.

    Args:
        site: The site that is polled.
        per_second: Polls per second; None after the last.
    """

    site: str
    per_second: float | None = 0.0


class DurationStats:
    """The job durations of each model in this process, and the process's poll rates."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all, as in a forked child."""
        self._priors: dict[str, Prior] = {}
        self._rates: dict[str, float] = {}
        self._lock = threading.Lock()

    def get(self, model: str, typical: float) -> Prior:
        """Return the distribution for `model`; `typical` is in seconds, before the first job."""
        return self._priors.get(model) or Prior.from_estimate(typical)

    def learn(self, model: str, typical: float, seconds: float) -> None:
        """Record the duration of a completed job."""
        with self._lock:
            self._priors[model] = self.get(model, typical).learn(seconds)

    def relative_load(self, site: str) -> float:
        """Return this process's polls of `site` relative to `MAX_POLLS`, at least 1."""
        return max(1.0, self._rates.get(site, 0.0) / MAX_POLLS)

    def record_rate(self, rate: PollRate, seconds: float) -> None:
        """Record that a job is polled once in `seconds`; infinity ends its polls.

        Later calls are ignored: a poll on another thread may still return.
        """
        with self._lock:
            if rate.per_second is None:
                return
            total = self._rates.get(rate.site, 0.0) + 1 / seconds - rate.per_second
            self._rates[rate.site] = max(0.0, total)
            rate.per_second = 1 / seconds or None


stats = DurationStats()
"""The durations and rates of this process."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=stats.reset)
