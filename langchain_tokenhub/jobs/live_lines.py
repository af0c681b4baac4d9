"""Bars and lines that are redrawn below other output, on a terminal or in a notebook."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO, cast
from unicodedata import combining, east_asian_width

from langchain_tokenhub.jobs.models import Job

Draw = Callable[[int], str]
"""Returns a text of one line or more for a number of columns."""

_INTERVAL = 0.25
"""Seconds between redraws."""
_ERASE_BELOW, _INDEX, _SAVE, _RESTORE = "\x1b[J", "\x1bD", "\x1b7", "\x1b8"


def display_width(text: str) -> int:
    """Return the terminal columns of `text`; a Chinese character has two."""
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def truncate(text: str, columns: int) -> str:
    """Return `text`, or its beginning and … if it is wider than `columns`."""
    if display_width(text) <= columns:
        return text
    while text and display_width(text) >= columns:
        text = text[:-1]
    return f"{text}…"


def terminal_size(stream: TextIO) -> os.terminal_size:
    """Return columns and lines of a stream's terminal; 80 and 24 if it has none."""
    with suppress(OSError, ValueError, AttributeError):
        size = os.get_terminal_size(stream.fileno())
        if size.columns and size.lines:
            return size
    return os.terminal_size((80, 24))


class LiveLines:
    """The live lines of this process, below the output of `sys.stdout` and `sys.stderr`."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all lines and make a new lock: a forked child has no thread that redraws."""
        self._lock = threading.RLock()
        self._draws: list[Draw] = []
        self._target: _Terminal | _Notebook | None = None
        self._stopped = threading.Event()

    def add(self, draw: Draw) -> bool:
        """Show what `draw` returns until it is removed; return False if no line can be live."""
        with self._lock:
            is_first = self._target is None
            self._target = self._target or _target()
            if self._target is None:
                return False
            self._draws.append(draw)
            self._show(self._target)
            if is_first:
                self._stopped = threading.Event()
                threading.Thread(target=self._redraw, args=[self._stopped], daemon=True).start()
            return True

    def remove(self, draw: Draw, *, keep: bool = False) -> None:
        """Remove a line; with `keep` its last state stays as text."""
        with self._lock:
            if self._target is None or draw not in self._draws:
                return
            self._draws.remove(draw)
            if keep:
                self._target.keep(draw(self._target.columns()))
            self._show(self._target)
            if not self._draws:
                self._stopped.set()
                self._target.close()
                self._target = None

    def write(self, stream: TextIO, text: str) -> int:
        """Write to a terminal above the lines."""
        with self._lock:
            if isinstance(self._target, _Terminal):
                self._target.write(stream, text)
                return len(text)
            return stream.write(text)

    def _redraw(self, stopped: threading.Event) -> None:
        while not stopped.wait(_INTERVAL):
            with self._lock:
                if self._target is not None and not stopped.is_set():
                    self._show(self._target)

    def _show(self, target: _Terminal | _Notebook) -> None:
        columns = target.columns()
        lines = [line for draw in self._draws for line in draw(columns).split("\n")]
        with suppress(OSError, ValueError):  # the stream was closed
            target.show([truncate(line, columns) for line in lines])


live_lines = LiveLines()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=live_lines.reset)


