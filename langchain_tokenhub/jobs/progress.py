"""Reports progress: to a function or bar, LangChain's events and LangGraph's stream."""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
from langchain_core.callbacks.manager import CallbackManager
from langchain_core.runnables.config import ensure_config, get_callback_manager_for_config

from langchain_tokenhub.jobs.job_span import JobSpan
from langchain_tokenhub.jobs.live_lines import display_width, live_lines
from langchain_tokenhub.jobs.models import Job, MediaFile

logger = logging.getLogger("langchain_tokenhub.jobs")

EVENT = "tokenhub_job"
"""Name of the custom event; its data is a plain dict."""

Progress = Callable[[Job], Any] | Literal[True] | None
Emit = Callable[[dict[str, Any]], Awaitable[None]]


async def emit(data: dict[str, Any]) -> None:
    """Dispatch a custom event of the running tool."""
    if _is_inside_run():
        dispatch_custom_event(EVENT, data)


async def aemit(data: dict[str, Any]) -> None:
    """As `emit`."""
    if _is_inside_run():
        await adispatch_custom_event(EVENT, data)


def _is_inside_run() -> bool:
    manager: CallbackManager = get_callback_manager_for_config(ensure_config())
    return manager.parent_run_id is not None


class Reporter:
    """Reports the progress of a job; failures of listeners are logged only.

    Args:
        emit: Dispatches a custom event.
        listener: True for a bar, or a function that takes a `Job`.
        expected: Seconds that the job usually takes.
        span: Records the job's states.
        tool_call_id: The tool call that waits for the job.
    """

    def __init__(
        self,
        emit: Emit,
        listener: Progress,
        expected: float,
        span: JobSpan,
        tool_call_id: str | None = None,
    ) -> None:
        self.span = span
        self._emit = emit
        self._listener = listener
        self._expected = expected
        self._tool_call_id = tool_call_id
        self._bar: Bar | None = None
        self._last: tuple[Any, ...] | None = None

    async def report(self, job: Job) -> None:
        """Report `job`, if it has changed."""
        self.span.record_state(job)
        now = (job.id, job.status, job.progress)
        if now == self._last:
            return
        self._last = now
        with _logging_errors(job):
            self._call_listener(job)
        await self._send(job, event_data(job))

    async def report_files(self, job: Job) -> None:
        """Send the last event of a completed job, with its files."""
        await self._send(job, {**event_data(job), "files": [_file_data(f) for f in job.files]})

    async def _send(self, job: Job, data: dict[str, Any]) -> None:
        data |= {"expected_seconds": self._expected, "tool_call_id": self._tool_call_id}
        with _logging_errors(job):
            _write_to_graph(data)
        with _logging_errors(job):
            await self._emit(data)

    def _call_listener(self, job: Job) -> None:
        if self._listener is True:
            self._bar = self._bar or Bar(f"{job.kind:5}  {job.model:13}", self._expected)
            self._bar(job)
        elif callable(self._listener):
            self._listener(job)

    def close(self) -> None:
        """Close the bar."""
        if self._bar:
            self._bar.close()


@contextmanager
def _logging_errors(job: Job) -> Iterator[None]:
    try:
        yield
    except Exception:
        # a bar, a handler or the caller's function failed; the job is paid for
        logger.warning("a progress report failed; job %s continues", job.id, exc_info=True)


def event_data(job: Job) -> dict[str, Any]:
    """Return the data of an event: no link, no prompt."""
    return {
        "job_id": job.id,
        "kind": job.kind,
        "model": job.model,
        "status": job.status,
        "progress": job.progress,
        "seconds": job.age(datetime.now(UTC)),
        "error": job.error,
    }


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


class Bar:
    """The progress of one job: a live line, or a line for each state where none can be live.

    Args:
        label: Text before the bar, such as `video  hy-video-1.5`.
        expected: Seconds that the job usually takes.
        status_text: Returns the word for a status.
        quiet: Show nothing; `job` is still set.
    """

    def __init__(
        self,
        label: str,
        expected: float,
        *,
        status_text: Callable[[str], str] = str,
        quiet: bool = False,
    ) -> None:
        self.job: Job | None = None
        self._label = label
        self._expected = max(1.0, expected)
        self._status_text = status_text
        self._started_at = datetime.now(UTC)
        self._last_line = ""
        self._is_plain = not quiet and not live_lines.add(self._draw)

    def __call__(self, job: Job) -> None:
        """Record the job's state."""
        self.job = job
        line = f"{self._label}  {self._status_text(job.status)}  {job.id}"
        if self._is_plain and line != self._last_line:
            print(line, file=sys.stderr, flush=True)  # noqa: T201 - enabled by progress=True
        self._last_line = line

    def close(self) -> None:
        """Remove the live line; that of a job which has ended stays as text."""
        live_lines.remove(self._draw, keep=self.job is not None and self.job.ended)

    def _draw(self, columns: int) -> str:
        """Return the line; without the service's percentage, the usual time gives an estimate."""
        job, now = self.job, datetime.now(UTC)
        age = job.age(now) if job else None
        seconds = (now - self._started_at).total_seconds() if age is None else age
        if job is None:
            return bar_line(self._label, 0, clock(seconds), columns)
        if job.ended:
            is_done = job.status == "completed"
            word = "100 %" if is_done else self._status_text(job.status)
            taken = clock(seconds if job.seconds is None else job.seconds)
            return bar_line(self._label, int(is_done), f"{word}  {taken}", columns)
        share = min(0.95, seconds / self._expected)
        share = share if job.progress is None else job.progress / 100
        text = f"{100 * share:3.0f} %  {clock(seconds)} / ~{clock(self._expected)}"
        return bar_line(self._label, share, text, columns)


_CELLS = 24


def bar_line(label: str, share: float, text: str, columns: int) -> str:
    """Return `label`, a bar of which `share` (0 to 1) is full, and `text`."""
    room = columns - display_width(label) - display_width(text) - 4
    cells = max(0, min(_CELLS, room))
    full = round(cells * share)
    bar = "█" * full + "░" * (cells - full)
    try:
        bar.encode(sys.stderr.encoding or "ascii")
    except UnicodeError:
        bar = "#" * full + "-" * (cells - full)
    return "  ".join(part for part in (label, bar, text) if part)


def clock(seconds: float) -> str:
    """Return seconds as `m:ss` or `h:mm:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
