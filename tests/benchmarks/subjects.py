"""Who is measured: our model, its peers, and two floors that no client can be below."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, ClassVar

import httpx
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic_core import from_json

KEY = "sk-benchmark"


def ours(url: str) -> Any:
    from langchain_tokenhub import ChatTokenHub

    return ChatTokenHub(model="m", api_key=KEY, base_url=url, max_retries=0, timeout=120)


def bridged(url: str) -> Any:
    """Our model without its native hook: core makes v3 events of its chunks."""
    from langchain_tokenhub import ChatTokenHub

    class Bridged(ChatTokenHub):
        _stream_chat_model_events: ClassVar[None] = None
        _astream_chat_model_events: ClassVar[None] = None

    return Bridged(model="m", api_key=KEY, base_url=url, max_retries=0, timeout=120)


def openai(url: str) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(
        model="m", api_key=KEY, base_url=url, max_retries=0, timeout=120, stream_usage=True
    )


def mistral(url: str) -> Any:
    from langchain_mistralai import ChatMistralAI

    return ChatMistralAI(
        model="m",
        api_key=KEY,
        base_url=url,
        max_retries=0,
        timeout=120,
        max_concurrent_requests=9999,
    )


class Ready(BaseChatModel):
    """The floor of LangChain: a model whose answers are made already."""

    events: int = 0
    native: bool = False
    """Whether v3 events are made already too, or core's bridge makes them of chunks."""

    @property
    def _llm_type(self) -> str:
        return "ready"

    def _chunks(self) -> list[ChatGenerationChunk]:
        words = [AIMessageChunk(content=f"word{n % 10} ") for n in range(self.events)]
        words.append(AIMessageChunk(content="", chunk_position="last"))
        return [ChatGenerationChunk(message=word) for word in words]

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        message = AIMessage("word " * 60)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, *_: Any, **__: Any) -> ChatResult:
        return self._generate()

    def _stream(self, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        yield from self._chunks()

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._chunks():
            yield chunk

    @property
    def _stream_chat_model_events(self) -> Any:
        return self._events if self.native else None

    def _events(self, *_: Any, **__: Any) -> Iterator[Any]:
        yield {"event": "message-start", "role": "ai", "id": "run-1", "metadata": {}}
        yield {"event": "content-block-start", "index": 0, "content": {"type": "text", "text": ""}}
        for n in range(self.events):
            delta = {"type": "text-delta", "text": f"word{n % 10} "}
            yield {"event": "content-block-delta", "index": 0, "delta": delta}
        yield {"event": "content-block-finish", "index": 0, "content": {"type": "text", "text": ""}}
        yield {"event": "message-finish", "metadata": {}}


BODY = {"model": "m", "messages": [{"role": "user", "content": "q"}]}


class Bare:
    """The floor of the network: httpx, bytes, JSON."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = httpx.Client(timeout=120)

    def invoke(self, _: str) -> Any:
        content = json.dumps(BODY).encode()
        return from_json(self.client.post(self.url, content=content).content)

    def stream(self, _: str) -> Iterator[Any]:
        content = json.dumps({**BODY, "stream": True}).encode()
        with self.client.stream("POST", self.url, content=content) as response:
            rest = b""
            for data in response.iter_bytes():
                *events, rest = (rest + data).split(b"\n\n")
                yield from values(events)

    async def ainvoke(self, _: str) -> Any:
        content = json.dumps(BODY).encode()
        return from_json((await self.made().post(self.url, content=content)).content)

    async def astream(self, _: str) -> AsyncIterator[Any]:
        content = json.dumps({**BODY, "stream": True}).encode()
        async with self.made().stream("POST", self.url, content=content) as response:
            rest = b""
            async for data in response.aiter_bytes():
                *events, rest = (rest + data).split(b"\n\n")
                for value in values(events):
                    yield value

    def made(self) -> httpx.AsyncClient:
        if not hasattr(self, "aclient"):
            self.aclient = httpx.AsyncClient(timeout=120)
        return self.aclient


def values(events: list[bytes]) -> Iterator[Any]:
    for event in events:
        if event != b"data: [DONE]":
            yield from_json(event[6:])


PEERS: dict[str, Callable[[str], Any]] = {
    "ChatTokenHub": ours,
    "ChatMistralAI": mistral,
    "ChatOpenAI": openai,
}
