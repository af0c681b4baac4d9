"""What the command prints, for any encoding and character width, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from pydantic import ValidationError

from langchain_tokenhub import errors
from langchain_tokenhub.catalogue import media_model
from langchain_tokenhub.cli.messages import Translator
from langchain_tokenhub.errors import NO_KEY, JobRef, TokenHubError
from langchain_tokenhub.jobs.live_lines import display_width, terminal_size, truncate
from langchain_tokenhub.jobs.models import Job


class UsageError(Exception):
    """The command line is wrong; the text explains how to correct it."""


INTERRUPTED = 130
USAGE_ERROR = 2
NOT_SAVED = 8
_EXITS: tuple[tuple[int, tuple[type[Exception], ...]], ...] = (
    (USAGE_ERROR, (UsageError, ValidationError)),
    (7, (errors.SubmissionUnknownError,)),
    (6, (errors.JobTimeoutError,)),
    (5, (errors.JobError, errors.ContentBlockedError)),
    (3, (errors.BudgetExceededError,)),
    (USAGE_ERROR, (errors.InvalidRequestError, errors.ModelNotAvailableError)),
    (3, (errors.AuthenticationError, errors.PermissionDeniedError, errors.QuotaExhaustedError)),
    (4, errors.RETRYABLE),
)
"""The first matching class decides; the help's epilog documents the codes."""
_NEEDS_AGAIN = (errors.SubmissionUnknownError, errors.JobNotFoundError, errors.ResultExpiredError)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control codes except tab and line feed, which could control a terminal."""
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
        """Write text at once; control codes are replaced but on a stdout that is no terminal."""
        is_verbatim = stream is self.stdout and not stream.isatty()
        stream.write(text if is_verbatim else _CONTROL.sub("\ufffd", text))
        stream.flush()

    def write_line(self, text: str) -> None:
        """Write a line to stdout."""
        self.write(f"{text}\n", self.stdout)

    def write_message(self, text: str) -> None:
        """Write a line to stderr."""
        self.write(f"{text}\n", sys.stderr)

    def write_text(self, name: str, /, **values: Any) -> None:
        """Write one of the command's own texts to stderr."""
        self.write_message(self.translate(name, **values))

    def write_json(self, value: Any) -> None:
        """Write JSON to stdout."""
        self.write_line(json.dumps(value, ensure_ascii=False, indent=1, default=str))

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
            console.write_text("warning", text=text)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show  # type: ignore[assignment]  # fewer parameters
        yield


def exit_code(error: Exception) -> int:
    """Return the exit code of an error."""
    return next((code for code, classes in _EXITS if isinstance(error, classes)), 1)


def report_error(console: Console, problem: Exception, options: Any) -> int:
    """Print what failed and what to do next; return the exit code."""
    error = problem if isinstance(problem, TokenHubError) else TokenHubError(_text(problem))
    if console.as_json:
        name = "OSError" if isinstance(problem, OSError) else type(problem).__name__
        console.write_json({"error": {"type": name, **_as_dict(error)}})
    console.write_message(f"tokenhub: {error_text(console, error)}")
    if hint := _hint(console, error, options):
        console.write_text("hint", text=hint)
    return exit_code(problem)


def error_text(console: Console, error: TokenHubError) -> str:
    """Return what failed, the request ID and the host."""
    request = console.translate("request-id", id=error.request_id) if error.request_id else ""
    facts = ", ".join(fact for fact in (request, error.host) if fact)
    text = console.translate.message(error.message) or type(error).__name__
    return f"{text}{facts and f' [{facts}]'}"


def _hint(console: Console, error: TokenHubError, options: Any) -> str:
    job = error.job
    if isinstance(job, Job) and not job.ended and not isinstance(error, _NEEDS_AGAIN):
        return resume_text(console, job, options)
    if isinstance(error, _NEEDS_AGAIN) and hasattr(options, "again"):
        return console.translate("hint-again")
    if error.message == NO_KEY:
        return console.translate("hint-key")
    return console.translate.hint(error.hint or "")


def resume_text(console: Console, job: JobRef, options: Any) -> str:
    """Return the text on how to collect a job that is paid for."""
    return console.translate("job-continues", id=job.id, command=resume_command(job, options))


def resume_command(job: JobRef, options: Any) -> str:
    """Return the command that collects a job."""
    command = ["tokenhub", "resume", job.id, "--model", job.model]
    command += [] if options.save_to is None else ["-o", str(options.save_to)]
    command += [] if media_model(job.model) else ["--kind", job.kind]
    command += ["--site", options.site] if options.site else []
    for address in options.base_url or ():
        command += ["--base-url", address]
    return shlex.join(command)


def _as_dict(error: TokenHubError) -> dict[str, Any]:
    """Return an error as plain data, without links."""
    names = ("message", "status", "code", "request_id", "host", "hint")
    job = error.job and error.job.model_dump(include={"id", "model", "kind", "status"})
    return {**{name: getattr(error, name) for name in names}, "job": job}


def _text(problem: Exception) -> str:
    """Return the text of another library's error, without values, which may be keys."""
    match problem:
        case ValidationError():
            faults = problem.errors(include_input=False, include_url=False, include_context=False)
            return "; ".join(map(_setting, faults))
        case OSError():
            named = "" if problem.filename is None else f": {problem.filename!r}"
            return f"{problem.strerror or problem}{named}"
        case _:
            return str(problem)


def _setting(error: Any) -> str:
    field, text = ".".join(map(str, error["loc"])), error["msg"].removeprefix("Value error, ")
    return text if text.startswith(field) else f"{field}: {text}"
