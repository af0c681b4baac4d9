"""Build the body of a chat request from what the caller set. Pure.

Source: the guide, text generation, request parameters. Thinking is in `reasoning.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.language_models import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel
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

MAX_STOPS = 4
"""Stop sequences in one request (the guide, parameter `stop`)."""

SETTINGS = (
    *("temperature", "top_p", "max_tokens", "stop", "seed", "n"),
    *("thinking", "reasoning_effort"),
)
"""Fields of the model that are fields of the body too."""
CONNECTION = ("timeout", "max_retries", "default_headers")
"""Fields that change how a call is made, not what is sent."""
_OF_CALLS = frozenset({*CONNECTION, "model_kwargs", "extra_body", "stream_usage"})
FIXED = frozenset({"streaming", "api_key", "site", "base_url", "http_client", "http_async_client"})
"""Fields that a call cannot change, beside LangChain's own."""
_OPTIONS = _OF_CALLS | {
    *("stream", "ls_structured_output_format", "answer_schema"),
    *("answer_tools", "asked_again", "has_fallback"),
}
"""Keywords of a call that are not fields of the body."""
ALIASES = {
    "model_name": "model",
    "stop_sequences": "stop",
    "request_timeout": "timeout",
    "extra_headers": "default_headers",
    "headers": "default_headers",
}
"""Other names of fields, as LangChain's packages and OpenAI's have them."""
_NOT_SENT = FIXED | _OF_CALLS | ALIASES.keys()
"""Names that mean something here and nothing to the service, wherever in a body they come from."""
_SECRET_HEADERS = frozenset({"authorization", "proxy_authorization", "cookie"})


