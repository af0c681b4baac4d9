"""Structured output: the method for each model, and the parser for each method. Pure.

What the gateway documents and what the models do differ (`json_schema` is answered with 400 by
some, with prose by others): the catalogue's rows say which method is known to work for a model.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeGuard

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.ai import add_ai_message_chunks, add_usage
from langchain_core.output_parsers import (
    BaseCumulativeTransformOutputParser,
    BaseOutputParser,
    JsonOutputParser,
    PydanticOutputParser,
)
from langchain_core.output_parsers.openai_tools import (
    JsonOutputKeyToolsParser,
    PydanticToolsParser,
)
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import Runnable, RunnableConfig, RunnableMap
from langchain_core.runnables.utils import AddableDict
from langchain_core.tools import StructuredTool
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.json import parse_json_markdown
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel, SkipValidation

from langchain_tokenhub.catalogue import ChatModel, chat_model
from langchain_tokenhub.chat.request import without_nullable
from langchain_tokenhub.chat.response import Delta, Ending
from langchain_tokenhub.errors import InvalidRequestError, ResponseFormatError

Method = Literal["function_calling", "json_schema", "json_mode"]
METHODS = ("function_calling", "json_schema", "json_mode")
Schema = dict[str, Any] | type
Raw = dict[str, Any]
Item = str | BaseMessage
"""What a parser gets from a model's stream."""


def tracing_format(schema: Schema | None, method: Method) -> dict[str, Any]:
    """Return what LangSmith shows of the schema."""
    shown = None if schema is None else json_schema(schema)
    return {"kwargs": {"method": method}, "schema": shown}


def json_schema(schema: Schema) -> dict[str, Any]:
    """Return a schema as JSON schema."""
    return without_nullable(convert_to_json_schema(schema))


def response_format(
    schema: Schema | None, method: Method, *, strict: bool | None
) -> dict[str, Any]:
    """Return the body's `response_format`."""
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


def methods_for(
    asked: Method | None, row: ChatModel | None, schema: Schema | None, *, can_force: bool
) -> tuple[Method, ...]:
    """Return the methods to ask for a shape by, the best first.

    Args:
        asked: The caller's method, which is then the only one.
        row: What is known of the model, the method that works among it.
        schema: The shape, None for any JSON object.
        can_force: Whether the model can be made to call a tool.

    Raises:
        InvalidRequestError: There is no such method.
    """
    if asked is not None:
        if asked not in METHODS:
            raise InvalidRequestError(
                f"method: {asked!r}; use one of {', '.join(METHODS)}, or None"
            )
        return (asked,)
    if schema is None:
        return ("json_mode",)
    if row and row.tools is False:
        return ("json_mode",)
    best = (row and row.structured_method) or "function_calling"
    if best != "function_calling":
        return (best, "function_calling")
    return ("function_calling",) if can_force else ("function_calling", "json_mode")


