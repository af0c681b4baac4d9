"""Convert LangChain messages to the service's messages. Pure.

The guide's rule of order (text generation, `messages`): `[system] user assistant user …`, the last
one a user's, or a tool's (its own example 5). Histories that can be reordered without
changing their meaning are reordered; any other is refused with the position of the message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.chat.content import (
    Part,
    Rules,
    calls_of,
    content_of,
    read_result,
    split_tool_results,
    text_of,
    to_json,
)
from langchain_tokenhub.chat.deltas import arguments
from langchain_tokenhub.errors import InvalidRequestError

Message = dict[str, Any]
MAX_IMAGES = 20
"""Images in one request."""
CONTINUE = "Continue. 请继续。"
"""The user's turn that is added to a history that ends with the assistant."""


def encode_messages(
    messages: Sequence[BaseMessage], rules: Rules, *, complete: bool = True
) -> list[Message]:
    """Return the service's messages for a history, oldest first.

    An error names the position of its message. A history that is not `complete` is only counted.
    """
    encoded: list[Message] = []
    for position, message in enumerate(messages):
        try:
            encoded += _encode(message, rules)
        except InvalidRequestError as problem:
            reason = f"message {position} ({message.type}): {problem.message}"
            raise InvalidRequestError(reason, hint=problem.hint) from None
    encoded.sort(key=lambda message: message["role"] != "system")  # the guide requires it first
    encoded = _merge_turns(_pair_results(encoded))
    if not complete:
        return encoded
    if rules.row:
        _check_image_count(encoded)
    return _check_order(encoded, messages)


def _encode(message: BaseMessage, rules: Rules) -> list[Message]:
    match message:
        case SystemMessage() | ChatMessage(role="system" | "developer"):
            return _system(message)
        case HumanMessage() | ChatMessage(role="user"):
            return _user(message, rules)
        case AIMessage():
            return _assistant(message, rules)
        case ToolMessage():
            return [_tool(message.tool_call_id, message.content, rules)]
        case ChatMessage(role="assistant"):
            return _assistant(AIMessage(content=message.content), rules)
        case ChatMessage():
            raise InvalidRequestError(f"no role {message.role!r}; use system, user or assistant")
        case FunctionMessage():
            raise InvalidRequestError("function messages are not supported; use ToolMessage")
        case _:
            raise InvalidRequestError(f"cannot send a {type(message).__name__}")


def _system(message: BaseMessage) -> list[Message]:
    content = content_of(message.content)
    if not isinstance(content, str):
        raise InvalidRequestError("a system message is text; move the media to a HumanMessage")
    return [{"role": "system", "content": content}]


def _user(message: BaseMessage, rules: Rules) -> list[Message]:
    results, content = split_tool_results(message.content)
    encoded = [
        _tool(str(result.get("tool_use_id")), result.get("content", ""), rules)
        for result in results
    ]
    if content or not results:
        name = {"name": message.name} if message.name and content else {}
        parts = content_of(content)
        for part in parts if isinstance(parts, list) else ():
            rules.check(part)
        encoded.append({"role": "user", "content": parts, **name})
    return encoded


def _tool(call_id: str, content: Any, rules: Rules) -> Message:
    """Return a tool's result as text; `_pair_results` puts its media into a user's turn."""
    text, media = read_result(content)
    seen = [part for part in media if not rules.refuses(part)]
    for part in seen:
        rules.check(part)
    if len(seen) < len(media):
        warn_user(f"{rules.model!r} cannot see the images or files that a tool returned")
    if media and not text:
        text = "see the next message" if seen else "(media that you cannot see)"
    return {"role": "tool", "tool_call_id": call_id, "content": text, "_media": seen}


def _assistant(message: AIMessage, rules: Rules) -> list[Message]:
    text = text_of(message.content, "")
    calls = _calls(message)
    if not text and not calls:
        return []  # an empty turn is refused
    encoded: Message = {"role": "assistant", "content": text or None}
    if calls:
        encoded["tool_calls"] = calls
    reasoning = _reasoning(message)
    if calls and rules.is_reasoning and not reasoning and rules.row:
        reasoning = rules.row.reasoning_filler or ""
    if reasoning and rules.echoes(with_tools=bool(calls)):
        encoded["reasoning_content"] = reasoning
    return [encoded]


def _calls(message: AIMessage) -> list[dict[str, Any]]:
    known = [*message.tool_calls, *message.invalid_tool_calls]
    calls = [(call["name"], call["args"], call["id"]) for call in known]
    return [
        {
            "id": call_id or f"call_{number}",
            "type": "function",
            "function": {"name": name or "unknown", "arguments": _arguments(args or {})},
        }
        for number, (name, args, call_id) in enumerate(calls or calls_of(message.content))
    ]


