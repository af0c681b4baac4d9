"""Scripted answers: `hub.reply`."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool

from langchain_tokenhub import ChatTokenHub, RateLimitError, ServerError
from langchain_tokenhub.testing import Emulator

CALL = {"name": "get_weather", "args": {"city": "北京"}, "id": "call_1"}
CALLS = AIMessage("", tool_calls=[CALL, {**CALL, "args": {"city": "上海"}, "id": "call_2"}])
WRONG = [
    5, None, b"x", [], [5], ["a", None], HumanMessage("x"), ToolMessage("x", tool_call_id="1"),
    AIMessage, {"text": "x"}, {"role": "user", "content": "x"}, {"content": 5},
    {"content": [{"type": "image_url"}]}, {"content": "", "tool_calls": [{"name": "f"}]},
    {"content": "", "tool_calls": [{"name": "f", "args": [1]}]}, {"tool_calls": 5},
    {"content": "", "tool_calls": [{"name": "f", "args": {"a": {1}}}]}, {"reasoning_content": 5},
    {"content": "x", "usage_metadata": 5},
    {"content": "x", "usage_metadata": {"input_tokens": "1"}},
]  # fmt: skip


@tool
def get_weather(city: str) -> str:
    """Return the weather of a city."""
    return f"{city}：晴"


@pytest.fixture
def model(hub):
    return ChatTokenHub(model="hy3", max_retries=0)


def said(call, model, verb, text="你好"):
    """Ask, and return the whole message."""
    answer = call(model, verb, text)
    return sum(answer[1:], answer[0]) if isinstance(answer, list) else answer


@pytest.mark.parametrize("verb", ["invoke", "stream"])
def test_a_text_is_the_next_answer_and_then_answers_are_computed(hub, model, call, verb):
    hub.reply("茶已泡好")
    assert said(call, model, verb).text == "茶已泡好"
    assert said(call, model, verb, "计算 1+1").text == "1+1=2"


@pytest.mark.parametrize("verb", ["invoke", "stream"])
def test_a_list_answers_one_request_after_another(hub, model, call, verb):
    hub.reply(["一", CALLS, {"content": "三"}, lambda request: request.body["model"]])
    answers = [said(call, model, verb) for _ in range(4)]
    assert [answer.text for answer in answers] == ["一", "", "三", "hy3"]
    assert [len(answer.tool_calls) for answer in answers] == [0, 2, 0, 0]


@pytest.mark.parametrize("verb", ["invoke", "stream"])
def test_tool_calls_come_with_their_arguments_and_ids(hub, model, call, verb):
    hub.reply(CALLS)
    answer = said(call, model, verb)
    assert [(c["name"], c["args"], c["id"]) for c in answer.tool_calls] == [
        ("get_weather", {"city": "北京"}, "call_1"),
        ("get_weather", {"city": "上海"}, "call_2"),
    ]
    assert answer.response_metadata["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("verb", ["invoke", "stream"])
def test_calls_in_the_services_form_get_ids_of_their_own(hub, model, call, verb):
    function = {"name": "f", "arguments": '{"a": 1}'}
    hub.reply({"tool_calls": [{"function": function}, {"function": function}]})
    first, second = said(call, model, verb).tool_calls
    assert first["args"] == second["args"] == {"a": 1}
    assert first["id"] != second["id"]


@pytest.mark.parametrize("verb", ["invoke", "stream"])
def test_arguments_that_are_no_json_stay_so(hub, model, call, verb):
    broken = {"name": "f", "args": '{"a": ', "id": "call_1", "error": None}
    hub.reply(AIMessage("", invalid_tool_calls=[broken]))
    (found,) = said(call, model, verb).invalid_tool_calls
    assert found["name"] == "f"
    assert found["args"].startswith('{"a": ')


@pytest.mark.parametrize("verb", ["invoke", "stream"])
@pytest.mark.parametrize(
    "message",
    [
        AIMessage("好", additional_kwargs={"reasoning_content": "想一想"}),
        AIMessage([{"type": "reasoning", "reasoning": "想一想"}, {"type": "text", "text": "好"}]),
        {"content": "好", "reasoning_content": "想一想"},
    ],
)
def test_reasoning_comes_before_the_text(hub, model, call, verb, message):
    hub.reply(message)
    answer = said(call, model, verb)
    assert (answer.text, answer.additional_kwargs["reasoning_content"]) == ("好", "想一想")
    assert answer.usage_metadata["output_token_details"]["reasoning"] > 0


@pytest.mark.parametrize("verb", ["invoke", "stream"])
def test_usage_is_counted_or_given(hub, model, call, verb):
    usage = {
        "input_tokens": 1000,
        "output_tokens": 50,
        "total_tokens": 1050,
        "input_token_details": {"cache_read": 900},
        "output_token_details": {"reasoning": 40},
    }
    hub.reply(["好", AIMessage("好", usage_metadata=usage)])
    counted, given = (said(call, model, verb).usage_metadata for _ in range(2))
    assert counted["output_tokens"] == 1
    assert given == usage


@pytest.mark.parametrize("verb", ["invoke", "stream"])
def test_a_finish_reason_can_be_given(hub, model, call, verb):
    hub.reply(AIMessage("太长", response_metadata={"finish_reason": "length"}))
    assert said(call, model, verb).response_metadata["finish_reason"] == "length"


def test_an_answer_of_a_model_can_be_replayed(hub, model, call):
    first = said(call, model, "stream", "你好")
    assert isinstance(first, AIMessageChunk)
    hub.reply(first)
    assert said(call, model, "invoke", "x").content == first.content


def test_a_function_answers_every_request_until_recover(hub, model, call):
    hub.reply(lambda request: request.body["messages"][-1]["content"][::-1])
    hub.reply("先")
    assert [said(call, model, "invoke", text).text for text in ("ab", "cd", "ef")] == [
        "先",
        "dc",
        "fe",
    ]
    hub.recover()
    assert said(call, model, "invoke", "计算 1+1").text == "1+1=2"


def test_an_agent_is_tested_against_chosen_answers(hub, model):
    def script(request):
        asked = request.body["messages"]
        return (
            f"听说{asked[-1]['content']}"
            if asked[-1]["role"] == "tool"
            else AIMessage("", tool_calls=[CALL])
        )

    hub.reply(script)
    agent = create_agent(model, [get_weather])
    for _ in range(2):
        messages = agent.invoke({"messages": [("user", "随便")]})["messages"]
        assert messages[-1].text == "听说北京：晴"


def test_structured_output_is_read_from_a_script(hub, model, call):
    hub.reply('{"city": "北京"}')
    schema = {"title": "City", "type": "object", "properties": {"city": {"type": "string"}}}
    assert call(model.with_structured_output(schema), "invoke", "x") == {"city": "北京"}


def _fails(request):
    raise KeyError(request.path)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (_fails, "_fails of Emulator.reply: KeyError: '/v1/chat/completions'"),
        (lambda _: next(iter(())), "StopIteration"),
        (lambda _: pytest.fail("not this"), "not this"),
        (lambda _: None, "not NoneType"),
        (lambda _: HumanMessage("x"), "not HumanMessage"),
        (lambda _: {"text": "x"}, "'text'"),
    ],
)
def test_a_function_that_fails_is_a_500_that_names_the_problem(hub, model, call, function, words):
    for script in (function, [function, "then"]):
        hub.reply(script)
        with pytest.raises(ServerError) as caught:
            call(model, "invoke", "你好")
        assert caught.value.status == 500
        assert words in str(caught.value)
        hub.recover()


def test_a_function_that_failed_is_not_skipped_by_a_retry(hub, call):
    hub.reply([_fails])
    with pytest.raises(ServerError):
        call(ChatTokenHub(model="hy3", max_retries=1), "invoke", "你好")
    assert len(hub.requests) == 2


@pytest.mark.parametrize("reply", WRONG, ids=repr)
def test_what_is_no_reply_is_refused_at_once(hub, model, reply):
    with pytest.raises(TypeError):
        hub.reply(reply)
    assert model.invoke("计算 1+1").text == "1+1=2"


async def _asynchronous(request):
    return "x"


def test_an_async_function_is_refused_at_once(hub):
    with pytest.raises(TypeError, match="async"):
        hub.reply(_asynchronous)


def test_refused_and_failed_requests_use_up_no_reply(call):
    with Emulator(speed=1e6, rpm=1) as hub:
        model = ChatTokenHub(model="hy3", base_url=hub.url, api_key="any", max_retries=0)
        call(model, "invoke", "你好")
        hub.reply("好")
        with pytest.raises(RateLimitError):
            call(model, "invoke", "你好")
        hub.advance(60)
        hub.fail(status=400)
        bad = {"model": "hy3", "messages": []}
        for body in (bad, bad):
            httpx.post(
                f"{hub.url}/v1/chat/completions", json=body, headers={"authorization": "Bearer a"}
            )
        hub.advance(60)
        assert call(model, "invoke", "你好").text == "好"


def test_each_reply_is_given_once_to_requests_side_by_side(hub, model):
    texts = [str(number) for number in range(20)]
    hub.reply(texts)
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: model.invoke("你好").text, texts[:10]))
    answers += [message.text for message in asyncio.run(model.abatch(["你好"] * 10))]
    assert sorted(answers, key=int) == texts


def test_a_slow_function_lets_other_requests_pass(hub, model):
    hub.reply([lambda _: model.invoke("计算 1+1").text])
    assert model.invoke("你好").text == "1+1=2"


def test_the_guides_era_speaks_its_own_form(call):
    with Emulator(speed=1e6, era="guide") as hub:
        hub.reply(CALLS)
        model = ChatTokenHub(model="hy3", base_url=hub.url, api_key="any")
        assert len(said(call, model, "stream").tool_calls) == 2
