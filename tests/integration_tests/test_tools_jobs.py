"""Earlier jobs, looked at and collected; and a person asked before money is spent."""

from __future__ import annotations

import pytest
from langgraph.types import Command
from pydantic import ValidationError

from langchain_tokenhub import errors
from langchain_tokenhub.catalogue import estimate_price, media_models
from langchain_tokenhub.tools import (
    Tokenhub3DTool,
    TokenHubImageTool,
    TokenHubJobTool,
    TokenHubVideoTool,
    approve_above,
)
from tests.integration_tests.agents import THREAD, agent_of, answers, tool_call


def test_a_job_is_looked_at_and_collected_without_paying(hub, call, tmp_path):
    job = TokenHubVideoTool().submit(prompt="猫")
    hub.advance(60)
    tool = TokenHubJobTool(save_to=tmp_path)
    assert job.id in call(tool, "invoke", {"job_id": job.id})
    assert "saved:" in call(tool, "invoke", {"job_id": job.id, "action": "collect"})
    assert len(hub.jobs) == 1


def test_a_prompt_may_be_given_by_position(hub, call):
    call(TokenHubImageTool(), "generate", "雨", seed=7)
    assert hub.requests[0].body | {"model": ""} == {"model": "", "prompt": "雨", "seed": 7}


def test_known_jobs_are_listed_newest_first(hub, call):
    jobs = [TokenHubVideoTool().submit(prompt=f"猫{i}").id for i in range(3)]
    listed = call(TokenHubJobTool(), "invoke", {"action": "list"}).splitlines()
    assert [line.split()[1] for line in listed][:3] == jobs[::-1]


def test_a_ledger_lists_jobs_of_another_process(hub, call, tmp_path, monkeypatch):
    job = TokenHubVideoTool(ledger=tmp_path).submit(prompt="猫")
    monkeypatch.setattr("langchain_tokenhub.jobs.history._recent_by_owner", {})
    listed = call(TokenHubJobTool(ledger=tmp_path), "invoke", {"action": "list"})
    assert listed.startswith(f"job {job.id}")


def test_a_job_that_is_not_known_needs_its_model(hub, call, monkeypatch):
    job = Tokenhub3DTool().submit(prompt="椅子")
    monkeypatch.setattr("langchain_tokenhub.jobs.history._recent_by_owner", {})
    with pytest.raises(errors.InvalidRequestError, match="give its model"):
        call(TokenHubJobTool(), "invoke", {"job_id": job.id})
    assert job.id in call(TokenHubJobTool(), "invoke", {"job_id": job.id, "model": "hy-3d-3.0"})


def test_a_price_is_estimated_from_the_parameters():
    for model, params, low, high in (
        ("hy-video-1.5", {}, 1.8, 1.8),
        ("yt-video-2.0", {"resolution": "480p"}, 2.4, 2.4),
        ("yt-video-2.0", {}, 2.4, 6.0),
        ("yt-video-fx", {"template": "hug", "resolution": "720p"}, 2.4, 2.4),
        ("yt-video-humanactor", {"resolution": "720p"}, 2.4, 72.0),
        ("hy-3d-3.0", {"generate_type": "LowPoly", "enable_pbr": True}, 4.2, 4.2),
        ("hy-3d-3.0", {"job_id": "1"}, 0.0, 0.0),
    ):
        price = estimate_price(model, params)
        assert (price.low, price.high) == (low, high)
    assert estimate_price("ep-1", {}) is None


def agent(cny, *calls, tools=None):
    tools = tools or [TokenHubVideoTool(), TokenHubImageTool()]
    asked = [tool_call(name, number, **args) for number, (name, args) in enumerate(calls)]
    return agent_of(tools, asked, "好了", middleware=[approve_above(cny, tools)])


def questions(made):
    asked = made.invoke({"messages": [("user", "画")]}, THREAD)
    return asked["__interrupt__"][0].value["action_requests"]


def test_a_cheap_call_is_made_without_a_question(hub):
    done = agent(2, ("tokenhub_video", {"prompt": "猫"})).invoke(
        {"messages": [("user", "画")]}, THREAD
    )
    assert done["messages"][-1].content == "好了"
    assert len(hub.jobs) == 1


@pytest.mark.parametrize("beside", [{"extra": {"style": "oil"}}, {"again": True}])
def test_what_belongs_to_a_new_job_is_refused_beside_a_job_id(hub, call, beside):
    job = TokenHubVideoTool().submit(prompt="猫")
    with pytest.raises(errors.InvalidRequestError, match="neither extra nor again"):
        call(TokenHubVideoTool(), "generate", job_id=job.id, **beside)
    assert len(hub.requests) == 1


# --- a job id that says nothing -------------------------------------------------------------------

BLANKS = ["", " ", "\n"]


