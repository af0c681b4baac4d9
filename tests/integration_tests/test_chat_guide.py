"""The seven examples of the guide's text generation page, each on the wire.

What is sent is compared with the page's own bodies; what comes back is the page's own answers, from
a server that knows nothing else (`tests/data/guide`).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from openai import OpenAI
from pydantic import ValidationError

from langchain_tokenhub import ChatTokenHub, InvalidRequestError

GUIDE = Path(__file__).parent.parent / "data" / "guide"
ENGLISH = (
    "你是一个专业的英语翻译助手。将用户输入的中文翻译为英文，将英文翻译为中文。"
    "只返回翻译结果，不做解释。"
)
QUANTUM = "量子计算是一种利用量子力学原理进行信息处理的计算方式..."
HELPFUL = [SystemMessage("你是一个有帮助的助手。"), HumanMessage("请用一句话解释什么是大语言模型")]


def _json(name):
    return json.loads((GUIDE / name).read_text(encoding="utf-8"))


@tool
def get_weather(city: str) -> str:
    """获取指定城市的天气信息"""
    return city


WEATHER = _json("example_5_request.json")["tools"][0]


class _Page(ThreadingHTTPServer):
    """Answers every request with one page of the guide."""

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.body = (GUIDE / name).read_bytes()
        self.received = b""
        self.kind = "text/event-stream" if name.endswith(".sse") else "application/json"


class _Handler(BaseHTTPRequestHandler):
    server: _Page

    def do_POST(self):
        self.server.received = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", self.server.kind)
        self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_):
        pass


@pytest.fixture
def page(monkeypatch):
    """Serve a page of the guide: `page("example_1_answer.json")`."""
    servers = []

    def serve(name):
        server = _Page(name)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("TOKENHUB_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
        monkeypatch.setenv("TOKENHUB_API_KEY", "sk-test-canary")
        return server

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


# -- what is sent -------------------------------------------------------------------------


SENT = {
    1: "你好,请介绍一下你自己",
    3: [SystemMessage(ENGLISH), HumanMessage("今天天气真好")],
    4: [
        HumanMessage("请介绍一下量子计算"),
        AIMessage(QUANTUM),
        HumanMessage("它和传统计算有什么区别? "),
    ],
    7: HELPFUL,
}


@pytest.mark.parametrize("example", SENT)
def test_an_example_is_sent_word_for_word(hub, call, example):
    call(ChatTokenHub(model="deepseek-v3.1-terminus"), "invoke", SENT[example])

    sent = hub.requests[-1]
    assert sent.body == _json(f"example_{example}_request.json")
    assert (sent.method, sent.path) == ("POST", "/v1/chat/completions")
    assert sent.headers["authorization"] == "Bearer sk-test-canary"
    assert sent.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("fields", "more"),
    [({"stream_usage": False}, {}), ({}, {"stream_options": {"include_usage": True}})],
    ids=["usage switched off", "usage"],
)
def test_example_2_streaming_is_sent_word_for_word(hub, call, fields, more):
    model = ChatTokenHub(model="hunyuan-2.0-instruct-20251111", **fields)

    call(model, "stream", [SystemMessage("你是一个有帮助的 AI 助手。"), HumanMessage("计算 1+1")])

    assert hub.requests[-1].body == _json("example_2_request.json") | more


def test_example_5_tools_in_the_guides_form_are_sent_word_for_word(hub, call):
    model = ChatTokenHub(model="deepseek-v3.1-terminus")

    call(model.bind_tools([WEATHER], tool_choice="auto"), "invoke", "北京今天天气怎么样?")

    assert hub.requests[-1].body == _json("example_5_request.json")


def test_example_5_a_python_function_becomes_the_guides_tool(hub, call):
    model = ChatTokenHub(model="deepseek-v3.1-terminus")

    call(model.bind_tools([get_weather]), "invoke", "北京今天天气怎么样?")

    function = hub.requests[-1].body["tools"][0]["function"]
    assert (function["name"], function["description"]) == ("get_weather", "获取指定城市的天气信息")
    assert function["parameters"]["required"] == ["city"]


def test_example_5_a_tools_result_is_sent_word_for_word(hub, call):
    history = [
        HumanMessage("北京今天天气怎么样? "),
        AIMessage(
            "", tool_calls=[{"name": "get_weather", "args": {"city": "北京"}, "id": "call_abc123"}]
        ),
        ToolMessage(
            '{"temperature": 22, "weather": "晴", "humidity": 45}', tool_call_id="call_abc123"
        ),
    ]
    hub.models = ["deepseek-v3"]  # an id of this example alone

    call(ChatTokenHub(model="deepseek-v3"), "invoke", history)

    assert hub.requests[-1].body == _json("example_5_result_request.json")


def test_example_6_sends_what_the_openai_python_sdk_sends(hub, call):
    body = _json("example_6_request.json")
    with OpenAI(api_key="sk-test-canary", base_url=f"{hub.url}/v1") as client:
        client.chat.completions.create(**body)
    call(ChatTokenHub(model="deepseek-v3.1-terminus"), "invoke", HELPFUL)

    theirs, ours = hub.requests[-2:]
    assert ours.body == theirs.body == body
    assert ours.path == theirs.path
    assert ours.headers["authorization"] == theirs.headers["authorization"]


NODE_FETCH = """
const [url, body] = process.argv.slice(1);
const answer = await fetch(`${url}/v1/chat/completions`, {
  method: 'POST',
  headers: { Authorization: 'Bearer sk-test-canary', 'Content-Type': 'application/json' },
  body,
});
console.log((await answer.json()).choices[0].message.content);
"""
NODE_OPENAI = """
import OpenAI from 'openai';
const [url, body] = process.argv.slice(1);
const client = new OpenAI({ apiKey: 'sk-test-canary', baseURL: `${url}/v1` });
const response = await client.chat.completions.create(JSON.parse(body));
console.log(response.choices[0].message.content);
"""


def _node(script, hub):
    """Run a script under node, from a folder where `npm install openai` may have put the SDK."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node: apt-get install nodejs")
    body = json.dumps(_json("example_7_request.json"), ensure_ascii=False)
    command = [node, "--input-type=module", "-e", script, hub.url, body]
    return subprocess.run(
        command, capture_output=True, check=False, encoding="utf-8", timeout=60, cwd=Path.cwd()
    )


