"""Which chat requests are accepted. Pure: a body in, a refusal or the model's row out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from langchain_tokenhub.testing.errors import Era, RefusedError, bad, check_model
from langchain_tokenhub.testing.tables import ChatModel, chat_model

Body = Mapping[str, Any]
Check = Callable[[Any], bool]
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_chat(body: Body, era: Era, added: Collection[str] = ()) -> ChatModel:
    """Check a whole request.

    Raises:
        RefusedError: For the first thing that is wrong.
    """
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise bad("Missing required parameter: 'model'.")
    check_model(model, "chat", added)
    for name, is_valid in _FIELDS.items():
        if body.get(name) is not None and not is_valid(body[name]):
            raise bad(f"Invalid value for parameter '{name}'.")
    if body.get("stream_options") is not None and not body.get("stream"):
        raise bad("stream_options is only allowed when stream is true.")
    check_messages(body.get("messages"))
    _check_tools(body)
    row = chat_model(model)
    _check_capabilities(body, row)
    if era == "today":
        _check_family(body, row)
    return row


# -- tokens -------------------------------------------------------------------------------------

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"
_PIECE = re.compile(
    rf"[{_CJK}]{{1,2}}|(?:(?![{_CJK}])\w){{1,8}} ?|(?:(?![{_CJK}])[^\w\s]){{1,4}} ?|\s+"
)
_MEDIA_TOKENS = 256


def pieces(text: str) -> list[str]:
    """Split text into tokens; a delta of a stream carries one."""
    return _PIECE.findall(text)


def count_tokens(text: str) -> int:
    """Return the number of tokens."""
    return sum(1 for _ in _PIECE.finditer(text))


def prompt_tokens(body: Body) -> int:
    """Count the tokens of messages and tools."""
    tools = json.dumps(body["tools"], ensure_ascii=False) if body.get("tools") else ""
    return count_tokens(tools) + sum(message_tokens(message) for message in body["messages"])


def message_tokens(message: Body) -> int:
    """Count the tokens of one message; a picture or a film counts 256."""
    parts = parts_of(message)
    words = sum(count_tokens(p["text"]) if p["type"] == "text" else _MEDIA_TOKENS for p in parts)
    calls = message.get("tool_calls") or []
    return 3 + words + sum(count_tokens(call["function"]["arguments"]) + 4 for call in calls)


def parts_of(message: Body) -> list[Any]:
    """Return the parts of a message's content."""
    content = message.get("content") or ""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


# -- JSON schemas -------------------------------------------------------------------------------

_TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
_MAX_DEPTH = 8
_MAX_MINIMUM = 10_000
"""The largest `minItems` or `minLength` that is accepted: answers stay small."""


def is_schema(value: Any, root: Any = None) -> bool:
    """Return True if a schema and all that it holds are well formed."""
    if not isinstance(value, dict):
        return False
    root = value if root is None else root
    known = ((check, value[key]) for key, check in _SCHEMA_KEYS.items() if key in value)
    return all(check(inner, root) for check, inner in known)


def _dereference(reference: str, root: Mapping[str, Any]) -> Any:
    """Follow a local reference; `None` where it leads nowhere."""
    found: Any = root
    for step in filter(None, reference.removeprefix("#").split("/")):
        found = found.get(step) if isinstance(found, dict) else None
    return found


def resolve(schema: Body, root: Body) -> Body:
    """Follow references, merge `allOf`, and take the first alternative that is not null."""
    for _ in range(_MAX_DEPTH):
        if "$ref" in schema:
            schema = {**(_dereference(schema["$ref"], root) or {}), **_without(schema, "$ref")}
        elif options := schema.get("anyOf") or schema.get("oneOf"):
            option = next((o for o in options if o.get("type") != "null"), options[0])
            schema = {**_without(schema, "anyOf", "oneOf"), **option}
        elif parts := schema.get("allOf"):
            schema = {k: v for p in [_without(schema, "allOf"), *parts] for k, v in p.items()}
    return schema


def _without(schema: Body, *keys: str) -> dict[str, Any]:
    return {k: v for k, v in schema.items() if k not in keys}


def type_of(schema: Body) -> str:
    """Return the JSON type that a schema accepts."""
    kind = schema.get("type", "object" if "properties" in schema else "string")
    return next((k for k in kind if k != "null"), "null") if isinstance(kind, list) else str(kind)


def _is_a(*kinds: type) -> Callable[..., bool]:
    """Return a check for exact types: for JSON a boolean is no number."""
    return lambda value, *_: type(value) in kinds


def _are_schemas(values: Iterable[Any], root: Any) -> bool:
    return all(is_schema(value, root) for value in values)


