"""Output that does not break: any encoding, any width of character, no control codes."""

from __future__ import annotations

import functools
import json
import locale
import os
import re
import shutil
import sys
import threading
import time
import tomllib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TextIO
from unicodedata import combining, east_asian_width

from langchain_tokenhub.jobs.models import Job

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Codes that move a terminal's cursor or change its state; tab and line feed are none."""
_PIECES = re.compile(r"\s+|（*(?:[!-~]+|[^\s（])[，。；：、）]*|（+")
"""Where a line may break: between words and Chinese characters, never before ， or after （."""


@dataclass(frozen=True)
class Console:
    """Where a command writes: results to stdout, everything else to stderr."""

    words: Words
    as_json: bool = False
    quiet: bool = False

    def say(self, text: str) -> None:
        """Write a line to stdout."""
        sys.stdout.write(f"{_fit(text, sys.stdout)}\n")

    def stream(self, text: str) -> None:
        """Write a piece of a line to stdout at once."""
        sys.stdout.write(_fit(text, sys.stdout))
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Write a line to stderr."""
        sys.stderr.write(f"{tame(text)}\n")
        sys.stderr.flush()

    def write_status(self, text: str) -> None:
        """Write a piece of a line to stderr at once."""
        sys.stderr.write(tame(text))
        sys.stderr.flush()

    def flush(self) -> None:
        """Let a reader of the other end have what was written."""
        sys.stdout.flush()

    def data(self, value: Any) -> None:
        """Write JSON to stdout."""
        self.say(json.dumps(value, ensure_ascii=False, indent=1, default=str))

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Write aligned columns to stdout."""
        widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell + " " * (w - columns(cell)) for cell, w in zip(row, widths, strict=True))
            self.say("  ".join(cells).rstrip())


def _fit(text: str, stream: TextIO) -> str:
    """Return `text` for a stream: a file gets what was said, a terminal no control codes."""
    return tame(text) if stream.isatty() else text


def tame(text: str) -> str:
    """Return `text` without codes that steer a terminal."""
    return _CONTROL.sub("\ufffd", text)


def columns(text: str) -> int:
    """Return how many columns of a terminal `text` takes: a Chinese character takes two."""
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def wrapped(text: str, width: int) -> list[str]:
    """Break `text` into lines of at most `width` columns."""
    lines = [""]
    for piece in _PIECES.findall(text):
        if columns(lines[-1] + piece) > width and lines[-1]:
            lines.append("")
        lines[-1] += piece if lines[-1] or not piece.isspace() else ""
    return [line.rstrip() for line in lines]


def configure_streams() -> None:
    """Let no character break the output, and no stream be missing that the shell has closed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nothing = Path(os.devnull)
            setattr(sys, name, nothing.open(mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def decode_argument(argument: str) -> str:
    """Return an argument as it was typed, where the locale could not read it."""
    with suppress(UnicodeError):
        return os.fsencode(argument).decode("utf-8")
    return argument


def from_stdin() -> str:
    """Return what is piped in, as UTF-8 whatever the locale says."""
    raw = getattr(sys.stdin, "buffer", None)
    if raw is None:
        return sys.stdin.read().strip()
    return str(raw.read().decode("utf-8-sig", "replace")).strip()


@contextmanager
def show_warnings(console: Console) -> Iterator[None]:
    """Write warnings as lines for people."""

    def tell(message: Warning | str, category: type[Warning], *_: Any) -> None:
        if issubclass(category, UserWarning):
            console.note(console.words("warning", text=str(message)))

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = tell  # type: ignore[assignment]  # its rest is not used
        yield


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


Language = Literal["zh", "en"]
_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")


class Words:
    """The rows of words.toml in one language."""

    def __init__(self, language: Language) -> None:
        self.language: Language = language

    def __call__(self, name: str, /, **values: Any) -> str:
        """Return the text called `name`, its gaps filled."""
        text = _table()[name][self.language]
        return text.format(**values) if values else text


@functools.cache
def _table() -> dict[str, dict[str, str]]:
    text = resources.files("langchain_tokenhub.cli").joinpath("words.toml").read_text("utf-8")
    return tomllib.loads(text)


def language_of(arguments: Sequence[str], environment: Mapping[str, str]) -> Language:
    """Return the language to speak: as asked for, else the locale's."""
    asked = argument_after(arguments, "--lang")
    if asked in {"zh", "en"}:
        return "zh" if asked == "zh" else "en"
    named = next((environment[name] for name in _VARIABLES if environment.get(name)), None)
    if named is None:  # not on Windows
        named = locale.getlocale()[0] or ""
    return "zh" if named.lower().startswith(("zh", "chinese")) else "en"


def argument_after(arguments: Sequence[str], *options: str) -> str | None:
    """Return the value of an option, before the parser that depends on it exists."""
    found = None
    for here, following in zip(arguments, [*arguments, ""][1:], strict=True):
        name, equals, value = here.partition("=")
        if name in options and (equals or following):
            found = value if equals else following
        elif here[:2] in options:
            found = here[2:]
    return found
