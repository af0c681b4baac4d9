"""The public types, for type checkers. Never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, TypedDict, assert_type

from langchain_core.messages import AIMessage, HumanMessage
from pydantic import BaseModel

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
from langchain_tokenhub.testing import Emulator


def chat() -> None:
    """A chat model's surface."""
    model = ChatTokenHub(model="glm-5", temperature=0.5, stop=["。"], thinking=False)
    assert_type(model.model_name, str)
    assert_type(model.get_num_tokens("你好"), int)
    ChatTokenHub(model_name="hy3", stop_sequences=["。"], request_timeout=9, api_key="sk-…")
    assert_type(model.invoke("你好"), AIMessage)
    assert_type(model.bind_tools([City]).invoke("你好"), AIMessage)


class City(BaseModel):
    """A city."""

    name: str


class Town(TypedDict):
    """A town."""

    name: str


async def shapes(model: ChatTokenHub) -> None:
    """Answers of a given shape."""
    assert_type(model.with_structured_output(City).invoke("北京"), City)
    assert_type(await model.with_structured_output(City).ainvoke("北京"), City)
    assert_type(model.with_structured_output(Town).invoke("北京"), Town)
    assert_type(model.with_structured_output({"title": "a"}).invoke("北京"), dict[str, Any])
    assert_type(model.with_structured_output(method="json_mode").invoke("x"), dict[str, Any])
    raw = model.with_structured_output(City, include_raw=True)
    assert_type(raw.invoke("北京"), dict[str, Any])


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


def scripts(hub: Emulator, call: AIMessage) -> None:
    """What scripts an emulator's answers."""
    hub.reply("好")
    hub.reply(call)
    hub.reply({"content": "好", "tool_calls": []})
    hub.reply(["好", call, {"content": "好"}, lambda request: str(request.body)])
    hub.reply(lambda request: call if request.body["tools"] else "好")
    hub.reply(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    hub.reply(HumanMessage("好"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