_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "maxLength", "maxItems")
_SCHEMA_KEYS: dict[str, Callable[[Any, Any], bool]] = {
    "type": lambda v, _: bool(v) and all(k in _TYPES for k in (v if isinstance(v, list) else [v])),
    "$ref": lambda v, root: isinstance(v, str) and isinstance(_dereference(v, root), dict),
    "properties": lambda v, root: isinstance(v, dict) and _are_schemas(v.values(), root),
    "items": is_schema,
    **dict.fromkeys(("enum", "required"), _is_a(list)),
    **dict.fromkeys(
        ("anyOf", "oneOf", "allOf"),
        lambda v, root: isinstance(v, list) and bool(v) and _are_schemas(v, root),
    ),
    **dict.fromkeys(_BOUNDS, _is_a(int, float)),
    **dict.fromkeys(
        ("minLength", "minItems"), lambda v, _: type(v) is int and 0 <= v <= _MAX_MINIMUM
    ),
}


# -- single fields ------------------------------------------------------------------------------


def _between(low: float, high: float) -> Check:
    return lambda v: type(v) in (int, float) and low <= v <= high


def _is_response_format(value: Any) -> bool:
    match value:
        case {"type": "text" | "json_object"}:
            return True
        case {"type": "json_schema", "json_schema": {"name": str(name), "schema": schema}}:
            return bool(_NAME.fullmatch(name)) and is_schema(schema)
        case _:
            return False


_FIELDS: dict[str, Check] = {
    "stream": _is_a(bool),
    "stream_options": lambda v: isinstance(v, dict) and type(v.get("include_usage", False)) is bool,
    "temperature": _between(0, 2),
    "top_p": _between(0, 1),
    "presence_penalty": _between(-2, 2),
    "frequency_penalty": _between(-2, 2),
    "max_tokens": lambda v: type(v) is int and v > 0,
    "max_completion_tokens": lambda v: type(v) is int and v > 0,
    "n": lambda v: type(v) is int and v == 1,
    "seed": _is_a(int),
    "stop": lambda v: (
        isinstance(v, str)
        or (isinstance(v, list) and 1 <= len(v) <= 4 and all(isinstance(w, str) for w in v))
    ),
    "parallel_tool_calls": _is_a(bool),
    "thinking": lambda v: (
        isinstance(v, dict) and v.get("type") in ("enabled", "disabled", "adaptive")
    ),
    "reasoning_effort": _is_a(str),
    "response_format": _is_response_format,
}


# -- messages -----------------------------------------------------------------------------------

_LINK = re.compile(r"https?://[^\s/]+")
_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,[A-Za-z0-9+/=\s]+")
_KEYS = {role: {"role", "content", "name"} for role in ("system", "user", "assistant", "tool")}
_KEYS["assistant"] |= {"tool_calls", "reasoning_content", "reasoning_details"}
_KEYS["tool"] |= {"tool_call_id"}
_MAY_FOLLOW = {
    "": {"system", "user"},
    "system": {"user"},
    "user": {"assistant"},
    "assistant": {"user", "tool"},
    "tool": {"tool", "assistant", "user"},
}


def _is_link(value: Any, *, data: bool) -> bool:
    url = value.get("url") if isinstance(value, dict) else None
    return isinstance(url, str) and bool(_LINK.match(url) or (data and _DATA_URL.match(url)))


_PARTS: dict[str, Check] = {
    "text": _is_a(str),
    "image_url": lambda v: (
        _is_link(v, data=True) and v.get("detail", "auto") in ("auto", "low", "high")
    ),
    "video_url": lambda v: _is_link(v, data=True),
    "file_url": lambda v: _is_link(v, data=False),
}


def check_messages(messages: Any) -> None:
    """Check shapes and order: system (optional), then user and assistant in turn.

    Raises:
        RefusedError: Naming the position.
    """
    if not isinstance(messages, list) or not messages:
        raise bad("Missing required parameter: 'messages' must be a non-empty list.")
    before, open_calls = "", set[str]()
    for at, message in enumerate(messages):
        role = _check_message(message, at)
        if role not in _MAY_FOLLOW[before]:
            after = f"after role '{before}'" if before else "first"
            raise bad(f"messages[{at}]: role '{role}' may not come {after}.")
        if open_calls and role != "tool":
            raise _unanswered(open_calls, at)
        open_calls = _update_open_calls(message, role, open_calls, at)
        before = role
    last = len(messages) - 1
    if before not in {"user", "tool"}:
        raise bad(f"messages[{last}]: the last role must be 'user' or 'tool'.")
    if open_calls:
        raise _unanswered(open_calls, last)


def _check_message(message: Any, at: int) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(role, str) or role not in _KEYS:
        raise bad(f"messages[{at}]: unknown role {role!r}.")
    if unknown := set(message) - _KEYS[role]:
        raise bad(f"messages[{at}]: unknown field '{min(unknown)}'.")
    _check_content(message, role, at)
    calls = message.get("tool_calls")
    if calls is not None and not (isinstance(calls, list) and calls and all(map(_is_call, calls))):
        raise bad(f"messages[{at}]: malformed 'tool_calls'.")
    return role


