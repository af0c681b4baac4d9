"""The chat model inside LangChain's agents: answers of a shape, and the middleware around it."""

from __future__ import annotations

import asyncio
import json

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    ModelFallbackMiddleware,
    ModelRetryMiddleware,
    SummarizationMiddleware,
)
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.tools import StructuredTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from langchain_tokenhub import (
    AuthenticationError,
    ChatTokenHub,
    ContentBlockedError,
    ContextLengthError,
    InvalidRequestError,
    ModelNotAvailableError,
    QuotaExhaustedError,
    RateLimitError,
    ResponseFormatError,
    ServerError,
    catalogue,
)
from langchain_tokenhub.chat.messages import CONTINUE


class City(BaseModel):
    name: str


class Joke(BaseModel):
    """A joke."""

    setup: str
    punchline: str


@tool
def get_weather(location: str) -> str:
    """Get the weather at a location."""
    return f"{location}: 22 °C, 晴"


def _ask(agent, text, config=None):
    return agent.invoke({"messages": [HumanMessage(text)]}, config)


def _aask(agent, text, config=None):
    return asyncio.run(agent.ainvoke({"messages": [HumanMessage(text)]}, config))


FACES = pytest.mark.parametrize("ask", [_ask, _aask], ids=["sync", "asynchronous"])


# -- answers of a shape ------------------------------------------------------------------------


@FACES
def test_row_41_a_model_that_honours_json_schema_is_asked_through_response_format(hub, ask):
    agent = create_agent(ChatTokenHub(model="hy3"), response_format=Joke)

    found = ask(agent, "Tell me a joke about cats.")

    assert isinstance(found["structured_response"], Joke)
    body = hub.requests[-1].body
    assert body["response_format"]["json_schema"]["name"] == "Joke"
    assert "tools" not in body


@FACES
@pytest.mark.parametrize("model", ["deepseek-v4-flash", "glm-5", "ep-1234"])
def test_section_4_complaint_8_others_are_asked_through_a_tool(hub, ask, model):
    agent = create_agent(ChatTokenHub(model=model), response_format=Joke)

    found = ask(agent, "Tell me a joke about cats.")

    assert isinstance(found["structured_response"], Joke)
    body = hub.requests[-1].body
    assert "response_format" not in body
    assert body["tool_choice"] == "required"


@FACES
@pytest.mark.parametrize("model", ["hy3", "kimi-k3"], ids=["forced", "asked"])
def test_an_answer_may_have_one_of_two_shapes(hub, ask, model):
    strategy = ToolStrategy(Joke | City)
    agent = create_agent(ChatTokenHub(model=model), tools=[get_weather], response_format=strategy)

    found = ask(agent.with_config(recursion_limit=12), "hi")

    assert isinstance(found["structured_response"], Joke | City)


WAYS = {"bare": lambda schema: schema, "tool": ToolStrategy, "provider": ProviderStrategy}
RETIRED = {"hy3-preview", "qwen3.5-plus", "qwen3.5-flash"}
"""Models that neither the service nor the emulator has any more."""


@pytest.mark.parametrize("tools", [[], [get_weather]], ids=["no tools", "tools"])
@pytest.mark.parametrize("question", ["Tell me a joke about cats.", "What is 2 + 2?"])
@pytest.mark.parametrize("way", WAYS)
def test_every_model_gives_the_shape_or_says_before_it_is_paid_which_way_does(
    hub, way, question, tools
):
    for row in catalogue.chat_models():
        if row.id in RETIRED:
            continue
        hub.requests.clear()
        model = ChatTokenHub(model=row.id)
        agent = create_agent(model, tools=tools, response_format=WAYS[way](Joke))
        possible = row.tools is not False and (way != "provider" or row.json_schema is not False)
        if possible:
            assert isinstance(_ask(agent, question)["structured_response"], Joke), row.id
            continue
        with pytest.raises(InvalidRequestError) as found:
            _ask(agent, question)
        assert hub.requests == [], row.id
        works = "choose" if row.tools is False else "ToolStrategy"
        assert works in found.value.hint, row.id


TEXT = {"role": "assistant", "content": "Here is a joke"}
CALLED = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "id": "c1",
            "type": "function",
            "function": {"name": "Joke", "arguments": '{"setup": "a", "punchline": "b"}'},
        }
    ],
}


def _talk(peer, *messages):
    """Let a peer answer with these messages, the last one for ever, whole or streamed."""
    left = list(messages)

    async def answer(connection, request):
        message = left.pop(0) if len(left) > 1 else left[0]
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        ended = {"id": "x", "model": "m", "usage": usage}
        if b'"stream":true' in request.body:
            choice = {"delta": message, "finish_reason": "stop"}
            data = json.dumps({**ended, "choices": [choice]}).encode()
            await connection.stream(b"data: " + data + b"\n\n", b"data: [DONE]\n\n")
        else:
            choice = {"message": message, "finish_reason": "stop"}
            await connection.json({**ended, "choices": [choice]})

    peer.answer = answer


