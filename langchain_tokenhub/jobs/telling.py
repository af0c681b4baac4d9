"""How an error is told to a language model: what failed, what it cost, what to do. Pure."""

from __future__ import annotations

from langchain_tokenhub.errors import (
    ContentBlockedError,
    InvalidRequestError,
    JobBlockedError,
    JobFailedError,
    JobNotFoundError,
    JobTimeoutError,
    ModelNotAvailableError,
    PermissionDeniedError,
    QuotaExhaustedError,
    ResultExpiredError,
    SubmissionUnknownError,
    TokenHubError,
)

_STOP = "Do not call again; tell the user."
_CORRECT = "Correct the input, then call again."


def told(error: TokenHubError) -> str:
    """Return the text of a tool message."""
    return f"{type(error).__name__}: {error} {_cost(error)} {_advice(error)}".strip()


def _cost(error: TokenHubError) -> str:
    if isinstance(error, SubmissionUnknownError):
        return "No job id is known; this may have been charged."
    if error.job is None:
        return "Nothing was charged."
    return f"Job id: {error.job.id}."


def _advice(error: TokenHubError) -> str:
    match error:
        case SubmissionUnknownError() | QuotaExhaustedError() | PermissionDeniedError():
            return _STOP
        case ModelNotAvailableError() | ResultExpiredError():
            return _STOP
        case JobBlockedError() | ContentBlockedError():
            return "The content was refused: change it, or tell the user."
        case InvalidRequestError():
            return _CORRECT
        case JobFailedError():
            return "The job is over; tell the user, or change the input and call again."
        case JobNotFoundError():
            return "If that is no id of an earlier job, leave job_id out; else tell the user."
        case JobTimeoutError():
            return _resume(error)
        case _ if error.job is not None:
            return _resume(error)
        case _:
            return "Try again later, or tell the user."


def _resume(error: TokenHubError) -> str:
    assert error.job is not None  # noqa: S101 - the caller asked
    return (
        f"To go on waiting, call this tool with job_id={error.job.id!r} only; "
        "nothing is charged again."
    )
