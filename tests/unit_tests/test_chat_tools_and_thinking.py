"""What is asked of a model: its tools, which of them, and whether it thinks first."""

from __future__ import annotations

import json
import warnings

import pytest
from langchain_core.tools import StructuredTool, tool
from pydantic import BaseModel, Field

from langchain_tokenhub import InvalidRequestError


@tool
def look(city: str) -> str:
    """Look at the sky over a city."""
    return city


class Look(BaseModel):
    """Look at the sky over a city."""

    city: str = Field(description="城市")


def look_up(city: str) -> str:
    """Look at the sky over a city.

    Args:
        city: 城市
    """
    return city


LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look at the sky over a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
RAIN = {
    "type": "function",
    "function": {"name": "rain", "parameters": {"type": "object", "properties": {}}},
}
ANSWER = {
    "id": "x",
    "model": "m",
    "choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
}


@pytest.fixture
def sent(service, call):
    """Return the body that a model sends: `sent(model_id, fields, tools=…, …)`."""
    service(ANSWER)

    def ask(model="glm-5", fields=None, *, tools=None, kwargs=None, **binding):
        chat = service.model(model, **fields or {})
        chat = chat if tools is None else chat.bind_tools(tools, **binding)
        call(chat, "invoke", "hi", **kwargs or {})
        return service.bodies[-1]

    return ask


# -- tools -------------------------------------------------------------------------------------

