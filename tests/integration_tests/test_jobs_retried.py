"""Others' retries: with their defaults a job is submitted, and paid for, once."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRetryMiddleware, ToolRetryMiddleware
from langgraph.graph import END, START, StateGraph
from langgraph.types import RetryPolicy
from tenacity import Retrying, retry_if_not_exception_type, stop_after_attempt

from langchain_tokenhub import ChatTokenHub, TokenHubVideoTool, errors
from langchain_tokenhub.jobs import service


def unfinished(hub, monkeypatch):
    hub.speed = 0  # jobs do not advance
    return {"wait_timeout": 0.001}


def failed(hub, monkeypatch):
    hub.fail("job")
    return {}


def lost(hub, monkeypatch):
    hub.fail("lost-answer")
    return {}


def unreachable(hub, monkeypatch):
    monkeypatch.setattr(service, "MAX_FAILING_SECONDS", 0.0)
    hub.fail("status", status=500, path="/v1/api/video/query", times=99)
    return {"max_retries": 0}


def closed(hub, monkeypatch):
    hub.fail("status", status=401, code="401003", path="/v1/api/video/query", times=99)
    return {}


TROUBLE = {
    unfinished: errors.JobTimeoutError,
    failed: errors.JobFailedError,
    lost: errors.SubmissionUnknownError,
    unreachable: errors.JobTimeoutError,
    closed: errors.AuthenticationError,
}


def in_a_graph(tool):
    graph = StateGraph(dict)
    graph.add_node(
        "film",
        lambda _: {"film": tool.generate(prompt="雪")},
        retry_policy=RetryPolicy(initial_interval=0, jitter=False),
    )
    graph.add_edge(START, "film").add_edge("film", END)
    graph.compile().invoke({})


def with_retry(tool):
    tool.with_retry(wait_exponential_jitter=False).invoke({"prompt": "雪"})


def with_tenacity(tool):
    retrying = Retrying(
        retry=retry_if_not_exception_type(RuntimeError), stop=stop_after_attempt(3), reraise=True
    )
    retrying(tool.generate, prompt="雪")


@pytest.mark.parametrize("trouble", TROUBLE)
@pytest.mark.parametrize("retried", [in_a_graph, with_retry, with_tenacity])
def test_a_failed_call_is_not_submitted_again(hub, monkeypatch, retried, trouble):
    tool = TokenHubVideoTool(**trouble(hub, monkeypatch))
    with pytest.raises(TROUBLE[trouble]):
        retried(tool)
    assert len(hub.jobs) == 1


@pytest.mark.parametrize("trouble", [unfinished, failed, lost, unreachable])
def test_an_agent_that_retries_submits_once(hub, monkeypatch, trouble):
    tool = TokenHubVideoTool(**trouble(hub, monkeypatch))
    model = ChatTokenHub(model="hy3", streaming=False)
    agent = create_agent(model, [tool], middleware=[ToolRetryMiddleware(), ModelRetryMiddleware()])
    agent.invoke({"messages": [("user", "拍一段视频：雪")]})
    assert len(hub.jobs) == 1


def through_json(error: Exception) -> Exception:
    """Store an error as Celery's JSON backends do."""
    kept: Any = json.loads(json.dumps({"type": type(error).__name__, "args": error.args}))
    return getattr(errors, kept["type"])(*kept["args"])


@pytest.mark.parametrize("trouble", [unfinished, unreachable, closed])
def test_a_result_backend_keeps_the_job_and_the_next_step(hub, monkeypatch, call, trouble):
    tool = TokenHubVideoTool(**trouble(hub, monkeypatch))
    with pytest.raises(TROUBLE[trouble]) as caught:
        call(tool, "generate", prompt="雪")
    (job_id,) = hub.jobs
    for error in (
        caught.value,
        through_json(caught.value),
        pickle.loads(pickle.dumps(caught.value)),
    ):
        assert str(error) == error.args[0]
        assert str(error).count(job_id) == 1
        assert "result(" in str(error)
