"""The tools as agents call them."""

from __future__ import annotations

import asyncio
import json
import warnings
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from langchain_tokenhub import errors
from langchain_tokenhub.jobs.models import MediaResult
from langchain_tokenhub.tools import (
    Tokenhub3DTool,
    TokenHubImageTool,
    TokenHubToolkit,
    TokenHubVideoTool,
)
from tests.integration_tests.agents import answers, tool_call


def graph(*tools, checkpointer=None):
    made = StateGraph(MessagesState)
    made.add_node("tools", ToolNode([*tools]))
    made.add_edge(START, "tools")
    return made.compile(checkpointer=checkpointer)


def asked(*calls):
    return {"messages": [HumanMessage("画"), AIMessage("", tool_calls=[*calls])]}


def test_content_is_a_plain_string_and_the_artifact_a_plain_dict(hub, call):
    message = call(TokenHubVideoTool(), "invoke", tool_call(prompt="猫"))
    assert isinstance(message.content, str)
    assert message.content.startswith("job ")
    assert json.loads(json.dumps(message.artifact)) == message.artifact
    assert MediaResult.model_validate(message.artifact).files[0].url in message.content


def test_a_plain_call_returns_the_text(hub, call):
    assert call(TokenHubVideoTool(), "invoke", {"prompt": "猫"}).startswith("job ")
    assert call(TokenHubVideoTool(), "invoke", "猫").startswith("job ")


def fails(hub, kind):
    match kind:
        case "refuse":
            hub.fail("refuse")
        case "quota":
            hub.fail("status", status=402, code="401008")
        case _:
            hub.fail(kind)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("refuse", ["InvalidRequestError", "Nothing was charged", "Correct the input"]),
        ("quota", ["QuotaExhaustedError", "Nothing was charged", "Do not call again"]),
        ("lost-answer", ["SubmissionUnknownError", "may have been charged", "Do not call again"]),
        ("job", ["JobBlockedError", "Job ID: ", "The content was refused"]),
    ],
)
def test_an_error_answers_the_call_that_made_it(hub, call, kind, words):
    fails(hub, kind)
    message = call(TokenHubVideoTool(), "invoke", tool_call(prompt="猫"))
    assert message.status == "error"
    assert message.tool_call_id == "c1"
    assert [word for word in words if word not in message.content] == []


def test_a_timeout_tells_how_to_go_on(hub, call):
    hub.speed = 0.001
    message = call(TokenHubVideoTool(wait_timeout=0.1), "invoke", tool_call(prompt="猫"))
    job_id = next(iter(hub.jobs))
    assert message.status == "error"
    assert f"job_id={job_id!r}" in message.content
    hub.speed = 1000
    hub.advance(60)
    resumed = call(TokenHubVideoTool(), "invoke", tool_call(job_id=job_id))
    assert resumed.status == "success"
    assert len(hub.jobs) == 1


def test_without_a_call_id_an_error_raises(hub, call):
    hub.fail("refuse")
    with pytest.raises(errors.InvalidRequestError):
        call(TokenHubVideoTool(), "invoke", {"prompt": "猫"})


def test_a_wrong_key_raises_even_to_a_call(hub, call):
    with pytest.raises(errors.AuthenticationError):
        call(TokenHubVideoTool(api_key="wrong"), "invoke", tool_call(prompt="猫"))


def test_one_failing_call_does_not_cost_its_siblings(hub, call):
    hub.fail("refuse")
    calls = [tool_call(number=n, prompt=f"猫{n}") for n in range(4)]
    found = answers(call(graph(TokenHubVideoTool()), "invoke", asked(*calls)))
    assert sorted(one.status for one in found) == ["error", "success", "success", "success"]
    assert len(hub.jobs) == 3


def test_a_bad_argument_is_left_to_the_tool_node(hub, call):
    (message,) = answers(call(graph(TokenHubVideoTool()), "invoke", asked(tool_call(prompt=""))))
    assert message.status == "error"
    assert hub.requests == []


def test_one_tools_job_id_is_anothers_picture(hub, call):
    image, video, _ = TokenHubToolkit().get_tools()
    picture = call(image, "invoke", tool_call("tokenhub_image", prompt="猫"))
    job_id = picture.artifact["job"]["id"]
    moving = call(video, "invoke", tool_call(prompt="跑", image=job_id))
    assert moving.status == "success"
    sent = [r.body for r in hub.requests if r.path == "/v1/api/video/submit"]
    assert sent[0]["image"] == {"url": picture.artifact["files"][0]["url"]}


def test_a_model_may_send_what_a_sibling_saved_and_nothing_else(hub, tmp_path):
    kit = TokenHubToolkit(options={"image": {"save_to": tmp_path}})
    image, video, _ = kit.get_tools()
    saved = image.invoke(tool_call("tokenhub_image", prompt="猫")).artifact["files"][0]["path"]
    assert video.invoke(tool_call(prompt="跑", image=saved)).status == "success"
    refused = video.invoke(tool_call(prompt="跑", image="/etc/hostname"))
    assert refused.status == "error"
    assert "Nothing was charged" in refused.content


