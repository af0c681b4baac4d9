"""LangChain messages to the wire's. Pure.

The guide's rule of order (text generation, `messages`): `[system] user assistant user …`, the last
one a user's, or a tool's (its own example 5). Histories that break it in ways that do not change
their meaning are mended; any other is refused with the message's position.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from langchain_tokenhub import catalogue
from langchain_tokenhub.chat.content import (
    Part,
    calls_of,
    check_image,
    check_number,
    check_video,
    content_of,
    result_text,
    shown_in,
    split_results,
    text_of,
)
from langchain_tokenhub.chat.deltas import arguments
from langchain_tokenhub.errors import InvalidRequestError

WireMessage = dict[str, Any]
_ASSISTANTS = frozenset({"ai", "AIMessageChunk", "chat"})


@dataclass(frozen=True)
class Rules:
    """What a model wants of a history.

    Args:
        model: Its id, for messages to people.
        row: What is known of it, None for unknown ids.
        thinking: Whether it thinks in this request.
    """

    model: str
    row: catalogue.ChatModel | None
    thinking: bool

    def refuses(self, kind: str) -> bool:
        """Say whether the model is known not to take parts of this kind."""
        known = {
            "image_url": self.row and self.row.image,
            "video_url": self.row and self.row.video,
            "file_url": self.row and self.row.takes_files,
        }
        return known.get(kind) is False

    def echoes(self, *, with_tools: bool) -> bool:
        """Say whether reasoning goes back with an assistant's message."""
        echo = self.row.echo_reasoning if self.row else "tool_calls"
        return self.thinking and (echo == "always" or (echo == "tool_calls" and with_tools))


def encode_messages(
    messages: Sequence[BaseMessage], rules: Rules, *, complete: bool = True
) -> list[WireMessage]:
    """Return the wire's messages for a history.

    Args:
        messages: The history, oldest first.
        rules: What the model wants of it.
        complete: Whether it is to be sent; a part of one is only counted.

    Raises:
        InvalidRequestError: A message cannot be sent; names its position and what to change.
    """
    wire: list[WireMessage] = []
    for position, message in enumerate(messages):
        try:
            wire += _encode(message, rules)
        except InvalidRequestError as problem:
            reason, hint = problem.message, problem.hint
        else:
            continue
        raise InvalidRequestError(f"message {position} ({message.type}): {reason}", hint=hint)
    wire = _merged(_paired(_system_first(wire)))
    if not complete:
        return wire
    if rules.row:
        check_number(wire)
    return _checked(wire, messages)


def _encode(message: BaseMessage, rules: Rules) -> list[WireMessage]:
    match message:
        case SystemMessage():
            return _system(message)
        case HumanMessage():
            return _user(message, rules)
        case AIMessage():
            return _assistant(message, rules)
        case ToolMessage():
            return _tool(message.tool_call_id, message.content, rules)
        case ChatMessage(role="system" | "developer"):
            return _system(message)
        case ChatMessage(role="user"):
            return _user(message, rules)
        case ChatMessage(role="assistant"):
            return _assistant(AIMessage(content=message.content), rules)
        case ChatMessage():
            raise InvalidRequestError(f"no role {message.role!r}; use system, user or assistant")
        case FunctionMessage():
            raise InvalidRequestError("function messages are not spoken here; use ToolMessage")
        case _:
            raise InvalidRequestError(f"cannot send a {type(message).__name__}")


def _system(message: BaseMessage) -> list[WireMessage]:
    if shown_in(message.content):
        raise InvalidRequestError("the system speaks in text; move the media to a HumanMessage")
    return [{"role": "system", "content": text_of(message.content)}]


def _user(message: BaseMessage, rules: Rules) -> list[WireMessage]:
    results, content = split_results(message.content)
    wire = [
        sent
        for result in results
        for sent in _tool(str(result.get("tool_use_id")), result.get("content") or "", rules)
    ]
    if content:
        name = {"name": message.name} if message.name else {}
        allowed = _allowed(content_of(content), rules)
        wire.append({"role": "user", "content": allowed, **name})
    elif not results:
        wire.append({"role": "user", "content": ""})
    return wire