def _target() -> _Terminal | _Notebook | None:
    """Return where lines can be redrawn."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if hasattr(shell, "kernel"):
        return _Notebook()
    is_plain = os.environ.get("TERM") == "dumb" or (
        sys.platform == "win32" and "WT_SESSION" not in os.environ
    )
    has_terminal = sys.stderr is not None and sys.stderr.isatty() and not is_plain
    return _Terminal() if has_terminal else None


class _Terminal:
    """Draws below the cursor, which stays where other output continues."""

    def __init__(self) -> None:
        self._stdout, self._stderr = sys.stdout, sys.stderr
        self._lines: Sequence[str] = ()
        self._column = 0
        self._is_wrapped = False
        sys.stderr = cast("TextIO", _StreamAbove(self._stderr))
        if self._stdout is not None and self._stdout.isatty():
            sys.stdout = cast("TextIO", _StreamAbove(self._stdout))

    def columns(self) -> int:
        return terminal_size(self._stderr).columns - 1

    def show(self, lines: Sequence[str]) -> None:
        self._lines = lines[: max(1, terminal_size(self._stderr).lines - 2)]
        self._draw(_ERASE_BELOW)

    def write(self, stream: TextIO, text: str) -> None:
        """Write a piece of text above the lines.

        A line that reaches the right edge is ended, because a terminal forgets a pending wrap when
        its cursor moves.
        """
        if self._is_wrapped and text.startswith("\n"):
            text = text[1:]
        column = _column_after(self._column, text, self.columns() + 1)
        self._is_wrapped = column > self.columns()
        self._column = 0 if self._is_wrapped else column
        self._put(_ERASE_BELOW)
        stream.write(f"{text}\n" if self._is_wrapped else text)
        stream.flush()
        self._draw()

    def keep(self, text: str) -> None:
        self.write(self._stderr, f"\n{text}\n" if self._column else f"{text}\n")

    def close(self) -> None:
        self._put(_ERASE_BELOW)
        if isinstance(sys.stdout, _StreamAbove):
            sys.stdout = self._stdout
        if isinstance(sys.stderr, _StreamAbove):
            sys.stderr = self._stderr

    def _draw(self, before: str = "") -> None:
        room = _INDEX * len(self._lines) + f"\x1b[{len(self._lines)}A" if self._lines else ""
        below = "".join(f"\r\n{line}" for line in self._lines)
        self._put(f"{before}{room}{_SAVE}{below}{_RESTORE}")

    def _put(self, codes: str) -> None:
        self._stderr.write(codes)
        self._stderr.flush()


def _column_after(column: int, text: str, columns: int) -> int:
    """Return the cursor's column after `text`; `columns` if it waits to wrap."""
    *before, last = text.replace("\r", "\n").split("\n")
    column = 0 if before else column
    for char in last:
        width = display_width(char)
        column = width if column + width > columns else column + width
    return column


class _StreamAbove:
    """A terminal's stream whose text is written above the live lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return live_lines.write(self._stream, text)

    def writelines(self, lines: Sequence[str]) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Notebook:
    """Updates one output of the cell."""

    def __init__(self) -> None:
        import IPython.display  # type: ignore[import-not-found, unused-ignore]  # not installed

        display: Any = IPython.display.display
        self._kept: list[str] = []
        self._shown = {"text/plain": ""}
        self._handle = display(self._shown, raw=True, display_id=True)

    def columns(self) -> int:
        return 80

    def show(self, lines: Sequence[str]) -> None:
        shown = {"text/plain": "\n".join([*self._kept, *lines])}
        if shown != self._shown:
            self._handle.update(shown, raw=True)
        self._shown = shown

    def keep(self, text: str) -> None:
        self._kept.append(text)

    def close(self) -> None: ...


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
        """Return the line; without the service's percentage, a block moves along the bar."""
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
        text = f"{clock(seconds)} / ~{clock(self._expected)}"
        if job.progress is None:
            return bar_line(self._label, _BLOCK / _CELLS, text, columns, int(4 * seconds))
        text = f"{job.progress:3.0f} %  {text}"
        return bar_line(self._label, job.progress / 100, text, columns)


_CELLS = 24
_BLOCK = 4


def bar_line(label: str, share: float, text: str, columns: int, steps: int = 0) -> str:
    """Return `label`, a bar, and `text`.

    Args:
        label: Text before the bar.
        share: The full part of the bar, 0 to 1.
        text: Text after the bar.
        columns: The width of the terminal.
        steps: Cells by which the full part has moved, back and forth.
    """
    room = columns - display_width(label) - display_width(text) - 4
    cells = max(0, min(_CELLS, room))
    full = round(cells * share)
    way = cells - full
    before = way - abs(way - steps % (2 * way)) if way else 0
    bar = "░" * before + "█" * full + "░" * (cells - full - before)
    try:
        bar.encode(sys.stderr.encoding or "ascii")
    except UnicodeError:
        bar = bar.replace("█", "#").replace("░", "-")
    return "  ".join(part for part in (label, bar, text) if part)


def clock(seconds: float) -> str:
    """Return seconds as `m:ss` or `h:mm:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