def test_progress_reaches_langchains_events(hub):
    async def events():
        stream = TokenHubVideoTool().astream_events({"prompt": "猫"}, version="v2")
        return [event["data"] async for event in stream if event["event"] == "on_custom_event"]

    found = asyncio.run(events())
    assert [data["status"] for data in found][-1] == "completed"
    assert found[0]["job_id"] in hub.jobs


async def _collected(stream):
    return [one async for one in stream]


def streamed(tool, face, mode):
    """Run a graph with one call of a tool, and return what a stream of it gives."""
    made, state = graph(tool), asked(tool_call(tool.name, prompt="猫"))
    config = {"stream_mode": mode}
    if face == "stream":
        return list(made.stream(state, **config))
    return asyncio.run(_collected(made.astream(state, **config)))


@pytest.mark.parametrize("face", ["stream", "astream"])
def test_events_name_the_call_the_usual_seconds_and_at_the_end_the_files(hub, tmp_path, face):
    found = streamed(Tokenhub3DTool(save_to=tmp_path), face, "custom")
    assert {(data["type"], data["tool_call_id"]) for data in found} == {("tokenhub_job", "c1")}
    assert found[-1]["status"] == "completed"
    assert all(data["expected_seconds"] > 0 for data in found)
    assert [data for data in found if "files" in data] == found[-1:]
    assert all(Path(file["path"]).is_file() for file in found[-1]["files"])
    assert all(Path(file["preview"]).is_file() for file in found[-1]["files"] if file["preview"])
    assert "q-signature" not in str(found)


@pytest.mark.parametrize("face", ["stream", "astream"])
def test_the_last_event_has_the_link_of_a_file_that_was_not_saved(hub, face):
    found = streamed(TokenHubVideoTool(), face, "custom")
    (file,) = found[-1]["files"]
    assert file["path"] is None
    assert file["url"].startswith(hub.url)


@pytest.mark.parametrize("face", ["stream", "astream"])
def test_progress_reaches_langgraphs_stream_of_tools(hub, face):
    found = streamed(TokenHubVideoTool(), face, "tools")
    deltas = [one["delta"] for one in found if one["event"] == "tool-output-delta"]
    assert {delta["type"] for delta in deltas} == {"tokenhub_job"}
    assert deltas[0]["status"] == "queued"
    assert deltas[-1]["files"]


def test_a_progress_function_sees_the_job_and_its_error_does_not_stop_it(hub, call, caplog):
    seen = []

    def listen(job):
        seen.append(job.status)
        raise ZeroDivisionError

    assert call(TokenHubVideoTool(progress=listen), "generate", prompt="猫").files
    assert seen[0] == "queued"
    assert seen[-1] == "completed"
    assert "continues" in caplog.text


def test_progress_goes_to_its_end(hub, call, capsys):
    call(TokenHubVideoTool(progress=True), "generate", prompt="猫")
    assert "completed" in capsys.readouterr().err.splitlines()[-1]


def test_the_same_call_in_a_thread_is_resumed_and_another_is_not(hub, call, tmp_path):
    made = graph(TokenHubVideoTool(ledger=tmp_path), checkpointer=InMemorySaver())
    first, second = ({"configurable": {"thread_id": name}} for name in "ab")
    ids = [
        answers(call(made, "invoke", asked(tool_call(prompt="猫")), config))[-1].artifact["job"][
            "id"
        ]
        for config in (first, first, second)
    ]
    assert ids[0] == ids[1] != ids[2]
    assert len(hub.jobs) == 2


def test_parallel_calls_of_one_prompt_are_two_jobs_in_a_thread(hub, call, tmp_path):
    made = graph(TokenHubVideoTool(ledger=tmp_path), checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "a"}}
    calls = [tool_call(number=n, prompt="猫") for n in range(3)]
    found = answers(call(made, "invoke", asked(*calls), config))
    assert len({one.artifact["job"]["id"] for one in found}) == 3


def test_no_secret_reaches_a_message(hub, call):
    message = call(TokenHubImageTool(), "invoke", tool_call(prompt="猫"))
    assert "sk-test-canary" not in message.model_dump_json()


@pytest.mark.parametrize("asked", ["invoke", "call", "generate"])
def test_a_pair_without_effect_is_warned_of_once(hub, call, asked):
    params = {"prompt": "椅子", "generate_type": "LowPoly", "face_count": 5000}
    tool = Tokenhub3DTool()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        match asked:
            case "invoke":
                call(tool, "invoke", params)
            case "call":
                call(tool, "invoke", tool_call(tool.name, **params))
            case _:
                call(tool, "generate", **params)
    assert [str(one.message) for one in caught] == [
        "face_count has no effect with LowPoly; leave it out"
    ]


def test_a_file_that_is_not_saved_is_warned_of_in_a_tool_call_too(hub, call, tmp_path):
    hub.fail("reset", path="/files", times=20)
    with pytest.warns(UserWarning, match="was not saved"):
        call(TokenHubVideoTool(save_to=tmp_path), "invoke", tool_call(prompt="猫"))