def _allowed(content: str | list[Part], rules: Rules) -> str | list[Part]:
    """Return `content` unless the model is known not to take a part of it."""
    for part in content if isinstance(content, list) else ():
        if rules.refuses(part["type"]):
            kind = part["type"].removesuffix("_url")
            raise InvalidRequestError(
                f"{rules.model!r} takes no {kind} input; choose another model"
            )
        _check_limits(part, rules)
    return content


def _check_limits(part: Part, rules: Rules) -> None:
    """Refuse a part that is sent as bytes and breaks what is known of the model."""
    match part:
        case _ if rules.row is None:
            return
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            check_image(url)
        case {"type": "video_url", "video_url": {"url": str(url)}}:
            check_video(url, rules.model, by_link_only=rules.row.video_by_link_only)


def _tool(call_id: str, content: Any, rules: Rules) -> list[WireMessage]:
    """Return a tool's result as text; what it shows follows as a user's turn."""
    wire: list[WireMessage] = [
        {"role": "tool", "tool_call_id": call_id, "content": result_text(content)}
    ]
    shown = shown_in(content)
    seen = [part for part in shown if not rules.refuses(part["type"])]
    for part in seen:
        _check_limits(part, rules)
    if len(seen) < len(shown):
        warnings.warn(f"{rules.model!r} cannot look at what a tool returned", stacklevel=2)
    if shown and not wire[0]["content"]:
        wire[0]["content"] = "see the next message" if seen else "(media that you cannot see)"
    if seen:
        wire.append({"role": "user", "content": [*seen], "_shows": True})
    return wire


def _assistant(message: AIMessage, rules: Rules) -> list[WireMessage]:
    text = text_of(message.content)
    calls = tool_calls_of(message)
    if not text and not calls:
        return []  # nothing was said; an empty turn is refused
    wire: WireMessage = {"role": "assistant", "content": text or None}
    if calls:
        wire["tool_calls"] = calls
    reasoning = reasoning_of(message)
    if calls and rules.thinking and not reasoning and rules.row:
        reasoning = rules.row.reasoning_filler or ""
    if reasoning and rules.echoes(with_tools=bool(calls)):
        wire["reasoning_content"] = reasoning
    return [wire]


def tool_calls_of(message: AIMessage) -> list[dict[str, Any]]:
    """Return the wire's tool calls of a message, those with broken arguments included."""
    calls: list[tuple[str, Any, str | None]]
    calls = [(call["name"], call["args"], call["id"]) for call in message.tool_calls]
    calls += [
        (call["name"] or "unknown", call["args"] or "{}", call["id"])
        for call in message.invalid_tool_calls
    ]
    return [
        {
            "id": call_id or f"call_{number}",
            "type": "function",
            "function": {"name": name, "arguments": _arguments(args)},
        }
        for number, (name, args, call_id) in enumerate(calls or calls_of(message.content))
    ]


def _arguments(args: Any) -> str:
    """Return arguments as a JSON object, in which text that is none is quoted.

    Backends read every call of a history again, and refuse all that follows a broken one (vLLM
    #43995, sglang #28035).
    """
    if isinstance(args, str):
        if arguments(args) is not None:
            return args
        args = {"invalid_json": args}
    return json.dumps(args, ensure_ascii=False, default=str)


def reasoning_of(message: AIMessage) -> str:
    """Return what the model thought, from wherever LangChain keeps it."""
    kept = message.additional_kwargs.get("reasoning_content")
    if isinstance(kept, str) and kept:
        return kept
    if isinstance(message.content, str):
        return ""
    blocks = (block for block in message.content if isinstance(block, Mapping))
    thoughts = (block.get("reasoning") or block.get("thinking") for block in blocks)
    return "".join(thought for thought in thoughts if isinstance(thought, str))


