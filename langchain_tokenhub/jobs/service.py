"""Submit a job, query it, wait for it. Every wait goes through the runtime, sync or async.

A submit is paid. It is sent again only if it is proven that it was not accepted; its job id is
recorded before anything else happens, and is in every error from then on.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from langchain_tokenhub.catalogue import MediaKind, error_row
from langchain_tokenhub.errors import (
    APIConnectionError,
    APITimeoutError,
    JobBlockedError,
    JobFailedError,
    JobNotFoundError,
    JobTimeoutError,
    RateLimitError,
    ServerError,
    SubmissionUnknownError,
    TokenHubError,
    error_from,
    fault_in,
    hint_text,
)
from langchain_tokenhub.jobs import schedule
from langchain_tokenhub.jobs.decode import (
    Arrival,
    decode_queried,
    decode_submitted,
    refusal_in,
    refusal_text,
    reports_failure,
)
from langchain_tokenhub.jobs.models import Job
from langchain_tokenhub.transport import Answer, Call, SendState, Timeouts, Transport

logger = logging.getLogger("langchain_tokenhub.jobs")

SUBMIT = Timeouts(read=60.0, write=60.0)
"""A submit may carry megabytes of base64."""
AT_ONCE = Timeouts(read=120.0)
"""Where the answer is the picture."""
QUERY = Timeouts(read=15.0)
POLL_SECONDS = 15.0
"""Of one poll, repetitions included, before the wait's own deadline cuts it."""
TROUBLE_SECONDS = 120.0
"""Of polls failing one after another for passing reasons, until the wait gives up."""
YOUNG = 15.0
"""Seconds in which a new job may be unknown to the host that is asked."""
FRESH = 1.0
"""Seconds in which a job counts as just submitted, so that the schedule begins at its beginning."""
_UNDER_WAY = "a submit was under way and may have been charged"
_PASSING = (APIConnectionError, APITimeoutError, ServerError, RateLimitError)


class SubmitHooks:
    """Called around each submit; by default nothing is recorded."""

    key: str | None = None

    async def begin(self) -> None:
        """Record that a submit is about to be sent."""

    async def accepted(self, job: Job) -> None:
        """Record the job; called before an interruption is raised."""

    async def lost(self) -> None:
        """Record that it may have been accepted, and that its id will never come."""

    async def refused(self) -> None:
        """Record that nothing was accepted."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """A media model, and how to reach it.

    Args:
        transport: What sends.
        model: Id as it is sent.
        facts: The model's row, or its kind's.
        allow_loopback: Whether the API is on loopback.
        timeout: The user's, for one request; None is the default of each.
    """

    transport: Transport
    model: str
    facts: MediaKind
    allow_loopback: bool = False
    timeout: Any = None

    @property
    def site(self) -> str:
        """What the site is called where polls are counted."""
        return self.transport.endpoint.hosts.origins[0]

    @property
    def typical(self) -> float:
        """Seconds that a job takes, as the catalogue has it."""
        return self.facts.typical_seconds or 60.0

    def arrival(self, answer: Answer) -> Arrival:
        """Return where and when `answer` came."""
        request_id = answer.request_id
        if self.facts.query_path is None:  # the answer's id is the job's
            request_id = request_id or answer.client_request_id
        return Arrival(host=answer.host, request_id=request_id, at=datetime.now(UTC))


@contextmanager
def about(job: Job) -> Iterator[None]:
    """Let every error that passes carry `job`, and every interruption name it."""
    try:
        yield
    except TokenHubError as error:
        error.job = error.job or job
        raise
    except (asyncio.CancelledError, KeyboardInterrupt, SystemExit) as interruption:
        known = any(job.id in note for note in getattr(interruption, "__notes__", ()))
        if not known and job.status not in {"failed", "cancelled"}:
            interruption.add_note(interruption_note(job))
        raise


def interruption_note(job: Job) -> str:
    """Return the sentence that keeps a job from being lost."""
    state = "is completed" if job.ended else "goes on"
    return f"job {job.model}/{job.id} {state} and is paid for; collect it with result({job.id!r})"


async def submit(
    service: Service, body: Mapping[str, Any], *, deadline: float, log: SubmitHooks | None = None
) -> Job:
    """Submit a job, and wait while the account is full.

    Args:
        service: Model and transport.
        body: The parameters as they are sent, without the model.
        deadline: Monotonic seconds until which a full account is waited out.
        log: Called at each step.

    Raises:
        SubmissionUnknownError: It may have been accepted, and no id is known.
    """
    log, runtime, seconds = log or SubmitHooks(), service.transport.runtime, 1.0
    while True:
        try:
            return await _attempt(service, body, log)
        except RateLimitError as full:
            pause = schedule.jittered(max(seconds, full.retry_after or 0.0))
            if not error_row(full.status, full.code).busy or runtime.now() + pause >= deadline:
                raise
            logger.debug("the account is full: again in %.1f s", pause)
        await runtime.sleep(pause)
        seconds = min(seconds * 1.5, schedule.LATEST)


async def _attempt(service: Service, body: Mapping[str, Any], log: SubmitHooks) -> Job:
    """Send one submit; after its first byte an interruption waits for the job's id."""
    send_state = SendState()
    await log.begin()
    try:
        work = _send(service, body, log, send_state)
        job, late = await service.transport.runtime.shielded(work, send_state)
    except SubmissionUnknownError as unknown:
        unknown.ledger_key = log.key
        await log.lost()
        raise
    except TokenHubError:
        await log.refused()
        raise
    except BaseException as interruption:
        if send_state.under_way:
            interruption.add_note(_UNDER_WAY)
            logger.warning("interrupted: %s", _UNDER_WAY)  # notes of an ended loop are not shown
        else:
            await log.refused()
        raise
    if late is not None:
        logger.warning("interrupted while submitting; %s", interruption_note(job))
        late.add_note(interruption_note(job))
        raise late
    return job


