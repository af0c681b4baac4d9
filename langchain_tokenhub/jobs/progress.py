"""Reports what happens to a job.

To a function or bar, LangChain's events and LangGraph's stream; as a span and as metrics; in the
metadata of a LangChain tool run.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
from langchain_core.callbacks.manager import CallbackManager
from langchain_core.runnables.config import ensure_config, get_callback_manager_for_config

from langchain_tokenhub import telemetry
from langchain_tokenhub.errors import TokenHubError
from langchain_tokenhub.jobs.live_lines import Bar
from langchain_tokenhub.jobs.media_file import MediaFile
from langchain_tokenhub.jobs.models import ENDED, Job, MediaResult

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

logger = logging.getLogger("langchain_tokenhub.jobs")

EVENT = "tokenhub_job"
"""Name of the custom event; its data is a plain dict."""

Progress = Callable[[Job], Any] | Literal[True] | None


def _run_manager() -> CallbackManager:
    """Return the manager of the LangChain run that calls; without one it has no `parent_run_id`."""
    manager: CallbackManager = get_callback_manager_for_config(ensure_config())
    return manager


@dataclass(kw_only=True)
class Reporter:
    """Reports the progress of a job; failures of listeners are logged only.

    Args:
        is_async: Whether an event loop runs.
        listener: True for a bar, or a function that takes a `Job`.
        expected: Seconds that the job usually takes.
        span: Records the job's states.
        tool_call_id: The tool call that waits for the job.
    """

    is_async: bool
    listener: Progress
    expected: float
    span: JobSpan
    tool_call_id: str | None = None
    _bar: Bar | None = None
    _last: tuple[Any, ...] | None = None

    async def report(self, job: Job) -> None:
        """Report `job`, if it has changed."""
        self.span.record_state(job)
        now = (job.id, job.status, job.progress)
        if now == self._last:
            return
        self._last = now
        with _log_errors(job):
            self._call_listener(job)
        await self._send(job)

    async def report_files(self, job: Job) -> None:
        """Send the last event of a completed job, with its files."""
        await self._send(job, files=[_file_data(file) for file in job.files])

    async def _send(self, job: Job, **more: Any) -> None:
        """Send an event: no link but those of `more`, no prompt."""
        data = {
            "job_id": job.id,
            "kind": job.kind,
            "model": job.model,
            "status": job.status,
            "progress": job.progress,
            "seconds": job.age(datetime.now(UTC)),
            "error": job.error,
            "expected_seconds": self.expected,
            "tool_call_id": self.tool_call_id,
            **more,
        }
        with _log_errors(job):
            _write_to_graph(data)
        with _log_errors(job):
            if _run_manager().parent_run_id is None:
                return
            if self.is_async:
                await adispatch_custom_event(EVENT, data)
            else:
                dispatch_custom_event(EVENT, data)

    def _call_listener(self, job: Job) -> None:
        if self.listener is True:
            self._bar = self._bar or Bar(f"{job.kind:5}  {job.model:13}", self.expected)
            self._bar(job)
        elif callable(self.listener):
            self.listener(job)

    def close(self) -> None:
        """Close the bar."""
        if self._bar:
            self._bar.close()


@contextmanager
def _log_errors(job: Job) -> Iterator[None]:
    try:
        yield
    except Exception:
        # a bar, a handler or the caller's function failed; the job is paid for
        logger.warning("a progress report failed; job %s continues", job.id, exc_info=True)


def _file_data(file: MediaFile) -> dict[str, Any]:
    """Return the data of a file for an event; its link only if it was not saved."""
    preview = file.preview_path or (None if file.path else file.preview_url)
    return {
        "type": file.type,
        "path": str(file.path) if file.path else None,
        "url": None if file.path else file.url,
        "preview": str(preview) if preview else None,
    }


def _write_to_graph(data: dict[str, Any]) -> None:
    """Write to LangGraph's custom stream and its stream of the tool call, inside a graph."""
    config = sys.modules.get("langgraph.config")
    if config is None:
        return
    try:
        writer = config.get_stream_writer()
    except (RuntimeError, KeyError):
        return
    writer({"type": EVENT, **data})
    if (tool_node := sys.modules.get("langgraph.prebuilt.tool_node")) is not None:
        # the method finds its stream by a context variable, and needs no instance
        tool_node.ToolRuntime.emit_output_delta(None, {"type": EVENT, **data})


T = TypeVar("T", Job, MediaResult)

START_KNOWN_WITHIN = timedelta(seconds=60)
"""A start is known if the job was queued at most this long before it was seen in progress."""