class _StrictParser(BaseCumulativeTransformOutputParser[Any]):
    """Raises for an answer that does not match, also at the end of a stream."""

    wanted: dict[str, Any] | None = None
    """The JSON schema that a dict must match."""
    expected_type: type = dict
    """The Python type of the value: dict for schemas that are not classes."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        parsed = super().parse_result(result, partial=partial)
        return parsed if partial else self._checked(parsed)

    def _transform(
        self,
        input: Iterator[Item],  # noqa: A002 - core's name
    ) -> Iterator[Any]:
        received: list[Item] = []
        parsed = None
        for parsed in super()._transform(_recorded(input, received)):
            yield parsed
        yield from self._final(received, parsed)

    async def _atransform(
        self,
        input: AsyncIterator[Item],  # noqa: A002 - core's name
    ) -> AsyncIterator[Any]:
        received: list[Item] = []
        parsed = None
        async for parsed in super()._atransform(_arecorded(input, received)):
            yield parsed
        for rest in self._final(received, parsed):
            yield rest

    def _final(self, received: Sequence[Item], parsed: Any) -> Iterator[Any]:
        """Parse a stream as a whole answer: partial parsing completes what was cut off."""
        whole = self.parse_result([_generation(received)])
        if whole != parsed:
            yield whole

    def _checked(self, parsed: Any) -> Any:
        if parsed is None:
            raise OutputParserException("the model answered without the shape it was asked for")
        if not isinstance(parsed, self.expected_type):
            raise OutputParserException(f"the model answered with {type(parsed).__name__}")
        if self.wanted and (problem := schema_error(parsed, self.wanted)):
            raise OutputParserException(f"the model's answer does not match: {problem}")
        return parsed


def _recorded(stream: Iterator[Item], received: list[Item]) -> Iterator[Item]:
    for item in stream:
        received.append(item)
        yield item


async def _arecorded(stream: AsyncIterator[Item], received: list[Item]) -> AsyncIterator[Item]:
    async for item in stream:
        received.append(item)
        yield item


def _generation(received: Sequence[Item]) -> Generation:
    """Return the items of a stream as one answer."""
    messages = [item for item in received if isinstance(item, BaseMessage)]
    if messages:
        return ChatGeneration(message=_message(messages))
    return Generation(text="".join(map(str, received)))


def _message(received: Sequence[BaseMessage]) -> BaseMessage:
    chunks = [item for item in received if isinstance(item, AIMessageChunk)]
    # a model whose streaming is switched off gives a whole message
    return add_ai_message_chunks(*chunks) if chunks else received[-1]


class _DictParser(_StrictParser, JsonOutputKeyToolsParser):
    """Parses the call of the one tool; partial dicts while it streams."""


class _ModelParser(_StrictParser, PydanticToolsParser):
    """The same for pydantic classes."""


class _WrappedParser(BaseCumulativeTransformOutputParser[Any]):
    inner: SkipValidation[BaseOutputParser[Any]]

    def parse(self, text: str) -> Any:
        return self.inner.parse(text)

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        return self.inner.parse_result(result, partial=partial)


class _JsonParser(_StrictParser, _WrappedParser):
    """Parses JSON by one of core's parsers, which complete what was cut off."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        if not partial:
            _check_whole(result[0].text)
        return super().parse_result(result, partial=partial)


def _check_whole(text: str) -> None:
    try:
        parse_json_markdown(text, parser=_first_value)
    except ValueError as problem:
        raise OutputParserException(
            f"the model answered with no JSON, or it was cut off: {problem}", llm_output=text
        ) from None


def _first_value(text: str) -> Any:
    """Return the JSON at the beginning of a text; models like to add a word."""
    return json.JSONDecoder(strict=False).raw_decode(text)[0]


def parser_for(schema: Schema | None, method: Method) -> BaseOutputParser[Any]:
    """Return the parser of an answer."""
    if method == "function_calling":
        if schema is None:
            raise InvalidRequestError("schema: needed for function_calling")
        if _is_model(schema):
            return _ModelParser(tools=[schema], first_tool_only=True, expected_type=object)
        name, wanted = tool_name(schema), json_schema(schema)
        return _DictParser(key_name=name, first_tool_only=True, wanted=wanted)
    if schema is None:
        return _JsonParser(inner=JsonOutputParser())
    if _is_model(schema):
        return _JsonParser(inner=PydanticOutputParser(pydantic_object=schema), expected_type=object)
    return _JsonParser(inner=JsonOutputParser(), wanted=json_schema(schema))


def _is_model(schema: Schema) -> TypeGuard[type[BaseModel]]:
    return isinstance(schema, type) and is_basemodel_subclass(schema)


Model = Runnable[Any, AIMessage]
Bound = tuple[Model, BaseOutputParser[Any]]


def bind_method(
    bind: Callable[..., Model],
    schema: Schema | None,
    method: Method,
    tools: Sequence[Any],
    options: dict[str, Any],
) -> Bound:
    """Return a model bound to one method, and the parser of its answers.

    Args:
        bind: The model's `bind_tools`.
        schema: The shape, None for any JSON object.
        method: How to ask.
        tools: Tools that may be called as well.
        options: `strict`, and fields of the body.
    """
    parser = parser_for(schema, method)
    options = {**options, "ls_structured_output_format": tracing_format(schema, method)}
    if method == "function_calling" and schema is not None:
        options["tool_choice"] = "any" if tools else tool_name(schema)
        return bind([schema, *tools], **options), parser
    asked = {"response_format": response_format(schema, method, strict=options.get("strict"))}
    if method == "json_mode" and schema is not None:
        asked["answer_schema"] = json_schema(schema)
    return bind(tools, **options).bind(**asked), parser