async def _send(
    service: Service, body: Mapping[str, Any], log: SubmitHooks, send_state: SendState
) -> Job:
    at_once = service.facts.query_path is None
    call = Call(
        path=service.facts.submit_path,
        body={"model": service.model, **body},
        retry_class="submit",
        is_fault=functools.partial(refusal_in, at_once=at_once),
        timeouts=Timeouts.of(service.timeout, AT_ONCE if at_once else SUBMIT),
        send_state=send_state,
    )
    begun = datetime.now(UTC)
    answer = await service.transport.json(call)
    arrival = service.arrival(answer)
    job = decode_submitted(answer.data, service.facts, service.model, arrival, submitted_at=begun)
    if job is None:
        raise _not_accepted(answer)
    await log.accepted(job)
    return job


def _not_accepted(answer: Answer) -> TokenHubError:
    """Return the error of an answer without a job: a refusal, or nobody knows what."""
    told: dict[str, Any] = {
        "status": answer.status,
        "request_id": answer.request_id,
        "host": answer.host,
        "attempts": answer.attempts,
        "phase": "answered",
    }
    if reason := refusal_text(answer.data):
        return JobFailedError(f"the service refused the submit: {reason}", **told)
    return SubmissionUnknownError(
        "the submit was answered without a job id; it may have been charged",
        hint="it was not sent again; look at the console's usage before you submit once more",
        **told,
    )


async def query(service: Service, job: Job, *, deadline: float | None = None) -> Job:
    """Ask once how the job stands; one that ended with its files is not asked for."""
    if job.status == "completed" and job.files:
        return job
    with about(job):
        return (await _ask(service, job, deadline))[0]


async def _ask(service: Service, job: Job, deadline: float | None) -> tuple[Job, float | None]:
    """Return the job as it stands, and in how many seconds the service wants to be asked again."""
    if service.facts.query_path is None:
        raise JobNotFoundError(
            f"{service.model} answers at once; it has no jobs to ask for", job=job
        )
    call = Call(
        path=service.facts.query_path,
        body={"model": job.model, "id": job.id},
        timeouts=Timeouts.of(service.timeout, QUERY),
        is_fault=lambda _: False,
        prefer=job.host,
        deadline=deadline,
    )
    answer = await service.transport.json(call)
    if fault_in(answer.data) and not reports_failure(answer.data):
        raise error_from(answer.status, {}, answer.data, host=answer.host)
    seen = decode_queried(job, answer.data, service.facts, service.arrival(answer))
    return seen, answer.retry_after