FORMS = {
    "a LangChain tool": look,
    "a pydantic class": Look,
    "a function": look_up,
    "a structured tool": StructuredTool.from_function(look_up),
    "OpenAI's dict": LOOK,
    "OpenAI's inner dict": LOOK["function"],
    "Anthropic's dict": {
        "name": "look",
        "description": "Look at the sky over a city.",
        "input_schema": LOOK["function"]["parameters"],
    },
    "a JSON schema": {
        "title": "look",
        "description": "Look at the sky over a city.",
        **LOOK["function"]["parameters"],
    },
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_a_tool_becomes_the_guides(sent, form):
    (found,) = sent(tools=[form])["tools"]

    assert found["type"] == "function"
    assert found["function"]["description"].startswith("Look at the sky")
    assert found["function"]["parameters"]["required"] == ["city"]
    assert found["function"]["parameters"]["type"] == "object"


def test_a_tool_always_has_parameters(sent):
    bare = {"type": "function", "function": {"name": "ping"}}

    found = sent(tools=[bare])["tools"][0]["function"]

    assert found["parameters"] == {"type": "object", "properties": {}}
    assert bare == {"type": "function", "function": {"name": "ping"}}, "the caller's is untouched"


def test_row_42_a_tool_of_the_servers_passes_untouched(sent):
    search = {"type": "web_search", "web_search": {"enable": True}}

    assert sent(tools=[search, LOOK])["tools"] == [search, LOOK]


@pytest.mark.parametrize("choice", [None, "any", "auto", True, False])
def test_row_40_no_tools_send_no_tools_key(sent, choice):
    for body in (
        sent(tools=[], tool_choice=choice, parallel_tool_calls=False),
        sent(kwargs={"tools": [], "tool_choice": choice, "parallel_tool_calls": True}),
        sent(kwargs={"tool_choice": choice}),
    ):
        assert set(body) == {"model", "messages"}


CHOICES = [
    (None, None),
    ("auto", "auto"),
    ("none", "none"),
    (False, "none"),
    ("required", "required"),
    ("any", "required"),
    (True, "required"),
    ({"type": "any"}, "required"),
    ({"type": "auto"}, "auto"),
]


@pytest.mark.parametrize(("choice", "word"), CHOICES)
def test_row_37_a_tool_choice_becomes_one_of_the_guides_three_words(sent, choice, word):
    for body in (
        sent(tools=[LOOK, RAIN], tool_choice=choice),
        sent(tools=[LOOK, RAIN], kwargs={"tool_choice": choice}),
        sent(kwargs={"tools": [look, RAIN], "tool_choice": choice}),
    ):
        assert body.get("tool_choice") == word
        assert [tool["function"]["name"] for tool in body["tools"]] == ["look", "rain"]


NAMED = [
    "look",
    {"type": "function", "function": {"name": "look"}},
    {"type": "tool", "name": "look"},
]


@pytest.mark.parametrize("choice", NAMED, ids=["name", "OpenAI", "Anthropic"])
def test_row_37_a_named_tool_is_sent_alone_with_required(sent, choice):
    other = {"tools": [LOOK], "tool_choice": choice}
    for body in (
        sent(tools=[LOOK, RAIN], tool_choice=choice),
        sent(tools=[LOOK, RAIN], kwargs={"tool_choice": choice}),
        sent(kwargs={"tools": [LOOK, RAIN], "tool_choice": choice}),
        sent(tools=[LOOK, RAIN], tool_choice="rain", kwargs=other),
    ):
        assert (body["tools"], body["tool_choice"]) == ([LOOK], "required")


@pytest.mark.parametrize("choice", ["snow", {"type": "sometimes"}, 3])
def test_a_tool_choice_that_means_nothing_is_refused_with_the_names(service, choice):
    with pytest.raises(InvalidRequestError, match="tool_choice"):
        service.model().bind_tools([LOOK, RAIN], tool_choice=choice)


@pytest.mark.parametrize("strict", [True, False])
def test_row_38_strict_goes_with_each_tool(sent, strict):
    assert sent(tools=[look], strict=strict)["tools"][0]["function"]["strict"] is strict


@pytest.mark.parametrize("parallel", [True, False])
def test_row_39_parallel_tool_calls_reaches_the_wire(sent, parallel):
    assert sent(tools=[LOOK], parallel_tool_calls=parallel)["parallel_tool_calls"] is parallel


def test_row_39_parallel_tool_calls_is_not_sent_unasked(sent):
    assert "parallel_tool_calls" not in sent(tools=[LOOK], temperature=0)


def test_row_41_a_response_format_goes_along_with_tools_or_without(sent):
    shape = {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}

    assert sent("hy3", tools=[LOOK], response_format=shape)["response_format"] == shape
    assert set(sent("hy3", tools=[], response_format=shape)) == {
        "model",
        "messages",
        "response_format",
    }


# -- forced tools while thinking -----------------------------------------------------------------


@pytest.mark.parametrize("model", ["deepseek-v4-flash", "kimi-k2.6", "kimi-k2.5"])
def test_row_43_a_forced_tool_switches_thinking_off_where_that_is_needed(sent, model):
    body = sent(model, tools=[LOOK], tool_choice="any")

    assert (body["tool_choice"], body["thinking"]) == ("required", {"type": "disabled"})


@pytest.mark.parametrize("fields", [{"thinking": True}, {"reasoning_effort": "high"}])
def test_row_43_even_if_it_was_told_to_think(sent, fields):
    body = sent("deepseek-v4-flash", fields, tools=[LOOK], tool_choice="look")

    assert (body["tool_choice"], body["thinking"]) == ("required", {"type": "disabled"})
    assert "reasoning_effort" not in body


@pytest.mark.parametrize("model", ["glm-5.3", "kimi-k3", "kimi-k2.7-code", "minimax-m2.7"])
def test_row_43_a_model_that_cannot_stop_thinking_is_asked_with_auto_and_one_warning(
    service, model
):
    chat = service(ANSWER).model(model).bind_tools([LOOK], tool_choice="any")

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        chat.invoke("hi")

    assert ["cannot be forced" in str(warning.message) for warning in seen] == [True]
    assert service.bodies[-1]["tool_choice"] == "auto"
    assert "thinking" not in service.bodies[-1]


@pytest.mark.parametrize("model", ["hy3", "glm-5", "deepseek-v3.2", "ep-1234", "minimax-m3"])
def test_a_forced_tool_changes_nothing_where_the_model_takes_it(sent, model):
    body = sent(model, tools=[LOOK], tool_choice="any")

    assert body["tool_choice"] == "required"
    assert "thinking" not in body


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_a_tool_that_is_not_forced_leaves_thinking_alone(sent, choice):
    assert "thinking" not in sent("deepseek-v4-flash", tools=[LOOK], tool_choice=choice)


# what upstream says, verbatim where it is known
REFUSALS = [
    "Thinking mode does not support this tool_choice",
    "tool_choice 'specified' is incompatible with thinking enabled",
    "The tool_choice parameter does not support being set to required or object in thinking mode",
]


def _refusal(message):
    return {"error": {"code": "400001", "message": message}}


def _forced(service, call, verb, model, **fields):
    call(service.model(model, **fields).bind_tools([LOOK], tool_choice="any"), verb, "hi")
    return [(body["tool_choice"], body.get("thinking")) for body in service.bodies]


OFF = {"type": "disabled"}


@pytest.mark.parametrize("verb", ["invoke", "stream"])
@pytest.mark.parametrize("said", REFUSALS)
def test_row_43_an_unknown_model_that_refuses_is_asked_again_without_thinking(
    services, call, verb, said
):
    for model in ("ep-1234", "hy3"):  # neither is known to refuse
        service = services()(_refusal(said), status=400)(ANSWER)
        assert _forced(service, call, verb, model) == [("required", None), ("required", OFF)]


@pytest.mark.parametrize("verb", ["invoke", "stream"])
def test_row_43_an_unknown_model_that_cannot_stop_thinking_is_asked_with_auto_and_a_warning(
    service, call, verb
):
    unknown = _refusal("thinking: disabled is not supported")
    service(_refusal(REFUSALS[0]), unknown, status=400)(ANSWER)

    with pytest.warns(UserWarning, match="cannot be forced"):
        asked = _forced(service, call, verb, "ep-1234", thinking=True)

    on = {"type": "enabled"}
    assert asked == [("required", on), ("required", OFF), ("auto", on)]


@pytest.mark.filterwarnings("ignore:.*cannot be forced")
@pytest.mark.parametrize("model", ["ep-1234", "hy3", "glm-5.3"])
@pytest.mark.parametrize(
    "fields", [{"tool_choice": "required"}, {"thinking": {"type": "enabled"}}], ids=str
)
def test_a_model_that_refuses_every_way_is_asked_three_times_at_most(services, call, model, fields):
    for verb in ("invoke", "stream"):
        service = services()(_refusal(REFUSALS[0]), status=400)
        bound = service.model(model).bind_tools([LOOK], tool_choice="any").bind(extra_body=fields)
        for forced in (
            lambda: _forced(service, call, verb, model, extra_body=fields),  # noqa: B023
            lambda: call(bound, verb, "hi"),  # noqa: B023
        ):
            service.bodies.clear()
            with pytest.raises(InvalidRequestError, match="tool_choice"):
                forced()
            assert len(service.bodies) <= 3


@pytest.mark.parametrize("verb", ["invoke", "stream"])
def test_a_refusal_of_something_else_is_not_asked_again(service, call, verb):
    service(_refusal("messages: bad"), status=400)

    with pytest.raises(InvalidRequestError, match="messages: bad"):
        _forced(service, call, verb, "ep-1234")
    assert len(service.bodies) == 1


# -- thinking ----------------------------------------------------------------------------------

THINKING = [
    ("deepseek-v4-flash", None, None),
    ("deepseek-v4-flash", True, {"type": "enabled"}),
    ("deepseek-v4-flash", False, {"type": "disabled"}),
    ("deepseek-v4-flash", "enabled", {"type": "enabled"}),
    ("deepseek-v4-flash", "disabled", {"type": "disabled"}),
    ("hy3", "adaptive", {"type": "adaptive"}),
    ("minimax-m3", True, {"type": "adaptive"}),
    ("minimax-m3", {"type": "enabled"}, {"type": "adaptive"}),
    ("hy3", {"type": "enabled", "budget_tokens": 9}, {"type": "enabled", "budget_tokens": 9}),
    ("kimi-k2.6", {"keep": "all"}, {"keep": "all"}),
    ("glm-5.3", True, None),
    ("kimi-k3", True, None),
    ("deepseek-v3-0324", False, None),
    ("ep-1234", True, {"type": "enabled"}),
    ("ep-1234", False, {"type": "disabled"}),
    ("deepseek/deepseek-flash", False, {"type": "disabled"}),
    ("mimo-v2.6-flash", True, {"type": "enabled"}),
]


@pytest.mark.parametrize(("model", "asked", "wire"), THINKING)
def test_row_59_thinking_is_sent_as_the_model_takes_it(sent, model, asked, wire):
    assert sent(model, {"thinking": asked}).get("thinking") == wire


IMPOSSIBLE = [
    ("glm-5.3", False, "'glm-5.3' always reasons"),
    ("kimi-k3", False, "'kimi-k3' always reasons"),
    ("kimi-k3", {"type": "disabled"}, "'kimi-k3' does not accept this field"),
    ("hunyuan-2.0-instruct-20251111", True, "'hunyuan-2.0-instruct-20251111' has no thinking mode"),
    ("ep-1", "perhaps", "'perhaps'"),
]


@pytest.mark.parametrize(("model", "asked", "said"), IMPOSSIBLE)
def test_what_a_model_cannot_do_is_a_clear_error_before_a_request(
    service, call, model, asked, said
):
    with pytest.raises(InvalidRequestError, match=f"thinking: {said}"):
        call(service(ANSWER).model(model), "invoke", "hi", thinking=asked)
    assert service.bodies == []


def test_thinking_of_a_call_wins(sent):
    assert sent("hy3", {"thinking": True}, kwargs={"thinking": False})["thinking"] == {
        "type": "disabled"
    }


# -- effort ------------------------------------------------------------------------------------

EFFORTS = [
    ("hy3", "high", "high"),
    ("hy3", "none", "none"),
    ("glm-5.2", "xhigh", "xhigh"),
    ("deepseek-v4-pro", "max", "max"),
    ("ep-1234", "whatever", "whatever"),
]


@pytest.mark.parametrize(("model", "asked", "wire"), EFFORTS)
def test_row_59_an_effort_that_the_model_knows_is_sent(sent, model, asked, wire):
    assert sent(model, {"reasoning_effort": asked})["reasoning_effort"] == wire


NEAREST = [
    ("hy3", "medium", "low"),
    ("hy3", "max", "high"),
    ("deepseek-v4-pro", "low", "high"),
    ("glm-5.3", "none", "low"),
    ("kimi-k3", "medium", "low"),
    ("hy4-preview", "low", "high"),
]


@pytest.mark.parametrize(("model", "asked", "wire"), NEAREST)
def test_another_effort_is_the_nearest_one_with_a_warning(sent, model, asked, wire):
    with pytest.warns(UserWarning, match=f"{asked!r} is sent as {wire!r}.*accepts"):
        assert sent(model, {"reasoning_effort": asked})["reasoning_effort"] == wire


NO_EFFORT = [
    ("deepseek-v4-flash", {}),
    ("kimi-k2.6", {}),
    ("glm-5", {}),
    ("hy3", {"thinking": False}),
]


@pytest.mark.parametrize(("model", "fields"), NO_EFFORT)
def test_no_effort_is_no_thinking_where_the_model_has_no_such_word(sent, model, fields):
    body = sent(model, {"reasoning_effort": "none"} | fields)

    assert body["thinking"] == {"type": "disabled"}
    assert "reasoning_effort" not in body


def test_an_effort_that_is_no_word_is_refused_with_those_that_are(service, call):
    with pytest.raises(InvalidRequestError, match="'hgih'; use one of none, low, high"):
        call(service(ANSWER).model("hy3", reasoning_effort="hgih"), "invoke", "hi")


def test_an_effort_for_a_model_that_does_not_think_is_warned_about(service, call):
    chat = service(ANSWER).model("hy-mt2-pro", reasoning_effort="high")

    with pytest.warns(UserWarning, match="no effect"):
        call(chat, "invoke", "hi")


@pytest.mark.parametrize("model", ["glm-5", "kimi-k2.6", "minimax-m2.7"])
def test_an_effort_for_a_model_that_is_not_known_to_heed_one_is_sent_with_a_warning(sent, model):
    with pytest.warns(UserWarning, match=f"{model!r} is not known to support reasoning_effort"):
        assert sent(model, {"reasoning_effort": "high"})["reasoning_effort"] == "high"


@pytest.mark.parametrize("off", [False, "disabled", {"type": "disabled"}])
@pytest.mark.parametrize("model", ["hy3", "deepseek-v4-flash", "ep-1234"])
def test_an_effort_while_thinking_is_off_is_not_sent_and_warned_about(sent, model, off):
    with pytest.warns(UserWarning, match="thinking is off: reasoning_effort 'high' is not sent"):
        body = sent(model, {"reasoning_effort": "high"}, kwargs={"thinking": off})

    assert body["thinking"] == {"type": "disabled"}
    assert "reasoning_effort" not in body


@pytest.mark.parametrize("on", [True, "adaptive", {"type": "enabled"}])
@pytest.mark.parametrize("model", ["hy3", "glm-5.2", "ep-1234"])
def test_thinking_without_effort_is_refused_as_a_contradiction(service, call, model, on):
    chat = service(ANSWER).model(model, thinking=on, reasoning_effort="none")

    with pytest.raises(InvalidRequestError, match="contradict"):
        call(chat, "invoke", "hi")


def test_reasoning_is_dropped_from_history_while_thinking_is_off(sent, service, call):
    from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

    history = [
        HumanMessage("a"),
        AIMessage(
            "",
            tool_calls=[{"name": "f", "args": {}, "id": "c"}],
            additional_kwargs={"reasoning_content": "hm"},
        ),
        ToolMessage("1", tool_call_id="c"),
    ]
    for thinking in (True, False):
        call(service.model("hy3", thinking=thinking), "invoke", history)

    on, off = (body["messages"][1] for body in service.bodies)
    assert ("reasoning_content" in on, "reasoning_content" in off) == (True, False)


# -- tools and their choice, given to a call -----------------------------------------------------


def test_a_choice_of_a_call_is_among_all_tools_that_are_bound(sent):
    body = sent(tools=[LOOK, RAIN], tool_choice="look", kwargs={"tool_choice": "rain"})
    assert (body["tools"], body["tool_choice"]) == ([RAIN], "required")

    body = sent(tools=[LOOK, RAIN], tool_choice="look", kwargs={"tool_choice": "auto"})
    assert (body["tools"], body["tool_choice"]) == ([LOOK, RAIN], "auto")


@pytest.mark.parametrize("choice", ["snow", {"type": "tool", "name": "snow"}])
def test_a_name_that_is_not_there_is_refused_with_those_that_are(service, call, choice):
    model = service(ANSWER).model().bind_tools([LOOK, RAIN])

    with pytest.raises(InvalidRequestError, match=r"'snow' is not a tool.*look, rain"):
        call(model, "invoke", "hi", tool_choice=choice)
    with pytest.raises(InvalidRequestError, match=r"'snow' is not a tool.*bind that tool"):
        call(service.model(), "invoke", "hi", tool_choice=choice)
    assert service.bodies == []


@pytest.mark.parametrize("choice", ["any", "look", {"type": "tool", "name": "look"}])
def test_a_choice_of_a_call_switches_thinking_off_as_a_bound_one_does(sent, choice):
    body = sent("kimi-k2.6", tools=[LOOK, RAIN], kwargs={"tool_choice": choice})

    assert (body["tool_choice"], body["thinking"]) == ("required", {"type": "disabled"})


@pytest.mark.parametrize("choice", ["any", "look", {"type": "tool", "name": "look"}])
def test_a_choice_of_a_call_is_auto_with_a_warning_where_it_cannot_be_forced(sent, choice):
    with pytest.warns(UserWarning, match="cannot be forced"):
        body = sent("glm-5.3", tools=[LOOK, RAIN], kwargs={"tool_choice": choice})

    assert body["tool_choice"] == "auto"


def test_none_takes_a_bound_choice_back(sent):
    assert "tool_choice" not in sent(tools=[LOOK], tool_choice="any", kwargs={"tool_choice": None})


def test_a_model_that_takes_no_tools_says_so_and_nothing_is_sent(service, call):
    with pytest.raises(
        InvalidRequestError, match=r"'hy-mt2-pro' does not support tools.*with_structured"
    ):
        call(service(ANSWER).model("hy-mt2-pro").bind_tools([LOOK]), "invoke", "hi")
    assert service.bodies == []


# -- OpenAPI's nullable --------------------------------------------------------------------------

OPENAPI = {
    "title": "order",
    "description": "An order.",
    "type": "object",
    "nullable": True,
    "properties": {
        "note": {"type": "string", "description": "d", "nullable": True},
        "kind": {"type": "string", "enum": ["a"], "nullable": True},
        "nullable": {"type": "array", "items": {"$ref": "#/$defs/Part", "nullable": True}},
        "plain": {"type": "string", "nullable": False, "default": {"nullable": True}},
    },
    "required": ["note"],
    "$defs": {
        "Part": {"type": "object", "properties": {"x": {"type": "integer", "nullable": True}}}
    },
}
NULL = {"type": "null"}
JSON_SCHEMA = {
    "note": {"description": "d", "anyOf": [{"type": "string"}, NULL]},
    "kind": {"anyOf": [{"type": "string", "enum": ["a"]}, NULL]},
    "nullable": {"type": "array", "items": {"anyOf": [{"$ref": "#/$defs/Part"}, NULL]}},
    "plain": {"type": "string", "default": {"nullable": True}},
}


def test_a_nullable_argument_is_sent_as_json_schema_has_it(sent):
    bare = {name: value for name, value in OPENAPI.items() if name not in {"title", "description"}}
    tool_of_openapi = {"type": "function", "function": {"name": "order", "parameters": bare}}

    parameters = sent(tools=[tool_of_openapi])["tools"][0]["function"]["parameters"]

    assert (parameters["type"], parameters["properties"]) == ("object", JSON_SCHEMA)
    assert parameters["$defs"]["Part"]["properties"]["x"] == {"anyOf": [{"type": "integer"}, NULL]}


@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode"])
def test_a_nullable_field_of_an_answer_may_be_null(service, call, method):
    value = {"note": None, "kind": None, "nullable": [None, {"x": None}]}
    text = json.dumps(value)
    said = {"role": "assistant", "content": text}
    if method == "function_calling":
        function = {"name": "order", "arguments": text}
        said = {"role": "assistant", "tool_calls": [{"id": "1", "function": function}]}
    service({"id": "x", "choices": [{"message": said, "finish_reason": "stop"}]})

    chain = service.model("hy3").with_structured_output(OPENAPI, method=method)

    assert call(chain, "invoke", "x") == value
    asked = json.dumps(service.bodies[0]).replace('\\"', '"')
    assert '"note": {"description": "d", "anyOf": [{"type": "string"}, {"type": "null"}]}' in asked
