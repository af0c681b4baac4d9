"""LangChain chat model and media tools for Tencent Cloud TokenHub.

Names are loaded when they are first used: importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_tokenhub._lazy import loader
from langchain_tokenhub._version import __version__

if TYPE_CHECKING:
    from langchain_tokenhub.chat.response import ListedModel
    from langchain_tokenhub.chat_models import ChatTokenHub
    from langchain_tokenhub.errors import (
        APIConnectionError,
        APITimeoutError,
        AuthenticationError,
        CertificateError,
        ContentBlockedError,
        ContextLengthError,
        IncompleteStreamError,
        InvalidRequestError,
        JobBlockedError,
        JobError,
        JobFailedError,
        JobNotFoundError,
        JobTimeoutError,
        ModelNotAvailableError,
        PermissionDeniedError,
        QuotaExhaustedError,
        RateLimitError,
        ResponseFormatError,
        ResultExpiredError,
        ServerError,
        SubmissionUnknownError,
        TokenHubError,
    )
    from langchain_tokenhub.jobs.models import Job, MediaFile, MediaResult
    from langchain_tokenhub.tools import (
        Tokenhub3DTool,
        TokenHubImageTool,
        TokenHubJobTool,
        TokenHubToolkit,
        TokenHubVideoTool,
        approve_above,
    )

_HOMES = {
    "chat.response": ("ListedModel",),
    "chat_models": ("ChatTokenHub",),
    "errors": (
        "APIConnectionError",
        "APITimeoutError",
        "AuthenticationError",
        "CertificateError",
        "ContentBlockedError",
        "ContextLengthError",
        "IncompleteStreamError",
        "InvalidRequestError",
        "JobBlockedError",
        "JobError",
        "JobFailedError",
        "JobNotFoundError",
        "JobTimeoutError",
        "ModelNotAvailableError",
        "PermissionDeniedError",
        "QuotaExhaustedError",
        "RateLimitError",
        "ResponseFormatError",
        "ResultExpiredError",
        "ServerError",
        "SubmissionUnknownError",
        "TokenHubError",
    ),
    "jobs.models": ("Job", "MediaFile", "MediaResult"),
    "tools": (
        "TokenHubImageTool",
        "TokenHubJobTool",
        "TokenHubToolkit",
        "TokenHubVideoTool",
        "Tokenhub3DTool",
        "approve_above",
    ),
}

__all__ = [
    "APIConnectionError",
    "APITimeoutError",
    "AuthenticationError",
    "CertificateError",
    "ChatTokenHub",
    "ContentBlockedError",
    "ContextLengthError",
    "IncompleteStreamError",
    "InvalidRequestError",
    "Job",
    "JobBlockedError",
    "JobError",
    "JobFailedError",
    "JobNotFoundError",
    "JobTimeoutError",
    "ListedModel",
    "MediaFile",
    "MediaResult",
    "ModelNotAvailableError",
    "PermissionDeniedError",
    "QuotaExhaustedError",
    "RateLimitError",
    "ResponseFormatError",
    "ResultExpiredError",
    "ServerError",
    "SubmissionUnknownError",
    "TokenHubError",
    "TokenHubImageTool",
    "TokenHubJobTool",
    "TokenHubToolkit",
    "TokenHubVideoTool",
    "Tokenhub3DTool",
    "__version__",
    "approve_above",
]


__getattr__ = loader(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
