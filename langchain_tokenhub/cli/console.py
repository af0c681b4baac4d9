"""Terminal output, for any encoding and character width, and the translated texts."""

from __future__ import annotations

import functools
import json
import locale
import os
import re
import sys
import time
import tomllib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TextIO

from langchain_tokenhub.cli.messages import to_chinese
from langchain_tokenhub.jobs.live_lines import (
    bar_line,
    clock,
    display_width,
    live_lines,
    terminal_size,
    truncate,
)

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
    stdout: TextIO = field(default_factory=lambda: sys.stdout)

    def write(self, text: str, stream: TextIO) -> None:
        """Write text at once; control codes are kept on a stdout that is not a terminal."""
        is_verbatim = stream is self.stdout and not stream.isatty()
        stream.write(text if is_verbatim else strip_control_codes(text))
        stream.flush()

    def write_line(self, text: str) -> None:
        """Write a line to stdout."""
        self.write(f"{text}\n", self.stdout)

    def write_message(self, text: str) -> None:
        """Write a line to stderr."""
        self.write(f"{text}\n", sys.stderr)

    def write_json(self, value: Any) -> None:
        """Write JSON to stdout."""
        self.write_line(json.dumps(value, ensure_ascii=False, indent=1, default=str))

    def status_text(self, status: str) -> str:
        """Return the word for a job's status."""
        return self.translate(f"status-{status}")

    @property
    def columns(self) -> int:
        """The columns of the terminal; unlimited for a file."""
        return terminal_size(self.stdout).columns if self.stdout.isatty() else sys.maxsize

    def write_table(self, rows: Sequence[Sequence[str]]) -> None:
        """Write aligned columns to stdout; the last one is truncated at a terminal's edge."""
        widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (
                cell + " " * (w - display_width(cell)) for cell, w in zip(row, widths, strict=True)
            )
            self.write_line(truncate("  ".join(cells).rstrip(), self.columns))


def strip_control_codes(text: str) -> str:
    """Replace control codes, which could control a terminal."""
    return _CONTROL.sub("\ufffd", text)


def wrap_text(text: str, width: int) -> list[str]:
    """Break `text` into lines of at most `width` columns."""
    lines = [""]
    for piece in _PIECES.findall(text):
        if display_width(lines[-1] + piece) > width and lines[-1]:
            lines.append("")
        lines[-1] += piece if lines[-1] or not piece.isspace() else ""
    return [line.rstrip() for line in lines]


def configure_streams() -> None:
    """Make streams replace characters they cannot encode, and replace closed streams."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nothing = Path(os.devnull)
            setattr(sys, name, nothing.open(mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def decode_argument(argument: str) -> str:
    """Decode an argument as UTF-8 if the locale could not."""
    with suppress(UnicodeError):
        return os.fsencode(argument).decode("utf-8")
    return argument


def read_stdin() -> str:
    """Return stdin, decoded as UTF-8 whatever the locale."""
    raw = getattr(sys.stdin, "buffer", None)
    if raw is None:
        return sys.stdin.read().strip()
    return str(raw.read().decode("utf-8-sig", "replace")).strip()


def join_words(words: Sequence[str]) -> str:
    """Return the words of a prompt as one text; `-` stands for stdin."""
    return " ".join(read_stdin() if word == "-" else word for word in words)


@contextmanager
def show_warnings(console: Console) -> Iterator[None]:
    """Print warnings as messages."""

    def show(message: Warning | str, category: type[Warning], *_: Any) -> None:
        if issubclass(category, UserWarning):
            text = console.translate.message(str(message))
            console.write_message(console.translate("warning", text=text))

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show  # type: ignore[assignment]  # fewer parameters
        yield


class RunProgress:
    """A bar with counts and a status line for a run of many jobs.

    On a terminal both are redrawn below other output; elsewhere a line is printed for each tenth of
    the run.

    Example:
        ```python
        with RunProgress(console, "shots.jsonl", total=200) as progress:
            progress.update(12, "3 failed, ¥4.20 of ¥200.00")
        ```

    Args:
        console: Its `quiet` option hides the bar.
        label: Text before the bar.
        total: Number of jobs.
        done: Number of jobs that had ended before this run.
    """

    def __init__(self, console: Console, label: str, *, total: int, done: int = 0) -> None:
        self._console, self._label, self._total = console, label, total
        self._done = self._done_before = done
        self._status = ""
        self._started = time.monotonic()
        self._tenths = -1
        self._is_plain = not console.quiet and not live_lines.add(self._draw)

    def update(self, done: int, status: str = "") -> None:
        """Show that `done` jobs have ended, and `status` below the bar."""
        self._done, self._status = done, status
        tenths = 10 * done // max(1, self._total)
        if self._is_plain and tenths > self._tenths:
            self._tenths = tenths
            parts = (self._label, f"{done}/{self._total}", status)
            self._console.write_message("  ".join(part for part in parts if part))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        live_lines.remove(self._draw, keep=True)

    def _draw(self, columns: int) -> str:
        seconds = time.monotonic() - self._started
        text = f"{self._done}/{self._total}  {clock(seconds)}"
        ended = self._done - self._done_before
        if ended and self._done < self._total:
            text += f" / ~{clock(seconds * (self._total - self._done_before) / ended)}"
        line = bar_line(self._label, self._done / max(1, self._total), text, columns)
        return f"{line}\n{self._status}" if self._done < self._total else line


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

    def joined(self, sentences: Sequence[str]) -> str:
        """Return sentences as one text."""
        return ("" if self.language == "zh" else " ").join(filter(None, sentences))

    def message(self, text: str) -> str:
        """Return a message of the package, or of a library, in this language."""
        return to_chinese(text) if self.language == "zh" else text

    def hint(self, text: str) -> str:
        """Return a hint, which may be `English / 中文`, in this language."""
        english = re.split(r" / (?=[\u4e00-\u9fff])", text, maxsplit=1)[0]
        return to_chinese(text) if self.language == "zh" else english


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
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        name, equals, value = argument.partition("=")
        if name in options and (equals or following):
            found = value if equals else following
        elif argument[:2] in options:
            found = argument[2:]
    return found
