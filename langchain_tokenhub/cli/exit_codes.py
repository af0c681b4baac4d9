"""What is said when something fails, and the exit code that tells scripts."""

from __future__ import annotations

import shlex
from typing import Any

from pydantic import ValidationError

from langchain_tokenhub import errors
from langchain_tokenhub.catalogue import media_model
from langchain_tokenhub.cli.console import Console
from langchain_tokenhub.errors import JobRef, TokenHubError
from langchain_tokenhub.jobs.models import Job

INTERRUPTED = 130
WRONG_USE = 2
NOT_SAVED = 8
_EXITS: tuple[tuple[type[TokenHubError], int], ...] = (
    (errors.SubmissionUnknownError, 7),
    (errors.JobTimeoutError, 6),
    (errors.JobError, 5),
    (errors.ContentBlockedError, 5),
    (errors.InvalidRequestError, WRONG_USE),
    (errors.ModelNotAvailableError, WRONG_USE),
    (errors.AuthenticationError, 3),
    (errors.PermissionDeniedError, 3),
    (errors.QuotaExhaustedError, 3),
    (errors.RateLimitError, 4),
    (errors.ServerError, 4),
    (errors.APIConnectionError, 4),
    (errors.APITimeoutError, 4),
)
"""The first class that fits decides; the codes are in the help's epilog."""
_PAID_ANEW = (
    errors.SubmissionUnknownError,
    errors.JobNotFoundError,
    errors.ResultExpiredError,
)


class UsageError(Exception):
    """The command was used wrongly; its text is for people."""


def exit_code(error: TokenHubError) -> int:
    """Return the exit code of an error."""
    return next((code for cls, code in _EXITS if isinstance(error, cls)), 1)


def failed(console: Console, error: TokenHubError, options: Any) -> int:
    """Say what failed and what to do next."""
    if console.as_json:
        console.data({"error": described(error)})
    facts = [f"request id {error.request_id}" if error.request_id else "", error.host or ""]
    around = ", ".join(fact for fact in facts if fact)
    console.note(f"tokenhub: {error.message or type(error).__name__}{around and f' [{around}]'}")
    if hint := _hint(console, error, options):
        console.note(console.words("hint", text=hint))
    return exit_code(error)


def _hint(console: Console, error: TokenHubError, options: Any) -> str | None:
    job = error.job
    if isinstance(job, Job) and not job.ended and not isinstance(error, _PAID_ANEW):
        return goes_on(console, job, options)
    if isinstance(error, _PAID_ANEW) and hasattr(options, "again"):
        return console.words("hint-again")
    if isinstance(error, errors.AuthenticationError) and error.status is None:
        return console.words("hint-key")
    return error.hint


def goes_on(console: Console, job: JobRef, options: Any) -> str:
    """Return the sentence that keeps a paid job from being lost."""
    return console.words("goes-on", id=job.id, command=resume_command(job, options))


def resume_command(job: JobRef, options: Any) -> str:
    """Return the command that collects a job."""
    words = ["tokenhub", "resume", job.id, "--model", job.model]
    if options.save_to is not None:
        words += ["-o", str(options.save_to)]
    words += [] if media_model(job.model) else ["--kind", job.kind]
    words += ["--site", options.site] if options.site else []
    for address in options.base_url or ():
        words += ["--base-url", address]
    return shlex.join(words)


def described(error: TokenHubError) -> dict[str, Any]:
    """Return an error as plain data; no link is in it."""
    job = error.job
    return {
        "type": type(error).__name__,
        "message": error.message,
        "status": error.status,
        "code": error.code,
        "request_id": error.request_id,
        "host": error.host,
        "hint": error.hint,
        "job": job and job.model_dump(include={"id", "model", "kind", "status"}),
    }


def told(console: Console, kind: str, text: str, code: int) -> int:
    """Say what failed without an error of ours."""
    if console.as_json:
        console.data({"error": {**described(TokenHubError(text)), "type": kind}})
    console.note(f"tokenhub: {text}")
    return code


def invalid(console: Console, error: ValidationError) -> int:
    """Say which setting is wrong, never its value: it may be a key."""
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    return told(console, "ValidationError", "; ".join(map(_setting, problems)), WRONG_USE)


def _setting(problem: Any) -> str:
    place = ".".join(map(str, problem["loc"]))
    return f"{place and f'{place}: '}{problem['msg'].removeprefix('Value error, ')}"