def read_kwargs(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call's keywords by the names of the fields, those in `model_kwargs` among them.

    Raises:
        InvalidRequestError: A call cannot change one of them.
    """
    given = {**_mapping(kwargs, "model_kwargs"), **kwargs}
    given.pop("model_kwargs", None)
    for alias, name in ALIASES.items():
        if alias in given and name in given:
            raise InvalidRequestError(f"{name} and {alias} are one field; give one of them")
    read = {ALIASES.get(name, name): value for name, value in given.items()}
    for name in read:
        if name in FIXED or name in BaseChatModel.model_fields or _is_secret(name):
            raise InvalidRequestError(
                f"{name}: a call cannot change it",
                hint="make another ChatTokenHub with it; they share connections",
            )
    for name in _mapping(read, "default_headers"):
        if _is_secret(name) or name.lower().replace("-", "_") in _SECRET_HEADERS:
            raise InvalidRequestError(
                f"default_headers: {name!r} is a secret, and traces show what a call is given",
                hint="give it to ChatTokenHub(default_headers=…)",
            )
    return read


def _mapping(kwargs: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = kwargs.get(name) or {}
    if not isinstance(value, Mapping):
        raise InvalidRequestError(f"{name}: a {type(value).__name__}, not a dict")
    return value


def _is_secret(name: str) -> bool:
    plain = name.lower().replace("-", "_")
    return plain.endswith(("api_key", "apikey")) or plain == "authorization"


def build_body(
    settings: Mapping[str, Any],
    messages: Sequence[BaseMessage],
    stop: Sequence[str] | None,
    kwargs: Mapping[str, Any],
) -> Body:
    """Return the body of a request, without the fields that only a stream has.

    Args:
        settings: The model's id and the body's fields that the caller set on it.
        messages: The history, oldest first.
        stop: Stop sequences of this call.
        kwargs: What `read_kwargs` returned for this call; its fields win over the settings.

    Raises:
        InvalidRequestError: The service or the model would refuse it.
    """
    body = {**settings, **{name: v for name, v in kwargs.items() if name not in _OPTIONS}}
    body |= {"stop": stop} if stop else {}
    body |= _mapping(kwargs, "extra_body")
    check_parameters(body)
    model = str(body.pop("model"))
    row = catalogue.chat_model(model)
    answer_tools = kwargs.get("answer_tools") or ()
    body = reasoning.with_thinking(_with_tools(_with_format(body), model, row), row, model)
    body = reasoning.with_forced_tools(body, row, model, warn=warns_unforced(kwargs))
    rules = Rules(model=model, row=row, thinking=reasoning.thinks(row, body))
    prompts = _prompts(body, kwargs.get("answer_schema"), answer_tools)
    history = [*map(SystemMessage, prompts), *messages]
    body = {"model": model, "messages": encode_messages(history, rules), **body}
    body.pop("stream", None)
    limit = body.pop("max_tokens", None)
    body |= {row.max_tokens_field if row else "max_tokens": limit} if limit is not None else {}
    return {name: value for name, value in body.items() if value is not None}


def warns_unforced(kwargs: Mapping[str, Any]) -> bool:
    """Return True unless it is provided for that a model does not call the tool it should."""
    return not (kwargs.get("answer_tools") or kwargs.get("has_fallback"))


def with_stream(body: Body, *, usage: bool) -> Body:
    """Return the body of a stream; unless asked, the service sends no usage in it."""
    asked = {"stream_options": {"include_usage": True}} if usage else {}
    return {**asked, **body, "stream": True}


def check_parameters(body: Mapping[str, Any]) -> None:
    """Refuse what the guide says the service refuses, and what must not be sent.

    Raises:
        InvalidRequestError: Names the parameter, its value and the limit.
    """
    for name in body:
        if name in _NOT_SENT or _is_secret(name):
            raise InvalidRequestError(
                f"{name}: not a field of the request's body",
                hint="give it to ChatTokenHub by the name of a field: "
                "api_key, default_headers, timeout, max_retries, …",
            )
    _in_range(body, "temperature", 0.0, 2.0)
    _in_range(body, "top_p", 0.0, 1.0)
    for name in ("max_tokens", "max_completion_tokens"):
        _at_least_one(body, name)
    _check_stops(body.get("stop"))
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


def _check_stops(stop: object) -> None:
    stops = [stop] if isinstance(stop, str) else stop
    if stops is None:
        return
    if not isinstance(stops, Sequence) or not all(isinstance(one, str) and one for one in stops):
        raise InvalidRequestError(f"stop: {stop!r} is not a string, or a list of strings")
    if len(stops) > MAX_STOPS:
        raise InvalidRequestError(f"stop: {len(stops)} sequences, at most {MAX_STOPS}")


def _prompts(
    body: Mapping[str, Any], schema: Mapping[str, Any] | None, answer_tools: Sequence[str]
) -> list[str]:
    """Return instructions for what no field of the body can express."""
    prompts = []
    if schema:
        prompts.append(
            "Answer with one JSON object and nothing else. It matches this JSON schema: "
            + json.dumps(without_nullable(schema), ensure_ascii=False)
        )
    if answer_tools and body.get("tool_choice") == "auto":
        names = " or ".join(answer_tools)
        prompts.append(f"Give your final answer by calling the tool {names}, not as text.")
    return prompts


def encode_tools(
    tools: Sequence[Tool], tool_choice: object, *, strict: bool | None = None
) -> dict[str, Any]:
    """Return `tools` and `tool_choice` as the service takes them; nothing if there are no tools.

    A forced tool goes alone with `required`: the guide knows `none`, `auto` and `required` only.

    Raises:
        InvalidRequestError: The choice is none of those, nor the name of a tool.
    """
    encoded = [_tool(tool, strict=strict) for tool in tools]
    choice = _choice(tool_choice)
    if choice in {None, "auto", "none", "required"}:
        asked = {"tool_choice": choice} if choice else {}
        return {"tools": encoded, **asked} if encoded else {}
    chosen = [tool for tool in encoded if _name(tool) == choice]
    if not chosen:
        names = ", ".join(filter(None, map(_name, encoded)))
        raise InvalidRequestError(
            f"tool_choice: {choice!r} is not a tool of this call",
            hint=f"use 'auto', 'any', 'none' or: {names}" if names else "bind that tool first",
        )
    return {"tools": chosen, "tool_choice": "required"}


def _with_tools(body: Body, model: str, row: catalogue.ChatModel | None) -> Body:
    """Return the body with its tools encoded; an empty list is refused, and is left out."""
    tools, choice, strict = (body.pop(name, None) for name in ("tools", "tool_choice", "strict"))
    encoded = encode_tools(tools or (), choice, strict=strict)
    if not encoded:
        body.pop("parallel_tool_calls", None)
    elif row and row.tools is False:
        raise InvalidRequestError(
            f"{model!r} takes no tools",
            hint="choose a model that does; for an answer of a given shape "
            "`with_structured_output` works without",
        )
    return {**body, **encoded}


def _with_format(body: Body) -> Body:
    """Return the body with the schema of its `response_format` as the service takes it."""
    match body.get("response_format"):
        case {"json_schema": {"schema": Mapping() as schema, **named}, **rest}:
            shape = {**named, "schema": without_nullable(schema)}
            return {**body, "response_format": {**rest, "json_schema": shape}}
    return {**body}


def _tool(tool: Tool, *, strict: bool | None) -> dict[str, Any]:
    if isinstance(tool, Mapping) and tool.get("type") not in (None, "function", "object"):
        return dict(tool)  # a tool that runs at the service
    encoded = {**convert_to_openai_tool(tool, strict=strict)}  # a copy of the caller's dict
    function = encoded.get("function")
    if isinstance(function, Mapping):
        parameters = function.get("parameters") or {"type": "object", "properties": {}}
        encoded["function"] = {**function, "parameters": without_nullable(parameters)}
    return encoded


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


_SCHEMA = frozenset(
    {"items", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else"}
)
_SCHEMAS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems", "items"})
_NAMED_SCHEMAS = frozenset(
    {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
)
_ABOUT = frozenset({"title", "description", "default", "examples", "deprecated"})


def without_nullable(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON schema in which OpenAPI's `nullable: true` is an alternative of type null.

    JSON schema has no such keyword: whoever reads one ignores it. The whole value is never null.
    """
    return {name: _converted(name, value) for name, value in schema.items() if name != "nullable"}


def _converted(name: str, value: Any) -> Any:
    if name in _SCHEMAS and isinstance(value, list):
        return [_alternatives(one) for one in value]
    if name in _SCHEMA:
        return _alternatives(value)
    if name in _NAMED_SCHEMAS and isinstance(value, Mapping):
        return {key: _alternatives(one) for key, one in value.items()}
    return value


def _alternatives(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    converted = without_nullable(schema)
    if schema.get("nullable") is not True:
        return converted
    about = {name: converted.pop(name) for name in _ABOUT if name in converted}
    return {**about, "anyOf": [converted, {"type": "null"}]}


def ls_params(body: Mapping[str, Any], stop: Sequence[str] | None) -> LangSmithParams:
    """Return LangSmith's parameters for a body; the provider has the name that answers have."""
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
