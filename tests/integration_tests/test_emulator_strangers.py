"""Clients that know nothing of this package talk to the emulator."""

from __future__ import annotations

import httpx
import openai
import pytest
from langchain_openai import ChatOpenAI

from langchain_tokenhub.testing import Emulator

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "获取指定城市的天气信息",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@pytest.fixture
def client(hub):
    with openai.OpenAI(base_url=f"{hub.url}/v1", api_key="any", max_retries=0) as made:
        yield made


def ask(client, text, model="ep-1", **more):
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.create(model=model, messages=messages, **more)


def test_the_openai_sdk_reads_an_answer_and_its_bill(client):
    answer = ask(client, "计算 1+1", model="hy3")
    assert answer.choices[0].message.content == "1+1=2"
    assert answer.model == "hy3"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_the_openai_sdk_reads_a_stream_with_thinking(client):
    chunks = list(ask(client, "你好", model="glm-5", stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    kinds = ["think" if hasattr(d, "reasoning_content") else "say" for d in deltas[1:-1]]
    assert kinds == sorted(kinds, reverse=True)
    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("asked", [True, False])
def test_a_stream_has_usage_only_on_request(client, asked):
    more = {"stream_options": {"include_usage": True}} if asked else {}
    chunks = list(ask(client, "Hello", stream=True, **more))
    assert [bool(chunk.usage) for chunk in chunks[-1:]] == [asked]


def test_the_openai_sdk_reads_tool_calls(client):
    (call,) = ask(client, "北京今天天气怎么样?", tools=[WEATHER]).choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city": "北京"}')


def test_a_repeated_beginning_is_read_from_the_cache(client):
    first, second = (ask(client, "Hello").usage.prompt_tokens_details for _ in range(2))
    assert first.cached_tokens == 0 < second.cached_tokens


@pytest.mark.parametrize(
    ("key", "good"), [("sk-any", True), ("wrong", False), ("sk-wrong-1", False)]
)
def test_a_key_that_begins_with_wrong_is_refused(hub, key, good):
    with openai.OpenAI(base_url=f"{hub.url}/v1", api_key=key, max_retries=0) as client:
        if good:
            assert client.models.list().data
            return
        with pytest.raises(openai.AuthenticationError) as caught:
            client.models.list()
    assert caught.value.code == "401002"


def test_only_the_keys_given_are_good():
    with Emulator(api_key=["a", "b"]) as hub:
        answers = [
            httpx.get(f"{hub.url}/v1/models", headers={"authorization": f"Bearer {key}"})
            for key in ("a", "b", "c")
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 401]


def test_the_list_of_models_holds_every_modality(client):
    ids = {model.id for model in client.models.list()}
    assert ids >= {"hy3", "glm-5", "hy-image-v3.0", "hy-video-1.5", "hy-3d-3.0"}


def test_a_stream_says_no_charset(hub):
    body = {"model": "hy3", "stream": True, "messages": [{"role": "user", "content": "你好"}]}
    head = {"authorization": "Bearer any"}
    answer = httpx.post(f"{hub.url}/v1/chat/completions", json=body, headers=head)
    assert answer.headers["content-type"] == "text/event-stream"
    assert "你好".encode() in answer.content


def test_what_arrived_is_recorded(hub, client):
    ask(client, "你好", model="hy3")
    (request,) = hub.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == "Bearer any"
    assert request.body["messages"] == [{"role": "user", "content": "你好"}]


def test_chat_open_ai_streams_a_tool_call(hub):
    model = ChatOpenAI(model="ep-1", base_url=f"{hub.url}/v1", api_key="any")
    chunks = list(model.bind_tools([WEATHER]).stream("北京今天天气怎么样?"))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.tool_calls[0]["args"] == {"city": "北京"}
