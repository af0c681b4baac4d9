"""A server that no one here wrote: aimock of npm, an OpenAI-like service for tests.

Its wire is its own: calls in parts with the name first, `choices: []` beside usage, reasoning under
`reasoning_content`, errors with `type` alone.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_tests.utils.stream_lifecycle import assert_valid_event_stream

from langchain_tokenhub import APIConnectionError, ChatTokenHub, RateLimitError, ServerError

pytestmark = pytest.mark.needs_node

WEATHER = {"name": "get_weather", "arguments": {"city": "北京"}}
JOKE = {
    "title": "Joke",
    "type": "object",
    "properties": {"setup": {"type": "string"}},
    "required": ["setup"],
}
FIXTURES = [
    {"match": {"hasToolResult": True}, "response": {"content": "北京：晴，22 °C"}},
    {"match": {"userMessage": "你好"}, "response": {"content": "你好，我是模拟服务。😀"}},
    {
        "match": {"userMessage": "compare"},
        "response": {"content": "9.8", "reasoning": "想一想：9.80 > 9.11"},
    },
    {
        "match": {"userMessage": "weather and time"},
        "response": {"toolCalls": [WEATHER, {"name": "get_time", "arguments": {}}]},
    },
    {
        "match": {"userMessage": "weather"},
        "response": {"content": "查一下", "toolCalls": [WEATHER]},
    },
    {
        "match": {"userMessage": "joke", "toolName": "Joke"},
        "response": {"toolCalls": [{"name": "Joke", "arguments": {"setup": "猫?"}}]},
    },
    {"match": {"userMessage": "joke"}, "response": {"content": '{"setup": "猫?"}'}},
    {
        "match": {"userMessage": "busy"},
        "response": {"error": {"message": "slow down", "type": "rate_limit_error"}, "status": 429},
    },
]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Start aimock from a folder where `npm install` may have put it."""
    node, program = shutil.which("node"), Path("node_modules/.bin/llmock").resolve()
    if node is None or not program.exists():
        pytest.skip("needs aimock: npm install @copilotkit/aimock")
    folder = tmp_path_factory.mktemp("aimock")
    (folder / "chat.json").write_text(json.dumps({"fixtures": FIXTURES}), encoding="utf-8")
    options = ["--port", "0", "--chunk-size", "4", "--strict", "--fixtures", str(folder)]
    with subprocess.Popen(
        [node, str(program), *options], stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        yield next(
            found[0] for line in process.stdout if (found := re.findall(r"http://\S+", line))
        )
        process.terminate()


@pytest.fixture
def model(url):
    def make(**fields):
        defaults = {"model": "m", "base_url": url, "api_key": "any", "max_retries": 0}
        return ChatTokenHub(**defaults | fields)

    return make


async def _events(model, question):
    stream = await model.astream_events(question, version="v3")
    events = [event async for event in stream]
    return events, await stream.output


def _faces(model, question):
    """Return the same answer as each face gives it."""
    stream = model().stream_events(question, version="v3")
    events = list(stream)
    aevents, av3 = asyncio.run(_events(model(), question))
    assert_valid_event_stream(events)
    assert_valid_event_stream(aevents)
    return {
        "invoke": model().invoke(question),
        "ainvoke": asyncio.run(model().ainvoke(question)),
        "v0": _sum(model().stream(question)),
        "v1": _sum(model(output_version="v1").stream(question)),
        "v3": stream.output,
        "v3 async": av3,
    }


def _sum(stream):
    first, *rest = stream
    return sum(rest, first)


SAID = {
    "你好": ("你好，我是模拟服务。😀", "", []),
    "compare": ("9.8", "想一想：9.80 > 9.11", []),
    "weather": ("查一下", "", [("get_weather", {"city": "北京"})]),
    "weather and time": ("", "", [("get_weather", {"city": "北京"}), ("get_time", {})]),
}


@pytest.mark.parametrize(("question", "said"), SAID.items(), ids=SAID)
def test_aimocks_answer_is_the_same_in_every_face(model, question, said):
    for face, message in _faces(model, question).items():
        thought = message.additional_kwargs.get("reasoning_content", "")
        calls = [(call["name"], call["args"]) for call in message.tool_calls]
        assert (message.text, thought, calls) == said, face
        assert message.usage_metadata["total_tokens"] > 0, face
        assert message.response_metadata["finish_reason"] == ("tool_calls" if calls else "stop")


def test_an_agent_calls_its_tool_through_aimock(model):
    @tool
    def get_weather(city: str) -> str:
        """Get the weather of a city."""
        return f"{city}: 晴"

    agent = create_agent(model(), [get_weather])

    found = agent.invoke({"messages": [HumanMessage("weather")]})["messages"]

    assert [message.type for message in found] == ["human", "ai", "tool", "ai"]
    assert found[-1].text == "北京：晴，22 °C"


@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode"])
@pytest.mark.parametrize("verb", ["invoke", "stream"])
def test_a_shape_comes_back_from_aimock(model, call, verb, method):
    chain = model().with_structured_output(JOKE, method=method)

    found = call(chain, verb, "joke")

    assert (found if verb == "invoke" else found[-1]) == {"setup": "猫?"}


FAILURES = [
    ("busy", {}, RateLimitError),
    ("?", {}, ServerError),
    ("你好", {"X-AIMock-Chaos-Drop": "1"}, ServerError),
    ("你好", {"X-AIMock-Chaos-Malformed": "1"}, ServerError),
    ("你好", {"X-AIMock-Chaos-Disconnect": "1"}, APIConnectionError),
    ("你好", {"X-AIMock-Chaos-Ratelimit": "1"}, RateLimitError),
]


@pytest.mark.parametrize(("question", "headers", "error"), FAILURES)
def test_aimocks_failures_have_their_own_class(model, call, question, headers, error):
    for verb in ("invoke", "stream"):
        with pytest.raises(error):
            call(model(default_headers=headers), verb, question)