class JobSpan:
    """Records what happens to a job, and publishes it at the end of the call.

    Args:
        model: Model id as sent.
        kind: `image`, `video` or `3d`.
        job: The job, if it was submitted earlier.

    Attributes:
        price: Estimated price of the call, lowest and highest, in CNY; None if it is not known.
    """

    def __init__(self, model: str, kind: str, job: Job | None = None) -> None:
        self.price: tuple[float, float] | None = None
        self._model = {"gen_ai.request.model": model, "tokenhub.job.kind": kind}
        self._events: dict[str, datetime] = {}
        self._started_at = datetime.now(UTC)
        self._job = job
        self._queued_at = job and job.submitted_at

    def record_submit(self, job: Job) -> None:
        """Record that this call has submitted `job`."""
        self._queued_at = self._events["submitted"] = datetime.now(UTC)
        self._record_change(job)

    def record_state(self, job: Job) -> None:
        """Record the state of the job; the first is that of an earlier call."""
        if self._job is None:
            self._job, self._queued_at = job, job.submitted_at
        elif job is not self._job and not self._job.ended:
            self._record_change(job)

    def _record_change(self, job: Job) -> None:
        now, queued_at = datetime.now(UTC), self._queued_at
        self._job, self._queued_at = job, now if job.status == "queued" else None
        if job.ended:
            self._events[job.status] = now
        elif job.status == "in_progress" and queued_at and now - queued_at <= START_KNOWN_WITHIN:
            self._events["started"] = now

    def record_outcome(self, outcome: T) -> T:
        """Record the outcome of the call, and return it."""
        self.record_state(outcome if isinstance(outcome, Job) else outcome.job)
        if isinstance(outcome, MediaResult) and any(file.path for file in outcome.files):
            self._events["saved"] = datetime.now(UTC)
        return outcome

    @contextmanager
    def open(self, operation: str) -> Iterator[Self]:
        """Make a span of the call, and publish what is known when it ends."""
        common = {"gen_ai.operation.name": operation, **telemetry.PROVIDER, **self._model}
        name = f"{operation} {common['gen_ai.request.model']}"
        started_at = _nanoseconds(self._started_at)
        with telemetry.current_span(name, common, parent=_parent, started_at=started_at) as span:
            failure: dict[str, Any] = {}
            try:
                yield self
            except BaseException as error:
                failure = _failure_facts(error)
                raise
            finally:
                with telemetry.LOG_ERRORS:
                    self._publish(span, {**common, **self._facts(), **failure})

    def _facts(self) -> dict[str, Any]:
        """Return the attributes that are known of the job."""
        job = self._job
        if job is None:
            return {}
        low, high = (self.price if "submitted" in self._events else None) or (None, None)
        begin, start = job.submitted_at, self._events.get("started")
        queue = round(max(0.0, (start - begin).total_seconds()), 3) if begin and start else None
        run = None if queue is None or job.seconds is None else job.seconds - queue
        server = urlsplit(f"//{job.host or ''}")
        facts = {
            "gen_ai.response.id": job.id,
            "server.address": server.hostname,
            "server.port": server.port,
            "tokenhub.job.id": job.id,
            "tokenhub.job.status": job.status,
            "tokenhub.job.seconds": job.seconds,
            "tokenhub.job.queue_seconds": queue,
            "tokenhub.job.run_seconds": run and round(max(0.0, run), 3),
            "tokenhub.job.price_low": low,
            "tokenhub.job.price_high": high,
            "tokenhub.request_id": job.request_id,
        }
        return {name: value for name, value in facts.items() if value is not None}

    def _publish(self, span: Span | None, facts: dict[str, Any]) -> None:
        if span is not None:
            span.set_attributes(facts)
            for name, at in self._events.items():
                span.add_event(name, timestamp=_nanoseconds(at))
        telemetry.record(telemetry.COST, facts.get("tokenhub.job.price_high"), self._model)
        if ENDED & self._events.keys():
            state = {**self._model, "tokenhub.job.status": facts["tokenhub.job.status"]}
            telemetry.record(telemetry.JOBS, 1, state)
            queue, run = "tokenhub.job.queue_seconds", "tokenhub.job.run_seconds"
            telemetry.record(telemetry.QUEUE_SECONDS, facts.get(queue), self._model)
            telemetry.record(telemetry.RUN_SECONDS, facts.get(run), self._model)
        for _, traced in _traced_runs():
            if traced.run_type == "tool":
                traced.add_metadata(facts)


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1000


def _failure_facts(failure: BaseException) -> dict[str, Any]:
    """Return the class and code of an error; its text may quote the prompt."""
    code = failure.code if isinstance(failure, TokenHubError) else None
    return {"error.type": type(failure).__name__} | ({"tokenhub.error.code": code} if code else {})


# --- LangChain's runs -----------------------------------------------------------------------------


def _traced_runs() -> Iterator[tuple[Any, Any]]:
    """Yield each tracer of the LangChain run that calls, and its record of that run."""
    manager = _run_manager()
    for handler in manager.handlers:
        run = getattr(handler, "run_map", {}).get(str(manager.parent_run_id))
        if run is not None:
            yield handler, run


def _parent() -> Context:
    """Return the context in which the innermost span is the current one.

    openinference has a span for each run, but makes none current.
    """
    from opentelemetry import trace

    current = trace.get_current_span()
    spans: list[tuple[int, Any]] = [(getattr(current, "start_time", None) or 0, current)]
    for handler, run in _traced_runs():
        if callable(get_span := getattr(handler, "get_span", None)) and (span := get_span(run.id)):
            spans.append((_nanoseconds(run.start_time), span))
    return trace.set_span_in_context(max(spans, key=lambda one: one[0])[1])
