"""Answers of a given shape: the method by the model, another where it fails, no blind trust."""

from __future__ import annotations

import itertools
import json
from typing import Annotated, TypedDict

import pydantic
import pydantic.v1
import pytest
from langchain_core.exceptions import OutputParserException

from langchain_tokenhub import InvalidRequestError, ServerError
from langchain_tokenhub.errors import ResponseFormatError


class Joke(pydantic.BaseModel):
    """A joke."""

    setup: str
    punchline: str


class JokeV1(pydantic.v1.BaseModel):
    """A joke."""

    setup: str
    punchline: str


class JokeDict(TypedDict):
    """A joke."""

    setup: Annotated[str, ..., "the question"]
    punchline: str


SCHEMA = {
    "title": "Joke",
    "description": "A joke.",
    "type": "object",
    "properties": {"setup": {"type": "string"}, "punchline": {"type": "string"}},
    "required": ["setup", "punchline"],
}
VALUE = {"setup": "猫?", "punchline": "喵"}
TEXT = json.dumps(VALUE, ensure_ascii=False)
SHAPES = {"pydantic": Joke, "row 52 pydantic.v1": JokeV1, "TypedDict": JokeDict, "JSON": SCHEMA}
METHODS = ["function_calling", "json_schema", "json_mode"]
REFUSED = {"error": {"code": "400006", "message": "This response_format is unavailable now"}}


def _said(content="", calls=()):
    message = {"role": "assistant", "content": content}
    if calls:
        message["tool_calls"] = [
            {"id": "c1", "type": "function", "function": {"name": name, "arguments": args}}
            for name, args in calls
        ]
    return {"id": "x", "model": "m", "choices": [{"message": message, "finish_reason": "stop"}]}


def _name(schema):
    return schema["title"] if isinstance(schema, dict) else schema.__name__


def _good(method, schema=SCHEMA, text=TEXT):
    return _said(calls=[(_name(schema), text)]) if method == "function_calling" else _said(text)


def _plain(value):
    return value if isinstance(value, dict) else dict(value)


def _tools(body):
    return [tool["function"]["name"] for tool in body.get("tools", ())]


# -- the three methods ---------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("schema", SHAPES.values(), ids=SHAPES)
def test_row_46_every_shape_comes_back_by_every_method(service, call, schema, method):
    service(_good(method, schema))
    model = service.model("hy3", thinking=False)

    found = call(model.with_structured_output(schema, method=method), "invoke", "a joke")

    assert _plain(found) == VALUE
    assert isinstance(found, dict if schema in (SCHEMA, JokeDict) else schema)


OTHER = {"name": "look", "description": "", "parameters": {"type": "object", "properties": {}}}


@pytest.mark.parametrize("tools", [[], [OTHER]], ids=["alone", "beside a tool"])
def test_function_calling_sends_the_tool_with_required(service, call, tools):
    service(_good("function_calling"))

    chain = service.model().with_structured_output(SCHEMA, method="function_calling", tools=tools)
    call(chain, "invoke", "x")

    assert _tools(service.bodies[0]) == ["Joke", *(tool["name"] for tool in tools)]
    assert service.bodies[0]["tool_choice"] == "required"
    assert "response_format" not in service.bodies[0]


