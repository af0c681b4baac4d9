"""Progress on stderr: a line that lives on a terminal, a line a state elsewhere."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from types import TracebackType
from typing import Self

from langchain_tokenhub.cli.console import Console, columns
from langchain_tokenhub.jobs.job import Job

_EVERY = 0.25
"""Seconds between two looks of a terminal's line."""
_CELLS = 24


class Watch:
    """Shows how a job stands, and remembers it for whoever is interrupted."""

    def __init__(self, console: Console, expected: float) -> None:
        self.job: Job | None = None
        self._console = console
        self._expected = max(1.0, expected)
        self._begun = time.monotonic()
        self._said = ""
        self._done = threading.Event()
        live = sys.stderr.isatty() and not console.quiet
        self._thread = threading.Thread(target=self._live, daemon=True) if live else None

    def __call__(self, job: Job) -> None:
        """Take note of how the job stands."""
        self.job = job
        state = f"{job.model} {job.id} {job.status}"
        if self._thread is None and not self._console.quiet and state != self._said:
            self._console.note(state)
        self._said = state

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
            self._draw("")

    def _live(self) -> None:
        while not self._done.wait(_EVERY):
            self._draw(bar(self.job, time.monotonic() - self._begun, self._expected))

    def _draw(self, line: str) -> None:
        room = shutil.get_terminal_size().columns - 1
        while columns(line) > room:
            line = line[:-1]
        sys.stderr.write(f"\r{line}{' ' * (room - columns(line))}\r")
        sys.stderr.flush()


def bar(job: Job | None, seconds: float, expected: float) -> str:
    """Return a line that says how far a job is; what the service does not say is guessed."""
    if job is None:
        return f"… {seconds:.0f} s"
    guess = 100 * seconds / (seconds + expected)
    percent = 100.0 if job.status == "completed" else (job.progress or guess)
    full = round(_CELLS * percent / 100)
    cells = "#" * full + "-" * (_CELLS - full)
    return f"[{cells}] {job.status} {seconds:.0f} s (~{expected:.0f} s)  {job.model} {job.id}"