def _arguments(args: Any) -> str:
    """Return arguments as a JSON object; text that is not one is quoted in it.

    Backends parse every call of a history again, and refuse all that follows a broken one (vLLM
    #43995, sglang #28035).
    """
    if isinstance(args, str):
        if arguments(args) is not None:
            return args
        args = {"invalid_json": args}
    return to_json(args)


def _reasoning(message: AIMessage) -> str:
    reasoning = message.additional_kwargs.get("reasoning_content")
    if isinstance(reasoning, str) and reasoning:
        return reasoning
    if isinstance(message.content, str):
        return ""
    blocks = (block for block in message.content if isinstance(block, Mapping))
    thoughts = (block.get("reasoning") or block.get("thinking") for block in blocks)
    return "".join(thought for thought in thoughts if isinstance(thought, str))


def _pair_results(encoded: list[Message]) -> list[Message]:
    """Put the results of tool calls directly after the calls, and then the media of the results."""
    turns: list[list[Message]] = [[]]  # a message and the results that follow it
    for message in encoded:
        if message["role"] == "tool":
            turns[-1].append(message)
        else:
            turns.append([message])
    return [message for turn in turns for message in _pair_turn(turn)]


def _pair_turn(turn: list[Message]) -> list[Message]:
    """Return one turn in order, its calls with an id each.

    A result whose call was trimmed away becomes a user's turn; a call without a result gets the
    text "(no result)".
    """
    paired = [message for message in turn if message["role"] != "tool"]
    waiting = _ids_of_calls(paired[0].get("tool_calls", ()) if paired else ())
    others: list[Message] = []
    for result in turn[len(paired) :]:
        media = result.pop("_media")
        if ids := waiting.get(result["tool_call_id"]):
            paired.append({**result, "tool_call_id": ids.pop(0)})
        else:
            text = f"(result of an earlier tool call)\n{result['content']}"
            others.append({"role": "user", "content": text})
        if media:
            others.append({"role": "user", "content": media})
    paired += [
        {"role": "tool", "tool_call_id": call_id, "content": "(no result)"}
        for ids in waiting.values()
        for call_id in ids
    ]
    return paired + others


def _ids_of_calls(calls: Sequence[Message]) -> dict[str, list[str]]:
    """Give each call an id of its own, and return these by the original ids."""
    ids: dict[str, list[str]] = {}
    used: set[str] = set()
    for call in calls:
        same = ids.setdefault(call["id"], [])
        while call["id"] in used:
            call["id"] += "_"
        used.add(call["id"])
        same.append(call["id"])
    return ids


def _merge_turns(encoded: list[Message]) -> list[Message]:
    merged: list[Message] = []
    for message in encoded:
        last = merged[-1] if merged else {}
        # the results of calls follow them, see `_pair_results`
        if last.get("role") == message["role"] != "tool" and "tool_calls" not in last:
            merged[-1] = _join_turns(last, message)
        else:
            merged.append(message)
    return merged


def _join_turns(one: Message, other: Message) -> Message:
    parts = [*_parts(one["content"]), *_parts(other["content"])]
    is_text = all(part["type"] == "text" for part in parts)
    content = "\n\n".join(part["text"] for part in parts) if is_text else parts
    joined = {**one, **other, "content": content}
    reasoning = [m["reasoning_content"] for m in (one, other) if "reasoning_content" in m]
    if reasoning:
        joined["reasoning_content"] = "\n\n".join(reasoning)
    if one.get("name") != other.get("name"):
        joined.pop("name", None)  # one turn of two users
    return joined


def _parts(content: str | list[Part] | None) -> list[Part]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return content or []


def _check_order(encoded: list[Message], messages: Sequence[BaseMessage]) -> list[Message]:
    """Return the history with a last turn that the service accepts, or refuse its order."""
    turns = [message for message in encoded if message["role"] != "system"]
    if not turns:
        raise InvalidRequestError(
            "the history has no user message", hint="append a HumanMessage with the question"
        )
    if turns[0]["role"] == "assistant":
        kinds = {"ai", "AIMessageChunk", "chat"}
        first = next(i for i, message in enumerate(messages) if message.type in kinds)
        raise InvalidRequestError(
            f"message {first} (ai): the history begins with the assistant; "
            "TokenHub requires a user message first",
            hint="put a HumanMessage first, or move a greeting into the SystemMessage",
        )
    if turns[-1]["role"] == "assistant":
        return [*encoded, {"role": "user", "content": CONTINUE}]
    return encoded


def _check_image_count(encoded: list[Message]) -> None:
    contents = (message["content"] for message in encoded)
    parts = [part for content in contents if isinstance(content, list) for part in content]
    number = sum(part["type"] == "image_url" for part in parts)
    if number > MAX_IMAGES:
        raise InvalidRequestError(
            f"the history holds {number} images, at most {MAX_IMAGES} per request",
            hint="drop the oldest ones, for instance with trim_messages",
        )
