"""What is sent: the body of a chat request, from what the caller set. Pure.

Source: the guide, text generation, request parameters. Thinking is in `reasoning.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.language_models import LangSmithParams
from langchain_core.messages import BaseMessage, SystemMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_tokenhub import catalogue
from langchain_tokenhub.chat import reasoning
from langchain_tokenhub.chat.messages import Rules, encode_messages
from langchain_tokenhub.chat.provider import PROVIDER
from langchain_tokenhub.errors import InvalidRequestError

Body = dict[str, Any]
Tool = Mapping[str, Any] | type | Callable[..., Any] | BaseTool

MOST_STOPS = 4
"""Stop sequences in one request (the guide, parameter `stop`)."""
SETTINGS = (
    "temperature",
    "top_p",
    "max_tokens",
    "stop",
    "seed",
    "n",
    "thinking",
    "reasoning_effort",
)
"""Fields of the model that are fields of the body too."""
OURS = frozenset(
    {"timeout", "stream_usage", "extra_body", "ls_structured_output_format", "answer_schema"}
)
"""Keywords of a call that are for us, not for the body."""


def build_body(
    settings: Mapping[str, Any],
    messages: Sequence[BaseMessage],
    stop: Sequence[str] | None,
    kwargs: Mapping[str, Any],
) -> Body:
    """Return what is sent for these messages, without what only a stream says.

    Args:
        settings: The model's id and the body's fields that the caller set on it.
        messages: The history, oldest first.
        stop: Stop sequences of this call.
        kwargs: Fields of this call; they win over the settings.

    Raises:
        InvalidRequestError: The service or the model would refuse it.
    """
    body = {**settings, **{name: v for name, v in kwargs.items() if name not in OURS}}
    body |= {"stop": stop} if stop else {}
    body |= kwargs.get("extra_body") or {}
    check_parameters(body)
    row = catalogue.chat_model(str(body["model"]))
    body = without_empty_tools(body)
    body = reasoning.with_forced_tools(reasoning.with_thinking(body, row), row)
    rules = Rules(model=str(body["model"]), row=row, thinking=reasoning.thinks(row, body))
    if schema := kwargs.get("answer_schema"):
        messages = [SystemMessage(schema_prompt(schema)), *messages]
    body = {"model": body.pop("model"), "messages": encode_messages(messages, rules), **body}
    body.pop("stream", None)
    limit = body.pop("max_tokens", None)
    body |= {row.max_tokens_field if row else "max_tokens": limit} if limit is not None else {}
    return {name: value for name, value in body.items() if value is not None}


def with_stream(body: Body, *, usage: bool) -> Body:
    """Return the body of a stream; without being asked the service sends no usage in it."""
    asked = {"stream_options": {"include_usage": True}} if usage else {}
    return {**asked, **body, "stream": True}


def check_parameters(body: Mapping[str, Any]) -> None:
    """Refuse what the guide says the service refuses.

    Raises:
        InvalidRequestError: Names the parameter, its value and the limit.
    """
    _in_range(body, "temperature", 0.0, 2.0)
    _in_range(body, "top_p", 0.0, 1.0)
    for name in ("max_tokens", "max_completion_tokens"):
        _at_least_one(body, name)
    _stops(body.get("stop"))
    if body.get("n") not in (None, 1):
        raise InvalidRequestError(
            f"n: {body['n']!r}; at most 1 answer per call",
            hint="call `batch` with the same prompt for several answers",
        )


def _in_range(body: Mapping[str, Any], name: str, least: float, most: float) -> None:
    value = body.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidRequestError(f"{name}: {value!r} is not a number from {least:g} to {most:g}")
    if not least <= value <= most:
        raise InvalidRequestError(f"{name}: {value!r} is outside {least:g} to {most:g}")


def _at_least_one(body: Mapping[str, Any], name: str) -> None:
    value = body.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidRequestError(f"{name}: {value!r} is not a number of tokens, 1 or more")


def _stops(stop: object) -> None:
    stops = [stop] if isinstance(stop, str) else stop
    if stops is None:
        return
    if not isinstance(stops, Sequence) or not all(isinstance(one, str) and one for one in stops):
        raise InvalidRequestError(f"stop: {stop!r} is not a string, or a list of strings")
    if len(stops) > MOST_STOPS:
        raise InvalidRequestError(f"stop: {len(stops)} sequences, at most {MOST_STOPS}")


def schema_prompt(schema: Mapping[str, Any]) -> str:
    """Return what tells a model in JSON mode which object is wanted; the wire does not say it."""
    wanted = json.dumps(schema, ensure_ascii=False)
    return f"Answer with one JSON object and nothing else. It matches this JSON schema: {wanted}"


def encode_tools(
    tools: Sequence[Tool], tool_choice: object, *, strict: bool | None
) -> dict[str, Any]:
    """Return `tools` and `tool_choice` for the wire; nothing where there are no tools.

    A forced tool goes alone with `required`: the guide knows `none`, `auto` and `required` only.

    Raises:
        InvalidRequestError: The choice is none of those, nor the name of a tool.
    """
    wire = [_tool(tool, strict=strict) for tool in tools]
    if not wire:
        return {}
    choice = _choice(tool_choice)
    if choice is None:
        return {"tools": wire}
    if choice in {"auto", "none", "required"}:
        return {"tools": wire, "tool_choice": choice}
    chosen = [tool for tool in wire if _name(tool) == choice]
    if not chosen:
        names = ", ".join(filter(None, map(_name, wire)))
        raise InvalidRequestError(
            f"tool_choice: {choice!r} is no tool", hint=f"use 'auto', 'any', 'none' or: {names}"
        )
    return {"tools": chosen, "tool_choice": "required"}


def without_empty_tools(body: Body) -> Body:
    """Return the body without an empty list of tools and what only goes with tools."""
    if body.get("tools", True):
        return body
    idle = {"tools", "tool_choice", "parallel_tool_calls"}
    return {name: value for name, value in body.items() if name not in idle}


def _tool(tool: Tool, *, strict: bool | None) -> dict[str, Any]:
    if isinstance(tool, Mapping) and tool.get("type") not in (None, "function", "object"):
        return dict(tool)  # a tool of the server's: its own business
    wire = {**convert_to_openai_tool(tool, strict=strict)}  # a copy: it may be the caller's dict
    function = wire.get("function")
    if isinstance(function, Mapping):
        wire["function"] = {"parameters": {"type": "object", "properties": {}}, **function}
    return wire


def _name(tool: Mapping[str, Any]) -> str | None:
    function = tool.get("function")
    return function.get("name") if isinstance(function, Mapping) else tool.get("name")


def _choice(choice: object) -> str | None:
    match choice:
        case None | "":
            return None
        case True | "any":
            return "required"
        case False:
            return "none"
        case str():
            return choice
        case {"function": {"name": str(name)}} | {"name": str(name)}:
            return name
        case {"type": "any" | "required"}:
            return "required"
        case {"type": "auto" | "none" as word}:
            return str(word)
        case _:
            raise InvalidRequestError(
                f"tool_choice: {choice!r}; use 'auto', 'any', 'none', or a tool's name"
            )


def ls_params(body: Mapping[str, Any], stop: Sequence[str] | None) -> LangSmithParams:
    """Return LangSmith's parameters for a body; the provider's name is the answers' own."""
    params = LangSmithParams(
        ls_provider=PROVIDER, ls_model_name=str(body["model"]), ls_model_type="chat"
    )
    if body.get("temperature") is not None:
        params["ls_temperature"] = body["temperature"]
    if body.get("max_tokens") is not None:
        params["ls_max_tokens"] = body["max_tokens"]
    if stops := stop or body.get("stop"):
        params["ls_stop"] = [stops] if isinstance(stops, str) else list(stops)
    return params
