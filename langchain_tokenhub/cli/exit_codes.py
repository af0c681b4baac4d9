"""Error reports and exit codes."""

from __future__ import annotations

import shlex
from typing import Any

from pydantic import ValidationError

from langchain_tokenhub import errors
from langchain_tokenhub.catalogue import media_model
from langchain_tokenhub.cli.console import Console
from langchain_tokenhub.errors import NO_KEY, JobRef, TokenHubError
from langchain_tokenhub.jobs.models import Job

INTERRUPTED = 130
USAGE_ERROR = 2
NOT_SAVED = 8
_EXITS: tuple[tuple[int, tuple[type[TokenHubError], ...]], ...] = (
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


class UsageError(Exception):
    """The command line is wrong; the text explains how to correct it."""


def exit_code(error: TokenHubError) -> int:
    """Return the exit code of an error."""
    return next((code for code, classes in _EXITS if isinstance(error, classes)), 1)


def report_error(console: Console, error: TokenHubError, options: Any) -> int:
    """Print the error and what to do next; return the exit code."""
    if console.as_json:
        console.write_json({"error": error_as_dict(error)})
    console.write_message(f"tokenhub: {error_text(console, error)}")
    if hint := _hint(console, error, options):
        console.write_message(console.translate("hint", text=hint))
    return exit_code(error)


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
    return console.translate("goes-on", id=job.id, command=resume_command(job, options))


def resume_command(job: JobRef, options: Any) -> str:
    """Return the command that collects a job."""
    command = ["tokenhub", "resume", job.id, "--model", job.model]
    command += [] if options.save_to is None else ["-o", str(options.save_to)]
    command += [] if media_model(job.model) else ["--kind", job.kind]
    command += ["--site", options.site] if options.site else []
    for address in options.base_url or ():
        command += ["--base-url", address]
    return shlex.join(command)


def error_as_dict(error: TokenHubError) -> dict[str, Any]:
    """Return an error as plain data, without links."""
    job = error.job
    names = ("message", "status", "code", "request_id", "host", "hint")
    return {
        "type": type(error).__name__,
        **{name: getattr(error, name) for name in names},
        "job": job and job.model_dump(include={"id", "model", "kind", "status"}),
    }


def report(console: Console, kind: str, text: str, code: int) -> int:
    """Print an error that is not a `TokenHubError`; return `code`."""
    if console.as_json:
        console.write_json({"error": {**error_as_dict(TokenHubError(text)), "type": kind}})
    console.write_message(f"tokenhub: {console.translate.message(text)}")
    return code


def report_invalid(console: Console, error: ValidationError) -> int:
    """Print which settings are wrong, never their values, which may be keys."""
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    return report(console, "ValidationError", "; ".join(map(_setting, faults)), USAGE_ERROR)


def _setting(error: Any) -> str:
    field, text = ".".join(map(str, error["loc"])), error["msg"].removeprefix("Value error, ")
    return text if text.startswith(field) else f"{field}: {text}"
