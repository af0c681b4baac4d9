"""Patterns of agents with paid jobs: wait, park, work on meanwhile, ask first, retry.

Each test begins with what a user would write.
"""

from __future__ import annotations

from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ToolRetryMiddleware
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from langchain_tokenhub import (
    Job,
    JobTimeoutError,
    SubmissionUnknownError,
    TokenHubImageTool,
    TokenHubJobTool,
    TokenHubVideoTool,
    approve_above,
)
from tests.integration_tests.agents import THREAD, CallingModel, answers


def model(*turns):
    """Say each turn: a text, or a list of calls `(name, arguments)`."""
    return CallingModel(messages=iter([_message(n, turn) for n, turn in enumerate(turns)]))


def _message(turn, said):
    if isinstance(said, str):
        return AIMessage(said)
    calls = [{"id": f"c{turn}-{n}", "name": name, "args": args} for n, (name, args) in said]
    return AIMessage("", tool_calls=calls)


def calls(*named):
    return [*enumerate(named)]


def submits(hub):
    return sum(r.path.endswith("/submit") for r in hub.requests)


# --- park: the graph stops until somebody says that the job has ended -----------------------------


class Film(TypedDict, total=False):
    prompt: str
    job: dict[str, Any]
    url: str


def test_a_graph_parks_between_submit_and_result(hub):
    video = TokenHubVideoTool()

    def order(state: Film) -> Film:
        return {"job": video.submit(prompt=state["prompt"]).model_dump(mode="json")}

    def collect(state: Film) -> Film:
        job = video.query(Job(**state["job"]))
        if not job.ended:
            interrupt({"job_id": job.id})
        return {"url": video.result(job).files[0].url}

    made = StateGraph(Film)
    made.add_node("order", order)
    made.add_node("collect", collect)
    made.add_edge(START, "order")
    made.add_edge("order", "collect")
    made.add_edge("collect", END)
    graph = made.compile(checkpointer=InMemorySaver())

    hub.speed = 0.001
    parked = graph.invoke({"prompt": "小河流水"}, THREAD)
    assert parked["__interrupt__"][0].value == {"job_id": next(iter(hub.jobs))}
    hub.advance(60)
    assert "url" in graph.invoke(Command(resume=True), THREAD)
    assert submits(hub) == 1


def test_parallel_tool_calls_park_and_are_resumed_one_by_one(hub, tmp_path):
    # a parked tool begins anew: the ledger knows its job
    video = TokenHubVideoTool(ledger=tmp_path)

    @tool
    def film(prompt: str) -> str:
        """拍一段视频。"""
        job = video.submit(prompt=prompt)
        interrupt({"job_id": job.id})
        return str(video.result(job))

    said = model(calls(("film", {"prompt": "猫"}), ("film", {"prompt": "狗"})), "好了")
    agent = create_agent(said, [film], checkpointer=InMemorySaver())

    parked = agent.invoke({"messages": [("user", "拍两段")]}, THREAD)["__interrupt__"]
    assert {one.value["job_id"] for one in parked} == set(hub.jobs)
    hub.advance(60)
    done = agent.invoke(Command(resume={one.id: True for one in parked}), THREAD)
    assert done["messages"][-1].content == "好了"
    made = {message.content.split()[1] for message in answers(done)}
    assert made == set(hub.jobs)
    assert submits(hub) == 2


# --- background: submit returns at once, the model works on and collects later --------------------


def test_an_agent_submits_works_on_and_collects_later(hub, call, tmp_path):
    video = TokenHubVideoTool()

    @tool
    def start_video(prompt: str) -> str:
        """开始拍视频，立即返回任务 ID；之后用 tokenhub_job 查看或取回。"""
        job = video.submit(prompt=prompt)
        return f"job {job.id} started; look at it later with tokenhub_job"

    hub.speed = 0.001
    said = model(
        calls(("start_video", {"prompt": "小河流水"})),
        calls(("tokenhub_job", {"action": "list"})),
        "视频在做了。",
    )
    tools = [start_video, TokenHubJobTool(save_to=tmp_path)]
    agent = create_agent(said, tools, checkpointer=InMemorySaver())
    started = call(agent, "invoke", {"messages": [("user", "拍一段小河流水")]}, THREAD)
    (job_id,) = hub.jobs
    assert f"job {job_id} (hy-video-1.5) queued" in answers(started)[-1].content

    hub.advance(60)
    said.messages = model(
        calls(("tokenhub_job", {"action": "collect", "job_id": job_id})), "好了"
    ).messages
    done = call(agent, "invoke", {"messages": [("user", "好了吗？")]}, THREAD)
    assert "saved:" in answers(done)[-1].content
    assert submits(hub) == 1


