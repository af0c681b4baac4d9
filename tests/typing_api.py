"""The public types, for type checkers. Never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

from langchain_tokenhub import (
    ChatTokenHub,
    Job,
    MediaFile,
    MediaResult,
    RateLimitError,
    Tokenhub3DTool,
    TokenHubError,
    TokenHubImageTool,
    TokenHubVideoTool,
)
from langchain_tokenhub.errors import JobRef


def chat() -> None:
    """A chat model's surface."""
    model = ChatTokenHub(model="glm-5", temperature=0.5, stop=["。"], thinking=False)
    assert_type(model.model_name, str)
    assert_type(model.get_num_tokens("你好"), int)


def media(tool: TokenHubImageTool | TokenHubVideoTool | Tokenhub3DTool) -> None:
    """A tool's plain methods."""
    job = tool.submit(prompt="雨")
    assert_type(job, Job)
    assert_type(tool.query(job), Job)
    states: Iterator[Job] = tool.watch(job)
    assert_type(next(states), Job)
    result = tool.result(job, wait_timeout=60)
    assert_type(result, MediaResult)
    assert_type(result.files[0], MediaFile)
    assert_type(result.files[0].read(), bytes)
    assert_type(job.status == "completed", bool)


async def media_async(tool: TokenHubImageTool) -> None:
    """The same, async."""
    assert_type(await tool.agenerate(prompt="雨"), MediaResult)
    assert_type(await tool.aquery("1"), Job)
    states: AsyncIterator[Job] = tool.awatch("1")
    assert_type(await anext(states), Job)


def errors(error: TokenHubError) -> None:
    """What every error carries."""
    assert_type(error.status, int | None)
    assert_type(error.request_id, str | None)
    assert_type(error.job, JobRef | None)
    if isinstance(error, RateLimitError):
        assert_type(error.retry_after, float | None)
