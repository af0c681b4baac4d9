"""Answers to chat requests, and those that a user scripts with `Emulator.reply`."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from langchain_tokenhub.testing.chat_validation import count_tokens
from langchain_tokenhub.testing.errors import RefusedError

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage


Function = Callable[[Any], Any]
Reply: TypeAlias = "str | Mapping[str, Any] | AIMessage"
_KEYS = ("role", "content", "reasoning_content", "tool_calls", "finish_reason", "usage_metadata")
_BLOCKS = ("text", "reasoning", "tool_call", "invalid_tool_call")


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
        """Add a reply, a list of replies and functions, or the function for all requests.

        Raises:
            TypeError: For anything else; nothing is added.
        """
        several = isinstance(reply, Sequence) and not isinstance(reply, str)
        if several and not reply:
            raise TypeError("The list of replies is empty.")
        entries = [_read_entry(entry) for entry in (reply if several else [reply])]
        with self._lock:
            if callable(entries[0]) and not several:
                self._function = entries[0]
            else:
                self._queue.extend(entries)

    def clear(self) -> None:
        """Remove all that is left."""
        with self._lock:
            self._queue.clear()
            self._function = None

    async def next_answer(self, request: Any) -> Answer | None:
        """Return the next answer, or `None` where none is scripted.

        Raises:
            RefusedError: 500001 when a function fails; it is called again for the next request.
        """
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


def _call(function: Callable[[Any], Any], request: Any) -> Answer:
    name = getattr(function, "__name__", "function")
    try:
        return read_reply(function(request))
    except BaseException as error:  # pytest's `fail` and StopIteration included
        text = f"{name} of Emulator.reply: {type(error).__name__}: {error}"
        raise RefusedError("500001", text) from error


def read_reply(reply: Any) -> Answer:
    """Read a text, an `AIMessage`, or a dict in the form of the service's messages.

    Raises:
        TypeError: For anything else, naming what is wrong.
    """
    if isinstance(reply, str):
        return Answer(reply)
    message = reply if isinstance(reply, Mapping) else _message_fields(reply)
    if unknown := [key for key in message if key not in _KEYS]:
        raise TypeError(f"A reply has no {unknown[0]!r}; it has {', '.join(_KEYS)}.")
    if message.get("role", "assistant") != "assistant":
        raise TypeError(f"A reply has the role 'assistant', not {message['role']!r}.")
    calls = tuple(_read_call(call) for call in message.get("tool_calls") or ())
    content = message.get("content")
    reasoning = message.get("reasoning_content") or _read_content(content, "reasoning")
    if not isinstance(reasoning, str):
        raise TypeError(f"reasoning_content is a text, not {type(reasoning).__name__}.")
    finish = message.get("finish_reason") or ("tool_calls" if calls else "stop")
    usage = message.get("usage_metadata") or {}
    if not isinstance(usage, Mapping) or not all(
        isinstance(usage.get(key, 0), int) for key in ("input_tokens", "output_tokens")
    ):
        raise TypeError(f"usage_metadata is LangChain's UsageMetadata, not {usage!r}.")
    return Answer(_read_content(content, "text"), reasoning, calls, str(finish), usage)


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


def _read_content(content: Any, kind: str) -> str:
    """Join the blocks of one kind; a plain text is one block of text."""
    parts: Any = [content or ""] if isinstance(content, str | None) else content
    if not isinstance(parts, Sequence):
        raise TypeError(f"The content of a reply is a text, not {type(content).__name__}.")
    blocks: list[Any] = [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]
    for block in blocks:
        if not isinstance(block, Mapping) or block.get("type") not in _BLOCKS:
            raise TypeError(f"A reply has blocks of the types {', '.join(_BLOCKS)}; not {block!r}.")
    return "".join(str(block.get(kind, "")) for block in blocks if block["type"] == kind)


def _read_call(call: Any) -> ToolCall:
    found = call.get("function", call) if isinstance(call, Mapping) else None
    match found:
        case {"name": str(name), "arguments": arguments} | {
            "name": str(name),
            "args": arguments,
        } if name:
            return ToolCall(name, _json(name, arguments), call.get("id"))
        case _:
            raise TypeError(f"A tool call has a name and args, as LangChain's; not {call!r}.")


def _json(name: str, arguments: Any) -> str:
    if isinstance(arguments, str):
        return arguments
    try:
        return json.dumps({**arguments}, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"The args of {name} are no dict of JSON: {error}.") from error
