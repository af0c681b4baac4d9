"""What a chat request must look like. Pure: a body in, a refusal or nothing out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from langchain_tokenhub.testing.errors import Era, bad
from langchain_tokenhub.testing.families import ChatModel, chat_model
from langchain_tokenhub.testing.messages import Body, check_messages
from langchain_tokenhub.testing.schemas import is_schema
from langchain_tokenhub.testing.tables import table
from langchain_tokenhub.testing.text import count

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_chat(body: Body, era: Era) -> ChatModel:
    """Check a whole request.

    Raises:
        RefusedError: For the first thing that is wrong.
    """
    row = _check_model(body)
    for name, check in _FIELDS.items():
        if body.get(name) is not None and not check(body[name]):
            raise bad(f"Invalid value for parameter '{name}'.")
    if body.get("stream_options") is not None and not body.get("stream"):
        raise bad("stream_options is only allowed when stream is true.")
    check_messages(body.get("messages"))
    _check_tools(body)
    _check_abilities(body, row)
    if era == "today":
        _check_family(body, row)
    return row


def _check_model(body: Body) -> ChatModel:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise bad("Missing required parameter: 'model'.")
    if model in table("media_rules")["model"]:
        raise bad(f"{model} is not served on this path.", code="400005")
    row = chat_model(model)
    if not row.served:
        raise bad(f"The model or service ID {model} does not exist.", code="400004")
    return row


# -- single fields ------------------------------------------------------------------------------


def _between(low: float, high: float) -> Callable[[Any], bool]:
    return lambda v: _is_number(v) and low <= v <= high


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_int(value) and value > 0


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_stop(value: Any) -> bool:
    words = [value] if isinstance(value, str) else value
    return (
        isinstance(words, list) and 1 <= len(words) <= 4 and all(isinstance(w, str) for w in words)
    )


def _is_stream_options(value: Any) -> bool:
    return isinstance(value, dict) and _is_bool(value.get("include_usage", False))


def _is_thinking(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") in ("enabled", "disabled", "adaptive")


def _is_response_format(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    match value.get("type"):
        case "text" | "json_object":
            return True
        case "json_schema":
            inner = value.get("json_schema")
            return (
                isinstance(inner, dict)
                and bool(_NAME.fullmatch(str(inner.get("name", ""))))
                and is_schema(inner.get("schema"))
            )
        case _:
            return False


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "stream": _is_bool,
    "stream_options": _is_stream_options,
    "temperature": _between(0, 2),
    "top_p": _between(0, 1),
    "presence_penalty": _between(-2, 2),
    "frequency_penalty": _between(-2, 2),
    "max_tokens": _is_count,
    "max_completion_tokens": _is_count,
    "n": lambda v: _is_int(v) and v == 1,
    "seed": _is_int,
    "stop": _is_stop,
    "parallel_tool_calls": _is_bool,
    "thinking": _is_thinking,
    "reasoning_effort": lambda v: isinstance(v, str),
    "response_format": _is_response_format,
}


# -- tools and what a model can do --------------------------------------------------------------


def _check_tools(body: Body) -> None:
    tools = body.get("tools")
    if tools is not None and (not isinstance(tools, list) or not tools):
        raise bad("'tools' must be a non-empty list.")
    for at, tool in enumerate(tools or []):
        if not _is_tool(tool):
            raise bad(f"tools[{at}]: malformed tool.")
    _check_choice(body.get("tool_choice"), tools or [])


def _is_tool(tool: Any) -> bool:
    if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
        return False
    if tool["type"] != "function":
        return True
    function = tool.get("function")
    return (
        isinstance(function, dict)
        and bool(_NAME.fullmatch(str(function.get("name", ""))))
        and isinstance(function.get("description", ""), str)
        and _is_parameters(function.get("parameters") or {"type": "object"})
    )


def _is_parameters(schema: Any) -> bool:
    return is_schema(schema) and schema.get("type") == "object"


def _check_choice(choice: Any, tools: list[Any]) -> None:
    match choice:
        case None | "none" | "auto":
            return
        case "required" if tools:
            return
        case {"type": "function", "function": {"name": str(name)}} if name in _names(tools):
            return
        case _:
            raise bad("Invalid value for parameter 'tool_choice'.")


def _names(tools: list[Any]) -> set[str]:
    return {tool["function"]["name"] for tool in tools if "function" in tool}


def _check_abilities(body: Body, row: ChatModel) -> None:
    if body.get("tools") and not row.tools:
        raise bad(f"{row.id} does not support tools.", code="400005")
    parts = [part for content in map(_content, body["messages"]) for part in content]
    if not row.images and any(part["type"] != "text" for part in parts):
        raise bad(f"{row.id} only takes text.", code="400005")
    if prompt_tokens(body) > row.max_input:
        raise bad(f"The input exceeds the limit of {row.max_input} tokens.", code="400003")


def prompt_tokens(body: Body) -> int:
    """Count what the model reads: messages and tools."""
    tools = count(json.dumps(body["tools"], ensure_ascii=False)) if body.get("tools") else 0
    return tools + sum(message_tokens(message) for message in body["messages"])


def message_tokens(message: Body) -> int:
    """Count one message; a picture or a film counts 256."""
    words = sum(count(p["text"]) if p["type"] == "text" else 256 for p in _content(message))
    calls = message.get("tool_calls") or []
    return 3 + words + sum(count(call["function"]["arguments"]) + 4 for call in calls)


def _content(message: Body) -> list[Any]:
    content = message.get("content") or ""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


# -- what today's service enforces by family ----------------------------------------------------


def _check_family(body: Body, row: ChatModel) -> None:
    _check_thinking(body, row)
    if row.temperatures and body.get("temperature", row.temperatures[0]) not in row.temperatures:
        allowed = " or ".join(map(str, row.temperatures))
        raise bad(f"invalid temperature: only {allowed} is allowed for this model")
    _check_format(body, row)


def _check_thinking(body: Body, row: ChatModel) -> None:
    kind = (body.get("thinking") or {}).get("type")
    if kind is not None and kind not in row.thinking_types:
        raise bad(f"thinking.type '{kind}' is not supported by {row.id}.")
    if not row.thinks(dict(body)):
        return
    if body.get("tool_choice") not in (None, "none", "auto") and not row.forced_tools:
        raise bad("Thinking mode does not support this tool_choice")
    for at, message in enumerate(body["messages"]):
        if row.echo and message.get("tool_calls") and not message.get("reasoning_content"):
            raise bad(row.echo.format(index=at))


def _check_format(body: Body, row: ChatModel) -> None:
    kind = (body.get("response_format") or {}).get("type")
    if kind == "json_schema" and row.json_schema == "refuses":
        raise bad("This response_format type is unavailable now", code="400006")
    if kind == "json_object" and row.json_word and not _says_json(body["messages"]):
        raise bad("Prompt must contain the word 'json' to use response_format json_object.")


def _says_json(messages: list[Body]) -> bool:
    return any("json" in json.dumps(message.get("content")).lower() for message in messages)