@pytest.mark.needs_node
def test_example_7_under_node_gets_the_answer_that_the_chat_model_gets(hub):
    done = _node(NODE_FETCH, hub)

    assert done.returncode == 0, done.stderr
    ours = ChatTokenHub(model="deepseek-v3.1-terminus").invoke(HELPFUL)
    assert done.stdout.strip() == ours.text.strip()
    assert hub.requests[-2].body == hub.requests[-1].body


@pytest.mark.needs_node
def test_example_7_with_the_openai_node_sdk_gets_the_answer_that_the_chat_model_gets(hub):
    done = _node(NODE_OPENAI, hub)
    if "ERR_MODULE_NOT_FOUND" in done.stderr:
        pytest.skip("needs the SDK: npm install openai")

    assert done.returncode == 0, done.stderr
    ours = ChatTokenHub(model="deepseek-v3.1-terminus").invoke(HELPFUL)
    assert done.stdout.strip() == ours.text.strip()


# -- what is made of the guide's answers --------------------------------------------------


def of_the_service(message):
    """Return the metadata of a message without what the transport adds."""
    ours = {"client_request_id", "host", "attempts", "elapsed"}
    assert ours < message.response_metadata.keys()
    return {name: v for name, v in message.response_metadata.items() if name not in ours}


def test_example_1s_answer_is_read_whole_with_its_own_spelling_of_cached_token(page, call):
    page("example_1_answer.json")

    answer = call(ChatTokenHub(model="deepseek-v3.1-terminus"), "invoke", "你好,请介绍一下你自己")

    guide = _json("example_1_answer.json")
    assert answer.content == guide["choices"][0]["message"]["content"]
    assert of_the_service(answer) == {
        "id": "5e9c7ae9-e0e4-4ec1-bbd0-22bcfda61e45",
        "model_name": "deepseek-v3.1-terminus",
        "model_provider": "tokenhub",
        "finish_reason": "stop",
    }
    assert answer.usage_metadata == {
        "input_tokens": 10,
        "output_tokens": 244,
        "total_tokens": 254,
        "input_token_details": {"cache_read": 0},
        "output_token_details": {"reasoning": 0},
    }


def test_example_2s_stream_is_read_piece_by_piece(page, call):
    page("example_2_answer.sse")

    chunks = call(ChatTokenHub(model="hunyuan-2.0-instruct-20251111"), "stream", "计算 1+1")

    assert [chunk.text for chunk in chunks] == ["1", "+", "1", "=", "2", ""]
    whole = sum(chunks[1:], chunks[0])
    assert whole.chunk_position == "last"
    assert of_the_service(whole) == {
        "id": "chatcpl-abc123",
        "model_name": "hunyuan-2.0-instruct-20251111",
        "model_provider": "tokenhub",
        "finish_reason": "stop",
    }


@pytest.mark.parametrize(
    ("example", "said", "tokens"),
    [
        (3, "The weather is really nice today.", 45),
        (4, "$|\\psi\\rangle = \\alpha|0\\rangle", 1353),
    ],
)
def test_an_examples_answer_is_read_whole(page, call, example, said, tokens):
    page(f"example_{example}_answer.json")

    answer = call(ChatTokenHub(model="deepseek-v3.1-terminus"), "invoke", "今天天气真好")

    guide = _json(f"example_{example}_answer.json")
    assert answer.content == guide["choices"][0]["message"]["content"]
    assert said in answer.content
    assert answer.usage_metadata["total_tokens"] == guide["usage"]["total_tokens"] == tokens