@FACES
@pytest.mark.parametrize("tools", [[], [get_weather]], ids=["no tools", "tools"])
@pytest.mark.parametrize("name", ["glm-5.3", "kimi-k3", "minimax-m2.7", "glm-5", "ep-1"])
def test_a_model_that_talks_instead_is_asked_once_more_for_the_call(model, ask, name, tools):
    _talk(model.peer, TEXT, CALLED)
    agent = create_agent(model(model=name), tools=tools, response_format=ToolStrategy(Joke))

    found = ask(agent, "hi")

    assert found["structured_response"] == Joke(setup="a", punchline="b")
    first, second = (json.loads(request.body) for request in model.peer.requests)
    assert second["messages"][-2]["content"] == "Here is a joke"
    assert "Joke" in second["messages"][-1]["content"]
    assert first["tools"] == second["tools"]
    said = next(message for message in found["messages"] if message.type == "ai")
    assert (said.content, said.usage_metadata["total_tokens"]) == ("Here is a joke", 10)


@FACES
@pytest.mark.parametrize("tools", [[], [get_weather]], ids=["no tools", "tools"])
def test_a_model_that_never_calls_is_an_error_after_two_answers(model, ask, tools):
    _talk(model.peer, TEXT)
    agent = create_agent(model(model="glm-5.3"), tools=tools, response_format=Joke)

    with pytest.raises(ResponseFormatError, match=r"answered twice.*Joke.*with_structured_output"):
        ask(agent, "hi")
    assert len(model.peer.requests) == 2


async def test_a_stream_that_is_asked_once_more_is_the_message_that_invoke_gives(model):
    shape = StructuredTool(name="Joke", description="A joke.", args_schema=Joke.model_json_schema())
    found = []
    for verb in ("ainvoke", "astream"):
        _talk(model.peer, TEXT, CALLED)
        bound = model(model="glm-5.3").bind_tools([shape], tool_choice="any")
        if verb == "ainvoke":
            found.append(await bound.ainvoke("hi"))
        else:
            found.append(add_ai_message_chunks(*[chunk async for chunk in bound.astream("hi")]))

    whole, streamed = found
    assert whole.content == streamed.content == "Here is a joke"
    assert whole.tool_calls == streamed.tool_calls
    assert whole.usage_metadata == streamed.usage_metadata
    assert whole.response_metadata["finish_reason"] == streamed.response_metadata["finish_reason"]


@FACES
def test_an_agent_that_goes_on_after_its_own_answer_is_sent_a_users_turn(hub, ask):
    agent = create_agent(ChatTokenHub(model="hy3"))

    found = _run(agent, ask, [HumanMessage("Hello"), AIMessage("你好")])

    assert found["messages"][-1].text
    assert hub.requests[-1].body["messages"][-1] == {"role": "user", "content": CONTINUE}


# -- loops -------------------------------------------------------------------------------------


@FACES
@pytest.mark.parametrize("version", [None, "v1"])
@pytest.mark.parametrize("model", ["hy3", "deepseek-v4-flash", "kimi-k2.6", "glm-5", "minimax-m3"])
def test_section_4_complaint_1_a_tool_loop_of_a_thinking_model_sends_its_reasoning_back(
    hub, ask, model, version
):
    agent = create_agent(
        ChatTokenHub(model=model, output_version=version, thinking=True), tools=[get_weather]
    )

    ask(agent, "What is the weather in Beijing?")

    asked = next(m for m in hub.requests[-1].body["messages"] if m.get("tool_calls"))
    assert asked["reasoning_content"].strip()


@FACES
def test_reasoning_survives_a_checkpointer(hub, ask):
    agent = create_agent(
        ChatTokenHub(model="kimi-k2.6", thinking=True), checkpointer=InMemorySaver()
    )
    config = {"configurable": {"thread_id": "1"}}

    ask(agent, "Hello", config)
    ask(agent, "And now?", config)

    assert hub.requests[-1].body["messages"][1]["reasoning_content"].strip()


@FACES
def test_a_history_of_another_model_goes_on_with_kimi(hub, ask):
    memory = InMemorySaver()
    config = {"configurable": {"thread_id": "1"}}
    for model in ("hunyuan-2.0-instruct-20251111", "kimi-k2.6", "deepseek-v4-flash"):
        agent = create_agent(ChatTokenHub(model=model), tools=[get_weather], checkpointer=memory)
        found = ask(agent, "What is the weather in Beijing?", config)

    assert found["messages"][-1].text


