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

from langchain_tokenhub.jobs.models import Job

logger = logging.getLogger("langchain_tokenhub.jobs")

EVENT = "tokenhub_job"
"""Name of the custom event; its data is a plain dict."""

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}"

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
    """

    def __init__(self, emit: Emit, listener: Progress, expected: float) -> None:
        self._emit = emit
        self._bar = Bar(expected) if listener is True else None
        self._call = listener if callable(listener) else None
        self._last: tuple[Any, ...] | None = None

    async def report(self, job: Job) -> None:
        """Report `job`; without a change only the bar is updated."""
        now = (job.id, job.status, job.progress)
        changed, self._last = now != self._last, now
        with _logging_errors(job):
            if self._bar:
                self._bar.show(job)
        if not changed:
            return
        with _logging_errors(job):
            if self._call:
                self._call(job)
        data = event_data(job)
        with _logging_errors(job):
            _write_to_graph(data)
        with _logging_errors(job):
            await self._emit(data)

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
        logger.warning("a progress report failed; job %s goes on", job.id, exc_info=True)


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


def _write_to_graph(data: dict[str, Any]) -> None:
    """Write to LangGraph's custom stream, inside a graph."""
    config = sys.modules.get("langgraph.config")
    if config is None:
        return
    try:
        writer = config.get_stream_writer()
    except (RuntimeError, KeyError):
        return
    writer({"type": EVENT, **data})


class Bar:
    """A bar of `tqdm.auto` if tqdm is installed, else one line on stderr for each state."""

    def __init__(self, expected: float) -> None:
        self._expected = max(1.0, expected)
        self._bar: Any = None
        self._last_line = ""

    def show(self, job: Job) -> None:
        """Show the state of a job; the percentage is estimated if the service gives none."""
        age = job.age(datetime.now(UTC)) or 0.0
        guess = round(100 * age / (age + self._expected))
        percent = 100 if job.status == "completed" else (job.progress or guess)
        try:
            from tqdm.auto import tqdm  # type: ignore[import-untyped, unused-ignore]  # no stubs
        except ImportError:
            self._print(job, percent)
            return
        if self._bar is None:
            desc = f"{job.model} {job.id}"
            self._bar = tqdm(total=100, desc=desc, bar_format=_BAR)
        self._bar.set_postfix_str(f"{job.status}, usually {self._expected:.0f}s", refresh=False)
        self._bar.update(max(0, percent - self._bar.n))
        self._bar.refresh()

    def close(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def _print(self, job: Job, percent: int) -> None:
        line = f"{job.model} {job.id}: {job.status}"
        if line != self._last_line:
            self._last_line = line
            print(f"{line} {percent}%", file=sys.stderr)  # noqa: T201 - enabled by progress=True
