"""What our tools leave in an agent's state is plain: strict checkpointers write and read it."""

from __future__ import annotations

import logging

import pytest
from langchain.agents import create_agent
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver

from langchain_tokenhub import AuthenticationError, TokenHubToolkit
from tests.integration_tests.agents import THREAD, calling_model, tool_call

STRICT = JsonPlusSerializer(allowed_msgpack_modules=None, allowed_json_modules=None)


@pytest.fixture(params=["memory", "sqlite"])
def saver(request):
    if request.param == "memory":
        yield InMemorySaver(serde=STRICT)
        return
    with SqliteSaver.from_conn_string(":memory:") as sqlite:
        sqlite.serde = STRICT
        yield sqlite


CALLS = [
    tool_call("tokenhub_image", 1, prompt="一只猫"),
    tool_call("tokenhub_video", 2, prompt="雨"),
    tool_call("tokenhub_image", 3, prompt=""),
]


def _agent(hub, saver, *turns):
    tools = TokenHubToolkit(base_url=hub.url, api_key="k", max_retries=0).get_tools()
    return create_agent(calling_model(*turns), tools=tools, checkpointer=saver)


def test_a_strict_checkpointer_reads_all_that_our_tools_left_without_a_log_line(hub, saver, caplog):
    caplog.set_level(logging.WARNING)
    agent = _agent(hub, saver, CALLS, "done", "ok")

    agent.invoke({"messages": [("user", "go")]}, THREAD)
    agent.invoke({"messages": [("user", "go on")]}, THREAD)

    results = [m for m in agent.get_state(THREAD).values["messages"] if m.type == "tool"]
    assert [type(result.artifact) for result in results[:2]] == [dict, dict]
    assert [result.status for result in results] == ["success", "success", "error"]
    assert len(list(agent.get_state_history(THREAD))) > 5
    assert caplog.records == []


def test_a_run_that_failed_in_a_tool_is_read_again_too(hub, saver, caplog):
    caplog.set_level(logging.WARNING)
    hub.fail(status=401, code="401002")
    agent = _agent(hub, saver, CALLS[:1], "done")
    with pytest.raises(AuthenticationError):
        agent.invoke({"messages": [("user", "go")]}, THREAD)

    (task,) = agent.get_state(THREAD).tasks
    assert "AuthenticationError" in str(task.error)
    assert agent.invoke(None, THREAD)["messages"][-1].content == "done"
    assert caplog.records == []