async def test_a_graphs_message_stream_shows_tokens_and_counts_once(hub):
    agent = create_agent(ChatTokenHub(model="hy3"))
    chunks = [
        chunk
        async for chunk, _ in agent.astream(
            {"messages": [HumanMessage("Hello")]}, stream_mode="messages"
        )
    ]

    usages = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert len(chunks) > 2
    assert len(usages) == 1


# -- middleware --------------------------------------------------------------------------------

RETRIES = {"max_retries": 1, "initial_delay": 0, "jitter": False}
PASSING = [(429, "429002", RateLimitError), (500, "500001", ServerError)]
LASTING = [
    (401, "401002", AuthenticationError),
    (402, "401008", QuotaExhaustedError),
    (429, "20097", QuotaExhaustedError),
    (400, "400004", ModelNotAvailableError),
    (400, "400003", ContextLengthError),
    (451, "451001", ContentBlockedError),
]


@FACES
@pytest.mark.parametrize(("status", "code", "_"), PASSING)
def test_model_retry_middleware_repeats_what_passes(hub, ask, status, code, _):
    hub.fail(status=status, code=code)
    agent = create_agent(
        ChatTokenHub(model="hy3", max_retries=0), middleware=[ModelRetryMiddleware(**RETRIES)]
    )

    assert ask(agent, "Hello")["messages"][-1].text
    assert len(hub.requests) == 2


@FACES
@pytest.mark.parametrize(("status", "code", "error"), LASTING)
def test_model_retry_middleware_does_not_repeat_what_lasts(hub, ask, status, code, error):
    hub.fail(status=status, code=code, times=9)
    agent = create_agent(
        ChatTokenHub(model="hy3", max_retries=0),
        middleware=[ModelRetryMiddleware(on_failure="error", **RETRIES)],
    )

    with pytest.raises(error):
        ask(agent, "Hello")
    assert len(hub.requests) == 1


@FACES
def test_model_fallback_middleware_goes_to_the_other_model(hub, ask):
    hub.fail(status=400, code="400004")
    agent = create_agent(
        ChatTokenHub(model="hy3", max_retries=0),
        middleware=[ModelFallbackMiddleware(ChatTokenHub(model="glm-5"))],
    )

    assert ask(agent, "Hello")["messages"][-1].response_metadata["model_name"] == "glm-5"


def _long_talk():
    usage = {"input_tokens": 4990, "output_tokens": 10, "total_tokens": 5000}
    told = AIMessage("好", usage_metadata=usage, response_metadata={"model_provider": "tokenhub"})
    return [HumanMessage("一"), told, HumanMessage("二"), told, HumanMessage("三")]


def _summarizing(model, **options):
    return SummarizationMiddleware(model, keep=("messages", 1), **options)


@FACES
@pytest.mark.parametrize("trigger", [("tokens", 4000), ("fraction", 0.02)])
def test_row_84_summarization_trusts_the_tokens_that_the_service_reported(hub, ask, trigger):
    model = ChatTokenHub(model="hy3")  # whose profile says how many a fraction is
    agent = create_agent(model, middleware=[_summarizing(model, trigger=trigger)])

    found = _run(agent, ask, _long_talk())

    assert len(hub.requests) == 2, "a summary, then the answer"
    assert "summary" in found["messages"][0].text.lower()


@FACES
def test_row_71_summarization_shortens_its_prompt_when_the_context_overflows(hub, ask):
    model = ChatTokenHub(model="hy3", max_retries=0)
    hub.fail(status=400, code="400003")
    agent = create_agent(
        model,
        middleware=[_summarizing(model, trigger=("messages", 3), trim_tokens_to_summarize=None)],
    )
    history = [HumanMessage("一二三" * 500), AIMessage("好"), HumanMessage("二")]

    _run(agent, ask, history)

    refused, shortened, _ = (str(request.body["messages"]) for request in hub.requests)
    assert len(shortened) < len(refused)


@FACES
def test_a_token_counter_of_the_model_fits_the_middleware(hub, ask):
    model = ChatTokenHub(model="hy3")
    counter = model.get_num_tokens_from_messages
    agent = create_agent(
        model, middleware=[_summarizing(model, trigger=("tokens", 100), token_counter=counter)]
    )

    _run(agent, ask, [HumanMessage("天气真好" * 60), AIMessage("好"), HumanMessage("二")])

    assert len(hub.requests) == 2


def _run(agent, ask, messages):
    if ask is _ask:
        return agent.invoke({"messages": messages})
    return asyncio.run(agent.ainvoke({"messages": messages}))
