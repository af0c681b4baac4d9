"""LangChain chat model, embeddings and media tools for Tencent Cloud TokenHub.

Names are loaded when they are first used, so that importing the package is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_tokenhub._lazy import loader
from langchain_tokenhub._version import __version__

if TYPE_CHECKING:
    from langchain_tokenhub.chat.response import ListedModel
    from langchain_tokenhub.chat_models import ChatTokenHub
    from langchain_tokenhub.embeddings import TokenHubEmbeddings
    from langchain_tokenhub.errors import (
        APIConnectionError,
        APITimeoutError,
        AuthenticationError,
        BudgetExceededError,
        CertificateError,
        ContentBlockedError,
        ContextLengthError,
        IncompleteStreamError,
        InvalidRequestError,
        JobBlockedError,
        JobError,
        JobFailedError,
        JobNotFoundError,
        JobRef,
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
    from langchain_tokenhub.jobs.media_file import MediaFile
    from langchain_tokenhub.jobs.models import Job, MediaResult
    from langchain_tokenhub.tools import (
        TokenHub3DTool,
        Tokenhub3DTool,
        TokenHubImageTool,
        TokenHubJobTool,
        TokenHubToolkit,
        TokenHubVideoTool,
        approve_above,
    )

__all__ = ["ChatTokenHub", "Job", "JobRef", "ListedModel", "MediaFile", "MediaResult"]
__all__ += ["TokenHub3DTool", "TokenHubEmbeddings", "TokenHubImageTool", "TokenHubJobTool"]
__all__ += ["TokenHubToolkit", "TokenHubVideoTool", "Tokenhub3DTool", "__version__"]
__all__ += ["approve_above"]
__all__ += ["APIConnectionError", "APITimeoutError", "AuthenticationError", "CertificateError"]
__all__ += ["BudgetExceededError", "ContentBlockedError", "ContextLengthError"]
__all__ += ["IncompleteStreamError"]
__all__ += ["InvalidRequestError", "JobBlockedError", "JobError", "JobFailedError"]
__all__ += ["JobNotFoundError", "JobTimeoutError", "ModelNotAvailableError"]
__all__ += ["PermissionDeniedError", "QuotaExhaustedError", "RateLimitError", "ResponseFormatError"]
__all__ += ["ResultExpiredError", "ServerError", "SubmissionUnknownError", "TokenHubError"]

_MODULES = {
    "chat.response": "ListedModel",
    "chat_models": "ChatTokenHub",
    "embeddings": "TokenHubEmbeddings",
    "jobs.media_file": "MediaFile",
    "jobs.models": "Job MediaResult",
    "tools": "TokenHub3DTool TokenHubImageTool TokenHubJobTool TokenHubToolkit TokenHubVideoTool "
    "Tokenhub3DTool approve_above",
}
__getattr__ = loader(__name__, __all__, "errors", _MODULES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