# -- agents: LangChain's two strategies for an answer of a shape ----------------------------------


def check_format(response_format: Mapping[str, Any], model: str) -> None:
    """Refuse `json_schema`, as `ProviderStrategy` asks for it, where it is known not to work.

    Raises:
        ResponseFormatError: Names the way that works for the model.
    """
    row = chat_model(model)
    if response_format.get("type") != "json_schema" or row is None or row.json_schema is not False:
        return
    works = (
        "give create_agent the schema itself, or ToolStrategy(schema); elsewhere use "
        "with_structured_output(schema), whose method for this model is function_calling"
    )
    raise ResponseFormatError(
        f"{model!r} does not honour response_format 'json_schema'",
        hint="choose another model, such as hy3" if row.tools is False else works,
    )


def answer_tools(tools: Sequence[Any]) -> list[str]:
    """Return the names of the tools that only give the answer its shape.

    `ToolStrategy` makes such tools of its schemas: nothing runs when they are called.
    """
    return [
        tool.name
        for tool in tools
        if isinstance(tool, StructuredTool) and tool.func is None and tool.coroutine is None
    ]


def ask_again(
    messages: Sequence[BaseMessage], answer: AIMessage, kwargs: Mapping[str, Any]
) -> tuple[list[BaseMessage], dict[str, Any]]:
    """Return the history and keywords that ask once more for a call, after an answer in text.

    An agent that gets text where it needs the call ends without its answer, or asks for ever.

    Raises:
        ResponseFormatError: This was asked before.
    """
    names = " or ".join(kwargs["answer_tools"])
    if kwargs.get("asked_again"):
        raise ResponseFormatError(
            f"the model answered twice with text and did not call {names}",
            hint="this model cannot be forced to call a tool: use with_structured_output(schema), "
            "or a model whose profile says tool_choice",
        )
    asked = HumanMessage(f"Give this answer by calling the tool {names}.")
    return [*messages, answer, asked], {**kwargs, "asked_again": True}


def with_usage_of(items: Sequence[Delta | Ending], first: Ending) -> list[Delta | Ending]:
    """Return what a second stream adds, its ending with the usage of the first."""
    return [
        replace(item, usage=add_usage(first.usage, item.usage))
        if isinstance(item, Ending) and (first.usage or item.usage)
        else item
        for item in items
    ]


_FAILURES = (ResponseFormatError, ValueError)
"""What makes another method worth trying: 400006, and an answer that does not match."""


def chain_of(bound: Sequence[Bound], *, include_raw: bool) -> Runnable[Any, Any]:
    """Return a chain that uses the first method, and the others where it fails.

    With `include_raw` it gives raw, parsed and parsing_error, and never raises for an answer.
    """
    if include_raw:
        return _raw_chain(bound)
    first, *others = [model | parser for model, parser in bound]
    return first.with_fallbacks(others, exceptions_to_handle=_FAILURES) if others else first


def _raw_chain(bound: Sequence[Bound]) -> Runnable[Any, Any]:
    (model, parser), *others = bound
    if not others:
        return _with_raw(model, parser, lenient=True)
    ((other, other_parser),) = others
    # where the second method is refused outright, the first one's answer is returned
    safe = other.with_fallbacks([model], exceptions_to_handle=(ResponseFormatError,))
    return _with_raw(model, parser, lenient=False).with_fallbacks(
        [_with_raw(safe, other_parser, lenient=True)], exceptions_to_handle=_FAILURES
    )


def _with_raw(model: Model, parser: BaseOutputParser[Any], *, lenient: bool) -> Runnable[Any, Any]:
    return RunnableMap(raw=model) | _ParseRaw(parser, lenient=lenient)


