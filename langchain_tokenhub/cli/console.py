"""Output that does not break: any encoding, any width of character, no control codes."""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO
from unicodedata import combining, east_asian_width

from langchain_tokenhub.cli.words import Words

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

    def murmur(self, text: str) -> None:
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


def mend_streams() -> None:
    """Let no character break the output, and no stream be missing that the shell has closed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nothing = Path(os.devnull)
            setattr(sys, name, nothing.open(mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def mended(argument: str) -> str:
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
def told_warnings(console: Console) -> Iterator[None]:
    """Write warnings as lines for people."""

    def tell(message: Warning | str, category: type[Warning], *_: Any) -> None:
        if issubclass(category, UserWarning):
            console.note(console.words("warning", text=str(message)))

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = tell  # type: ignore[assignment]  # its rest is not used
        yield
