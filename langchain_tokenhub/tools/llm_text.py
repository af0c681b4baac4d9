"""Texts for language models: errors with cost and next step, and descriptions of tools. Pure."""

from __future__ import annotations

from langchain_tokenhub.catalogue import MediaKind, Price
from langchain_tokenhub.errors import (
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


def _cost(error: TokenHubError) -> str:
    if isinstance(error, SubmissionUnknownError):
        return "No job ID is known; this may have been charged."
    if error.job is None:
        return "Nothing was charged."
    return f"Job ID: {error.job.id}."


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


_PURPOSES: dict[str, tuple[str, str]] = {
    "tokenhub_image": (
        "根据文字（可附参考图）生成或修改一张图片。",
        "Generates an image from text, or edits up to three images.",
    ),
    "tokenhub_image_lite": ("根据文字快速生成一张图片。", "Quickly generates an image from text."),
    "tokenhub_video": (
        "根据文字（可附首帧图片）生成约 5 秒的视频。",
        "Generates a video of about 5 s from text, or from text and a first image.",
    ),
    "tokenhub_video_image": ("让一张图片动起来，生成视频。", "Generates a video from an image."),
    "tokenhub_video_fx": (
        "用特效模板和图片生成视频。",
        "Generates a video from images with an effect template.",
    ),
    "tokenhub_video_human": (
        "用一张人像和一段语音生成说话视频。",
        "Generates a video of a speaking face from a portrait and a speech recording.",
    ),
    "tokenhub_3d": (
        "根据文字或图片生成 3D 模型（OBJ、GLB 等）。",
        "Generates a 3D model (OBJ, GLB, …) from text or images.",
    ),
    "tokenhub_3d_express": (
        "根据文字或一张图片快速生成 3D 模型。",
        "Quickly generates a 3D model from text or one image.",
    ),
}


def description_of(facts: MediaKind, price: Price | None, language: Language) -> str:
    """Return a tool's description in a few short sentences."""
    chinese, english = _PURPOSES[facts.tool_name]
    return f"{chinese}{_zh(facts, price)}" if language == "zh" else f"{english} {_en(facts, price)}"


def _en(facts: MediaKind, price: Price | None) -> str:
    cost = f" (roughly {_money(price)} CNY each)" if price else ""
    takes = f"Takes about {facts.typical_seconds:.0f} s. " if facts.typical_seconds else ""
    return (
        f"{takes}Each call costs money{cost}: call once per request, never to check on a job. "
        f"Returns the job ID, a link (expires after {facts.link_life // 3600} h) and saved path."
    )


def _zh(facts: MediaKind, price: Price | None) -> str:
    cost = f"（每次约 {_money(price)} 元）" if price else ""
    takes = f"约需 {facts.typical_seconds:.0f} 秒。" if facts.typical_seconds else ""
    return (
        f"{takes}每次调用都会计费{cost}：一个需求只调用一次，不要重复调用来查看结果。"
        f"返回任务 ID、链接（{facts.link_life // 3600} 小时后失效）和已保存的路径。"
    )


def _money(price: Price) -> str:
    low, high = (amount * price.cny_per_credit for amount in (price.low, price.high))
    return f"{low:g}" if low == high else f"{low:g}–{high:g}"