def test_example_5s_tool_call_is_read_although_the_answer_holds_no_id_model_or_usage(page, call):
    page("example_5_answer.json")
    model = ChatTokenHub(model="deepseek-v3.1-terminus").bind_tools([WEATHER])

    answer = call(model, "invoke", "北京今天天气怎么样?")

    assert answer.content == ""
    assert answer.tool_calls == [
        {"name": "get_weather", "args": {"city": "北京"}, "id": "call_abc123", "type": "tool_call"}
    ]
    assert answer.response_metadata["finish_reason"] == "tool_calls"
    assert answer.response_metadata["model_name"] == "deepseek-v3.1-terminus"


def test_example_5s_tool_call_runs_the_tool_and_the_history_goes_on(page, call):
    page("example_5_answer.json")
    answer = call(ChatTokenHub(model="deepseek-v3.1-terminus"), "invoke", "北京今天天气怎么样?")

    result = get_weather.invoke(answer.tool_calls[0])

    assert (result.tool_call_id, result.content) == ("call_abc123", "北京")


# -- the guide's table of request parameters ----------------------------------------------

PARAMETERS = {"temperature": 0.3, "top_p": 0.9, "max_tokens": 50, "stop": ["11."], "seed": 7}


@pytest.mark.parametrize(("name", "value"), PARAMETERS.items())
def test_a_parameter_of_the_constructor_reaches_the_wire(hub, call, name, value):
    call(ChatTokenHub(model="hunyuan-2.0-instruct-20251111", **{name: value}), "invoke", "你好")

    assert hub.requests[-1].body == {
        "model": "hunyuan-2.0-instruct-20251111",
        "messages": [{"role": "user", "content": "你好"}],
        name: value,
    }


@pytest.mark.parametrize(("name", "value"), PARAMETERS.items())
def test_a_parameter_of_a_call_wins_over_the_constructors(hub, call, name, value):
    model = ChatTokenHub(
        model="hunyuan-2.0-instruct-20251111",
        temperature=1.0,
        top_p=0.5,
        max_tokens=9,
        stop="x",
        seed=1,
    )

    call(model, "invoke", "你好", **{name: value})

    assert hub.requests[-1].body[name] == value


def test_one_stop_sequence_is_sent_as_the_string_that_the_guide_allows(hub, call):
    call(ChatTokenHub(model="hunyuan-2.0-instruct-20251111", stop="11."), "invoke", "你好")

    assert hub.requests[-1].body["stop"] == "11."


def test_what_the_caller_did_not_set_is_not_sent(hub, call):
    call(ChatTokenHub(model="glm-5", stop=[], temperature=None, model_kwargs={}), "invoke", "你好")

    assert set(hub.requests[-1].body) == {"model", "messages"}


def test_chinese_travels_as_itself_and_not_as_escapes(page, call):
    server = page("example_3_answer.json")

    call(ChatTokenHub(model="glm-5"), "invoke", "你好")

    assert "你好".encode() in server.received


# -- the guide's limits, kept before a request --------------------------------------------

BAD = {
    "temperature too high": ({"temperature": 2.1}, ("temperature", "2.1", "2")),
    "temperature below zero": ({"temperature": -0.1}, ("temperature", "-0.1", "0")),
    "top_p too high": ({"top_p": 1.5}, ("top_p", "1.5", "1")),
    "top_p below zero": ({"top_p": -1.0}, ("top_p", "-1", "0")),
    "no room for an answer": ({"max_tokens": 0}, ("max_tokens", "0", "1")),
    "five stop sequences": ({"stop": ["a", "b", "c", "d", "e"]}, ("stop", "5", "4")),
    "two answers": ({"n": 2}, ("n", "2", "1")),
}


@pytest.mark.parametrize(("given", "said"), BAD.values(), ids=BAD)
def test_what_the_guide_refuses_is_refused_before_a_request(hub, call, given, said):
    model = ChatTokenHub(model="glm-5")
    for ask in (
        lambda: ChatTokenHub(model="glm-5", **given),
        lambda: ChatTokenHub(model="glm-5", extra_body=given),
        lambda: call(model, "invoke", "你好", **given),
        lambda: call(model.bind(**given), "stream", "你好"),
    ):
        with pytest.raises((ValidationError, InvalidRequestError)) as refusal:
            ask()
        assert all(word in str(refusal.value) for word in said)
    assert hub.requests == []


@pytest.mark.parametrize(
    "edge", [{"temperature": 0}, {"temperature": 2}, {"top_p": 0}, {"top_p": 1}]
)
def test_the_limits_themselves_are_allowed(hub, call, edge):
    call(ChatTokenHub(model="glm-5", **edge), "invoke", "你好")

    assert edge.items() <= hub.requests[-1].body.items()


def test_an_unknown_constructor_keyword_is_sent_with_langchains_warning(hub, call):
    with pytest.warns(UserWarning, match="enable_search"):
        model = ChatTokenHub(model="glm-5", enable_search=True)

    call(model, "invoke", "你好")

    assert hub.requests[-1].body["enable_search"] is True


def test_what_the_guide_knows_gives_no_warning(hub):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = ChatTokenHub(model="glm-5", **PARAMETERS, streaming=False, timeout=30)

    model.invoke("你好")
    assert PARAMETERS.items() <= hub.requests[-1].body.items()
