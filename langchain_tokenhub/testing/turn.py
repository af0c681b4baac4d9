"""What a conversation asks for now. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from langchain_tokenhub.testing.schemas import is_schema
from langchain_tokenhub.testing.tables import table

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """What a tool answered."""

    name: str
    text: str

    @property
    def failed(self) -> bool:
        """Whether it says that it came to nothing."""
        return bool(re.search(table("topics")["media"]["failed"], self.text))


@dataclass(frozen=True)
class Turn:
    """The user's words and what happened since.

    Args:
        text: The last thing the user asked.
        asked: Everything the user said, this included.
        results: Tool results of this turn.
        earlier: Tool results of earlier turns.
        pictures: How many pictures or films came with the question.
    """

    system: str
    text: str
    asked: tuple[str, ...]
    results: tuple[Result, ...]
    earlier: tuple[Result, ...]
    pictures: int

    @property
    def done(self) -> frozenset[str]:
        """Names of the tools that have answered in this turn."""
        return frozenset(result.name for result in self.results)


def read_turn(messages: list[Message]) -> Turn:
    """Read the last turn of a conversation."""
    start = _start(messages)
    question = messages[start]
    return Turn(
        system=" ".join(text_of(m) for m in messages if m["role"] == "system"),
        text=text_of(question),
        asked=tuple(text_of(m) for m in messages if m["role"] == "user"),
        results=tuple(_results(messages[start:])),
        earlier=tuple(_results(messages[:start])),
        pictures=_pictures(question),
    )


def _start(messages: list[Message]) -> int:
    """Find the last question; a picture handed on after a tool's answer is no question."""
    for at in range(len(messages) - 1, 0, -1):
        handed_on = messages[at - 1]["role"] == "tool" and _pictures(messages[at])
        if messages[at]["role"] == "user" and not handed_on:
            return at
    return 0


def text_of(message: Message) -> str:
    """Join the text of a message."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def _pictures(message: Message) -> int:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return sum(part["type"] != "text" for part in parts)


def _results(messages: list[Message]) -> Iterator[Result]:
    names: dict[str, str] = {}
    for message in messages:
        names |= {c["id"]: c["function"]["name"] for c in message.get("tool_calls") or []}
        if message["role"] == "tool":
            yield Result(names.get(message["tool_call_id"], ""), text_of(message))


def embedded_schema(text: str) -> dict[str, Any] | None:
    """Find a JSON schema written into the prompt."""
    for match in re.finditer(r"\{", text):
        found = _decode(text, match.start())
        if isinstance(found, dict) and is_schema(found) and "properties" in found:
            return found
    return None


def _decode(text: str, at: int) -> Any:
    try:
        return json.JSONDecoder().raw_decode(text, at)[0]
    except (ValueError, RecursionError):
        return None
