"""Answers of a given shape: which method, which parser. Pure.

What the gateway says and what the models do are two things (`json_schema` is answered with 400 by
some, with prose by others): the catalogue's rows tell which method is known to work for a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, Literal

from langchain_core.exceptions import OutputParserException
from langchain_core.output_parsers import BaseOutputParser, JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import (
    JsonOutputKeyToolsParser,
    PydanticToolsParser,
)
from langchain_core.outputs import Generation
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass

from langchain_tokenhub.errors import InvalidRequestError

Method = Literal["function_calling", "json_schema", "json_mode"]
METHODS = ("function_calling", "json_schema", "json_mode")
Schema = dict[str, Any] | type

UNSUPPORTED = "400006"
"""The service's code for a `response_format` that the model does not have."""


def check_method(method: str) -> None:
    """Refuse a method that does not exist."""
    if method not in METHODS:
        raise InvalidRequestError(f"method: {method!r}; use one of {', '.join(METHODS)}, or None")


def tracing_format(schema: Schema | None, method: Method) -> dict[str, Any]:
    """Return what LangSmith shows of the shape."""
    shown = None if schema is None else json_schema(schema)
    return {"kwargs": {"method": method}, "schema": shown}


def json_schema(schema: Schema) -> dict[str, Any]:
    """Return a schema as JSON schema."""
    return convert_to_json_schema(schema)


def response_format(
    schema: Schema | None, method: Method, *, strict: bool | None
) -> dict[str, Any]:
    """Return the wire's `response_format`."""
    if method == "json_mode":
        return {"type": "json_object"}
    if schema is None:
        raise InvalidRequestError("schema: needed for json_schema")
    function = convert_to_openai_tool(schema, strict=strict)["function"]
    named = {"name": function["name"], "schema": function.get("parameters", {})}
    if "description" in function:
        named["description"] = function["description"]
    if strict is not None:
        named["strict"] = strict
    return {"type": "json_schema", "json_schema": named}


def tool_name(schema: Schema) -> str:
    """Return the name that a schema has as a tool."""
    return str(convert_to_openai_tool(schema)["function"]["name"])


class _OneTool(PydanticToolsParser):
    """Parses the one tool that was asked for, and refuses an answer without it."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        return _found(super().parse_result(result, partial=partial), partial=partial)


class _OneDict(JsonOutputKeyToolsParser):
    """The same for schemas that are no classes; partial dicts while it streams."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        return _found(super().parse_result(result, partial=partial), partial=partial)


def _found(parsed: Any, *, partial: bool) -> Any:
    if parsed is None and not partial:
        raise OutputParserException("the model answered without the structure it was asked for")
    return parsed


def parser_for(schema: Schema | None, method: Method) -> BaseOutputParser[Any]:
    """Return what turns an answer into the shape."""
    if method == "function_calling":
        if schema is None:
            raise InvalidRequestError("schema: needed for function_calling")
        if _is_model(schema):
            return _OneTool(tools=[schema], first_tool_only=True)
        return _OneDict(key_name=tool_name(schema), first_tool_only=True)
    if schema is not None and _is_model(schema):
        return PydanticOutputParser(pydantic_object=schema)
    return JsonOutputParser()


def _is_model(schema: Schema) -> bool:
    return isinstance(schema, type) and is_basemodel_subclass(schema)


def with_raw(model: Runnable[Any, Any], parser: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """Return a chain that gives raw, parsed and parsing_error, and never raises for an answer."""
    parse = RunnablePassthrough.assign(
        parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
    )
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=model) | parse.with_fallbacks([failed], exception_key="parsing_error")
