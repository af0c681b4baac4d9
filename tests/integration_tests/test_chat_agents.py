"""The chat model inside LangChain's agents: answers of a shape, and the middleware around it."""

from __future__ import annotations

import asyncio

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    ModelFallbackMiddleware,
    ModelRetryMiddleware,
    SummarizationMiddleware,
)
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
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
    ServerError,
)


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
@pytest.mark.parametrize("model", ["hy3", "deepseek-v4-flash", "glm-5", "minimax-m3", "kimi-k2.6"])
def test_create_agent_gets_the_shape_from_every_family(hub, ask, model):
    agent = create_agent(ChatTokenHub(model=model), response_format=Joke)

    assert isinstance(ask(agent, "Tell me a joke about cats.")["structured_response"], Joke)


@FACES
def test_row_41_a_model_that_honours_json_schema_is_asked_through_response_format(hub, ask):
    agent = create_agent(ChatTokenHub(model="hy3"), response_format=Joke)

    ask(agent, "Tell me a joke about cats.")

    body = hub.requests[-1].body
    assert body["response_format"]["json_schema"]["name"] == "Joke"
    assert "tools" not in body


@FACES
@pytest.mark.parametrize("model", ["deepseek-v4-flash", "glm-5", "ep-1234"])
def test_section_4_complaint_8_others_are_asked_through_a_tool(hub, ask, model):
    agent = create_agent(ChatTokenHub(model=model), response_format=Joke)

    ask(agent, "Tell me a joke about cats.")

    body = hub.requests[-1].body
    assert "response_format" not in body
    assert body["tool_choice"] == "required"


@FACES
@pytest.mark.parametrize("strategy", [ProviderStrategy, ToolStrategy])
def test_both_strategies_work_beside_tools(hub, ask, strategy):
    agent = create_agent(
        ChatTokenHub(model="hy3"), tools=[get_weather], response_format=strategy(Joke)
    )

    found = ask(agent, "Tell me a joke about cats.")

    assert isinstance(found["structured_response"], Joke)


@FACES
def test_a_provider_strategy_for_a_model_without_it_says_what_to_do(hub, ask):
    agent = create_agent(
        ChatTokenHub(model="deepseek-v4-flash"), response_format=ProviderStrategy(Joke)
    )

    with pytest.raises(InvalidRequestError, match="function_calling"):
        ask(agent, "Tell me a joke about cats.")


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


def _long_talk(total=5000):
    usage = {"input_tokens": total - 10, "output_tokens": 10, "total_tokens": total}
    told = AIMessage("好", usage_metadata=usage, response_metadata={"model_provider": "tokenhub"})
    return [HumanMessage("一"), told, HumanMessage("二"), told, HumanMessage("三")]


def _summarizing(model, **options):
    return SummarizationMiddleware(model, keep=("messages", 1), **options)


@FACES
def test_row_84_summarization_trusts_the_tokens_that_the_service_reported(hub, ask):
    model = ChatTokenHub(model="hy3")
    agent = create_agent(model, middleware=[_summarizing(model, trigger=("tokens", 4000))])

    found = _run(agent, ask, _long_talk())

    assert len(hub.requests) == 2, "a summary, then the answer"
    assert "summary" in found["messages"][0].text.lower()


@FACES
def test_summarization_knows_the_models_size_from_its_profile(hub, ask):
    model = ChatTokenHub(model="hy3")
    agent = create_agent(model, middleware=[_summarizing(model, trigger=("fraction", 0.01))])

    _run(agent, ask, _long_talk(3000))

    assert len(hub.requests) == 2


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
        model,
        middleware=[_summarizing(model, trigger=("tokens", 100), token_counter=counter)],
    )

    _run(agent, ask, [HumanMessage("天气真好" * 60), AIMessage("好"), HumanMessage("二")])

    assert len(hub.requests) == 2


def _run(agent, ask, messages):
    if ask is _ask:
        return agent.invoke({"messages": messages})
    return asyncio.run(agent.ainvoke({"messages": messages}))
