"""Who is put to the test with chats: each peer under one set of verbs.

A peer is used as its documentation says, and with its own defaults where a fault sets nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, ClassVar

KEY = "sk-canary-0123456789"
ASKED = {"model": "m", "messages": [{"role": "user", "content": "a secret prompt"}]}
PROMPT = ASKED["messages"][0]["content"]


class Subject:
    """Where it calls and how patiently; `package` says what has to be installed."""

    package: ClassVar[str]

    def __init__(self, url: str, timeout: Any = 20.0, backup: str | None = None) -> None:
        self.url, self.timeout, self.backup = url, timeout, backup
        self.client = self.made()

    def made(self) -> Any:
        raise NotImplementedError


# -- chats ------------------------------------------------------------------------------------


class Chat(Subject):
    """A chat model of LangChain; others override the four verbs."""

    def say(self) -> str:
        return self.client.invoke(PROMPT).text

    async def asay(self) -> str:
        return (await self.client.ainvoke(PROMPT)).text

    def stream(self) -> Iterator[str]:
        for chunk in self.client.stream(PROMPT):
            yield chunk.text

    def fields(self) -> dict[str, Any]:
        return {"model": "m", "api_key": KEY, "timeout": self.timeout, "max_retries": 0}


class ChatTokenHub(Chat):
    package = "langchain-tokenhub"

    def made(self) -> Any:
        from langchain_tokenhub import ChatTokenHub

        return ChatTokenHub(base_url=self.url, **self.fields())


class ChatOpenAI(Chat):
    package = "langchain-openai"

    def made(self) -> Any:
        from langchain_openai import ChatOpenAI

        return ChatOpenAI(base_url=self.url, **self.fields())


class ChatMistralAI(Chat):
    package = "langchain-mistralai"

    def made(self) -> Any:
        from langchain_mistralai import ChatMistralAI

        fields = {**self.fields(), "timeout": math.ceil(self.timeout)}  # whole seconds alone
        return ChatMistralAI(base_url=self.url, **fields)


class ChatDeepSeek(Chat):
    package = "langchain-deepseek"

    def made(self) -> Any:
        from langchain_deepseek import ChatDeepSeek

        return ChatDeepSeek(base_url=self.url, **self.fields())


class ChatGroq(Chat):
    package = "langchain-groq"

    def made(self) -> Any:
        from langchain_groq import ChatGroq

        return ChatGroq(base_url=self.url, **self.fields())


class OpenAI(Chat):
    package = "openai"

    def made(self) -> Any:
        from openai import OpenAI

        return OpenAI(**self.fields())

    def fields(self) -> dict[str, Any]:
        return {"base_url": self.url, "api_key": KEY, "timeout": self.timeout, "max_retries": 0}

    def say(self) -> str:
        return self.client.chat.completions.create(**ASKED).choices[0].message.content

    async def asay(self) -> str:
        if not hasattr(self, "aclient"):
            from openai import AsyncOpenAI

            self.aclient = AsyncOpenAI(**self.fields())
        return (await self.aclient.chat.completions.create(**ASKED)).choices[0].message.content

    def stream(self) -> Iterator[str]:
        for chunk in self.client.chat.completions.create(**ASKED, stream=True):
            yield chunk.choices[0].delta.content


class Mistral(Chat):
    package = "mistralai"

    def made(self) -> Any:
        from mistralai.client import Mistral

        return Mistral(api_key=KEY, server_url=self.url, timeout_ms=int(self.timeout * 1000))

    def say(self) -> str:
        return self.client.chat.complete(**ASKED).choices[0].message.content

    async def asay(self) -> str:
        return (await self.client.chat.complete_async(**ASKED)).choices[0].message.content

    def stream(self) -> Iterator[str]:
        for chunk in self.client.chat.stream(**ASKED):
            yield chunk.data.choices[0].delta.content


def text_of(data: str) -> str:
    """Return the text of one event."""
    return "" if data == "[DONE]" else json.loads(data)["choices"][0]["delta"]["content"]


class Httpx(Chat):
    """httpx alone, its lines read as events, as is often done by hand."""

    package = "httpx"
    headers: ClassVar = {"Authorization": f"Bearer {KEY}"}

    def made(self) -> Any:
        import httpx

        return httpx.Client(timeout=self.timeout, headers=self.headers)

    def say(self) -> str:
        answer = self.client.post(self.url, json=ASKED).raise_for_status()
        return answer.json()["choices"][0]["message"]["content"]

    async def asay(self) -> str:
        if not hasattr(self, "aclient"):
            import httpx

            self.aclient = httpx.AsyncClient(timeout=self.timeout, headers=self.headers)
        answer = (await self.aclient.post(self.url, json=ASKED)).raise_for_status()
        return answer.json()["choices"][0]["message"]["content"]

    def stream(self) -> Iterator[str]:
        with self.client.stream("POST", self.url, json={**ASKED, "stream": True}) as response:
            for line in response.iter_lines():
                if line.startswith("data:"):
                    yield text_of(line[5:].strip())


class HttpxSSE(Httpx):
    package = "httpx-sse"

    def stream(self) -> Iterator[str]:
        from httpx_sse import connect_sse

        body = {**ASKED, "stream": True}
        with connect_sse(self.client, "POST", self.url, json=body) as source:
            for event in source.iter_sse():
                yield text_of(event.data)


class Httpx2(Httpx):
    package = "httpx2"

    def made(self) -> Any:
        import httpx2

        return httpx2.Client(timeout=self.timeout, headers=self.headers)

    async def asay(self) -> str:
        import httpx2

        self.aclient = getattr(self, "aclient", None) or httpx2.AsyncClient(
            timeout=self.timeout, headers=self.headers
        )
        answer = (await self.aclient.post(self.url, json=ASKED)).raise_for_status()
        return answer.json()["choices"][0]["message"]["content"]

    def stream(self) -> Iterator[str]:
        body = {**ASKED, "stream": True}
        with self.client.sse(self.url, method="POST", json=body) as source:
            for event in source:
                yield text_of(event.data)


MODELS = (ChatTokenHub, ChatOpenAI, ChatMistralAI, ChatDeepSeek, ChatGroq, OpenAI, Mistral)
CALLERS = (*MODELS, Httpx, Httpx2)
EVERYONE = (*MODELS, Httpx, HttpxSSE, Httpx2)
