"""Convert tools and JSON schemas for the service, and check values against a schema. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_tokenhub import catalogue
from langchain_tokenhub.errors import InvalidRequestError, ResponseFormatError

Tool = Mapping[str, Any] | type | Callable[..., Any] | BaseTool
Schema = Mapping[str, Any]

_NAMED_SCHEMAS = frozenset(
    {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
)
_VALUES = frozenset({"default", "examples", "enum", "const", "dependentRequired"})
"""Keywords that hold no schema."""
_ABOUT = frozenset({"title", "description", "default", "examples", "deprecated"})
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "array": list,
    "null": type(None),
}


def encode_tools(
    tools: Sequence[Tool], tool_choice: object, *, strict: bool | None = None
) -> dict[str, Any]:
    """Return `tools` and `tool_choice` for the service; an empty dict if there are no tools.

    A forced tool is sent alone with `required`: the guide knows only `none`, `auto` and `required`.
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
        case True | "any" | {"type": "any" | "required"}:
            return "required"
        case False:
            return "none"
        case {"function": {"name": str(name)}} | {"name": str(name)} | str(name):
            return name
        case {"type": "auto" | "none" as word}:
            return str(word)
        case _:
            raise InvalidRequestError(
                f"tool_choice: {choice!r}; use 'auto', 'any', 'none', or a tool's name"
            )


# -- agents: LangChain's two strategies for structured output --------------------------------------


def check_format(response_format: Mapping[str, Any], model: str) -> None:
    """Refuse `json_schema`, which `ProviderStrategy` uses, where it is known not to work."""
    row = catalogue.chat_model(model)
    if response_format.get("type") != "json_schema" or row is None or row.json_schema is not False:
        return
    works = (
        "pass create_agent the schema itself, or ToolStrategy(schema); elsewhere use "
        "with_structured_output(schema), whose method for this model is function_calling"
    )
    raise ResponseFormatError(
        f"{model!r} does not support response_format 'json_schema'",
        hint="choose another model, such as hy3" if row.tools is False else works,
    )


def answer_tools(tools: Sequence[Any]) -> list[str]:
    """Return the names of the tools that stand for the structured answer.

    `ToolStrategy` creates such tools from its schemas: nothing runs when they are called.
    """
    return [
        tool.name
        for tool in tools
        if isinstance(tool, StructuredTool) and tool.func is None and tool.coroutine is None
    ]


def ask_for_call(
    names: Sequence[str], answer: AIMessage, *, again: bool
) -> tuple[AIMessage, HumanMessage]:
    """Return the messages that ask for a tool call after an answer in text.

    An agent that receives text instead of the call ends without its answer, or loops. A second such
    answer is an error.
    """
    tools = " or ".join(names)
    if again:
        raise ResponseFormatError(
            f"the model answered twice with text and did not call {tools}",
            hint="this model cannot be forced to call a tool: use with_structured_output(schema), "
            "or a model with tool_choice in its profile",
        )
    return answer, HumanMessage(f"Give this answer by calling the tool {tools}.")


# -- JSON schemas ----------------------------------------------------------------------------------


def without_nullable(schema: Schema) -> dict[str, Any]:
    """Return a JSON schema in which OpenAPI's `nullable: true` is an alternative of type null.

    JSON schema has no such keyword, and readers ignore it. The whole value is never null.
    """
    converted: dict[str, Any] = _convert({**schema, "nullable": False})
    return converted


def _convert(value: Any, keyword: str = "") -> Any:
    if keyword in _VALUES or not isinstance(value, Mapping | list):
        return value
    if isinstance(value, list):
        return [_convert(one) for one in value]
    if keyword in _NAMED_SCHEMAS:
        return {name: _convert(one) for name, one in value.items()}
    converted = {name: _convert(one, name) for name, one in value.items() if name != "nullable"}
    if value.get("nullable") is not True:
        return converted
    about = {name: converted.pop(name) for name in _ABOUT if name in converted}
    return {**about, "anyOf": [converted, {"type": "null"}]}


def schema_error(value: Any, schema: Schema) -> str | None:
    """Return the first mismatch between a value and its schema, or None."""
    return next(_errors(value, schema, schema, ""), None)


def _errors(value: Any, schema: Any, root: Schema, path: str) -> Iterator[str]:
    schema = _resolve(schema, root)
    shown = f"{path or 'the value'} is {value!r:.80}"
    names = schema.get("type", ())
    if names and not any(
        _is_type(value, one) for one in ([names] if isinstance(names, str) else names)
    ):
        yield f"{shown}, not {names}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{shown}, not one of {schema['enum']}"
    for choice in ("anyOf", "oneOf"):
        kinds = schema.get(choice)
        if kinds is not None and all(any(_errors(value, kind, root, "")) for kind in kinds):
            yield f"{shown}, which matches none of {choice}"
    for part in schema.get("allOf", ()):
        yield from _errors(value, part, root, path)
    if isinstance(value, dict):
        yield from _object_errors(value, schema, root, path)
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        for number, item in enumerate(value):
            yield from _errors(item, schema["items"], root, f"{path}[{number}]")


def _object_errors(value: dict[str, Any], schema: Schema, root: Schema, path: str) -> Iterator[str]:
    required = schema.get("required", ())
    if missing := sorted(name for name in required if name not in value):
        yield f"{path + ' ' if path else ''}is without {', '.join(missing)}"
    for name, inner in schema.get("properties", {}).items():
        if name in value and (value[name] is not None or name in required):
            yield from _errors(value[name], inner, root, f"{path}.{name}" if path else name)


def _is_type(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if isinstance(value, float) and name == "integer":
        return value.is_integer()
    return name not in _TYPES or isinstance(value, _TYPES[name])


def _resolve(schema: Any, root: Schema) -> Schema:
    """Return the schema that `$ref` refers to; anything that is not a schema accepts any value."""
    seen = 0
    while isinstance(schema, Mapping) and isinstance(schema.get("$ref"), str) and seen < 100:
        found: Any = root
        for key in schema["$ref"].removeprefix("#/").split("/"):
            found = found.get(key, {}) if isinstance(found, Mapping) else {}
        schema, seen = found, seen + 1
    return schema if isinstance(schema, Mapping) else {}