@pytest.mark.parametrize("blank", BLANKS)
@pytest.mark.parametrize("model", ["hy-video-1.5", "yt-video-fx", "ep-unknown"])
def test_a_blank_job_id_alone_is_refused_by_its_name_and_nothing_is_sent(hub, call, model, blank):
    tool = TokenHubVideoTool(model=model)
    for verb in ("generate", "submit"):
        with pytest.raises(errors.InvalidRequestError, match="job_id: it is empty"):
            call(tool, verb, job_id=blank)
    with pytest.raises(ValidationError, match="job_id: it is empty"):
        call(tool, "invoke", {"job_id": blank})
    assert hub.requests == []


@pytest.mark.parametrize("blank", BLANKS)
def test_a_blank_job_id_beside_a_prompt_asks_for_a_new_job(hub, call, blank):
    """Language models fill optional fields with empty texts."""
    message = call(TokenHubVideoTool(), "invoke", tool_call(job_id=blank, prompt="猫"))
    assert message.status == "success"
    assert len(hub.jobs) == 1


@pytest.mark.parametrize("blank", BLANKS)
def test_a_blank_job_id_is_no_way_around_approval(hub, blank):
    (question,) = questions(agent(1, ("tokenhub_video", {"prompt": "猫", "job_id": blank})))
    assert "about 1.8 CNY" in question["description"]
    assert not hub.jobs


def test_a_job_id_that_is_not_known_is_not_waited_for(hub, call):
    message = call(TokenHubVideoTool(), "invoke", tool_call(job_id="null", prompt="猫"))
    assert "JobNotFoundError" in message.content
    assert "go on waiting" not in message.content
    assert "leave job_id out" in message.content
    assert not hub.jobs


@pytest.mark.parametrize("blank", BLANKS)
def test_the_job_tool_refuses_a_blank_job_id(hub, call, blank):
    with pytest.raises(errors.InvalidRequestError, match="job_id: needed"):
        call(TokenHubJobTool(), "invoke", {"job_id": blank, "model": "hy-video-1.5"})
    assert hub.requests == []


# --- approval -------------------------------------------------------------------------------------


def answered(made, *decisions):
    return made.invoke(Command(resume={"decisions": [*decisions]}), THREAD)


def test_parallel_calls_above_the_limit_are_one_question_each(hub):
    video, image = "tokenhub_video", "tokenhub_image"
    made = agent(
        1.5, (video, {"prompt": "一"}), (image, {"prompt": "二"}), (video, {"prompt": "三"})
    )
    asked = questions(made)
    assert [question["args"]["prompt"] for question in asked] == ["一", "三"]
    assert all("about 1.8 CNY" in question["description"] for question in asked)
    done = answered(made, {"type": "approve"}, {"type": "reject", "message": "太贵了"})
    assert sorted(r.body["prompt"] for r in hub.requests if r.path.endswith("/submit")) == [
        "一",
        "二",
    ]
    assert {one.tool_call_id: one.status for one in answers(done)} == {
        "c0": "success",
        "c1": "success",
        "c2": "error",
    }


def test_an_edited_call_is_made_as_it_was_edited(hub):
    made = agent(1, ("tokenhub_video", {"prompt": "一千只猫"}))
    questions(made)
    edited = {"name": "tokenhub_video", "args": {"prompt": "一只猫"}}
    answered(made, {"type": "edit", "edited_action": edited})
    assert [job.body["prompt"] for job in hub.jobs.values()] == ["一只猫"]


@pytest.mark.parametrize(
    ("model", "args"),
    [("ep-own", {"prompt": "猫"}), ("yt-video-fx", {"template": "new", "images": ["https://a/b"]})],
)
def test_a_price_that_is_not_known_is_asked_about_or_put_at_its_highest(hub, model, args):
    tool = TokenHubVideoTool(model=model, name="video")
    (question,) = questions(agent(1, ("video", args), tools=[tool]))
    assert "price not known" in question["description"] or "about" in question["description"]
    assert not hub.jobs


@pytest.mark.parametrize("args", [{}, {"prompt": None}, {"prompt": 7, "resolution": ["720p"]}])
def test_wrong_arguments_of_a_model_do_not_break_the_question(hub, args):
    (question,) = questions(agent(1, ("tokenhub_video", args)))
    assert "about 1.8 CNY" in question["description"]


def test_every_listed_price_names_its_source_and_date():
    for model in media_models():
        if model.price is not None:
            assert model.price.source
            assert model.price.date


@pytest.mark.parametrize("cny", [float("nan"), -1])
def test_an_amount_above_which_nothing_is_asked_is_refused(cny):
    with pytest.raises(ValueError, match="not an amount in yuan"):
        approve_above(cny, [TokenHubVideoTool()])


def test_approval_of_nothing_is_warned_of():
    with pytest.warns(UserWarning, match="none of the tools is a paid"):
        approve_above(1, [TokenHubJobTool()])