@pytest.mark.parametrize("strict", [None, True, False])
def test_json_schema_sends_the_schema_and_strict_only_if_asked(service, call, strict):
    service(_good("json_schema"))
    model = service.model("hy3")

    chain = model.with_structured_output(SCHEMA, method="json_schema", strict=strict)
    call(chain, "invoke", "x")

    sent = service.bodies[0]["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["name"] == "Joke"
    assert sent["json_schema"].get("strict") is strict
    assert "tools" not in service.bodies[0]


def test_row_38_strict_reaches_a_tool(service, call):
    service(_good("function_calling"))
    model = service.model()

    call(
        model.with_structured_output(SCHEMA, method="function_calling", strict=True), "invoke", "x"
    )

    function = service.bodies[0]["tools"][0]["function"]
    assert function["strict"] is True
    assert function["parameters"]["additionalProperties"] is False


def test_json_mode_tells_the_model_which_object_is_wanted(service, call):
    service(_good("json_mode"))

    call(service.model().with_structured_output(SCHEMA, method="json_mode"), "invoke", "x")

    assert service.bodies[0]["response_format"] == {"type": "json_object"}
    said = service.bodies[0]["messages"][0]
    assert said["role"] == "system"
    assert "JSON" in said["content"]
    assert '"punchline"' in said["content"]


def test_json_mode_without_a_schema_is_any_json(service, call):
    service(_said('```json\n{"a": 1}\n```'))

    assert call(service.model().with_structured_output(), "invoke", "JSON please") == {"a": 1}


def test_a_method_that_does_not_exist_or_lacks_a_schema_is_refused(service):
    with pytest.raises(InvalidRequestError, match=r"'xml'.*function_calling"):
        service.model().with_structured_output(SCHEMA, method="xml")
    with pytest.raises(InvalidRequestError, match="schema: needed"):
        service.model().with_structured_output(method="function_calling")


# -- the method by the model -----------------------------------------------------------------------

BY_MODEL = {
    "hy3": "json_schema",
    "kimi-k3": "json_schema",
    "deepseek-v4-flash": "function_calling",
    "glm-5": "function_calling",
    "minimax-m3": "function_calling",
    "deepseek-r1-0528": "json_mode",
    "ep-1234": "function_calling",
}


@pytest.mark.parametrize(("model", "method"), BY_MODEL.items())
def test_row_50_the_method_is_what_is_known_to_work_for_the_model(service, call, model, method):
    service(_good(method))

    found = call(service.model(model).with_structured_output(SCHEMA), "invoke", "x")

    assert found == VALUE
    assert len(service.bodies) == 1


@pytest.mark.parametrize("verb", ["invoke", "stream"])
def test_row_51_a_refused_response_format_falls_back_to_function_calling(service, call, verb):
    service(REFUSED, status=400)(_good("function_calling"))

    found = call(service.model("hy3").with_structured_output(SCHEMA), verb, "x")

    assert (found if verb == "invoke" else found[-1]) == VALUE
    assert "response_format" in service.bodies[0]
    assert _tools(service.bodies[1]) == ["Joke"]


BAD_ANSWERS = {
    "prose": "Here is a joke: …",
    "another JSON": "[1, 2]",
    "a field is missing": '{"setup": "x"}',
    "a field has another type": '{"setup": "x", "punchline": {}}',
    "nothing": "",
}


@pytest.mark.parametrize("include_raw", [False, True])
def test_an_answer_without_the_shape_is_asked_for_again_in_another_way(services, call, include_raw):
    for text, schema in itertools.product(BAD_ANSWERS.values(), (SCHEMA, Joke)):
        service = services()
        service(_said(text), _good("function_calling"))
        chain = service.model("hy3").with_structured_output(schema, include_raw=include_raw)

        found = call(chain, "invoke", "x")

        value = found["parsed"] if include_raw else found
        assert (value if isinstance(value, dict) else value.model_dump()) == VALUE, text


@pytest.mark.parametrize(("model", "choice"), [("glm-5.3", "auto"), ("ep-1", "required")])
def test_a_model_that_may_not_be_forced_is_asked_in_json_mode_if_it_talks(
    service, call, model, choice
):
    service(_said("Here is a joke: …"), _good("json_mode"))

    found = call(service.model(model).with_structured_output(SCHEMA), "invoke", "x")

    assert found == VALUE  # and no warning: nothing is left for the caller to do
    assert service.bodies[0]["tool_choice"] == choice
    assert service.bodies[1]["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_was_chosen_is_the_only_one_tried(service, call, method):
    service(_said("prose"))
    chain = service.model("hy3").with_structured_output(SCHEMA, method=method)

    with pytest.raises(OutputParserException):
        call(chain, "invoke", "x")
    assert len(service.bodies) == 1


def test_a_chosen_method_that_is_refused_says_which_one_works(service, call):
    service(REFUSED, status=400)
    chain = service.model("deepseek-v4-pro").with_structured_output(SCHEMA, method="json_schema")

    with pytest.raises(ResponseFormatError, match="function_calling"):
        call(chain, "invoke", "x")


# -- include_raw -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_include_raw_gives_the_message_too(service, call, method):
    service(_good(method))
    chain = service.model("hy3").with_structured_output(SCHEMA, method=method, include_raw=True)

    found = call(chain, "invoke", "x")

    assert set(found) == {"raw", "parsed", "parsing_error"}
    assert (found["parsed"], found["parsing_error"]) == (VALUE, None)
    assert found["raw"].response_metadata["model_provider"] == "tokenhub"


BROKEN = {
    "prose": _said("no"),
    "nothing": _said(""),
    "broken arguments": _said(calls=[("Joke", '{"setup": "x", ')]),
    "arguments that are no object": _said(calls=[("Joke", "[1]")]),
    "arguments of a wrong type": _said(calls=[("Joke", '{"setup": [], "punchline": {}}')]),
    "another tool": _said(calls=[("Story", TEXT)]),
    "a field is missing": _said(calls=[("Joke", '{"setup": "x"}')]),
    "broken JSON": _said('{"setup": "x"'),
}


WRONG = [(schema, broken) for schema in (SCHEMA, Joke) for broken in BROKEN.values()]


@pytest.mark.parametrize("method", [None, *METHODS])
def test_row_47_include_raw_never_raises_for_what_the_model_answered(services, call, method):
    for schema, broken in WRONG:
        service = services()
        service(broken)
        chain = service.model("hy3").with_structured_output(schema, method=method, include_raw=True)

        found = call(chain, "invoke", "x")

        assert found["parsed"] is None, broken
        assert isinstance(found["parsing_error"], Exception), broken
        assert found["raw"].type == "ai"


UNSHAPED = ("Here is a joke", TEXT[:-3], '{"setup": "x"}')


@pytest.mark.parametrize("method", [None, *METHODS])
def test_row_47_include_raw_never_raises_in_a_stream(services, call, method):
    sent = ("function_calling", "json_mode")
    for way, text, schema in itertools.product(sent, UNSHAPED, (SCHEMA, Joke)):
        service = services()
        service(_chunks(way, text))
        chain = service.model("hy3").with_structured_output(schema, method=method, include_raw=True)

        items = call(chain, "stream", "x")

        whole = sum(items[1:], items[0])
        assert len(items) > 2
        assert whole["raw"].type == "AIMessageChunk"
        assert whole["parsed"] is None, (way, text)
        assert isinstance(whole["parsing_error"], ValueError)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("schema", [SCHEMA, Joke], ids=["JSON", "pydantic"])
def test_include_raw_streams_the_answer_and_then_its_value(service, call, schema, method):
    chain = (
        service(_chunks(method))
        .model("hy3")
        .with_structured_output(schema, method=method, include_raw=True)
    )

    *raw, last = call(chain, "stream", "x")

    assert all(set(item) == {"raw"} for item in raw)
    assert (_plain(last["parsed"]), last["parsing_error"]) == (VALUE, None)


def test_row_51_include_raw_falls_back_in_a_stream_where_the_service_refuses(service, call):
    service(REFUSED, status=400)(_chunks("function_calling"))
    chain = service.model("hy3").with_structured_output(SCHEMA, include_raw=True)

    assert call(chain, "stream", "x")[-1]["parsed"] == VALUE


def test_include_raw_keeps_what_a_validator_of_the_callers_raises(service, call):
    class Picky(Joke):
        @pydantic.field_validator("setup")
        @classmethod
        def look_up(cls, value):
            return {}[value]

    service(_good("json_schema"))
    chain = service.model("hy3").with_structured_output(
        Picky, method="json_schema", include_raw=True
    )

    assert isinstance(call(chain, "invoke", "x")["parsing_error"], KeyError)


def test_include_raw_survives_that_the_other_way_is_refused(service, call):
    service(_said("prose"))(REFUSED, status=400)(_said("prose again"))

    chain = service.model("glm-5.3").with_structured_output(SCHEMA, include_raw=True)

    found = call(chain, "invoke", "x")

    assert (found["raw"].content, found["parsed"]) == ("prose again", None)


def test_include_raw_still_raises_for_a_failing_service(service, call):
    service({"error": {"code": "500001", "message": "x"}}, status=500)
    chain = service.model("hy3").with_structured_output(SCHEMA, include_raw=True)

    with pytest.raises(ServerError):
        call(chain, "invoke", "x")


# -- streams -----------------------------------------------------------------------------------


def _chunks(method, text=TEXT):
    pieces = [text[n : n + 4] for n in range(0, len(text), 4)]
    if method == "function_calling":
        head = {"index": 0, "id": "c1", "function": {"name": "Joke", "arguments": ""}}
        deltas = [{"tool_calls": [head]}]
        deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": p}}]} for p in pieces]
    else:
        deltas = [{"content": piece} for piece in pieces]
    chunks = [{"id": "x", "model": "m", "choices": [{"delta": delta}]} for delta in deltas]
    return [*chunks, {"choices": [{"delta": {}, "finish_reason": "stop"}]}]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("schema", [SCHEMA, JokeDict], ids=["JSON", "TypedDict"])
def test_row_48_dicts_stream_as_they_grow(service, call, schema, method):
    name = _name(schema)
    chunks = json.loads(json.dumps(_chunks(method)).replace('"Joke"', f'"{name}"'))
    chain = service(chunks).model("hy3").with_structured_output(schema, method=method)

    found = call(chain, "stream", "x")

    assert len(found) > 3
    assert found[-1] == VALUE
    assert all(set(partial) <= set(VALUE) for partial in found)


@pytest.mark.parametrize("method", METHODS)
def test_a_pydantic_object_streams_once_it_is_whole(service, call, method):
    chain = service(_chunks(method)).model("hy3").with_structured_output(Joke, method=method)

    assert call(chain, "stream", "x")[-1] == Joke(**VALUE)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("schema", [SCHEMA, Joke], ids=["JSON", "pydantic"])
def test_a_stream_of_prose_is_an_error_and_not_an_empty_stream(service, call, schema, method):
    service(_chunks("json_mode", "Here is a joke"))
    chain = service.model("hy3").with_structured_output(schema, method=method)

    with pytest.raises(OutputParserException):
        call(chain, "stream", "x")


CUTS = {"in the last field": TEXT[:-3], "behind it": TEXT[:-1]}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("verb", ["invoke", "stream"])
def test_section_4_complaint_24_a_value_that_was_cut_off_is_an_error(services, call, verb, method):
    for text, schema in itertools.product(CUTS.values(), (SCHEMA, Joke)):
        service = services()
        whole = _said(calls=[("Joke", text)]) if method == "function_calling" else _said(text)
        service(whole if verb == "invoke" else _chunks(method, text))
        chain = service.model("hy3").with_structured_output(schema, method=method)

        with pytest.raises(OutputParserException):
            call(chain, verb, "x")


@pytest.mark.parametrize("text", [f"```json\n{TEXT}\n```\nEnjoy!", f"{TEXT}\nEnjoy!"])
def test_a_value_with_a_word_behind_it_is_whole(service, call, text):
    chain = service(_said(text)).model("hy3").with_structured_output(SCHEMA, method="json_schema")

    assert call(chain, "invoke", "x") == VALUE


@pytest.mark.parametrize("method", METHODS)
def test_a_stream_gives_the_value_where_streaming_is_switched_off(service, call, method):
    model = service(_good(method)).model("hy3", disable_streaming=True)

    assert call(model.with_structured_output(SCHEMA, method=method), "stream", "x") == [VALUE]


def test_a_stream_of_prose_is_asked_for_again_in_another_way(service, call):
    service(_chunks("json_mode", "Here is a joke"), _chunks("function_calling"))

    found = call(service.model("hy3").with_structured_output(SCHEMA), "stream", "x")

    assert found[-1] == VALUE


# -- what goes along -----------------------------------------------------------------------------


def test_fields_of_the_body_are_sent_and_those_of_traces_are_not(service, call):
    service(_good("json_schema"))
    chain = service.model("hy3").with_structured_output(SCHEMA, temperature=0)

    call(chain, "invoke", "x")

    assert service.bodies[0]["temperature"] == 0
    assert "ls_structured_output_format" not in service.bodies[0]
    assert "answer_schema" not in service.bodies[0]
