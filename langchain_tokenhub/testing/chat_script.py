"""Answers to chat requests, and those that a user scripts with `Emulator.reply`."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from langchain_tokenhub.testing.chat_validation import count_tokens
from langchain_tokenhub.testing.errors import RefusedError

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage


Function = Callable[[Any], Any]
Reply: TypeAlias = "str | Mapping[str, Any] | AIMessage"


@dataclass(frozen=True)
class ToolCall:
    """A call; `arguments` is JSON, or what a script wants instead of it."""

    name: str
    arguments: str
    id: str | None = None


@dataclass(frozen=True)
class Answer:
    """The answer to a chat request; `usage` is LangChain's, where a script gives one."""

    content: str = ""
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()
    finish: str = "stop"
    usage: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """The number of tokens, reasoning included."""
        calls = sum(count_tokens(call.arguments) + 1 for call in self.calls)
        return count_tokens(self.reasoning) + count_tokens(self.content) + calls


class Script:
    """The answers to come: a queue, then a function. Safe to use from any thread."""

    def __init__(self) -> None:
        self._queue: deque[Answer | Function] = deque()
        self._function: Function | None = None
        self._lock = threading.Lock()

    def add(self, reply: Any) -> None:
        """Add a reply, a list of replies and functions, or the function for all requests."""
        is_list = isinstance(reply, Sequence) and not isinstance(reply, str)
        if is_list and not reply:
            raise TypeError("The list of replies is empty.")
        entries = [_read_entry(entry) for entry in (reply if is_list else [reply])]
        with self._lock:
            if callable(entries[0]) and not is_list:
                self._function = entries[0]
            else:
                self._queue.extend(entries)

    def clear(self) -> None:
        """Remove all that is left."""
        with self._lock:
            self._queue.clear()
            self._function = None

    async def next_answer(self, request: Any) -> Answer | None:
        """Return the next answer, or None; a function that fails stays the next."""
        with self._lock:
            entry = self._queue.popleft() if self._queue else self._function
        if not callable(entry):
            return entry
        try:
            return await asyncio.to_thread(_call, entry, request)
        except RefusedError:
            with self._lock:
                self._queue.extendleft([entry] if entry is not self._function else [])
            raise


def _read_entry(entry: Any) -> Any:
    if not callable(entry) or isinstance(entry, type):
        return read_reply(entry)
    if inspect.iscoroutinefunction(entry) or inspect.isasyncgenfunction(entry):
        raise TypeError("The function of a reply must not be async: it runs in a thread.")
    return entry


def _call(function: Function, request: Any) -> Answer:
    name = getattr(function, "__name__", "function")
    try:
        return read_reply(function(request))
    except BaseException as error:  # pytest's `fail` and StopIteration included
        text = f"{name} of Emulator.reply: {type(error).__name__}: {error}"
        raise RefusedError("500001", text) from error


class _Block(BaseModel):
    model_config = ConfigDict(strict=True)
    type: Literal["text", "reasoning", "tool_call", "invalid_tool_call"]
    text: str = ""
    reasoning: str = ""


class _Reply(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    role: Literal["assistant"] = "assistant"
    content: str | list[str | _Block] | None = None
    reasoning_content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    finish_reason: str | None = None
    usage_metadata: dict[str, int | dict[str, Any]] | None = None


def read_reply(reply: Any) -> Answer:
    """Read a text, an `AIMessage`, or a dict in the form of the service's messages."""
    if isinstance(reply, str):
        return Answer(reply)
    fields = reply if isinstance(reply, Mapping) else _message_fields(reply)
    try:
        read = _Reply.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise TypeError(f"Wrong reply: {first['loc'][0]!r}: {first['msg']}.") from error
    parts = read.content if isinstance(read.content, list) else [read.content or ""]
    blocks = [_Block(type="text", text=p) if isinstance(p, str) else p for p in parts]
    calls = tuple(map(_read_call, read.tool_calls or ()))
    return Answer(
        content="".join(block.text for block in blocks),
        reasoning=read.reasoning_content or "".join(block.reasoning for block in blocks),
        calls=calls,
        finish=read.finish_reason or ("tool_calls" if calls else "stop"),
        usage=read.usage_metadata or {},
    )


def _message_fields(reply: Any) -> Mapping[str, Any]:
    if isinstance(reply, type) or getattr(reply, "type", None) not in {"ai", "AIMessageChunk"}:
        kind = "a class" if isinstance(reply, type) else type(reply).__name__
        raise TypeError(
            "Emulator.reply takes a text, an AIMessage, a dict, a function of the request, or a"
            f" list of them; not {kind}."
        )
    return {
        "content": reply.content,
        "reasoning_content": reply.additional_kwargs.get("reasoning_content"),
        "tool_calls": [*reply.tool_calls, *reply.invalid_tool_calls],
        "finish_reason": reply.response_metadata.get("finish_reason"),
        "usage_metadata": reply.usage_metadata,
    }


def _read_call(call: Mapping[str, Any]) -> ToolCall:
    match call.get("function", call):
        case {"name": str(name), "args": arguments} | {"name": str(name), "arguments": arguments}:
            if isinstance(arguments, Mapping):
                arguments = json.dumps(dict(arguments), ensure_ascii=False)
            if name and isinstance(arguments, str):
                return ToolCall(name, arguments, call.get("id"))
    raise TypeError(f"A tool call has a name and args, as LangChain's; not {call!r}.")
