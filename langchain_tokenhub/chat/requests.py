"""What is sent: the body of a chat request, from what the caller set. Pure.

Sources: the guide, text generation, request parameters; for thinking the catalogue's rows, which
name theirs.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_tokenhub.catalogue import ChatModel
from langchain_tokenhub.errors import InvalidRequestError

Body = dict[str, Any]
Tool = Mapping[str, Any] | type | Callable[..., Any] | BaseTool

MOST_STOPS = 4
"""Stop sequences in one request (the guide, parameter `stop`)."""
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_THINKING_WORDS = {
    True: "enabled",
    False: "disabled",
    "enabled": "enabled",
    "disabled": "disabled",
    "adaptive": "adaptive",
}


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
            f"n: {body['n']!r}; one answer per call",
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


def thinks(row: ChatModel | None, body: Mapping[str, Any]) -> bool:
    """Say whether the model thinks in a request with this body."""
    asked = body.get("thinking")
    if isinstance(asked, Mapping):
        return asked.get("type") != "disabled"
    default = row.thinking_default if row else None
    return default in {"enabled", "adaptive"} or (row is None and asked is None)


def with_thinking(body: Body, row: ChatModel | None) -> Body:
    """Return the body with `thinking` and `reasoning_effort` as the model takes them.

    Raises:
        InvalidRequestError: The model cannot do what is asked.
    """
    body = {**body}
    asked = body.pop("thinking", None)
    if asked is not None:
        wire = _thinking(asked, row, str(body.get("model")))
        body |= {"thinking": wire} if wire else {}
    if body.get("reasoning_effort") is not None:
        body["reasoning_effort"] = _effort(str(body["reasoning_effort"]), row)
    return body


def _thinking(asked: object, row: ChatModel | None, model: str) -> Body | None:
    if isinstance(asked, Mapping):
        return dict(asked)
    word = _THINKING_WORDS.get(asked) if isinstance(asked, (bool, str)) else None
    if word is None:
        raise InvalidRequestError(
            f"thinking: {asked!r}; use True, False, 'enabled', 'disabled', 'adaptive' or a dict"
        )
    if row is None:
        return {"type": word}
    thinker = row.thinking_default in {"enabled", "adaptive"}
    if word == "disabled":
        if thinker and row.thinking_switchable is False:
            raise InvalidRequestError(
                f"thinking: {model!r} cannot stop thinking", hint="choose another model"
            )
        return {"type": word} if row.thinking_switchable else None
    if row.thinking_default == "none" and not row.thinking_switchable:
        raise InvalidRequestError(
            f"thinking: {model!r} has no thinking mode", hint="choose a model that thinks"
        )
    if not row.thinking_field or (thinker and not row.thinking_switchable):
        return None  # it thinks anyway
    return {"type": row.thinking_on if word == "enabled" else word}


def _effort(asked: str, row: ChatModel | None) -> str:
    """Return the nearest effort that the model knows; others it would ignore without a word."""
    known = row.reasoning_effort if row else ()
    if not known or asked in known or asked not in _EFFORTS:
        return asked
    place = _EFFORTS.index(asked)
    nearest = min(known, key=lambda word: abs(_EFFORTS.index(word) - place))
    warnings.warn(f"reasoning_effort {asked!r} is sent as {nearest!r}: {known}", stacklevel=2)
    return nearest


def with_forced_tools(body: Body, row: ChatModel | None) -> Body:
    """Return a body whose forced tool call the model accepts while it would think."""
    if body.get("tool_choice") in (None, "auto", "none") or row is None:
        return body
    if row.forced_tools_while_thinking or not thinks(row, body):
        return body
    if row.thinking_switchable and row.thinking_field:
        return {**body, "thinking": {"type": "disabled"}}
    warnings.warn(
        f"{body.get('model')!r} thinks and cannot be forced to call a tool; asked with 'auto'",
        stacklevel=2,
    )
    return {**body, "tool_choice": "auto"}


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


def _tool(tool: Tool, *, strict: bool | None) -> dict[str, Any]:
    if isinstance(tool, Mapping) and tool.get("type") not in (None, "function", "object"):
        return dict(tool)  # a tool of the server's: its own business
    wire = convert_to_openai_tool(tool, strict=strict)
    function = wire.get("function")
    if isinstance(function, dict):
        function.setdefault("parameters", {"type": "object", "properties": {}})
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
