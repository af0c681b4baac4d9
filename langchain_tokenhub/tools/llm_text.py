"""Texts for language models: errors with cost and next step, and descriptions of tools. Pure."""

from __future__ import annotations

from typing import Literal

from langchain_tokenhub.catalogue import MediaKind, MediaModel
from langchain_tokenhub.errors import (
    BudgetExceededError,
    ContentBlockedError,
    InvalidRequestError,
    JobFailedError,
    JobNotFoundError,
    JobRef,
    ModelNotAvailableError,
    PermissionDeniedError,
    QuotaExhaustedError,
    ResultExpiredError,
    SubmissionUnknownError,
    TokenHubError,
)
from langchain_tokenhub.params import Language


def error_text(error: TokenHubError) -> str:
    """Return the text of a tool message."""
    return f"{type(error).__name__}: {error} {_cost(error)} {_advice(error)}".strip()


def charge_state(error: TokenHubError) -> Literal["no", "maybe", "yes"]:
    """Return whether the call that raised `error` was charged, as far as is known."""
    match error:
        case SubmissionUnknownError():
            return "maybe"
        case TokenHubError(job=None) | JobFailedError():
            return "no"
        case _:
            return "yes"


def _cost(error: TokenHubError) -> str:
    if error.job is not None:
        return f"Job ID: {error.job.id}."
    may_be = "No job ID is known; this may have been charged."
    return may_be if charge_state(error) == "maybe" else "Nothing was charged."


def _advice(error: TokenHubError) -> str:
    match error:
        case (
            SubmissionUnknownError()
            | QuotaExhaustedError()
            | PermissionDeniedError()
            | ModelNotAvailableError()
            | ResultExpiredError()
        ):
            return "Do not call again; tell the user."
        case ContentBlockedError():
            return "The content was refused: change it, or tell the user."
        case BudgetExceededError():
            return "Do not call again unless it is cheaper; tell the user."
        case InvalidRequestError():
            return "Correct the input, then call again."
        case JobFailedError():
            return "The job has ended; tell the user, or change the input and call again."
        case JobNotFoundError():
            return "Unless this is the ID of an earlier job, leave job_id out; else tell the user."
        case TokenHubError(job=JobRef(id=job_id)):
            call = f"call this tool with job_id={job_id!r} only"
            return f"To continue waiting, {call}; nothing is charged again."
        case _:
            return "Retry later, or tell the user."


def description_of(facts: MediaKind, language: Language) -> str:
    """Return a tool's description in a few short sentences."""
    price = facts.price if isinstance(facts, MediaModel) else None
    by_second = price is not None and price.per == "second"
    seconds, hours = facts.typical_seconds, facts.link_life // 3600
    if language == "zh":
        takes = f"约需 {seconds:.0f} 秒。" if seconds else ""
        cost = f"（每{'秒音频' if by_second else '次'}约 {price.cny} 元）" if price else ""
        return (
            f"{facts.purpose_zh}{takes}每次调用都会计费{cost}：一个需求只调用一次，"
            f"不要重复调用来查看结果。返回任务 ID、链接（{hours} 小时后失效）和已保存的路径。"
        )
    takes = f"Takes about {seconds:.0f} s. " if seconds else ""
    unit = "per second of audio" if by_second else "each"
    cost = f" (roughly {price.cny} CNY {unit})" if price else ""
    return (
        f"{facts.purpose} {takes}Each call costs money{cost}: call once per request, never to "
        f"check on a job. Returns the job ID, a link (expires after {hours} h) and the saved path."
    )