# --- ask first: a person sees the price -----------------------------------------------------------


@pytest.mark.parametrize(("answer", "jobs"), [("approve", 1), ("reject", 0)])
def test_a_person_decides_with_the_price_in_the_question(hub, call, answer, jobs):
    tools = [TokenHubVideoTool(), TokenHubImageTool()]
    said = model(calls(("tokenhub_video", {"prompt": "小河流水"})), "好了")
    agent = create_agent(
        said, tools, middleware=[approve_above(1, tools)], checkpointer=InMemorySaver()
    )
    asked = call(agent, "invoke", {"messages": [("user", "拍")]}, THREAD)
    (question,) = asked["__interrupt__"][0].value["action_requests"]
    assert question["description"].startswith("hy-video-1.5: about 1.8 CNY (estimate; 1616, ")
    assert "小河流水" in question["description"]
    assert submits(hub) == 0
    call(agent, "invoke", Command(resume={"decisions": [{"type": answer}]}), THREAD)
    assert submits(hub) == jobs


# --- retry: nothing that may be paid is paid again ------------------------------------------------

QUICK = {"max": 0.001, "jitter": 0.001}
TROUBLES = {
    "lost-answer": {"kind": "lost-answer"},
    "reset": {"kind": "reset", "path": "/v1/api/video/submit"},
    "500": {"kind": "status", "status": 500, "path": "/v1/api/video/submit"},
    "garbage": {"kind": "garbage", "path": "/v1/api/video/submit"},
    "failed job": {"kind": "job"},
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_tool_retry_middleware_never_pays_twice(hub, call, trouble):
    hub.fail(**TROUBLES[trouble])
    said = model(calls(("tokenhub_video", {"prompt": "猫"})), "没有成功")
    retry = ToolRetryMiddleware(max_retries=3, initial_delay=0)
    agent = create_agent(said, [TokenHubVideoTool()], middleware=[retry])
    (message,) = answers(call(agent, "invoke", {"messages": [("user", "拍")]}))
    assert message.status == "error"
    assert submits(hub) == 1


def test_tool_retry_middleware_does_not_repeat_a_wait_that_was_too_short(hub, call):
    hub.speed = 0.001
    said = model(calls(("tokenhub_video", {"prompt": "猫"})), "还在做")
    retry = ToolRetryMiddleware(max_retries=3, initial_delay=0)
    agent = create_agent(said, [TokenHubVideoTool(wait_timeout=0.1)], middleware=[retry])
    (message,) = answers(call(agent, "invoke", {"messages": [("user", "拍")]}))
    assert "nothing is charged again" in message.content
    assert submits(hub) == 1


def test_with_retry_and_a_ledger_waits_on_and_pays_once(hub, call, tmp_path):
    hub.speed = 10
    video = TokenHubVideoTool(ledger=tmp_path, wait_timeout=0.5)
    patient = video.with_retry(
        retry_if_exception_type=(JobTimeoutError,),
        stop_after_attempt=20,
        exponential_jitter_params=QUICK,
    )
    assert call(patient, "invoke", {"prompt": "猫"}).startswith("job ")
    assert submits(hub) == 1


def test_with_retry_does_not_repeat_a_lost_submit(hub, call):
    hub.fail("lost-answer")
    eager = TokenHubVideoTool().with_retry(stop_after_attempt=3, exponential_jitter_params=QUICK)
    with pytest.raises(SubmissionUnknownError, match="no job ID was returned"):
        call(eager, "invoke", {"prompt": "猫"})
    assert submits(hub) == 1


def test_a_ledger_keeps_whoever_repeats_anything_from_paying_twice(hub, call, tmp_path):
    hub.fail("lost-answer")
    eager = TokenHubVideoTool(ledger=tmp_path).with_retry(
        retry_if_exception_type=(Exception,),
        stop_after_attempt=3,
        exponential_jitter_params=QUICK,
    )
    with pytest.raises(SubmissionUnknownError, match="may have been charged"):
        call(eager, "invoke", {"prompt": "猫"})
    assert submits(hub) == 1


def test_with_retry_of_every_error_without_a_ledger_pays_again(hub, call):
    hub.fail("lost-answer")
    eager = TokenHubVideoTool().with_retry(
        retry_if_exception_type=(Exception,), stop_after_attempt=3, exponential_jitter_params=QUICK
    )
    assert call(eager, "invoke", {"prompt": "猫"}).startswith("job ")
    assert submits(hub) == 2
