"""The words in which the media part refuses."""

from __future__ import annotations

from typing import Any


class MediaRefusedError(Exception):
    """A submit is refused; the service says so inside HTTP 200.

    Args:
        code: A business code such as `InvalidParameter.InvalidParameter`.
        message: What a person reads.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def wrong(message: str) -> MediaRefusedError:
    """Refuse a wrong value."""
    return MediaRefusedError("InvalidParameter.InvalidParameter", message)


def refused_body(error: MediaRefusedError, request_id: str) -> dict[str, Any]:
    """Build the body of a refused submit: its id is empty."""
    body = {"message": error.message, "type": "api_error", "code": error.code}
    return {"id": "", "status": "failed", "error": body, "request_id": request_id}


def job_not_found(request_id: str) -> dict[str, Any]:
    """Build the answer to a query for a job that is not there."""
    error = {
        "message": "The job does not exist or has expired.",
        "type": "api_error",
        "code": "FailedOperation.JobNotFound",
    }
    return {"error": error, "request_id": request_id}
