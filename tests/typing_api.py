"""The public types, for pyright in strict mode: every documented spelling. Never run.

`# pyright: ignore` marks a line that has to be an error; an unused one is an error too.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, TypedDict, assert_type

import httpx
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.stores import InMemoryStore
from langchain_core.tools import BaseTool
from pydantic import BaseModel, SecretStr

from langchain_tokenhub import (
    ChatTokenHub,
    Job,
    JobRef,
    MediaFile,
    MediaResult,
    RateLimitError,
    TokenHub3DTool,
    Tokenhub3DTool,
    TokenHubEmbeddings,
    TokenHubError,
    TokenHubImageTool,
    TokenHubJobTool,
    TokenHubToolkit,
    TokenHubVideoTool,
    approve_above,
)
from langchain_tokenhub.bulk import Outcome, arun, run
from langchain_tokenhub.settings import ConnectionSettings
from langchain_tokenhub.testing import Emulator


def chat() -> None:
    """A chat model's surface."""
    model = ChatTokenHub(model="glm-5", temperature=0.5, stop=["。"], thinking=False)
    assert_type(model.model_name, str)
    assert_type(model.get_num_tokens("你好"), int)
    ChatTokenHub(model_name="hy3", stop_sequences=["。"], request_timeout=9, api_key="sk-…")
    assert_type(model.invoke("你好"), AIMessage)
    assert_type(model.bind_tools([City]).invoke("你好"), AIMessage)


async def embeddings() -> None:
    """The embeddings' surface."""
    made = TokenHubEmbeddings(model="ep-1", chunk_size=64, max_concurrency=4, api_key="sk-1")
    assert_type(made.embed_documents(["茶"]), list[list[float]])
    assert_type(await made.aembed_query("茶"), list[float])
    TokenHubEmbeddings(dimensions=512)  # pyright: ignore[reportCallIssue]


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


def connection() -> None:
    """The connection fields."""
    ConnectionSettings(api_key="sk-1", base_url="https://host", timeout=30)
    ConnectionSettings(api_key=SecretStr("sk-1"), base_url=["https://host", "https://backup"])
    ConnectionSettings(request_timeout=30.5, site="overseas", max_retries=0)
    ConnectionSettings(timeout=httpx.Timeout(30), default_headers={"X-Team": "art"})
    with httpx.Client() as client, ConnectionSettings(http_client=client) as settings:
        assert_type(settings, ConnectionSettings)
    ConnectionSettings(http_async_client=httpx.AsyncClient())
    ConnectionSettings(timeuot=30)  # pyright: ignore[reportCallIssue]
    ConnectionSettings(site="moon")  # pyright: ignore[reportArgumentType]


def tools() -> None:
    """The fields of the tools."""
    tool = TokenHubImageTool(
        model="hy-image-lite",
        api_key="sk-1",
        save_to="out",
        ledger="jobs",
        allow_local_files=["refs", Path("more")],
        progress=True,
        wait_timeout=600,
        max_in_flight=2,
        language="en",
        name="painter",
        description="Paints.",
    )
    assert_type(tool.save_to, Path | None)
    assert_type(tool.api_key, SecretStr | None)
    TokenHubVideoTool(save_to=Path("out"), ledger=Path("jobs"), progress=print)
    TokenHubVideoTool(ledger=InMemoryStore(), progress=lambda job: print(job.status))
    TokenHub3DTool(request_timeout=5, timeout=httpx.Timeout(5), base_url=["https://host"])
    Tokenhub3DTool(modle="hy-3d-3.1")  # pyright: ignore[reportCallIssue]
    looker = TokenHubJobTool(api_key="sk-1", save_to="out", ledger="jobs", wait_timeout=60)
    assert_type(looker.save_to, Path | None)


def toolkit() -> None:
    """The toolkit and the approval of its calls."""
    TokenHubToolkit(models={"ep-1": "video"}, options={"video": {"wait_timeout": 600}})
    kit = TokenHubToolkit(models=["hy-image-v3.0"], save_to="out", api_key="sk-1", progress=True)
    assert_type(kit.get_tools(), list[BaseTool])
    approve_above(2, kit.get_tools())


def parameters(image: TokenHubImageTool, video: TokenHubVideoTool, shape: Tokenhub3DTool) -> None:
    """The parameters of `generate` and `submit`."""
    picture = image.generate(prompt="雨", images=["a.png", b"", Path("b.png")], seed=1, revise=0)
    image.submit(prompt="雨", extra={"style": "ink"}, again=True, logo_add=None)
    video.generate(prompt="雪", image=picture, wait_timeout=600)
    video.submit(template="hug", images=[picture.files[0], picture], bgm=True)
    view = {"view_type": "left", "view_image_url": "https://host/a.png"}
    shape.generate(image_url=picture, multi_view_images=[view], enable_pbr=True)
    shape.submit(job_id="1")
    image.generate(promt="雨")  # pyright: ignore[reportCallIssue]
    image.generate(prompt=1)  # pyright: ignore[reportArgumentType]
    image.generate("雨", seed=1)
    image.generate(1)  # pyright: ignore[reportArgumentType]
    video.submit("雪", bgm=True)
    video.submit(promt="雪")  # pyright: ignore[reportCallIssue]
    shape.generate(face_cuont=5000)  # pyright: ignore[reportCallIssue]


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
    tool.result(JobRef(kind="image", model="hy-image-v3.0", id="1"))
    for outcome in tool.results([job, "1"], wait_timeout=60):
        assert_type(outcome, MediaResult | TokenHubError)


async def media_async(tool: TokenHubImageTool) -> None:
    """The same, async."""
    assert_type(await tool.agenerate(prompt="雨"), MediaResult)
    assert_type(await tool.asubmit(prompt="雨"), Job)
    assert_type(await tool.aquery("1"), Job)
    states: AsyncIterator[Job] = tool.awatch("1")
    assert_type(await anext(states), Job)
    await tool.agenerate(promt="雨")  # pyright: ignore[reportCallIssue]


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
    hub.reply(5)  # pyright: ignore[reportArgumentType]
    hub.reply(HumanMessage("好"))  # pyright: ignore[reportArgumentType]


def many(rows: list[dict[str, object]]) -> None:
    """What a run of many jobs takes and yields."""
    shots = run(rows, out="out", budget_cny=20, price_cny={"ep-1": 1.5}, again="unknown")
    assert_type(shots.spent, float)
    assert_type(shots.left, float | None)
    for outcome in shots:
        assert_type(outcome, Outcome)
        assert_type(outcome.result, MediaResult | None)
        assert_type(outcome.error, TokenHubError | None)
        assert_type(outcome.state == "unknown", bool)
    run("shots.csv", out="out", budget=20)  # pyright: ignore[reportCallIssue]


async def many_async() -> None:
    """The same, async."""
    async for outcome in arun("-", out="out", executor="local"):
        assert_type(outcome, Outcome)
