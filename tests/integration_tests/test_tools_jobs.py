"""Earlier jobs, looked at and collected; and a person asked before money is spent."""

from __future__ import annotations

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from langchain_tokenhub import errors
from langchain_tokenhub.jobs.prices import estimate
from langchain_tokenhub.tools import (
    Tokenhub3DTool,
    TokenHubImageTool,
    TokenHubJobTool,
    TokenHubVideoTool,
    approve_above,
)


def test_a_job_is_looked_at_and_collected_without_paying(hub, call, tmp_path):
    job = TokenHubVideoTool().submit(prompt="猫")
    hub.advance(60)
    tool = TokenHubJobTool(save_to=tmp_path)
    assert job.id in call(tool, "invoke", {"job_id": job.id})
    assert "saved:" in call(tool, "invoke", {"job_id": job.id, "action": "collect"})
    assert len(hub.jobs) == 1


def test_known_jobs_are_listed_newest_first(hub, call):
    jobs = [TokenHubVideoTool().submit(prompt=f"猫{i}").id for i in range(3)]
    listed = call(TokenHubJobTool(), "invoke", {"action": "list"}).splitlines()
    assert [line.split()[1] for line in listed][:3] == jobs[::-1]


def test_a_ledger_lists_jobs_of_another_process(hub, call, tmp_path, monkeypatch):
    job = TokenHubVideoTool(ledger=tmp_path).submit(prompt="猫")
    monkeypatch.setattr("langchain_tokenhub.jobs.memory._memories", {})
    listed = call(TokenHubJobTool(ledger=tmp_path), "invoke", {"action": "list"})
    assert listed.startswith(f"job {job.id}")


def test_a_job_that_nobody_knows_needs_its_model(hub, call, monkeypatch):
    job = Tokenhub3DTool().submit(prompt="椅子")
    monkeypatch.setattr("langchain_tokenhub.jobs.memory._memories", {})
    with pytest.raises(errors.InvalidRequestError, match="say its model"):
        call(TokenHubJobTool(), "invoke", {"job_id": job.id})
    assert job.id in call(TokenHubJobTool(), "invoke", {"job_id": job.id, "model": "hy-3d-3.0"})


@pytest.mark.parametrize(
    ("model", "params", "low", "high"),
    [
        ("hy-video-1.5", {}, 1.8, 1.8),
        ("yt-video-2.0", {"resolution": "480p"}, 2.4, 2.4),
        ("yt-video-2.0", {}, 2.4, 6.0),
        ("yt-video-fx", {"template": "hug", "resolution": "720p"}, 2.4, 2.4),
        ("yt-video-humanactor", {"resolution": "720p"}, 2.4, 72.0),
        ("hy-3d-3.0", {"generate_type": "LowPoly", "enable_pbr": True}, 4.2, 4.2),
        ("hy-3d-3.0", {"job_id": "1"}, 0.0, 0.0),
    ],
)
def test_a_price_is_estimated_from_the_parameters(model, params, low, high):
    price = estimate(model, params)
    assert (price.low, price.high) == (low, high)


def test_an_unknown_model_has_no_price():
    assert estimate("ep-1", {}) is None


class Calling(GenericFakeChatModel):
    def bind_tools(self, tools, **_):
        return self


def agent(cny, **args):
    tools = [TokenHubVideoTool(), TokenHubImageTool()]
    made = AIMessage("", tool_calls=[{"id": "c1", "name": "tokenhub_video", "args": args}])
    model = Calling(messages=iter([made, AIMessage("好了")]))
    return create_agent(
        model, tools, middleware=[approve_above(cny, tools)], checkpointer=InMemorySaver()
    )


CONFIG = {"configurable": {"thread_id": "1"}}


def test_a_dear_call_is_asked_about_with_its_price(hub):
    made = agent(1, prompt="猫")
    asked = made.invoke({"messages": [("user", "画")]}, CONFIG)
    (request,) = asked["__interrupt__"][0].value["action_requests"]
    assert "about 1.8 CNY" in request["description"]
    assert not hub.jobs
    done = made.invoke(Command(resume={"decisions": [{"type": "approve"}]}), CONFIG)
    assert done["messages"][-1].content == "好了"
    assert len(hub.jobs) == 1


def test_a_cheap_call_is_not_asked_about(hub):
    done = agent(2, prompt="猫").invoke({"messages": [("user", "画")]}, CONFIG)
    assert done["messages"][-1].content == "好了"
    assert len(hub.jobs) == 1