def _system_first(wire: list[WireMessage]) -> list[WireMessage]:
    """Move what the system says to the front, where the guide wants it."""
    return sorted(wire, key=lambda message: message["role"] != "system")


def _paired(wire: list[WireMessage]) -> list[WireMessage]:
    """Let every tool call have its result right behind it, and what results show come after.

    A result whose call was trimmed away becomes a user's turn; a call without a result gets one
    that says so.
    """
    paired: list[WireMessage] = []
    open_calls: dict[str, list[str]] = {}  # ids that are sent, by those that were given
    shown: list[WireMessage] = []

    def close() -> None:
        paired.extend(
            {"role": "tool", "tool_call_id": sent, "content": "(no result)"}
            for ids in open_calls.values()
            for sent in ids
        )
        paired.extend(shown)
        open_calls.clear()
        shown.clear()

    for message in wire:
        if message["role"] == "tool" and (ids := open_calls.get(message["tool_call_id"])):
            paired.append({**message, "tool_call_id": ids.pop(0)})
        elif message["role"] == "tool":
            said = f"(result of an earlier tool call)\n{message['content']}"
            shown.append({"role": "user", "content": said})
        elif message.pop("_shows", False):
            shown.append(message)
        else:
            close()
            paired.append(message)
            sent_ids: set[str] = set()
            for call in message.get("tool_calls", ()):
                ids = open_calls.setdefault(call["id"], [])
                while call["id"] in sent_ids:
                    call["id"] += "_"
                sent_ids.add(call["id"])
                ids.append(call["id"])
    close()
    return paired


def _merged(wire: list[WireMessage]) -> list[WireMessage]:
    """Merge neighbours of one role, which the guide's rule of order forbids."""
    merged: list[WireMessage] = []
    for message in wire:
        last = merged[-1] if merged else None
        if last is None or last["role"] != message["role"] or message["role"] == "tool":
            merged.append(message)
        elif last.get("tool_calls"):
            merged.append(message)  # `_paired` put results between; nothing may slip in
        else:
            merged[-1] = _joined(last, message)
    return merged


def _joined(one: WireMessage, other: WireMessage) -> WireMessage:
    joined = {**one, **other}
    joined["content"] = _content_joined(one["content"], other["content"])
    thoughts = [m["reasoning_content"] for m in (one, other) if "reasoning_content" in m]
    if thoughts:
        joined["reasoning_content"] = "\n\n".join(thoughts)
    if one.get("name") != other.get("name"):
        joined.pop("name", None)  # two people speak in one turn now
    return joined


def _content_joined(one: str | list[Part] | None, other: str | list[Part] | None) -> Any:
    if not one or not other:
        return one or other
    if isinstance(one, str) and isinstance(other, str):
        return f"{one}\n\n{other}"
    return [*_parts(one), *_parts(other)]


def _parts(content: str | list[Part]) -> list[Part]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _checked(wire: list[WireMessage], messages: Sequence[BaseMessage]) -> list[WireMessage]:
    """Return the history if the service accepts its order."""
    turns = [message for message in wire if message["role"] != "system"]
    spoken = [place for place, message in enumerate(messages) if message.type in _ASSISTANTS]
    if not turns:
        raise InvalidRequestError(
            "the history has no user message", hint="append a HumanMessage with the question"
        )
    if turns[0]["role"] == "assistant":
        raise InvalidRequestError(
            f"message {spoken[0]} (ai): the history begins with the assistant; "
            "TokenHub's first turn is the user's",
            hint="put a HumanMessage first, or move a greeting into the SystemMessage",
        )
    if turns[-1]["role"] == "assistant":
        raise InvalidRequestError(
            f"message {spoken[-1]} (ai): the history ends with the assistant; "
            "TokenHub's last turn is the user's or a tool's",
            hint="append a HumanMessage, or drop the last AIMessage",
        )
    return wire
