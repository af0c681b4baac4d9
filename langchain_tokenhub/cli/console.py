"""Terminal output, for any encoding and character width, and the translated texts."""

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
from pathlib import Path
from typing import Any, Literal, Self, TextIO
from unicodedata import combining, east_asian_width

from langchain_tokenhub.jobs.models import Job

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control codes except tab and line feed."""
_PIECES = re.compile(r"\s+|（*(?:[!-~]+|[^\s（])[，。；：、）]*|（+")
"""Line breaks are allowed between words and Chinese characters, never before ， or after （."""


@dataclass(frozen=True)
class Console:
    """Writes results to stdout and everything else to stderr."""

    translate: Translator
    as_json: bool = False
    quiet: bool = False

    def write_line(self, text: str) -> None:
        """Write a line to stdout."""
        sys.stdout.write(f"{_for_stream(text, sys.stdout)}\n")

    def write(self, text: str) -> None:
        """Write a piece of a line to stdout at once."""
        sys.stdout.write(_for_stream(text, sys.stdout))
        sys.stdout.flush()

    def write_message(self, text: str) -> None:
        """Write a line to stderr."""
        sys.stderr.write(f"{strip_control_codes(text)}\n")
        sys.stderr.flush()

    def write_status(self, text: str) -> None:
        """Write a piece of a line to stderr at once."""
        sys.stderr.write(strip_control_codes(text))
        sys.stderr.flush()

    def flush(self) -> None:
        """Flush stdout."""
        sys.stdout.flush()

    def write_json(self, value: Any) -> None:
        """Write JSON to stdout."""
        self.write_line(json.dumps(value, ensure_ascii=False, indent=1, default=str))

    def write_table(self, rows: Sequence[Sequence[str]]) -> None:
        """Write aligned columns to stdout."""
        widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (
                cell + " " * (w - display_width(cell)) for cell, w in zip(row, widths, strict=True)
            )
            self.write_line("  ".join(cells).rstrip())


def _for_stream(text: str, stream: TextIO) -> str:
    """Return `text` for a stream: without control codes for a terminal, as it is for a file."""
    return strip_control_codes(text) if stream.isatty() else text


def strip_control_codes(text: str) -> str:
    """Replace control codes, which could manipulate a terminal."""
    return _CONTROL.sub("\ufffd", text)


def display_width(text: str) -> int:
    """Return the terminal columns that `text` takes; a Chinese character takes two."""
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def wrap_text(text: str, width: int) -> list[str]:
    """Break `text` into lines of at most `width` columns."""
    lines = [""]
    for piece in _PIECES.findall(text):
        if display_width(lines[-1] + piece) > width and lines[-1]:
            lines.append("")
        lines[-1] += piece if lines[-1] or not piece.isspace() else ""
    return [line.rstrip() for line in lines]


def configure_streams() -> None:
    """Replace what a stream cannot encode, and streams that the shell has closed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nothing = Path(os.devnull)
            setattr(sys, name, nothing.open(mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def decode_argument(argument: str) -> str:
    """Decode an argument as UTF-8 where the locale could not."""
    with suppress(UnicodeError):
        return os.fsencode(argument).decode("utf-8")
    return argument


def read_stdin() -> str:
    """Return stdin, decoded as UTF-8 whatever the locale."""
    raw = getattr(sys.stdin, "buffer", None)
    if raw is None:
        return sys.stdin.read().strip()
    return str(raw.read().decode("utf-8-sig", "replace")).strip()


def joined_words(words: Sequence[str]) -> str:
    """Return the words of a prompt as one text; `-` stands for stdin."""
    return " ".join(read_stdin() if word == "-" else word for word in words)


@contextmanager
def show_warnings(console: Console) -> Iterator[None]:
    """Print warnings as messages."""

    def show(message: Warning | str, category: type[Warning], *_: Any) -> None:
        if issubclass(category, UserWarning):
            console.write_message(console.translate("warning", text=str(message)))

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show  # type: ignore[assignment]  # fewer parameters
        yield


_INTERVAL = 0.25
"""Seconds between updates of the line."""
_CELLS = 24


class ProgressLine:
    """Shows a job's state, and keeps the job for the report of an interruption."""

    def __init__(self, console: Console, expected: float) -> None:
        self.job: Job | None = None
        self._console = console
        self._expected = max(1.0, expected)
        self._started = time.monotonic()
        self._printed = ""
        self._done = threading.Event()
        live = sys.stderr.isatty() and not console.quiet
        self._thread = threading.Thread(target=self._update, daemon=True) if live else None

    def __call__(self, job: Job) -> None:
        """Record the job's state; print it where there is no live line."""
        self.job = job
        state = f"{job.model} {job.id} {job.status}"
        if self._thread is None and not self._console.quiet and state != self._printed:
            self._console.write_message(state)
        self._printed = state

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
            draw_line("")

    def _update(self) -> None:
        while not self._done.wait(_INTERVAL):
            draw_line(progress_bar(self.job, time.monotonic() - self._started, self._expected))


def draw_line(line: str) -> None:
    """Draw a line over the one that the cursor of a terminal is in."""
    room = shutil.get_terminal_size().columns - 1
    while display_width(line) > room:
        line = line[:-1]
    sys.stderr.write(f"\r{line}{' ' * (room - display_width(line))}\r")
    sys.stderr.flush()


def progress_bar(job: Job | None, seconds: float, expected: float) -> str:
    """Return a job's progress line; without the service's percentage, time gives an estimate."""
    if job is None:
        return f"… {seconds:.0f} s"
    estimate = 100 * seconds / (seconds + expected)
    percent = 100.0 if job.status == "completed" else (job.progress or estimate)
    full = round(_CELLS * percent / 100)
    cells = "#" * full + "-" * (_CELLS - full)
    return f"[{cells}] {job.status} {seconds:.0f} s (~{expected:.0f} s)  {job.model} {job.id}"


Language = Literal["zh", "en"]
_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")


class Translator:
    """The texts of translations.toml in one language."""

    def __init__(self, language: Language) -> None:
        self.language: Language = language

    def __call__(self, name: str, /, **values: Any) -> str:
        """Return the text called `name`, with `values` filled in."""
        text = _texts()[name][self.language]
        return text.format(**values) if values else text


@functools.cache
def _texts() -> dict[str, dict[str, str]]:
    return tomllib.loads(Path(__file__).with_name("translations.toml").read_text("utf-8"))


def language_of(arguments: Sequence[str], environment: Mapping[str, str]) -> Language:
    """Return the language of `--lang`, else of the locale."""
    chosen = argument_after(arguments, "--lang")
    if chosen in {"zh", "en"}:
        return "zh" if chosen == "zh" else "en"
    named = next((environment[name] for name in _VARIABLES if environment.get(name)), None)
    if named is None:  # not on Windows
        named = locale.getlocale()[0] or ""
    return "zh" if named.lower().startswith(("zh", "chinese")) else "en"


def argument_after(arguments: Sequence[str], *options: str) -> str | None:
    """Return the value of an option that the parser itself depends on."""
    found = None
    for here, following in zip(arguments, [*arguments, ""][1:], strict=True):
        name, equals, value = here.partition("=")
        if name in options and (equals or following):
            found = value if equals else following
        elif here[:2] in options:
            found = here[2:]
    return found
