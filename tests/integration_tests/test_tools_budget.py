"""A toolkit's budget over an agent's thread, and images that the model sees."""

from __future__ import annotations

import base64
import io
import pickle

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from PIL import Image
from pydantic import ValidationError

from langchain_tokenhub import ChatTokenHub, TokenHubImageTool, TokenHubToolkit, approve_above
from tests.integration_tests.agents import THREAD, answers, tool_call


def turn(*numbers):
    calls = [tool_call("tokenhub_image", number, prompt=f"图 {number}") for number in numbers]
    return AIMessage("", tool_calls=calls)


@pytest.fixture
def ask(hub, call, tmp_path):
    def make_and_ask(budget, *turns, saver=None, model="glm-5", **options):
        at = {"base_url": hub.url, "api_key": "any"}
        toolkit = TokenHubToolkit(
            models=["hy-image-v3.0"], budget_cny=budget, save_to=tmp_path / "out", **options, **at
        )
        agent = create_agent(
            ChatTokenHub(model=model, **at), toolkit.get_tools(), checkpointer=saver
        )
        hub.reply([*turns, "好了"])
        state = call(agent, "invoke", {"messages": [HumanMessage("画")]}, THREAD)
        return answers(state)

    return make_and_ask


def test_a_call_above_what_is_left_is_refused_with_spent_left_and_price(ask, hub):
    first, second = ask(2, turn(1), turn(2))
    assert first.status == "success"
    assert second.status == "error"
    assert "up to 1.2 CNY" in second.content
    assert "1.2 of 2 CNY are spent, 0.8 CNY are left" in second.content
    assert second.artifact == {"error": "BudgetExceededError", "job_id": None, "charged": "no"}
    assert len(hub.jobs) == 1


def test_parallel_calls_of_a_turn_count_in_their_order(ask, hub):
    found = ask(2.5, turn(1, 2, 3))
    assert [answer.status for answer in found] == ["success", "success", "error"]
    assert len(hub.jobs) == 2


def test_what_is_spent_survives_a_restart_with_a_checkpointer(ask, hub):
    saver = InMemorySaver()
    ask(2, turn(1), saver=saver)
    *_, last = ask(2, turn(2), saver=saver)  # another toolkit and agent, the same thread
    assert last.status == "error"
    assert len(hub.jobs) == 1


def test_a_failed_call_is_not_counted(ask, hub):
    hub.fail("job", code="FailedOperation.InnerError")
    failed, good = ask(1.5, turn(1), turn(2))
    assert failed.status == "error"
    assert failed.artifact["charged"] == "no"
    assert good.status == "success"


def test_a_call_that_the_schema_refuses_is_not_counted(ask, hub):
    bad = AIMessage("", tool_calls=[tool_call("tokenhub_image", prompt="图", resolution="9:9")])
    refused, good = ask(1.5, bad, turn(2))
    assert (refused.status, good.status) == ("error", "success")
    assert len(hub.jobs) == 1


def test_a_call_that_a_person_rejects_is_not_counted(hub, call):
    tools = TokenHubToolkit(models=["hy-image-v3.0"], budget_cny=1.5).get_tools()
    agent = create_agent(
        ChatTokenHub(model="glm-5"),
        tools,
        middleware=[approve_above(0, tools)],
        checkpointer=InMemorySaver(),
    )
    hub.reply([turn(1), turn(2), "好了"])
    call(agent, "invoke", {"messages": [HumanMessage("画")]}, THREAD)
    for decision in ("reject", "approve"):
        resume = Command(resume={"decisions": [{"type": decision}]})
        state = call(agent, "invoke", resume, THREAD)
    assert [answer.status for answer in answers(state)] == ["error", "success"]
    assert len(hub.jobs) == 1


def test_a_submit_that_may_have_been_charged_is_counted(ask, hub):
    hub.fail("lost-answer")
    unknown, refused = ask(1.5, turn(1), turn(2))
    assert unknown.artifact["charged"] == "maybe"
    assert "BudgetExceededError" in refused.content


def test_a_budget_needs_known_prices_and_an_amount():
    with pytest.raises(ValueError, match="no price of 'ep-1' is known"):
        TokenHubToolkit(models={"ep-1": "image"}, budget_cny=1).get_tools()
    for wrong in (-1, float("nan"), "much"):
        with pytest.raises(ValidationError):
            TokenHubToolkit(budget_cny=wrong)


def test_the_model_does_not_see_the_thread_among_the_parameters():
    tool = TokenHubToolkit(budget_cny=5, api_key="any").get_tools()[0]
    assert "messages" not in tool.tool_call_schema.model_json_schema()["properties"]
    assert pickle.loads(pickle.dumps(tool)).name == tool.name


def test_a_model_with_vision_sees_the_image_after_the_tool_message(ask, hub):
    (answer,) = ask(None, turn(1), model="glm-5v-turbo", options={"image": {"show_result": True}})
    assert [block["type"] for block in answer.content] == ["text", "image"]
    image = Image.open(io.BytesIO(base64.b64decode(answer.content[1]["base64"])))
    assert max(image.size) <= 1024
    *_, tool, shown = hub.requests[-1].body["messages"]
    assert tool["role"] == "tool"
    assert [part["type"] for part in shown["content"]] == ["image_url"]


@pytest.mark.filterwarnings("ignore:.*cannot look at")
def test_a_text_model_gets_the_text_alone(ask, hub):
    ask(None, turn(1), options={"image": {"show_result": True}})
    tool = hub.requests[-1].body["messages"][-1]
    assert tool["role"] == "tool"
    assert "image_url" not in str(hub.requests[-1].body)
    assert tool["content"].startswith("job ")


def test_an_image_that_cannot_be_read_leaves_the_text(hub, call):
    tool = TokenHubImageTool(show_result=True)
    hub.fail("reset", path="/files", times=20)
    with pytest.warns(UserWarning, match="is not shown"):
        answer = call(tool, "invoke", tool_call("tokenhub_image", prompt="图"))
    assert [block["type"] for block in answer.content] == ["text"]


def test_an_image_that_pillow_refuses_to_open_leaves_the_text(hub, call, tmp_path, monkeypatch):
    TokenHubImageTool(save_to=tmp_path).generate(prompt="图")  # the emulator draws it with Pillow
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow calls more a bomb
    tool = TokenHubImageTool(show_result=True)
    with pytest.warns(UserWarning, match="DecompressionBombError"):
        answer = call(tool, "invoke", tool_call("tokenhub_image", prompt="图"))
    assert [block["type"] for block in answer.content] == ["text"]
