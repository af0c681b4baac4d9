"""Structured output: the method for each model, and the parser for each method. Pure.

Models differ from the gateway's documentation (some answer `json_schema` with 400, others with
prose); the catalogue's rows hold the method that is known to work for a model.
"""

# ruff: noqa: A002 - core calls a parameter `input`

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Literal, TypeGuard, get_args

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.output_parsers import (
    BaseOutputParser,
    BaseTransformOutputParser,
    JsonOutputParser,
    PydanticOutputParser,
)
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import Runnable, RunnableConfig, RunnableMap
from langchain_core.runnables.utils import AddableDict
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.json import parse_json_markdown
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel, SkipValidation

from langchain_tokenhub.catalogue import ChatModel
from langchain_tokenhub.chat.tools import schema_error, without_nullable
from langchain_tokenhub.errors import InvalidRequestError, ResponseFormatError

Method = Literal["function_calling", "json_schema", "json_mode"]
Schema = dict[str, Any] | type
Model = Runnable[Any, AIMessage]
Bound = tuple[Model, BaseOutputParser[Any]]
Raw = dict[str, Any]

_FAILURES = (ResponseFormatError, ValueError)
"""Errors after which another method is tried: 400006, and an answer that does not match."""


def methods_for(
    asked: Method | None, row: ChatModel | None, schema: Schema | None
) -> tuple[Method, ...]:
    """Return the methods to try, the best first: only `asked`, if the caller chose one.

    `schema` is None for any JSON object.
    """
    if asked is not None:
        if asked not in get_args(Method):
            words = ", ".join(get_args(Method))
            raise InvalidRequestError(f"method: {asked!r}; use one of {words}, or None")
        return (asked,)
    if schema is None or (row and row.tools is False):
        return ("json_mode",)
    best = (row and row.structured_method) or "function_calling"
    if best != "function_calling":
        return (best, "function_calling")
    return (best,) if row and row.can_force_tools else (best, "json_mode")


def bind_method(
    bind: Callable[..., Model],
    schema: Schema | None,
    method: Method,
    tools: Sequence[Any],
    options: dict[str, Any],
) -> Bound:
    """Return a model bound to one method, and the parser of its answers.

    `bind` is the model's `bind_tools`; `tools` may be called as well; `options` are `strict` and
    fields of the body.
    """
    wanted = None if schema is None else without_nullable(convert_to_json_schema(schema))
    traced = {"kwargs": {"method": method}, "schema": wanted}  # shown by LangSmith
    options = {**options, "ls_structured_output_format": traced}
    if method == "json_mode":
        asked = {"response_format": {"type": "json_object"}, "answer_schema": wanted}
        return bind(tools, **options).bind(**asked), _parser_of(schema, wanted)
    if schema is None:
        raise InvalidRequestError(f"schema: needed for {method}")
    function = convert_to_openai_tool(schema, strict=options.get("strict"))["function"]
    if method == "json_schema":
        shape = {**function, "schema": function.get("parameters", {})}
        shape.pop("parameters", None)
        asked = {"response_format": {"type": "json_schema", "json_schema": shape}}
        return bind(tools, **options).bind(**asked), _parser_of(schema, wanted)
    name = function["name"]
    bound = bind([schema, *tools], tool_choice="any" if tools else name, **options)
    return bound, _parser_of(schema, wanted, name)


def _parser_of(
    schema: Schema | None, wanted: dict[str, Any] | None, tool: str | None = None
) -> BaseOutputParser[Any]:
    """Return the parser of the calls of `tool`, or of answers in text if it is None."""
    inner: BaseOutputParser[Any]
    is_json = tool is None
    if _is_model(schema):
        if is_json:
            inner = PydanticOutputParser(pydantic_object=schema)
        else:
            inner = PydanticToolsParser(tools=[schema], first_tool_only=True)
        return _AnswerParser(inner=inner, is_json=is_json, expected_type=object)
    if is_json:
        inner = JsonOutputParser()
    else:
        inner = JsonOutputKeyToolsParser(key_name=tool, first_tool_only=True)
    return _AnswerParser(inner=inner, is_json=is_json, wanted=wanted)


def _is_model(schema: Schema | None) -> TypeGuard[type[BaseModel]]:
    return isinstance(schema, type) and is_basemodel_subclass(schema)


# -- parsers --------------------------------------------------------------------------------------