def _update_open_calls(message: Body, role: str, open_calls: set[str], at: int) -> set[str]:
    if role != "tool":
        return {call["id"] for call in message.get("tool_calls") or []}
    answered = message.get("tool_call_id")
    if not isinstance(answered, str) or answered not in open_calls:
        raise bad(f"messages[{at}]: tool_call_id {answered!r} answers no tool call.")
    return open_calls - {answered}


def _unanswered(calls: set[str], at: int) -> RefusedError:
    return bad(f"messages[{at}]: no tool message answers {', '.join(sorted(calls))}.")


def _check_content(message: Body, role: str, at: int) -> None:
    content = message.get("content")
    is_only_calls = content is None and role == "assistant" and message.get("tool_calls")
    if isinstance(content, str) or is_only_calls:
        return
    if not isinstance(content, list) or not content:
        raise bad(f"messages[{at}]: 'content' must be a string or a list of parts.")
    allowed = _PARTS if role == "user" else {"text": _PARTS["text"]}
    for number, part in enumerate(content):
        _check_part(part, allowed, f"messages[{at}].content[{number}]")


def _check_part(part: Any, allowed: Mapping[str, Check], where: str) -> None:
    kind = str(part.get("type")) if isinstance(part, dict) else "none"
    if kind not in allowed:
        raise bad(f"{where}: unsupported part type {kind!r}.")
    if unknown := set(part) - {"type", kind}:
        raise bad(f"{where}: unknown field '{min(unknown)}'.")
    if not allowed[kind](part.get(kind)):
        raise bad(f"{where}: bad value for '{kind}'.")


def _is_call(call: Any) -> bool:
    match call:
        case {"id": str(), "function": {"name": str(), "arguments": str()}}:
            known = {"id", "type", "function", "index"}
            return call.get("type", "function") == "function" and not set(call) - known
        case _:
            return False


# -- tools and capabilities ---------------------------------------------------------------------


def _check_tools(body: Body) -> None:
    tools = body.get("tools")
    if tools is not None and (not isinstance(tools, list) or not tools):
        raise bad("'tools' must be a non-empty list.")
    for at, tool in enumerate(tools or []):
        if not _is_tool(tool):
            raise bad(f"tools[{at}]: malformed tool.")
    _check_choice(body.get("tool_choice"), tools or [])


def _is_tool(tool: Any) -> bool:
    match tool:
        case {"type": "function", "function": {"name": str(name), **rest}}:
            described = isinstance(rest.get("description", ""), str)
            schema: Any = rest.get("parameters") or {"type": "object"}
            is_object = is_schema(schema) and schema.get("type") == "object"
            return bool(_NAME.fullmatch(name)) and described and is_object
        case {"type": str(kind)}:
            return kind != "function"
        case _:
            return False


def _check_choice(choice: Any, tools: list[Any]) -> None:
    names = {tool["function"]["name"] for tool in tools if tool["type"] == "function"}
    match choice:
        case None | "none" | "auto":
            is_valid = True
        case {"type": "function", "function": {"name": str(name)}}:
            is_valid = name in names
        case _:
            is_valid = choice == "required" and bool(tools)
    if not is_valid:
        raise bad("Invalid value for parameter 'tool_choice'.")


def _check_capabilities(body: Body, row: ChatModel) -> None:
    if body.get("tools") and not row.tools:
        raise bad(f"{row.id} does not support tools.", code="400005")
    parts = [part for message in body["messages"] for part in parts_of(message)]
    if not row.images and any(part["type"] != "text" for part in parts):
        raise bad(f"{row.id} only takes text.", code="400005")
    if prompt_tokens(body) > row.max_input:
        raise bad(f"The input exceeds the limit of {row.max_input} tokens.", code="400003")


def _check_family(body: Body, row: ChatModel) -> None:
    """Check what today's service enforces for some families of models."""
    _check_thinking(body, row)
    if row.temperatures and body.get("temperature", row.temperatures[0]) not in row.temperatures:
        allowed = " or ".join(map(str, row.temperatures))
        raise bad(f"invalid temperature: only {allowed} is allowed for this model")
    kind = (body.get("response_format") or {}).get("type")
    if kind == "json_schema" and row.json_schema == "refuses":
        raise bad("This response_format type is unavailable now", code="400006")
    if kind == "json_object" and row.json_word and not _has_word(body["messages"], "json"):
        raise bad("Prompt must contain the word 'json' to use response_format json_object.")


def _check_thinking(body: Body, row: ChatModel) -> None:
    kind = (body.get("thinking") or {}).get("type")
    if kind is not None and kind not in row.thinking_types:
        raise bad(f"thinking.type '{kind}' is not supported by {row.id}.")
    if not row.thinks(body):
        return
    if body.get("tool_choice") not in (None, "none", "auto") and not row.forced_tools:
        raise bad("Thinking mode does not support this tool_choice")
    for at, message in enumerate(body["messages"]):
        if row.echo and message.get("tool_calls") and not message.get("reasoning_content"):
            raise bad(row.echo.format(index=at))


def _has_word(messages: list[Body], word: str) -> bool:
    return any(word in json.dumps(message.get("content")).lower() for message in messages)