class _ParseRaw(Runnable[Raw, Raw]):
    """Adds the parsed value to a raw answer.

    A stream has already yielded the answer, so no other method can be tried: it is always lenient.
    """

    def __init__(self, parser: BaseOutputParser[Any], *, lenient: bool) -> None:
        self._parser = parser
        self._lenient = lenient

    def invoke(
        self,
        input: Raw,  # noqa: A002 - core's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> Raw:
        raw = input["raw"]
        return {"raw": raw, **self._parse(raw, config, lenient=self._lenient)}

    async def ainvoke(
        self,
        input: Raw,  # noqa: A002 - core's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> Raw:
        return self.invoke(input, config)  # parsing waits for nothing

    def transform(
        self,
        input: Iterator[Raw],  # noqa: A002 - core's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> Iterator[Raw]:
        received: list[BaseMessage] = []
        for item in input:
            received.append(item["raw"])
            yield AddableDict(item)
        yield AddableDict(self._parse(_message(received), config, lenient=True))

    async def atransform(
        self,
        input: AsyncIterator[Raw],  # noqa: A002 - core's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> AsyncIterator[Raw]:
        received: list[BaseMessage] = []
        async for item in input:
            received.append(item["raw"])
            yield AddableDict(item)
        yield AddableDict(self._parse(_message(received), config, lenient=True))

    def _parse(self, raw: BaseMessage, config: RunnableConfig | None, *, lenient: bool) -> Raw:
        try:
            parsed = self._parser.invoke(raw, config)
        except Exception as problem:  # whatever a validator of the caller's raises
            if not lenient:
                raise
            return {"parsed": None, "parsing_error": problem}
        return {"parsed": parsed, "parsing_error": None}


_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "array": list,
    "null": type(None),
}


def schema_error(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Return the first mismatch between a value and its schema, or None."""
    return next(_errors(value, schema, schema, ""), None)


def _errors(value: Any, schema: Any, root: Mapping[str, Any], path: str) -> Iterator[str]:
    schema = _resolved(schema, root)
    names = schema.get("type", ())
    if names and not any(
        _is(value, name) for name in ([names] if isinstance(names, str) else names)
    ):
        yield f"{path or 'the value'} is {value!r:.80}, not {names}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path or 'the value'} is {value!r:.80}, none of {schema['enum']}"
    for choice in ("anyOf", "oneOf"):
        if choice in schema and not _matches_one(value, schema[choice], root):
            yield f"{path or 'the value'} is {value!r:.80}, which is none of its kinds"
    for part in schema.get("allOf", ()):
        yield from _errors(value, part, root, path)
    if isinstance(value, dict):
        yield from _in_object(value, schema, root, path)
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        for number, item in enumerate(value):
            yield from _errors(item, schema["items"], root, f"{path}[{number}]")


def _in_object(
    value: dict[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any], path: str
) -> Iterator[str]:
    required = schema.get("required", ())
    missing = sorted(name for name in required if name not in value)
    if missing:
        yield f"{path + ' ' if path else ''}is without {', '.join(missing)}"
    for name, inner in schema.get("properties", {}).items():
        if name in value and (value[name] is not None or name in required):
            yield from _errors(value[name], inner, root, f"{path}.{name}" if path else name)


def _matches_one(value: Any, kinds: Any, root: Mapping[str, Any]) -> bool:
    return any(
        next(_errors(value, expected_type, root, ""), None) is None for expected_type in kinds
    )


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if isinstance(value, float) and name == "integer":
        return value.is_integer()
    return name not in _TYPES or isinstance(value, _TYPES[name])


def _resolved(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema that `$ref` leads to; anything that is not a schema demands nothing."""
    seen = 0
    while isinstance(schema, Mapping) and isinstance(schema.get("$ref"), str) and seen < 100:
        found: Any = root
        for key in schema["$ref"].removeprefix("#/").split("/"):
            found = found.get(key, {}) if isinstance(found, Mapping) else {}
        schema, seen = found, seen + 1
    return schema if isinstance(schema, Mapping) else {}