class Watch:
    """A job under watch: how it stands, when to look again, and what trouble there was."""

    def __init__(self, service: Service, job: Job) -> None:
        age = job.age(datetime.now(UTC))
        self.job = job
        self._service = service
        self._begun = service.transport.runtime.now()
        self._born = self._begun - (age or 0.0)
        self._since_submit = age is not None and age < FRESH
        self._young = age is not None
        self._trouble: float | None = None
        self._gap = 0.0
        self._rate = 0.0
        self.due = self._begun
        if self._since_submit:
            self._plan(None)

    async def look(self, deadline: float) -> Job:
        """Ask how the job stands, and decide when to ask again."""
        now = self._service.transport.runtime.now()
        until = max(min(now + POLL_SECONDS, deadline), now + 5.0)
        try:
            seen, hint = await _ask(self._service, self.job, until)
        except TokenHubError as error:
            self._tolerate(error)
            hint = error.retry_after
        else:
            self._trouble = None
            self._learn(seen)
            self.job = seen
        self._plan(hint)
        return self.job

    def close(self) -> None:
        """Stop counting this job's polls."""
        self._rate = schedule.shared.polling(self._service.site, self._rate, math.inf)

    def _age(self) -> float:
        return self._service.transport.runtime.now() - self._born

    def _plan(self, hint: float | None) -> None:
        if self.job.ended:
            return
        if hint is None:
            hint = schedule.pause(self._prior(), self._age(), crowd=self._crowd())
        self._gap = schedule.jittered(min(max(hint, 0.001), 60.0))
        self._rate = schedule.shared.polling(self._service.site, self._rate, self._gap)
        self.due = self._service.transport.runtime.now() + self._gap

    def _prior(self) -> schedule.Prior:
        done = self.job.progress
        if done is not None and 5 <= done < 100:  # the service itself says how far it is
            whole = max(0.1, self._age()) * 100 / done
            return schedule.Prior(math.log(whole), 0.25**2, schedule.MOST_SEEN)
        return schedule.shared.of(self._service.model, self._service.typical)

    def _crowd(self) -> float:
        return 1.0 if self._service.allow_loopback else schedule.shared.crowd(self._service.site)

    def _learn(self, seen: Job) -> None:
        if seen.status == "completed" and self._since_submit:
            seconds = self._age() - self._gap / 2
            schedule.shared.learn(self._service.model, self._service.typical, seconds)

    def _tolerate(self, error: TokenHubError) -> None:
        """Let a poll's trouble pass, or raise it."""
        now = self._service.transport.runtime.now()
        missing = isinstance(error, JobNotFoundError) or error.status == 404
        if missing and self._young and self._age() < YOUNG:
            return
        elsewhere = self.job.host is not None and error.host not in {None, self.job.host}
        if not (elsewhere if missing else isinstance(error, _PASSING)):
            raise error
        self._trouble = now if self._trouble is None else self._trouble
        if now - self._trouble >= TROUBLE_SECONDS:
            error.hint = (
                f"looking failed for {now - self._trouble:.0f} s; {interruption_note(self.job)}"
            )
            raise error
        logger.debug("a poll of job %s failed and is let pass: %s", self.job.id, error.message)


async def polls(service: Service, job: Job, *, wait: float) -> AsyncGenerator[Job, None]:
    """Yield `job` as it stands, then after each poll, until it ends.

    Args:
        service: Model and transport.
        job: What to wait for.
        wait: Seconds from now; there is one last poll at their end.

    Raises:
        JobTimeoutError: The job did not end in time. It goes on.
    """
    runtime = service.transport.runtime
    deadline = runtime.now() + wait
    watch = Watch(service, job)
    try:
        yield job
        while not watch.job.ended:
            with about(watch.job):
                await runtime.sleep(max(0.0, min(watch.due, deadline) - runtime.now()))
                last = runtime.now() >= deadline
                seen = await watch.look(deadline)
                if last and not seen.ended:
                    raise timed_out(seen, wait)
            yield seen
    finally:
        watch.close()


def timed_out(job: Job, wait: float) -> JobTimeoutError:
    """Return the error of a wait that was too short."""
    return JobTimeoutError(
        f"the job is {job.status!r} after a wait of {wait:g} s",
        job=job,
        host=job.host,
        request_id=job.request_id,
        hint=f"call result(job) or pass job_id={job.id!r} to go on; nothing is charged again",
    )


def finished(job: Job) -> Job:
    """Return a job that completed, or raise why it did not."""
    if job.status == "completed" and job.files:
        return job
    fault = job.error or {"code": None, "message": _WITHOUT.get(job.status, "no reason was given")}
    row = error_row(None, fault["code"]) if fault["code"] else None
    blocked = row is not None and row.name == "ContentBlockedError"
    said = ": ".join(part for part in (fault["code"], fault["message"]) if part)
    raise (JobBlockedError if blocked else JobFailedError)(
        f"the job ended as {job.status!r}: {said}",
        code=fault["code"],
        request_id=job.request_id,
        host=job.host,
        hint=hint_text(row) if row else None,
        job=job,
    )


_WITHOUT = {"completed": "it completed without a file", "cancelled": "it was cancelled"}
