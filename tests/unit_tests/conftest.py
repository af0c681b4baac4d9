"""A service that says what a test tells it to, under the real chat model and without a socket."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from langchain_tests.utils.stream_lifecycle import assert_valid_event_stream

from langchain_tokenhub import ChatTokenHub


def _response(body: Any, status: int) -> httpx.Response:
    """Return an answer, unread: a list is streamed, text is a stream as it is, a dict is whole."""
    streamed = isinstance(body, (list, str))
    text = body if isinstance(body, str) else json.dumps(body)
    raw = _events(body) if isinstance(body, list) else text.encode()
    kind = "text/event-stream" if streamed else "application/json"
    return httpx.Response(status, headers={"content-type": kind}, stream=httpx.ByteStream(raw))


def _events(chunks: list[Any]) -> bytes:
    lines = [c if isinstance(c, str) else json.dumps(c, ensure_ascii=False) for c in chunks]
    return "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode(
        "utf-8", "surrogatepass"
    )


def _sum(chunks):
    assert [chunk.chunk_position for chunk in chunks].count("last") == 1
    return sum(chunks[1:], chunks[0]) if len(chunks) > 1 else chunks[0]


async def _alist(stream):
    return [item async for item in stream]


async def _astream_events(model):
    stream = await model.astream_events("hi", version="v3")
    events = [event async for event in stream]
    return events, await stream.output


def _stream_events(model):
    stream = model.stream_events("hi", version="v3")
    return list(stream), stream.output


class Service:
    """Answers requests one after another, the last answer for ever; keeps what it was sent."""

    def __init__(self) -> None:
        self.answers: list[tuple[Any, int]] = []
        self.bodies: list[Any] = []
        transport = httpx.MockTransport(self._answer)
        self.clients = {
            "http_client": httpx.Client(transport=transport, trust_env=False),
            "http_async_client": httpx.AsyncClient(transport=transport, trust_env=False),
        }

    def __call__(self, *bodies: Any, status: int = 200) -> Service:
        """Add answers."""
        self.answers += [(body, status) for body in bodies]
        return self

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(json.loads(request.content) if request.content else None)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return _response(*answer)

    def model(self, model: str = "glm-5", **fields: Any) -> ChatTokenHub:
        """Return the chat model that talks to this service."""
        defaults = {"api_key": "sk-test-canary", "base_url": "https://hub.test", "max_retries": 0}
        return ChatTokenHub(**defaults | self.clients | fields, model=model)

    def faces(self, model: str = "glm-5") -> dict[str, Any]:
        """Return the streamed answer as each face gives it."""
        v0, v1 = self.model(model), self.model(model, output_version="v1")
        events, v3 = _stream_events(v0)
        aevents, av3 = asyncio.run(_astream_events(v0))
        assert_valid_event_stream(events)
        assert_valid_event_stream(aevents)
        return {
            "v0": _sum(list(v0.stream("hi"))),
            "v0 async": _sum(asyncio.run(_alist(v0.astream("hi")))),
            "v1": _sum(list(v1.stream("hi"))),
            "v1 async": _sum(asyncio.run(_alist(v1.astream("hi")))),
            "invoke while streaming": self.model(model, streaming=True).invoke("hi"),
            "v3": v3,
            "v3 async": av3,
        }


@pytest.fixture
def service() -> Service:
    """A scripted service: `service(answer, …).model("glm-5")`; a list is streamed."""
    return Service()


@pytest.fixture(scope="session")
def services() -> type[Service]:
    """Make a service anew wherever one for the whole test is too few."""
    return Service