class _AnswerParser(BaseTransformOutputParser[Any]):
    """Parses with one of core's parsers; raises for an answer that is truncated or does not match.

    Core's parsers complete truncated JSON. That is needed for the parts of a stream; its end is
    parsed as a whole answer.
    """

    inner: SkipValidation[BaseOutputParser[Any]]
    is_json: bool
    """Whether the answer is text, not a tool call."""
    wanted: dict[str, Any] | None = None
    """The JSON schema that a dict must match."""
    expected_type: type = dict
    """The Python type of the value: dict for schemas that are not classes."""

    def parse(self, text: str) -> Any:
        return self.parse_result([Generation(text=text)])

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        if partial:
            return self.inner.parse_result(result, partial=True)
        if self.is_json:
            _check_complete(result[0].text)
        parsed = self.inner.parse_result(result)
        if parsed is None:
            raise OutputParserException("the model did not answer with the requested structure")
        if not isinstance(parsed, self.expected_type):
            raise OutputParserException(f"the model answered with {type(parsed).__name__}")
        if self.wanted and (problem := schema_error(parsed, self.wanted)):
            raise OutputParserException(f"the model's answer does not match: {problem}")
        return parsed

    def _transform(self, input: Iterator[str | BaseMessage]) -> Iterator[Any]:
        parser = _PartialParser(self)
        for item in input:
            yield from parser.add(item)
        yield from parser.finish()

    async def _atransform(self, input: AsyncIterator[str | BaseMessage]) -> AsyncIterator[Any]:
        parser = _PartialParser(self)
        async for item in input:
            for parsed in parser.add(item):
                yield parsed
        for parsed in parser.finish():
            yield parsed


class _PartialParser:
    """Parses the message so far after each part of a stream."""

    def __init__(self, parser: _AnswerParser) -> None:
        self._parser = parser
        self._message: Any = None
        self._parsed: Any = None

    def add(self, item: Any) -> Iterator[Any]:
        if self._message is None or not isinstance(item, AIMessageChunk):
            self._message = item  # with streaming off the only part is a whole message
        else:
            self._message += item
        yield from self._parse(partial=True)

    def finish(self) -> Iterator[Any]:
        yield from self._parse(partial=False)

    def _parse(self, *, partial: bool) -> Iterator[Any]:
        parsed = self._parser.parse_result([ChatGeneration(message=self._message)], partial=partial)
        if parsed is not None and parsed != self._parsed:
            self._parsed = parsed
            yield parsed


def _check_complete(text: str) -> None:
    try:
        parse_json_markdown(text, parser=_first_value)
    except ValueError as problem:
        raise OutputParserException(
            f"the model's answer is not JSON, or it is truncated: {problem}", llm_output=text
        ) from None


def _first_value(text: str) -> Any:
    """Return the JSON at the beginning of a text; models may add text after it."""
    return json.JSONDecoder(strict=False).raw_decode(text)[0]


# -- chains ---------------------------------------------------------------------------------------


def chain_of(bound: Sequence[Bound], *, include_raw: bool) -> Runnable[Any, Any]:
    """Return a chain that uses the first method, and the others where it fails.

    With `include_raw` it returns raw, parsed and parsing_error, and never raises for an answer.
    """
    if include_raw:
        return _raw_chain(bound)
    first, *others = [model | parser for model, parser in bound]
    return first.with_fallbacks(others, exceptions_to_handle=_FAILURES) if others else first


def _raw_chain(bound: Sequence[Bound]) -> Runnable[Any, Any]:
    (model, parser), *others = bound
    if not others:
        return RunnableMap(raw=model) | _ParseRaw(parser, lenient=True)
    ((other, other_parser),) = others
    # if the service refuses the second method, the answer of the first is returned
    safe = other.with_fallbacks([model], exceptions_to_handle=(ResponseFormatError,))
    first = RunnableMap(raw=model) | _ParseRaw(parser, lenient=False)
    second = RunnableMap(raw=safe) | _ParseRaw(other_parser, lenient=True)
    return first.with_fallbacks([second], exceptions_to_handle=_FAILURES)


class _ParseRaw(Runnable[Raw, Raw]):
    """Adds the parsed value to a raw answer.

    A stream has already yielded the answer, so no other method can be tried: it is always lenient.
    """

    def __init__(self, parser: BaseOutputParser[Any], *, lenient: bool) -> None:
        self._parser = parser
        self._lenient = lenient

    def invoke(self, input: Raw, config: RunnableConfig | None = None, **_: Any) -> Raw:
        return {**input, **self._parse(input["raw"], config, lenient=self._lenient)}

    async def ainvoke(self, input: Raw, config: RunnableConfig | None = None, **_: Any) -> Raw:
        return self.invoke(input, config)  # parsing waits for nothing

    def transform(
        self, input: Iterator[Raw], config: RunnableConfig | None = None, **_: Any
    ) -> Iterator[Raw]:
        received: list[Any] = []
        for item in input:
            received.append(item["raw"])
            yield item
        yield self._parse(_joined_message(received), config, lenient=True)

    async def atransform(
        self, input: AsyncIterator[Raw], config: RunnableConfig | None = None, **_: Any
    ) -> AsyncIterator[Raw]:
        received: list[Any] = []
        async for item in input:
            received.append(item["raw"])
            yield item
        yield self._parse(_joined_message(received), config, lenient=True)

    def _parse(self, raw: BaseMessage, config: RunnableConfig | None, *, lenient: bool) -> Raw:
        try:
            return AddableDict(parsed=self._parser.invoke(raw, config), parsing_error=None)
        except Exception as problem:  # a validator of the caller may raise anything
            if not lenient:
                raise
            return AddableDict(parsed=None, parsing_error=problem)


def _joined_message(received: Sequence[Any]) -> BaseMessage:
    """Return a stream's message; with streaming off it is the only part."""
    is_streamed = isinstance(received[-1], AIMessageChunk)
    return add_ai_message_chunks(*received) if is_streamed else received[-1]
