"""Convert LangChain messages to the service's messages. Pure.

The guide's rule of order (text generation, `messages`): `[system] user assistant user …`, the last
one a user's, or a tool's (its own example 5). Histories that can be reordered without
changing their meaning are reordered; any other is refused with the position of the message.
"""

from __future__ import annotations

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
from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.chat.content import (
    Part,
    calls_of,
    check_image,
    check_image_count,
    check_video,
    content_of,
    media_of,
    result_text,
    split_tool_results,
    text_of,
    to_json,
)
from langchain_tokenhub.chat.deltas import arguments
from langchain_tokenhub.errors import InvalidRequestError

Message = dict[str, Any]
_ASSISTANTS = frozenset({"ai", "AIMessageChunk", "chat"})
CONTINUE = "Continue. 请继续。"
"""The user's turn that is added to a history that ends with the assistant."""


@dataclass(frozen=True)
class Rules:
    """What a model accepts in a history.

    Args:
        model: Model id, for error messages.
        row: The model's row in the catalogue; None for unknown ids.
        is_reasoning: Whether the model reasons in this request.
    """

    model: str
    row: catalogue.ChatModel | None
    is_reasoning: bool

    def refuses(self, part: Part) -> bool:
        """Return True if the model is known not to accept parts of this kind."""
        known = {
            "audio": False,  # the service has no such part
            "image_url": self.row and self.row.image,
            "video_url": self.row and self.row.video,
            "file_url": self.row and self.row.accepts_files,
        }
        return known.get(part["type"]) is False

    def check(self, part: Part) -> None:
        """Refuse a part that the model or the service is known not to accept."""
        kind = part["type"].removesuffix("_url")
        if self.refuses(part):
            instead = "send a transcript" if kind == "audio" else "choose another model"
            raise InvalidRequestError(f"{self.model!r} accepts no {kind} input; {instead}")
        match part:
            case {"image_url": {"url": str(url)}} if self.row and url.startswith("data:"):
                check_image(url)
            case {"video_url": {"url": str(url)}} if self.row and url.startswith("data:"):
                if self.row.video_by_link_only:
                    raise self._by_link_only("videos", "upload the video")
                check_video(url)
            case {"file_url": {"url": str(url)}} if url.startswith("data:"):
                raise self._by_link_only("files", "upload it, or send its text")

    def _by_link_only(self, things: str, advice: str) -> InvalidRequestError:
        return InvalidRequestError(
            f"{self.model!r} accepts {things} by http(s) link only; {advice}"
        )

    def echoes(self, *, with_tools: bool) -> bool:
        """Return True if reasoning goes back with an assistant's message."""
        echo = self.row.echo_reasoning if self.row else "tool_calls"
        return self.is_reasoning and (echo == "always" or (echo == "tool_calls" and with_tools))


def encode_messages(
    messages: Sequence[BaseMessage], rules: Rules, *, complete: bool = True
) -> list[Message]:
    """Return the service's messages for a history.

    Args:
        messages: The history, oldest first.
        rules: What the model accepts.
        complete: Whether it is to be sent; a part of a history is only counted.

    Raises:
        InvalidRequestError: A message cannot be sent; names its position and what to change.
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
        check_image_count(encoded)
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
            return _tool(message.tool_call_id, message.content, rules)
        case ChatMessage(role="assistant"):
            return _assistant(AIMessage(content=message.content), rules)
        case ChatMessage():
            raise InvalidRequestError(f"no role {message.role!r}; use system, user or assistant")
        case FunctionMessage():
            raise InvalidRequestError("function messages are not supported; use ToolMessage")
        case _:
            raise InvalidRequestError(f"cannot send a {type(message).__name__}")


def _system(message: BaseMessage) -> list[Message]:
    if media_of(message.content):
        raise InvalidRequestError("a system message is text; move the media to a HumanMessage")
    return [{"role": "system", "content": text_of(message.content)}]


def _user(message: BaseMessage, rules: Rules) -> list[Message]:
    results, content = split_tool_results(message.content)
    encoded = [
        sent
        for result in results
        for sent in _tool(str(result.get("tool_use_id")), result.get("content", ""), rules)
    ]
    if content:
        name = {"name": message.name} if message.name else {}
        parts = content_of(content)
        for part in parts if isinstance(parts, list) else ():
            rules.check(part)
        encoded.append({"role": "user", "content": parts, **name})
    elif not results:
        encoded.append({"role": "user", "content": ""})
    return encoded


def _tool(call_id: str, content: Any, rules: Rules) -> list[Message]:
    """Return a tool's result as text; its media follow as a user's turn."""
    text, media = result_text(content), media_of(content)
    seen = [part for part in media if not rules.refuses(part)]
    for part in seen:
        rules.check(part)
    if len(seen) < len(media):
        warn_user(f"{rules.model!r} cannot see the images or files that a tool returned")
    if media and not text:
        text = "see the next message" if seen else "(media that you cannot see)"
    encoded: list[Message] = [{"role": "tool", "tool_call_id": call_id, "content": text}]
    if seen:
        encoded.append({"role": "user", "content": seen, "_is_tool_media": True})
    return encoded


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
    """Return a message's tool calls, those with broken arguments included."""
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
    """Return the model's reasoning, from wherever LangChain stores it."""
    reasoning = message.additional_kwargs.get("reasoning_content")
    if isinstance(reasoning, str) and reasoning:
        return reasoning
    if isinstance(message.content, str):
        return ""
    blocks = (block for block in message.content if isinstance(block, Mapping))
    thoughts = (block.get("reasoning") or block.get("thinking") for block in blocks)
    return "".join(thought for thought in thoughts if isinstance(thought, str))


def _pair_results(encoded: list[Message]) -> list[Message]:
    """Put the results of tool calls directly after the calls, and then the media of the results.

    A result whose call was trimmed away becomes a user's turn; a call without a result gets the
    text "(no result)".
    """
    paired: list[Message] = []
    open_calls: dict[str, list[str]] = {}  # sent ids by the original ids
    media: list[Message] = []

    def close() -> None:
        paired.extend(
            {"role": "tool", "tool_call_id": sent, "content": "(no result)"}
            for ids in open_calls.values()
            for sent in ids
        )
        paired.extend(media)
        open_calls.clear()
        media.clear()

    for message in encoded:
        if message["role"] == "tool" and (ids := open_calls.get(message["tool_call_id"])):
            paired.append({**message, "tool_call_id": ids.pop(0)})
        elif message["role"] == "tool":
            text = f"(result of an earlier tool call)\n{message['content']}"
            media.append({"role": "user", "content": text})
        elif message.pop("_is_tool_media", False):
            media.append(message)
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


def _merge_turns(encoded: list[Message]) -> list[Message]:
    """Merge adjacent turns of one role, which the guide's rule of order forbids."""
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
        first = next(i for i, message in enumerate(messages) if message.type in _ASSISTANTS)
        raise InvalidRequestError(
            f"message {first} (ai): the history begins with the assistant; "
            "TokenHub requires a user message first",
            hint="put a HumanMessage first, or move a greeting into the SystemMessage",
        )
    if turns[-1]["role"] == "assistant":
        return [*encoded, {"role": "user", "content": CONTINUE}]
    return encoded
